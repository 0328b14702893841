"""What a message asks for, decided from its body alone."""

import json

import pytest
from envelopes import DIRECT, RECORD, TEST_EVENT, direct
from fakes import message
from hypothesis import given
from hypothesis import strategies as st

from app.handler import Job, Route
from app.notifications import ObjectRef
from app.outcomes import Outcome, Reason, Result
from app.planning import Plan, Record, plan, summed_up
from app.ports import Message
from app.settings import Settings


async def small(job: Job) -> None:
    """A handler."""


async def large(job: Job) -> None:
    """Another."""


ROUTES = [
    Route("*.csv", large, timeout=7200, visibility_timeout=300),
    Route("*.txt", small, bucket="in"),
]


def settings(**env: str) -> Settings:
    """Settings that admit the bucket of the events."""
    needed = {"QUEUE_URL": "https://sqs/queue", "ALLOWED_BUCKETS": "in"}
    return Settings.from_env(needed | env)


def event(*objects: str) -> str:
    """S3's own message of these objects, each `bucket/key`."""
    records = []
    for name in objects:
        bucket, _, key = name.partition("/")
        s3 = {"bucket": {"name": bucket}, "object": {"key": key, "size": 3}}
        records.append(RECORD | {"s3": s3})
    return json.dumps({"Records": records})


def planned(body: str, receive_count: int = 1, **env: str) -> Plan:
    """The plan for a message with this body."""
    made: Message = message(body, receive_count=receive_count)
    return plan(made, ROUTES, settings(**env))


def verdict(found: Plan | Record) -> tuple[Outcome, Reason | None]:
    """What was decided without looking at any object."""
    assert found.verdict is not None
    return found.verdict.outcome, found.verdict.reason


def test_an_object_goes_the_first_route_that_matches() -> None:
    """A message of one object has one record, with its route and no verdict."""
    found = planned(json.dumps(DIRECT))
    (record,) = found.records
    assert found.verdict is None
    assert (record.route, record.verdict) == (ROUTES[0], None)
    assert record.where == "s3://in/a b/c+d.csv"
    assert found.handler == "large"
    assert found.named == {"bucket": "in", "key": "a b/c+d.csv", "size": 1024}


@pytest.mark.parametrize(
    ("body", "outcome", "reason"),
    [
        ("garbage", Outcome.REJECTED, Reason.MALFORMED_MESSAGE),
        (json.dumps(TEST_EVENT), Outcome.SKIPPED, Reason.TEST_EVENT),
        (
            json.dumps(direct(eventName="ObjectRemoved:Delete")),
            Outcome.SKIPPED,
            Reason.NOT_CREATED_EVENT,
        ),
    ],
)
def test_bodies_that_decide_by_themselves(body: str, outcome: Outcome, reason: Reason) -> None:
    """Nothing is asked of S3 for a message that names no object."""
    found = planned(body, receive_count=99)
    assert verdict(found) == (outcome, reason)
    assert found.records == ()
    assert found.named == {}
    assert found.handler == "none"


def test_a_foreign_bucket_is_rejected_whatever_its_route() -> None:
    """Whether a bucket is allowed is decided before whether a route takes the object."""
    found = planned(event("foreign/a.csv", "foreign/a.bin", "in/a.csv"))
    assert [record.verdict is None for record in found.records] == [False, False, True]
    for record in found.records[:2]:
        assert record.route is None
        assert verdict(record) == (Outcome.REJECTED, Reason.BUCKET_NOT_ALLOWED)


def test_an_object_without_a_route_is_rejected() -> None:
    """The reason names the object."""
    (record,) = planned(event("in/a.bin")).records
    assert verdict(record) == (Outcome.REJECTED, Reason.NO_ROUTE)
    assert record.verdict is not None
    assert "s3://in/a.bin" in record.verdict.error


@pytest.mark.parametrize(("received", "exhausted"), [(1, False), (5, False), (6, True)])
def test_attempts_are_used_up_after_the_last(received: int, *, exhausted: bool) -> None:
    """Five attempts are five runs of the handler; the sixth delivery is dead-lettered unrun."""
    found = planned(event("in/a.csv"), received, MAX_ATTEMPTS="5")
    assert (found.verdict is not None) is exhausted
    if exhausted:
        assert verdict(found) == (Outcome.REJECTED, Reason.ATTEMPTS_EXHAUSTED)
        assert found.named["key"] == "a.csv"


def test_a_message_takes_the_longest_of_its_routes_times() -> None:
    """The defaults count for a route without its own; without any route, they are all there is."""
    both = planned(event("in/a.csv", "in/b.txt"))
    assert both.longest(lambda route: route.timeout, 60) == 7200
    assert both.longest(lambda route: route.timeout, 9999) == 9999
    assert both.longest(lambda route: route.visibility_timeout, 60) == 300
    assert planned(event("in/b.txt")).longest(lambda route: route.timeout, 60) == 60
    assert planned("garbage").longest(lambda route: route.timeout, 60) == 60
    assert both.handler == "large,small"
    assert both.named["records"] == 2


RESULTS = st.lists(st.sampled_from(Outcome).map(Result), min_size=1, max_size=5)


@given(RESULTS)
def test_the_worst_record_decides_for_the_message(results: list[Result]) -> None:
    """One record that is left to do keeps the whole message."""
    records = tuple(Record(ObjectRef("in", f"{number}")) for number in range(len(results)))
    decided = summed_up(Plan(records), results)
    assert decided.outcome in {result.outcome for result in results}
    unfinished = {Outcome.RETRY, Outcome.DEFERRED, Outcome.INTERRUPTED, Outcome.LEASE_LOST}
    if unfinished & {result.outcome for result in results}:
        assert decided.outcome not in (Outcome.DONE, Outcome.SKIPPED, Outcome.REJECTED)


def test_one_letter_names_all_rejected_records() -> None:
    """Two of three were rejected: the letter says which, and why each."""
    records = tuple(Record(ObjectRef("in", key)) for key in ("a", "b", "c"))
    results = [
        Result(Outcome.REJECTED, Reason.CORRUPT_DATA, "bad gzip"),
        Result(Outcome.DONE),
        Result(Outcome.REJECTED, Reason.NO_ROUTE, "no route matches"),
    ]
    decided = summed_up(Plan(records), results)
    assert (decided.outcome, decided.reason) == (Outcome.REJECTED, Reason.CORRUPT_DATA)
    assert decided.error == (
        "2 of 3: s3://in/a: corrupt_data: bad gzip; s3://in/c: no_route: no route matches"
    )


def test_a_single_record_speaks_for_itself() -> None:
    """Its own words are the message's."""
    result = Result(Outcome.REJECTED, Reason.CORRUPT_DATA, "bad gzip")
    assert summed_up(Plan((Record(ObjectRef("in", "a")),)), [result]) is result

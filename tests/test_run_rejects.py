"""Messages that can never succeed: told from the body alone, and sent off with their reason."""

import json
from typing import Any

import pytest
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene, s3_event, s3_record
from harness.launch import COPY, Launcher

EMPTY = Depth(0, 0)
MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("bucket", "key", "allowed"),
    [
        ("somebody-elses", "k", "mine"),
        ("mine-too", "k", "mine"),
        ("mine", "elsewhere/k", "mine/incoming/"),
        ("mine", "incoming-not/k", "mine/incoming/"),
    ],
)
def test_a_foreign_object_is_never_asked_for(
    *, bucket: str, key: str, allowed: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A message that names what is not in ALLOWED_BUCKETS is rejected before any S3 call."""
    scene.send(s3_event(bucket, key))

    worker = start(COPY, ALLOWED_BUCKETS=allowed)

    assert worker.wait() == 65
    (letter,) = scene.letters()
    assert letter.attributes["x-death-reason"] == "bucket_not_allowed"
    assert proxy.calls(service="s3") == []
    assert worker.events("handler_started") == []
    assert scene.depth() == EMPTY


def test_a_foreign_object_among_others(scene: Scene, start: Launcher, proxy: FaultProxy) -> None:
    """One foreign record is a letter; the rest is processed, and S3 is asked for that alone."""
    scene.put("ours")
    scene.send(
        {"Records": [s3_record("somebody-elses", "theirs"), s3_record(scene.bucket, "ours")]}
    )

    worker = start(COPY)

    assert worker.wait() == 65
    assert list(scene.outputs()) == ["out/ours"]
    (letter,) = scene.letters()
    assert letter.attributes["x-death-reason"] == "bucket_not_allowed"
    assert "theirs" in letter.attributes["x-death-error"]
    assert {call.bucket for call in proxy.calls(service="s3")} == {
        scene.bucket,
        scene.output_bucket,
    }


def test_an_object_without_a_route_is_rejected(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """No route: no handler can ever take it, so it is a dead letter, and S3 is not asked."""
    scene.submit("other.txt")

    worker = start("async def handle(job): pass\nROUTES = [Route('*.csv', handle)]")

    assert worker.wait() == 65
    assert scene.letters()[0].attributes["x-death-reason"] == "no_route"
    assert proxy.calls(service="s3") == []


def record(**changed: Any) -> str:
    """A message of one record with some of its fields replaced."""
    return json.dumps({"Records": [s3_record("mine", "k") | changed]})


def keyed(key: str) -> str:
    """A message of one record with this text, unencoded and unescaped, as its key."""
    return json.dumps(s3_event("mine", "THE-KEY")).replace("THE-KEY", key)


MALFORMED = [
    "not JSON",
    "{",
    "null",
    "17",
    '"text"',
    "[]",
    "{}",
    '{"Records": []}',
    '{"Records": {}}',
    '{"Records": [17]}',
    '{"Records": "' + "x" * 1000 + '"}',
    record(eventVersion=2),
    record(eventVersion="3.0"),
    record(eventSource="aws:sqs"),
    record(s3=None),
    record(s3={"bucket": "mine", "object": "k"}),
    record(s3={"bucket": {"name": "mine"}, "object": {"key": 7}}),
    keyed(""),
    keyed("%ff"),
    keyed(r"\ud800"),
    "[" * 100_000,
    '{"Records":' * 50_000,
    '{"Records": [' + '{"s3":' * 50_000 + "1" + "}" * 50_000 + "]}",
    '{"Type": "Notification"}',
    '{"Type": "Notification", "Message": {"Records": []}}',
    '{"Type": "Notification", "Message": "not JSON"}',
    '{"source": "aws.s3", "detail-type": "Object Created"}',
    '{"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": {}}}',
    "1" * 5000,
    "x" * MEBIBYTE,
]


def test_malformed_messages_are_rejected_with_their_bodies_unchanged(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Whatever a body is, it ends neither the process nor up for ever in the queue."""
    for body in MALFORMED:
        scene.send(body)

    worker = start(COPY, MAX_MESSAGES=str(len(MALFORMED) + 1), WAIT_SECONDS="0")

    assert worker.wait() == 65
    letters = scene.drain_letters()
    assert sorted(letter.body for letter in letters) == sorted(MALFORMED)
    # Beside the largest body there is no room for attributes.
    reasons = {letter.attributes.get("x-death-reason", "") for letter in letters}
    assert reasons <= {"malformed_message", ""}
    assert len(worker.events("message_dead_lettered", reason="malformed_message")) == len(letters)
    assert proxy.calls(service="s3") == []
    assert scene.depth() == EMPTY
    assert "x" * 500 not in worker.stdout + worker.stderr


def test_attempts_used_up(scene: Scene, start: Launcher) -> None:
    """Received more often than MAX_ATTEMPTS: rejected without another try."""
    scene.submit("k")
    for _ in range(2):
        scene.visible_now()

    worker = start(COPY, MAX_ATTEMPTS="2")

    assert worker.wait() == 65
    (letter,) = scene.letters()
    assert letter.attributes["x-death-reason"] == "attempts_exhausted"
    assert worker.events("handler_started") == []
    assert scene.outputs() == {}
    assert scene.depth() == EMPTY

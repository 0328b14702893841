"""From a message's body to the objects it names, whatever wrapped them."""

import json
from typing import Any

import pytest
from envelopes import DIRECT, EVENTBRIDGE, RECORD, TEST_EVENT, direct, sns, with_key

from app.notifications import Notification, ObjectRef, parse
from app.outcomes import Reason, RejectedError

REF = ObjectRef(
    bucket="in",
    key="a b/c+d.csv",
    version_id="096fKKXTRTtl3on89fVO.nfljtsv6qko",
    etag="d41d8cd98f00b204e9800998ecf8427e",
    size=1024,
    sequencer="0055AED6DCD90281E5",
)


def refused(body: str) -> str:
    """What is said of a body that is refused."""
    with pytest.raises(RejectedError) as raised:
        parse(body)
    assert raised.value.reason is Reason.MALFORMED_MESSAGE
    return str(raised.value)


@pytest.mark.parametrize("body", [DIRECT, sns(DIRECT)], ids=["direct or raw SNS", "SNS"])
def test_the_object_of_an_event(body: dict[str, Any]) -> None:
    """The object is found in S3's own message, in SNS's raw one, and in an SNS envelope."""
    assert parse(json.dumps(body)) == Notification((REF,))


def test_eventbridge_does_not_encode_keys() -> None:
    """A plus and a percent sign in EventBridge's key are what they are."""
    expected = ObjectRef(
        bucket="in",
        key="a+b/c%2Bd.csv",
        version_id="IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
        etag="b1946ac92492d2347c6235b4d2611184",
        size=5,
        sequencer="00617F08299329D189",
    )
    assert parse(json.dumps(EVENTBRIDGE)) == Notification((expected,))
    assert parse(json.dumps(sns(EVENTBRIDGE))) == Notification((expected,))


@pytest.mark.parametrize("body", [TEST_EVENT, sns(TEST_EVENT)])
def test_the_test_event_names_nothing(body: dict[str, Any]) -> None:
    """What S3 sends when a notification is configured is known, also inside SNS."""
    assert parse(json.dumps(body)) == Notification(test=True)


def test_all_records_are_read() -> None:
    """A message that was batched again names several objects; events of another kind are told."""
    removed = RECORD | {"eventName": "ObjectRemoved:Delete"}
    restored = {k: v for k, v in RECORD.items() if k != "s3"} | {"eventName": "s3:ObjectRestore:X"}
    found = parse(json.dumps({"Records": [RECORD, removed, RECORD, restored]}))
    assert found == Notification((REF, REF), ignored=("ObjectRemoved:Delete", "s3:ObjectRestore:X"))


def test_another_event_of_eventbridge_is_told() -> None:
    """An object that was deleted asks for nothing, and is not malformed."""
    found = parse(json.dumps(EVENTBRIDGE | {"detail-type": "Object Deleted", "detail": {}}))
    assert found == Notification(ignored=("Object Deleted",))


@pytest.mark.parametrize("name", ["ObjectCreated:Put", "s3:ObjectCreated:Copy"])
@pytest.mark.parametrize("version", ["2.0", "2.9"])
@pytest.mark.parametrize("source", ["aws:s3", "minio:s3", "ceph:s3"])
def test_what_stores_write_differently(name: str, version: str, source: str) -> None:
    """Minor versions, other stores and the longer name of the event are all taken."""
    body = direct(eventName=name, eventVersion=version, eventSource=source, unknown={"x": [1]})
    assert parse(json.dumps(body)).objects == (REF,)


@pytest.mark.parametrize("text", ["null", ""])
def test_no_version_is_never_a_version(text: str) -> None:
    """The text `null` stands for a bucket without versions."""
    (ref,) = parse(json.dumps(with_key("k", versionId=text))).objects
    assert ref.version_id is None


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        ("[]", "expected an object, found list"),
        ("[" * 100_000, "not JSON"),
        ('{"a":' * 100_000, "not JSON"),
        ("x" * (1 << 20), "not JSON"),
        ("{}", "neither an S3 event"),
        (json.dumps({"Records": []}), "`Records` is empty"),
        (json.dumps({"Records": {}}), "Records: "),
        (json.dumps({"Records": [1]}), "Records: "),
        (json.dumps(direct(eventVersion="3.0")), "eventVersion '3.0'"),
        (json.dumps(direct(eventSource="aws:sqs")), "eventSource 'aws:sqs'"),
        (json.dumps(direct(s3=None)), "without `s3`"),
        (json.dumps(with_key("")), "empty"),
        (json.dumps(with_key("%ff")), "does not decode as UTF-8"),
        (json.dumps(with_key("k", size="large")), "Records: "),
        (json.dumps(sns("{}")), "neither an S3 event"),
        (json.dumps(sns("no json")), "not JSON"),
        (json.dumps(sns(sns(DIRECT))), "neither an S3 event"),
        (json.dumps({"Type": "Notification", "Message": None}), "without a text"),
        (json.dumps(EVENTBRIDGE | {"detail": None}), "detail: "),
    ],
)
def test_malformed_bodies_say_what_is_wrong(body: str, said: str) -> None:
    """The dead letter's reader learns where to look."""
    assert said in refused(body)

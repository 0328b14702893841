"""Whatever wraps S3's notification, the object it names is processed, and nothing else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene, client, s3_event, s3_record
from harness.launch import COPY, Launcher

EMPTY = Depth(0, 0)
KEYS = [
    "plain.csv",
    "a folder/with spaces and+plus.csv",
    "100% of it.csv",
    "a+b%2Bc.csv",
    "Größe/数据 ✓.csv",
    "dots/../and//slashes?&=#.csv",
]


def direct(bucket: str, key: str) -> dict[str, Any]:
    """As S3 sends it."""
    return s3_event(bucket, key)


def in_sns(bucket: str, key: str) -> dict[str, Any]:
    """As SNS wraps it without raw delivery."""
    return {
        "Type": "Notification",
        "MessageId": "1b1ddd4c-2a3b-5ff6-8d1b-84c9e0b6f0f1",
        "TopicArn": "arn:aws:sns:eu-central-1:123456789012:topic",
        "Subject": "Amazon S3 Notification",
        "Message": json.dumps(s3_event(bucket, key)),
        "Timestamp": "2026-01-02T03:04:05.678Z",
    }


def from_eventbridge(bucket: str, key: str) -> dict[str, Any]:
    """As EventBridge tells it: the key as it is, nothing encoded."""
    return {
        "version": "0",
        "id": "17793124-05d4-b198-2fde-7ededc63b103",
        "detail-type": "Object Created",
        "source": "aws.s3",
        "account": "123456789012",
        "resources": [f"arn:aws:s3:::{bucket}"],
        "detail": {
            "version": "0",
            "bucket": {"name": bucket},
            "object": {"key": key, "size": 11, "etag": "b1946ac9", "sequencer": "00617F08299329D1"},
            "reason": "PutObject",
        },
    }


@pytest.mark.parametrize("wrap", [direct, in_sns, from_eventbridge])
def test_finds_the_object_whatever_its_key(
    wrap: Callable[[str, str], dict[str, Any]], scene: Scene, start: Launcher
) -> None:
    """Every key is looked up exactly as it is spelt, whatever the envelope did to it."""
    for key in KEYS:
        scene.put(key, key.encode())
        scene.send(wrap(scene.bucket, key))

    worker = start(COPY, MAX_MESSAGES=str(len(KEYS)))

    assert worker.wait() == 0
    assert scene.outputs() == {f"out/{key}": key.encode() for key in KEYS}
    assert {line["key"] for line in worker.events("message_received")} == set(KEYS)
    assert scene.depth() == EMPTY
    assert scene.letters() == []


def notify_queue(scene: Scene) -> None:
    """S3 to SQS."""
    scene.connect()


def notify_topic(scene: Scene, *, raw: bool) -> None:
    """S3 to SNS to SQS."""
    topic = scene.aws.sns.create_topic(Name=scene.bucket)["TopicArn"]
    scene.aws.sns.subscribe(
        TopicArn=topic,
        Protocol="sqs",
        Endpoint=scene.arn(scene.queue_url),
        Attributes={"RawMessageDelivery": str(raw).lower()},
    )
    configuration = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}
    scene.aws.s3.put_bucket_notification_configuration(
        Bucket=scene.bucket, NotificationConfiguration={"TopicConfigurations": [configuration]}
    )


def notify_eventbridge(scene: Scene) -> None:
    """S3 to EventBridge to SQS."""
    events = client("events", scene.aws.url)
    pattern = {"source": ["aws.s3"], "detail": {"bucket": {"name": [scene.bucket]}}}
    events.put_rule(Name=scene.bucket, EventPattern=json.dumps(pattern))
    target = {"Id": "queue", "Arn": scene.arn(scene.queue_url)}
    events.put_targets(Rule=scene.bucket, Targets=[target])
    scene.aws.s3.put_bucket_notification_configuration(
        Bucket=scene.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )


@pytest.mark.parametrize(
    "connect",
    [
        notify_queue,
        lambda scene: notify_topic(scene, raw=False),
        lambda scene: notify_topic(scene, raw=True),
        notify_eventbridge,
    ],
    ids=["queue", "topic", "raw topic", "eventbridge"],
)
def test_takes_what_the_services_themselves_deliver(
    connect: Callable[[Scene], None], scene: Scene, start: Launcher
) -> None:
    """An upload to a connected bucket is processed, with no message made up by the test."""
    connect(scene)
    key = "in/a+b%2Bc é.csv"
    scene.put(key, b"delivered")

    # The services may have sent a test event before.
    worker = start(COPY, MAX_MESSAGES="9", WAIT_SECONDS="0")

    assert worker.wait() == 0
    assert scene.outputs() == {f"out/{key}": b"delivered"}
    assert scene.depth() == EMPTY
    assert scene.letters() == []


TEST_EVENT = {
    "Service": "Amazon S3",
    "Event": "s3:TestEvent",
    "Time": "2026-01-02T03:04:05.678Z",
    "Bucket": "somewhere",
    "RequestId": "5582815E1AEA5ADF",
    "HostId": "8cLeGAmw098X5cv4Zkwcmo8vvZa3eH3eKxsPzbB9wrR+YstdA6Knx4Ip8EXAMPLE",
}


NOTHING_NEW = [
    (TEST_EVENT, "test_event"),
    ({"Type": "Notification", "Message": json.dumps(TEST_EVENT)}, "test_event"),
    (s3_event("anywhere", "gone.csv", event="ObjectRemoved:Delete"), "not_created_event"),
    ({"source": "aws.s3", "detail-type": "Object Deleted", "detail": {}}, "not_created_event"),
]


def test_skips_what_tells_of_no_new_object(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """A test event, or one of another kind, is deleted: it would go round for ever."""
    for body, _ in NOTHING_NEW:
        scene.send(body)

    worker = start(COPY, MAX_MESSAGES=str(len(NOTHING_NEW)))

    assert worker.wait() == 0
    assert worker.events("job_finished")[0]["outcome"] == "skipped"
    assert len(worker.events("message_deleted")) == len(NOTHING_NEW)
    assert proxy.calls(service="s3") == []
    assert scene.depth() == EMPTY
    assert scene.letters() == []


@pytest.mark.parametrize(("body", "reason"), NOTHING_NEW[::2], ids=["test event", "removed"])
def test_says_why_it_skips(
    body: dict[str, Any], reason: str, scene: Scene, start: Launcher
) -> None:
    """The last words tell a test event from an event of another kind."""
    scene.send(body)

    worker = start(COPY)

    assert worker.wait() == 0
    assert worker.termination_log["outcome"] == "skipped"
    assert worker.termination_log["reason"] == reason


BY_KEY = """
async def handle(job):
    if "reject" in job.object.key:
        raise Reject("as its name says")
    if "fail" in job.object.key:
        raise ValueError("as its name says")
    async with job.output(job.object.key) as out:
        await out.write(b"done")
"""


@pytest.mark.parametrize(
    ("keys", "code", "committed", "depth", "letters"),
    [
        (["one", "two", "three"], 0, ["one", "two", "three"], EMPTY, 0),
        (["one", "reject", "two"], 65, ["one", "two"], EMPTY, 1),
        (["reject", "fail", "one"], 75, ["one"], Depth(0, 1), 0),
        (["one", "fail"], 75, ["one"], Depth(0, 1), 0),
    ],
)
def test_the_worst_of_several_records_decides(
    *,
    keys: list[str],
    code: int,
    committed: list[str],
    depth: Depth,
    letters: int,
    scene: Scene,
    start: Launcher,
) -> None:
    """All records are worked on; one left to retry keeps the message, one rejected sends it off."""
    for key in keys:
        scene.put(key)
    records = [s3_record(scene.bucket, key) for key in keys]
    removed = s3_record(scene.bucket, "gone", event="ObjectRemoved:Delete")
    scene.send({"Records": [removed, *records]})

    worker = start(BY_KEY)

    assert worker.wait() == code
    assert set(scene.outputs()) == {f"out/{key}" for key in committed}
    assert scene.depth() == depth
    assert len(scene.letters()) == letters
    if letters:
        # One letter for all: it names the records it is about.
        assert "reject" in scene.letters()[0].attributes["x-death-error"]

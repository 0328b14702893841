"""Dead letters: the body as it came, why it is there, and never a message lost on the way."""

import json
from datetime import datetime

import pytest
from faults.plan import Fault, Reset, Rule, sqs_error
from faults.proxy import FaultProxy
from harness.aws import Clients, Depth, Scene
from harness.launch import COPY, Launcher

REJECT = "async def handle(job): raise Reject('no such column')"
MEBIBYTE = 1 << 20


def test_a_letter_says_why(scene: Scene, start: Launcher) -> None:
    """The dead letter: the body unchanged, and seven attributes that explain it."""
    message_id = scene.submit("k")
    body = scene.visible_now()[0]["Body"]

    worker = start(REJECT)

    assert worker.wait() == 65
    (letter,) = scene.letters()
    assert letter.body == body
    assert set(letter.types.values()) == {"String"}
    attributes = letter.attributes
    written_at = datetime.fromisoformat(attributes.pop("x-death-time"))
    assert written_at.utcoffset() is not None
    assert attributes == {
        "x-death-reason": "rejected_by_handler",
        "x-death-error": "Reject: no such column",
        "x-death-count": "2",
        "x-death-queue": attributes["x-death-queue"],
        "x-death-job": "job-of-the-test/pod-0",
        "x-death-message-id": message_id,
    }
    assert scene.queue_url.rpartition("/")[2] in attributes["x-death-queue"]


def test_the_messages_own_attributes_come_first(scene: Scene, start: Launcher) -> None:
    """Ten attributes in all: the sender's are kept, the error goes first, the reason last."""
    own = [0, 3, 4, 8, 9, 10]
    sent = {}
    for count in own:
        names = {f"own-{number}": f"value {number}" for number in range(count)}
        sent[scene.submit(f"{count} of its own", **names)] = names

    worker = start(REJECT, MAX_MESSAGES=str(len(own)))

    assert worker.wait() == 65
    for letter in scene.letters():
        count = len([name for name in letter.attributes if name.startswith("own-")])
        own.remove(count)
        assert len(letter.attributes) == min(10, count + 7)
        assert ("x-death-reason" in letter.attributes) == (count < 10)
        assert ("x-death-error" in letter.attributes) == (count <= 3)
    assert own == []
    for message_id, names in sent.items():
        (logged,) = worker.events("message_dead_lettered", message_id=message_id)
        assert len(logged.get("left_out", [])) == max(0, len(names) + 7 - 10)


def test_a_letter_is_no_larger_than_sqs_allows(scene: Scene, start: Launcher) -> None:
    """A body that leaves little room keeps all of itself; the attributes are cut or left out."""
    body = json.dumps({"Records": "x" * (MEBIBYTE - 400)})
    scene.send(body)

    worker = start(REJECT)

    assert worker.wait() == 65
    (letter,) = scene.letters()
    assert letter.body == body
    attributes = letter.attributes.items()
    size = sum(len(name) + len("String") + len(value.encode()) for name, value in attributes)
    assert len(body) + size <= MEBIBYTE
    assert letter.attributes["x-death-reason"] == "malformed_message"


def test_a_foreign_letter_keeps_the_types_of_its_attributes(scene: Scene, start: Launcher) -> None:
    """Numbers and bytes among the sender's attributes arrive as such."""
    own = {
        "number": {"DataType": "Number", "StringValue": "17"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    scene.aws.sqs.send_message(
        QueueUrl=scene.queue_url, MessageBody="not JSON", MessageAttributes=own
    )

    worker = start(COPY)

    assert worker.wait() == 65
    (letter,) = scene.raw_letters()
    kept = {name: letter["MessageAttributes"][name] for name in own}
    assert kept["number"]["DataType"] == "Number"
    assert kept["number"]["StringValue"] == "17"
    assert kept["bytes"]["BinaryValue"] == b"\x00\xff"


def test_a_letter_sent_back_gets_a_new_reason(scene: Scene, start: Launcher) -> None:
    """What an earlier letter said of the message is replaced, not kept beside the new."""
    scene.submit("k", **{"x-death-reason": "old", "x-death-count": "99", "own": "kept"})

    worker = start(REJECT)

    assert worker.wait() == 65
    (letter,) = scene.letters()
    assert letter.attributes["x-death-reason"] == "rejected_by_handler"
    assert letter.attributes["x-death-count"] == "1"
    assert letter.attributes["own"] == "kept"
    assert len(letter.attributes) == 8


def test_without_a_dead_letter_queue_nothing_is_deleted(
    aws: Clients, start: Launcher, proxy: FaultProxy
) -> None:
    """No DLQ: the message is hidden for RETRY_MAX_SECONDS, and an ERROR asks for someone."""
    start.scene = scene = Scene(aws, with_dlq=False)
    scene.submit("k")

    worker = start(REJECT, RETRY_MAX_SECONDS="123")

    assert worker.wait() == 65
    *_, hidden = proxy.calls("ChangeMessageVisibility")
    assert hidden.parameters["VisibilityTimeout"] == 123
    assert proxy.calls("DeleteMessage", "SendMessage") == []
    assert scene.depth() == Depth(0, 1)
    assert [line for line in worker.lines if line["level"].upper() == "ERROR"]


def test_a_message_that_would_outlive_its_queue(scene: Scene, start: Launcher) -> None:
    """A retry that the queue would not live to see is a letter, with what went wrong last."""
    scene.aws.sqs.set_queue_attributes(
        QueueUrl=scene.queue_url, Attributes={"MessageRetentionPeriod": "600"}
    )
    scene.submit("k")

    worker = start("async def handle(job): raise Retry('the other side is down', after=900)")

    assert worker.wait() == 65
    (letter,) = scene.letters()
    assert letter.attributes["x-death-reason"] == "retention_expiring"
    assert "the other side is down" in letter.attributes["x-death-error"]
    assert scene.depth() == Depth(0, 0)


def test_dlq_url_comes_before_the_redrive_policy(scene: Scene, start: Launcher) -> None:
    """DLQ_URL says where letters go, whatever the queue's own policy says."""
    created = scene.aws.sqs.create_queue(QueueName=f"{scene.bucket}-letters")
    scene.submit("k")

    worker = start(REJECT, DLQ_URL=created["QueueUrl"])

    assert worker.wait() == 65
    assert scene.letters() == []
    assert scene.depth(created["QueueUrl"]) == Depth(1, 0)


@pytest.mark.parametrize("fault", [Reset(), sqs_error(403, "AccessDenied")])
def test_a_letter_that_cannot_be_sent_keeps_the_message(
    fault: Fault, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Where the letter does not arrive the message is not deleted."""
    scene.submit("k")
    proxy.add(Rule("SendMessage", fault))

    worker = start(REJECT)

    assert worker.wait() in (65, 75)
    assert proxy.calls("DeleteMessage") == []
    assert scene.letters() == []
    assert scene.depth() == Depth(0, 1)
    assert worker.events("settlement_failed")

"""`dlq`: dead letters told with their reasons and sent back, by real processes."""

import json
import re
import signal
from collections.abc import Mapping
from typing import Any

import pytest
from faults.plan import Rule, sqs_error
from faults.proxy import FaultProxy
from harness.aws import Clients, Depth, Scene, s3_event
from harness.book import Book
from harness.launch import REJECT_AT_600, Launcher, let_reject
from harness.process import Worker

DATA = b"".join(b"%d\n" % number for number in range(1000))


def dlq(start: Launcher, *arguments: str, **env: str) -> Worker:
    """Start `dlq` with these arguments; what it writes is for people."""
    return start("", "dlq", *arguments, LOG_FORMAT="console", **env)


def bury(scene: Scene, body: str, own: Mapping[str, Any] | None = None, /, **death: str) -> str:
    """Put a letter into the dead-letter queue; its id."""
    said = {
        f"x-death-{name.replace('_', '-')}": {"DataType": "String", "StringValue": value}
        for name, value in death.items()
    }
    sent = scene.aws.sqs.send_message(
        QueueUrl=scene.dlq_url, MessageBody=body, MessageAttributes={**(own or {}), **said}
    )
    return str(sent["MessageId"])


def event(scene: Scene, key: str) -> str:
    """The body of S3's message of this key."""
    return json.dumps(s3_event(scene.bucket, key))


def back_on_the_queue(scene: Scene) -> dict[str, dict[str, Any]]:
    """What lies on the queue itself now, by body."""
    return {found["Body"]: found for found in scene.visible_now()}


def test_list_is_a_table(scene: Scene, aws: Clients, start: Launcher) -> None:
    """Age, object, reason, attempts and error of each; letters that SQS moved are among them."""
    error = "ValueError: row 7\nis no number"
    death = {"reason": "attempts_exhausted", "count": "5", "error": error}
    told = bury(scene, event(scene, "a b/ü.csv"), **death)
    moved = bury(scene, event(scene, "moved.csv"))
    foreign = bury(scene, "no S3 event at all")
    listing = dlq(start, "list")
    start.scene = Scene(aws)
    nothing = dlq(start, "list")

    assert listing.wait() == 0
    assert nothing.wait() == 0
    assert nothing.stdout == "no dead letters\n"
    header, *lines = listing.stdout.splitlines()
    assert header.split() == ["ID", "AGE", "OBJECT", "REASON", "ATTEMPTS", "ERROR"]
    rows = {row[0]: row[1:] for row in (re.split(r"\s{2,}", line) for line in lines)}
    assert rows.keys() == {told, moved, foreign}
    age, *rest = rows[told]
    assert re.fullmatch(r"\d+s", age)
    assert rest == [
        f"{scene.bucket}/a b/ü.csv",
        "attempts_exhausted",
        "5",
        "ValueError: row 7 is no number",
    ]
    assert rows[moved][1:3] == [f"{scene.bucket}/moved.csv", "moved_by_sqs"]
    assert rows[foreign][1:3] == ["(not an S3 event)", "moved_by_sqs"]
    assert scene.depth(scene.dlq_url) == Depth(3, 0), "what was listed is not visible again"


def test_show_tells_all_of_one(scene: Scene, aws: Clients, start: Launcher) -> None:
    """By the letter's own id or that of the message it was; an unknown id is an error."""
    body = event(scene, "k")
    own = {"team": {"DataType": "String", "StringValue": "blue"}}
    death = {"reason": "corrupt_data", "message_id": "0dd-1d", "error": "no zip"}
    letter = bury(scene, body, own, **death)
    other = Scene(aws)
    bury(other, "another")
    by_own = dlq(start, "show", letter)
    start.scene = other
    unknown = dlq(start, "show", "no-such-id")
    assert by_own.wait() == 0
    start.scene = scene
    by_message = dlq(start, "show", "0dd-1d")

    assert by_message.wait() == 0
    for shown in (by_own.stdout, by_message.stdout):
        assert shown.endswith(f"\n\n{body}\n")
        assert re.search(rf"^id: +{letter}$", shown, re.MULTILINE)
        assert re.search(rf"^object: +{scene.bucket}/k$", shown, re.MULTILINE)
        assert re.search(r"^x-death-reason: +corrupt_data$", shown, re.MULTILINE)
        assert re.search(r"^team: +blue$", shown, re.MULTILINE)
    assert scene.depth(scene.dlq_url) == Depth(1, 0)
    assert unknown.wait() == 1
    assert "no-such-id" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    assert other.depth(other.dlq_url) == Depth(1, 0)


def test_redrive_by_id(scene: Scene, start: Launcher) -> None:
    """Those named go back, with the body and attributes they had; the rest stays."""
    own: dict[str, Any] = {
        "number": {"DataType": "Number", "StringValue": "17"},
        "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    body = '{"a":  "body, to the byte: ü\\n"}'
    one = bury(scene, body, own, reason="corrupt_data", queue=scene.queue_url, count="1")
    bury(scene, "stays")
    bury(scene, "by its old id", message_id="0dd-1d")
    redriven = dlq(start, "redrive", one, "0dd-1d", "unknown")

    assert redriven.wait() == 1
    assert "unknown" in redriven.stderr
    assert "0dd-1d" not in redriven.stderr
    back = back_on_the_queue(scene)
    assert back.keys() == {body, "by its old id"}
    attributes = back[body]["MessageAttributes"]
    assert attributes.keys() == own.keys()
    assert attributes["number"] == own["number"]
    assert attributes["bytes"] == own["bytes"]
    assert "MessageAttributes" not in back["by its old id"]
    assert [letter.body for letter in scene.letters()] == ["stays"]


@pytest.mark.parametrize("call", ["SendMessage", "DeleteMessage"])
def test_redrive_interrupted_and_repeated(
    call: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """SIGTERM after one was sent or deleted: the rest is visible at once, and goes the next time.

    Nothing is lost; sent twice is at most the one whose delete had not been made yet.
    """
    bodies = {f"letter {number}" for number in range(4)}
    for body in bodies:
        bury(scene, body, queue=scene.queue_url)
    gate = proxy.hold(call, when="after", first=2)
    first = dlq(start, "redrive", "--all")
    gate.wait()
    first.signal(signal.SIGTERM)

    assert first.wait() == 143
    gate.open()
    assert "Traceback" not in first.stderr
    left = 4 - len(proxy.calls("DeleteMessage"))
    assert scene.depth(scene.dlq_url) == Depth(left, 0)
    # The letters say where they came from: where they lie is all there is to be told.
    second = dlq(start, "redrive", "--all", QUEUE_URL="", DLQ_URL=scene.dlq_url)
    assert second.wait() == 0
    assert second.stdout.endswith(f"{left} sent back\n")
    sent = [found["Body"] for found in scene.visible_now()]
    assert set(sent) == bodies
    assert len(sent) == 4 + (call == "SendMessage")
    assert scene.depth(scene.dlq_url) == Depth(0, 0)


def test_a_letter_that_cannot_be_sent_stays(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """An error of SQS ends the command with one line; nothing was deleted or stays hidden."""
    for number in range(2):
        bury(scene, f"letter {number}")
    proxy.add(Rule("SendMessage", sqs_error(403, "AccessDenied")))
    redriven = dlq(start, "redrive", "--all")

    assert redriven.wait() == 1
    assert len(redriven.stderr.splitlines()) == 1
    assert "AccessDenied" in redriven.stderr
    assert proxy.calls("DeleteMessage") == []
    assert scene.depth(scene.dlq_url) == Depth(2, 0)


def test_bad_configuration(scene: Scene, aws: Clients, start: Launcher) -> None:
    """No queue, a queue without dead letters, no URL: exit 78 and one line that names it."""
    lonely = Scene(aws, with_dlq=False)
    refusals = [
        (dlq(start, "list", QUEUE_URL=url), name)
        for url, name in (
            ("", "QUEUE_URL"),
            (lonely.queue_url, "DLQ_URL"),
            (f"{lonely.queue_url}-gone", "QUEUE_URL"),
            ("no url", "QUEUE_URL"),
        )
    ]
    for refused, name in refusals:
        assert refused.wait() == 78
        (line,) = refused.stderr.splitlines()
        assert line.startswith(f"{name}: ")


def test_what_was_sent_back_is_done_from_its_checkpoint(
    scene: Scene, book: Book, start: Launcher
) -> None:
    """From the worker's letter to the finished output: a new start, at the checkpoint kept."""
    message = scene.submit("k", DATA)
    rejecting = start(REJECT_AT_600)
    let_reject(rejecting, DATA)
    assert rejecting.wait() == 65
    assert book.record().state == "dead"
    redriven = dlq(start, "redrive", message)
    assert redriven.wait() == 0

    again = start(REJECT_AT_600, GOOD="yes")
    assert again.wait() == 0
    (began,) = again.events("began")
    assert (began["rows"], began["attempt"]) == (599, 1)
    assert scene.outputs() == {"out/copy": DATA}
    assert scene.letters() == []
    book.assert_nothing_left()

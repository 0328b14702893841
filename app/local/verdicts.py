"""How each file of the demo ended, by what is left in the bucket and among the dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from app import notifications
from app.local.journal import FileView
from app.local.samples import DemoFile, Expected
from app.local.stack import OUTPUT_PREFIX, Stack
from app.outcomes import RejectedError


@dataclass(frozen=True, slots=True)
class Letter:
    """What a dead letter says of its object."""

    reason: str
    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Left:
    """What was left when no pod ran any more.

    Attributes:
        outputs: sizes of the objects in the output bucket, in bytes, by key.
        letters: the dead letters, by the key of the object they name.
    """

    outputs: Mapping[str, int] = field(default_factory=dict)
    letters: Mapping[str, Letter] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ending:
    """How one file ended.

    Attributes:
        seconds: from the end of its upload to the end of its last attempt; None if there was none.
        outputs: keys in the output bucket.
        reason: for a rejected file, what its dead letter says.
        problem: what should have been otherwise; empty where all is well.
    """

    file: DemoFile
    outcome: str
    attempts: int
    seconds: float | None
    outputs: tuple[str, ...]
    reason: str
    problem: str


def judge(file: DemoFile, view: FileView, left: Left) -> Ending:
    """Put together what was seen of a file's way and what is left of it."""
    letter = left.letters.get(file.key)
    # An attempt that was made twice has committed the same keys again.
    committed = dict.fromkeys(view.committed)
    outputs = tuple(key for key in committed if key in left.outputs)
    outcome = "rejected" if letter else view.state
    seconds = None
    if view.ended_at is not None and view.uploaded_at is not None:
        seconds = max(0.0, view.ended_at - view.uploaded_at)
    return Ending(
        file,
        outcome,
        letter.attempts if letter else view.attempts,
        seconds,
        outputs,
        f"{letter.reason}: {letter.error}".rstrip(": ") if letter else "",
        _problem(file, view, outcome, outputs),
    )


def _problem(  # noqa: PLR0911 - a list of what may be wrong
    file: DemoFile, view: FileView, outcome: str, outputs: tuple[str, ...]
) -> str:
    expected = "rejected" if file.expected is Expected.REJECTED else "done"
    if outcome != expected:
        last = f"; the last error was {view.error}" if view.error else ""
        return f"expected it to be {expected}{last}"
    if lost := set(view.committed) - set(outputs):
        return f"committed, but not in the bucket: {', '.join(sorted(lost))}"
    # Whether the user's own handlers write any output is their affair.
    if expected == "done" and file.make is not None and not outputs:
        return "it left no output"
    if expected == "rejected" and outputs:
        return "it left an output all the same"
    if file.expected is Expected.INTERRUPTED_THEN_DONE and not view.interruptions:
        return "its first pod was to be interrupted and was not"
    if file.expected is Expected.INTERRUPTED_THEN_DONE and not view.resumed:
        return "its second pod was to go on at the checkpoint and did not"
    if file.expected is Expected.DONE_ONCE and not view.duplicates:
        return "its second event was to be skipped and was not"
    return ""


def read_left(stack: Stack) -> Left:
    """List the output bucket and receive every dead letter; blocks."""
    s3 = stack.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=stack.output_bucket, Prefix=OUTPUT_PREFIX
    )
    outputs = {item["Key"]: item["Size"] for page in pages for item in page.get("Contents", [])}
    letters: dict[str, Letter] = {}
    sqs = stack.client("sqs")
    while messages := _receive(sqs, stack.dlq_url):
        letters |= {key: _letter(message) for message in messages for key in _keys(message)}
    return Left(outputs, letters)


def _receive(sqs: Any, queue_url: str) -> list[dict[str, Any]]:
    answer = sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=10,
        MessageAttributeNames=["All"],
        # Longer than the demo: each letter is given once.
        VisibilityTimeout=3600,
    )
    return list(answer.get("Messages", []))


def _keys(message: Mapping[str, Any]) -> list[str]:
    try:
        return [named.key for named in notifications.parse(message["Body"]).objects]
    except RejectedError:
        return []


def _letter(message: Mapping[str, Any]) -> Letter:
    told = {
        name: str(value.get("StringValue", ""))
        for name, value in message.get("MessageAttributes", {}).items()
    }
    count = told.get("x-death-count", "")
    return Letter(
        told.get("x-death-reason", "without a reason"),
        told.get("x-death-error", ""),
        int(count) if count.isdigit() else 0,
    )

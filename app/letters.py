"""What is written on a dead letter, fitted to what SQS takes; pure."""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from app.outcomes import Result
from app.ports import LETTER_PREFIX

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
SQS_ATTRIBUTES_MAX = 10
SQS_MESSAGE_BYTES_MAX = 1 << 20
ERROR_BYTES_MAX = 4 << 10
_TYPE_BYTES = len("String")
# What does not fit goes in this order: the error first, the reason last.
_LEAST_FIRST = (
    "x-death-error",
    "x-death-message-id",
    "x-death-job",
    "x-death-time",
    "x-death-queue",
    "x-death-count",
    "x-death-reason",
)
# Characters that SQS refuses in texts.
_REFUSED = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Letter(msgspec.Struct, frozen=True):
    """The attributes to write, and the names of those that did not fit."""

    attributes: dict[str, str]
    left_out: list[str]


class Sender(msgspec.Struct, frozen=True):
    """Who dead-letters: the queue it came from and the process."""

    queue: str
    job_id: str
    pod_name: str


def compose(
    result: Result,
    body: str,
    own: Mapping[str, Mapping[str, Any]],
    *,
    attempts: int,
    message_id: str,
    sender: Sender,
    time: str,
) -> Letter:
    """The attributes of a dead letter, beside the message's own, which come first.

    The message's own attributes are taken as SQS gives them, the time as RFC 3339 writes it.
    """
    wanted = {
        "x-death-reason": result.reason or result.outcome,
        "x-death-error": cut(result.error or result.detail, ERROR_BYTES_MAX),
        "x-death-count": str(attempts),
        "x-death-queue": sender.queue,
        "x-death-time": time,
        "x-death-job": f"{sender.job_id}/{sender.pod_name}",
        "x-death-message-id": message_id,
    }
    # SQS refuses an empty value; a letter redriven before brings its old ones along.
    written = {name: clean(str(text)) or "-" for name, text in wanted.items()}
    kept = {name: value for name, value in own.items() if not name.startswith(LETTER_PREFIX)}
    room = SQS_MESSAGE_BYTES_MAX - len(body.encode(errors="replace")) - size_of(kept)
    places = SQS_ATTRIBUTES_MAX - len(kept)
    left_out = []
    for name in _LEAST_FIRST:
        if len(written) <= places and sum(map(_size, written.items())) <= room:
            break
        left_out.append(name)
        del written[name]
    return Letter(written, left_out)


def cut(text: str, most: int) -> str:
    """The text, with at most so many bytes of UTF-8."""
    return text.encode(errors="replace")[:most].decode(errors="ignore")


def clean(text: str) -> str:
    """The text without the characters that SQS refuses."""
    return _REFUSED.sub("\ufffd", text)


def size_of(attributes: Mapping[str, Mapping[str, Any]]) -> int:
    """Bytes that a message's own attributes count for."""
    return sum(
        len(name.encode())
        + len(str(value.get("DataType", "")))
        + len(str(value.get("StringValue", "")).encode())
        + len(value.get("BinaryValue", b""))
        for name, value in attributes.items()
    )


def _size(pair: tuple[str, str]) -> int:
    name, text = pair
    return len(name) + _TYPE_BYTES + len(text.encode())

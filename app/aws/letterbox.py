"""The dead letters of a queue, for a person to look at and send back."""

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

# First, since it decides what the SDK imports.
import app.aws.startup  # isort: skip  # noqa: F401

import msgspec
from botocore.config import Config

from app.aws import plain
from app.aws.errors import translated
from app.aws.redrive import named_by
from app.outcomes import ConfigurationError, MessageGoneError
from app.ports import LETTER_PREFIX

# Long enough to look through a full queue; what was looked at is released at the end anyway.
LOOK_SECONDS = 300
BATCH = 10
# SQS answers a poll from some of its servers only: the end is several empty answers in a row.
EMPTY_POLLS = 3


class Found(msgspec.Struct, frozen=True):
    """One letter as it lies in the dead-letter queue.

    Attributes:
        id: of the letter itself.
        attributes: all of them, as SQS gives them.
        sent_at: seconds since the epoch.
        receives: how often SQS has handed it out, dead-letter queue included.
    """

    id: str
    body: str
    handle: str
    attributes: dict[str, Any]
    sent_at: float
    receives: int
    group_id: str | None = None

    def said(self, name: str) -> str:
        """What the letter says of its death; empty where SQS itself moved the message."""
        return str(self.attributes.get(LETTER_PREFIX + name, {}).get("StringValue", ""))

    @property
    def age_seconds(self) -> float:
        """How long it has lain there."""
        return max(0.0, time.time() - self.sent_at)


class LetterBox:
    """Reads a dead-letter queue, and puts back what it took out.

    Args:
        dlq_url: None looks it up in the queue's redrive policy.
    """

    def __init__(self, queue_url: str | None, dlq_url: str | None) -> None:
        config = Config(connect_timeout=5, read_timeout=30, retries={"total_max_attempts": 3})
        self._client = plain.client("sqs", config)
        self._queue_url = queue_url
        self._dlq_url = dlq_url or self._find()
        self._taken: dict[str, str] = {}

    def letters(self) -> Iterator[Found]:
        """Every letter that can be seen now, each once."""
        seen: set[str] = set()
        empty = 0
        while empty < EMPTY_POLLS:
            fresh = [found for found in self._receive() if found.id not in seen]
            empty = 0 if fresh else empty + 1
            for found in fresh:
                seen.add(found.id)
                yield found

    def send_back(self, found: Found) -> str:
        """Send the original body to where it came from, then delete the letter; the queue's URL.

        Raises:
            ConfigurationError: the letter does not say where it came from, and QUEUE_URL neither.
            OutsideError: it was not sent; the letter stays.
        """
        source = found.said("queue") or self._queue_url
        if source is None:
            raise ConfigurationError(f"QUEUE_URL: is not set: letter {found.id} names no queue")
        own = {
            name: {key: part for key, part in value.items() if not key.endswith("ListValues")}
            for name, value in found.attributes.items()
            if not name.startswith(LETTER_PREFIX)
        }
        fifo = {"MessageGroupId": found.group_id or found.id, "MessageDeduplicationId": found.id}
        with translated(f"sending letter {found.id} back"):
            self._client.send_message(
                QueueUrl=source,
                MessageBody=found.body,
                MessageAttributes=own,
                **(fifo if source.endswith(".fifo") else {}),
            )
        with translated(f"deleting letter {found.id}"):
            self._client.delete_message(QueueUrl=self._dlq_url, ReceiptHandle=found.handle)
        self._taken.pop(found.id, None)
        return source

    def release(self) -> None:
        """Make visible again whatever was looked at and is still there."""
        for handle in list(self._taken.values()):
            # One that is gone (its delete was interrupted, but made) holds up none of the rest.
            with suppress(MessageGoneError), translated("releasing a letter"):
                self._client.change_message_visibility(
                    QueueUrl=self._dlq_url, ReceiptHandle=handle, VisibilityTimeout=0
                )
        self._taken.clear()

    def _receive(self) -> list[Found]:
        with translated("reading the dead letters"):
            answer = self._client.receive_message(
                QueueUrl=self._dlq_url,
                MaxNumberOfMessages=BATCH,
                WaitTimeSeconds=1,
                VisibilityTimeout=LOOK_SECONDS,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
        found = [_found(message) for message in answer.get("Messages", ())]
        self._taken |= {letter.id: letter.handle for letter in found}
        return found

    def _find(self) -> str:
        with translated("looking for the dead-letter queue"):
            answer = self._client.get_queue_attributes(
                QueueUrl=self._queue_url, AttributeNames=["RedrivePolicy"]
            )
            policy = answer.get("Attributes", {}).get("RedrivePolicy")
            if not policy:
                text = f"DLQ_URL: is not set, and {self._queue_url} has no redrive policy"
                raise ConfigurationError(text)
            found = self._client.get_queue_url(**named_by(policy))
        return str(found["QueueUrl"])


def _found(message: dict[str, Any]) -> Found:
    system = message.get("Attributes", {})
    return Found(
        id=message["MessageId"],
        body=message["Body"],
        handle=message["ReceiptHandle"],
        attributes=message.get("MessageAttributes", {}),
        sent_at=int(system.get("SentTimestamp", 0)) / 1000,
        receives=int(system.get("ApproximateReceiveCount", 1)),
        group_id=system.get("MessageGroupId"),
    )

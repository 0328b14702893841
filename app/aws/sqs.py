"""SQS as the ports want it."""

from collections.abc import Mapping
from typing import Any

from app import clock
from app.aws.errors import translated
from app.aws.redrive import named_by
from app.ports import LETTER_PREFIX, Message


class SqsQueue:
    """Receives and settles the messages of one queue.

    Args:
        dlq_url: where dead letters go; None looks it up in the queue's redrive policy.
    """

    def __init__(self, client: Any, queue_url: str, dlq_url: str | None) -> None:
        self._client = client
        self._queue_url = queue_url
        self._dlq_url = dlq_url

    async def receive(self, wait_seconds: int, visibility_seconds: int) -> Message | None:
        """Poll once; None where nothing came."""
        requested_at = clock.now()
        with translated("receiving"):
            answer = await self._client.receive_message(
                QueueUrl=self._queue_url,
                MaxNumberOfMessages=1,
                WaitTimeSeconds=wait_seconds,
                VisibilityTimeout=visibility_seconds,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
        found = answer.get("Messages")
        return _message(found[0], requested_at) if found else None

    async def hide(self, message: Message, seconds: int) -> None:
        """Make the message invisible for so long from now; 0 releases it."""
        with translated("changing the visibility", secret=message.handle):
            await _change_visibility(self._client, self._queue_url, message, seconds)

    async def delete(self, message: Message) -> None:
        """Delete the message."""
        with translated("deleting the message", secret=message.handle):
            await self._client.delete_message(
                QueueUrl=self._queue_url, ReceiptHandle=message.handle
            )

    async def retention_seconds(self) -> float:
        """How long the queue keeps a message."""
        with translated("asking for the retention"):
            answer = await self._client.get_queue_attributes(
                QueueUrl=self._queue_url, AttributeNames=["MessageRetentionPeriod"]
            )
        return float(answer["Attributes"]["MessageRetentionPeriod"])

    async def bury(self, message: Message, letter: Mapping[str, str]) -> bool:
        """Send the body, unchanged, to the dead letters; False where there is no such queue."""
        with translated("sending the dead letter", queue="DLQ_URL"):
            url = self._dlq_url or await self._find_dlq()
            if url is None:
                return False
            self._dlq_url = url
            written = {
                name: {"DataType": "String", "StringValue": text} for name, text in letter.items()
            }
            # A letter that was sent back and died again leaves its old words behind.
            own = {
                name: value
                for name, value in message.attributes.items()
                if not name.startswith(LETTER_PREFIX)
            }
            await self._client.send_message(
                QueueUrl=url,
                MessageBody=message.body,
                MessageAttributes={**own, **written},
                **_traced(message),
                **_fifo(url, message),
            )
            return True

    async def _find_dlq(self) -> str | None:
        answer = await self._client.get_queue_attributes(
            QueueUrl=self._queue_url, AttributeNames=["RedrivePolicy"]
        )
        policy = answer.get("Attributes", {}).get("RedrivePolicy")
        if not policy:
            return None
        found = await self._client.get_queue_url(**named_by(policy))
        return str(found["QueueUrl"])


class SqsExtender:
    """Renews leases over a client that nothing else uses."""

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url

    async def extend(self, message: Message, seconds: int) -> None:
        """Keep the message invisible for so long from now."""
        with translated("renewing the lease", secret=message.handle):
            await _change_visibility(self._client, self._queue_url, message, seconds)


async def _change_visibility(client: Any, queue_url: str, message: Message, seconds: int) -> None:
    await client.change_message_visibility(
        QueueUrl=queue_url, ReceiptHandle=message.handle, VisibilityTimeout=seconds
    )


def _message(found: Mapping[str, Any], requested_at: float) -> Message:
    system = found.get("Attributes", {})
    return Message(
        id=found["MessageId"],
        body=found["Body"],
        handle=found["ReceiptHandle"],
        receive_count=int(system.get("ApproximateReceiveCount", 1)),
        sent_at=int(system.get("SentTimestamp", 0)) / 1000,
        requested_at=requested_at,
        attributes=found.get("MessageAttributes", {}),
        group_id=system.get("MessageGroupId"),
        trace_header=system.get("AWSTraceHeader", ""),
    )


def _traced(message: Message) -> dict[str, Any]:
    if not message.trace_header:
        return {}
    header = {"DataType": "String", "StringValue": message.trace_header}
    return {"MessageSystemAttributes": {"AWSTraceHeader": header}}


def _fifo(url: str, message: Message) -> dict[str, str]:
    if not url.endswith(".fifo"):
        return {}
    return {
        "MessageGroupId": message.group_id or message.id,
        "MessageDeduplicationId": message.id,
    }

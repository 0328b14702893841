"""The ledger of one test, read past the program."""

from dataclasses import dataclass, field
from uuid import uuid4

import msgspec
from faults.proxy import FaultProxy

from app.ledger import Record
from harness.aws import Scene


@dataclass(slots=True)
class Book:
    """A bucket for the ledger of one scene."""

    scene: Scene
    proxy: FaultProxy
    bucket: str = field(default_factory=lambda: f"ledger-{uuid4().hex[:12]}")

    def __post_init__(self) -> None:
        self.scene.create_bucket(self.bucket)

    @property
    def env(self) -> dict[str, str]:
        """What a worker is told of it; failures come back at once."""
        return {
            "LEDGER_URL": f"s3://{self.bucket}/records",
            "CHECKPOINT_SECONDS": "0.05",
            "RETRY_BASE_SECONDS": "0",
            "RETRY_MAX_SECONDS": "0",
        }

    def records(self) -> list[Record]:
        """Every record, in no order."""
        stored = self.scene.outputs(self.bucket)
        return [
            msgspec.json.decode(data, type=Record)
            for key, data in stored.items()
            if key.endswith(".json")
        ]

    def record(self) -> Record:
        """The record, which is the only one."""
        (found,) = self.records()
        return found

    def blobs(self) -> list[str]:
        """The keys of blobs beside the records."""
        return [key for key in self.scene.outputs(self.bucket) if not key.endswith(".json")]

    def saved_rows(self) -> int:
        """What the checkpoint of the only record says of `rows`."""
        checkpoint = self.record().checkpoint
        return int(checkpoint.state["rows"]) if checkpoint else 0

    def release(self, handle: str = "") -> None:
        """Make a message visible whose worker was killed; by default the one taken last."""
        taken = [
            call.parameters["ReceiptHandle"]
            for call in self.proxy.calls("ChangeMessageVisibility")
            if call.queue == self.scene.queue_url.rpartition("/")[2]
        ]
        self.scene.aws.sqs.change_message_visibility(
            QueueUrl=self.scene.queue_url, ReceiptHandle=handle or taken[-1], VisibilityTimeout=0
        )

    def assert_nothing_left(self) -> None:
        """Neither an upload nor a blob nor a message."""
        assert self.scene.open_uploads() == []
        assert self.blobs() == []
        depth = self.scene.depth()
        assert (depth.visible, depth.in_flight) == (0, 0)

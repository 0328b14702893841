"""The outside world on one screen, in this program's words; `app.aws` implements it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

import msgspec

from app.notifications import ObjectRef

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
S3_PART_MIN_BYTES = 5 << 20
S3_PARTS_MAX = 10_000
# Of the attributes that a dead letter carries; the sender's own have other names.
LETTER_PREFIX = "x-death-"


class Message(msgspec.Struct, frozen=True):
    """One delivery of one message.

    Attributes:
        sent_at: seconds since the epoch.
        requested_at: `clock.now()` when the receive call was sent; SQS's 12 h run from then
            at the earliest.
        attributes: the sender's message attributes as SQS gives and takes them.
        group_id: of a FIFO queue, else None.
        trace_header: SQS's `AWSTraceHeader`; empty where nobody traced the sender.
    """

    id: str
    body: str
    handle: str
    receive_count: int
    sent_at: float
    requested_at: float
    attributes: Mapping[str, Mapping[str, Any]]
    group_id: str | None = None
    trace_header: str = ""


class Receiver(Protocol):
    """Where messages come from and are settled."""

    async def receive(self, wait_seconds: int, visibility_seconds: int) -> Message | None:
        """Poll once; None where nothing came."""

    async def hide(self, message: Message, seconds: int) -> None:
        """Make the message invisible for so long from now; 0 releases it."""

    async def delete(self, message: Message) -> None:
        """Delete the message: its work is done or explained."""

    async def retention_seconds(self) -> float:
        """How long the queue keeps a message."""

    async def bury(self, message: Message, letter: Mapping[str, str]) -> bool:
        """Send the body to the dead letters with these attributes; False where there are none."""


class Extender(Protocol):
    """The one call the lease needs, over a client of its own."""

    async def extend(self, message: Message, seconds: int) -> None:
        """Keep the message invisible for so long from now.

        Raises:
            MessageGoneError: the handle no longer speaks for the message.
            OutsideError: anything that may pass.
        """


class ObjectFacts(msgspec.Struct, frozen=True):
    """What the first response says of an object; pins its version from then on.

    Attributes:
        version_id: None where the bucket keeps no versions.
        etag: with its quotes, as If-Match takes it.
        size: bytes.
        checksums: of the whole object, by algorithm, as S3 names and writes them; None where
            the response could not tell.
    """

    bucket: str
    key: str
    version_id: str | None
    etag: str
    size: int
    content_type: str
    content_encoding: str
    metadata: Mapping[str, str]
    last_modified: datetime
    checksums: Mapping[str, str] | None = None


class Body(Protocol):
    """The bytes of one response."""

    async def read(self) -> bytes:
        """The next bytes, as they come; empty at the end."""

    def close(self) -> None:
        """Give the connection up; harmless when read to the end, or twice."""


class Opened(msgspec.Struct, frozen=True):
    """A response whose body has yet to be read: bytes `start` to `end` (exclusive)."""

    facts: ObjectFacts
    body: Body
    start: int
    end: int


class ObjectReader(Protocol):
    """Reads objects, each request pinned to one version."""

    async def open_at(
        self, ref: ObjectRef, start: int, end: int | None, pin: ObjectFacts | None
    ) -> Opened:
        """Ask for bytes `start` to `end` (exclusive; None: the whole) of the pinned version.

        A store that ignores ranges answers with the whole object, from byte 0.

        Raises:
            RejectedError: `object_missing`.
            OutsideError: `object_changed` where the pinned version is no longer there, or
                anything that may pass.
        """

    async def checksums(self, facts: ObjectFacts) -> Mapping[str, str]:
        """The pinned version's checksums over the whole object; empty where S3 has none.

        Raises:
            OutsideError: as `open_at`.
        """


class Upload(msgspec.Struct, frozen=True):
    """A multipart upload that has begun."""

    bucket: str
    key: str
    id: str


class SmallOutput(msgspec.Struct, frozen=True):
    """An output that one request writes."""

    bucket: str
    key: str
    content_type: str
    data: bytes


class Part(msgspec.Struct, frozen=True):
    """One part that S3 has taken."""

    number: int
    etag: str
    size: int


class Standing(msgspec.Struct, frozen=True):
    """What is there under an output's key."""

    etag: str
    metadata: Mapping[str, str]


# What a conditional write expects to find.
ABSENT = ""


class OutputStore(Protocol):
    """Takes outputs in parts; nothing is visible before `complete` or `put`.

    `expected` is the ETag that has to stand at the key, ABSENT for none, None for no condition.
    """

    async def begin(
        self, bucket: str, key: str, content_type: str, metadata: Mapping[str, str]
    ) -> Upload:
        """Begin a multipart upload."""

    async def upload(self, upload: Upload, number: int, data: bytes) -> Part:
        """Send one part; numbers begin at 1."""

    async def parts(self, upload: Upload) -> list[Part] | None:
        """The parts that S3 has, in order; None where the upload is gone."""

    async def complete(self, upload: Upload, parts: list[Part], expected: str | None) -> None:
        """Make the upload visible.

        Raises:
            ConditionError: something else stands at the key.
            UploadGoneError: it was completed or aborted before.
        """

    async def standing(self, bucket: str, key: str) -> Standing | None:
        """What is there under the key now."""

    async def abort(self, upload: Upload) -> None:
        """Throw the upload away."""

    async def put(
        self, what: SmallOutput, metadata: Mapping[str, str], expected: str | None
    ) -> None:
        """Write a small output in one request.

        Raises:
            ConditionError: something else stands at the key.
        """


class Stored(msgspec.Struct, frozen=True):
    """What a record's key holds."""

    data: bytes
    etag: str


class RecordStore(Protocol):
    """Small records with conditional writes, and blobs beside them."""

    async def read(self, key: str) -> Stored | None:
        """The record; None where there is none."""

    async def write(self, key: str, data: bytes, expected: str | None) -> str:
        """Write the record if it still has this ETag (None: if there is none); its new ETag.

        Raises:
            ConditionError: it has not.
            OutsideError: it may or may not have been written.
        """

    async def keep(self, key: str, data: bytes) -> None:
        """Write a blob."""

    async def fetch(self, key: str) -> bytes | None:
        """A blob's bytes; None where there is none."""

    async def drop(self, key: str) -> None:
        """Delete a blob; harmless where there is none."""

"""Doubles of the ports, with failure plans; held to the same suite as the real adapters.

`test_store_contract.py` and `test_conditions.py` run one suite each over `FakeStore` and S3 itself,
`test_records_contract.py` one over `FakeRecords`.
"""

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

import anyio
from fakebody import FakeBody

from app.notifications import ObjectRef
from app.outcomes import (
    ConditionError,
    ConfigurationError,
    OutsideError,
    Reason,
    RejectedError,
    UploadGoneError,
)
from app.ports import (
    ABSENT,
    Message,
    ObjectFacts,
    Opened,
    Part,
    SmallOutput,
    Standing,
    Upload,
)
from app.settings import Location

BUCKET = "in"
OUTPUT = Location("out", "results/")


@dataclass(frozen=True, slots=True)
class Stored:
    """One version of one object."""

    data: bytes
    version_id: str | None = None
    content_type: str = "binary/octet-stream"
    content_encoding: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    last_modified: datetime = datetime(2026, 1, 2, tzinfo=UTC)

    @property
    def etag(self) -> str:
        """As S3 gives it for an object that was put in one request."""
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


@dataclass(slots=True)
class FakeStore:
    """Objects and outputs in memory.

    Attributes:
        chunk_bytes: of a body, at most so many at once.
        failures: by the name of a call, what its next calls raise, in order; None succeeds.
        cut: after how many bytes a body ends, and the error it ends with, None for silence.
        bodies: every body that was given out.
    """

    buckets: set[str] = field(default_factory=lambda: {BUCKET, OUTPUT.bucket})
    versioned: set[str] = field(default_factory=set)
    chunk_bytes: int = 1 << 16
    failures: dict[str, list[Exception | None]] = field(default_factory=dict)
    cut: tuple[int, Exception | None] | None = None
    bodies: list[FakeBody] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    _objects: dict[tuple[str, str], list[Stored]] = field(default_factory=dict)
    _uploads: dict[str, "_Open"] = field(default_factory=dict)
    _ids: "count[int]" = field(default_factory=lambda: count(1))

    def keep(self, bucket: str, key: str, stored: Stored) -> str | None:
        """Store an object; its version id where the bucket keeps versions."""
        versioned = bucket in self.versioned
        version = f"version-{next(self._ids)}" if versioned else None
        made = Stored(
            stored.data, version, stored.content_type, stored.content_encoding, stored.metadata
        )
        older = self._objects.get((bucket, key), []) if versioned else []
        self._objects[bucket, key] = [*older, made]
        return version

    def found(self, bucket: str, key: str) -> Stored | None:
        """The newest version of an object, None where there is none."""
        return self._objects.get((bucket, key), [None])[-1]

    @property
    def open_uploads(self) -> list[str]:
        """The keys of uploads that were neither completed nor aborted."""
        return [upload.key for upload in self._uploads.values()]

    async def open_at(
        self, ref: ObjectRef, start: int, end: int | None, pin: ObjectFacts | None
    ) -> Opened:
        """As S3 answers a GET that is pinned by version or by ETag."""
        await self._call("open_at")
        wanted = pin.version_id if pin else ref.version_id
        versions = self._objects.get((ref.bucket, ref.key), [])
        fits = [one for one in versions if wanted in (None, one.version_id)]
        if not fits:
            raise RejectedError(Reason.OBJECT_MISSING, f"{ref.key} is not there")
        stored = fits[-1]
        if pin is not None and wanted is None and pin.etag != stored.etag:
            raise OutsideError(Reason.OBJECT_CHANGED, f"{ref.key} is another one now")
        start = 0 if end is None else start
        if end is not None and start >= len(stored.data):
            raise OutsideError(Reason.OBJECT_CHANGED, f"{ref.key} ends before byte {start}")
        data = stored.data[start:end]
        body = FakeBody(data, self.chunk_bytes, None)
        if self.cut is not None:
            (length, failure), self.cut = self.cut, None
            body = FakeBody(data[:length], self.chunk_bytes, failure)
        self.bodies.append(body)
        return Opened(_facts(ref, stored), body, start, start + len(data))

    async def checksums(self, facts: ObjectFacts) -> Mapping[str, str]:
        """The CRC32 that S3 has of what was put with one."""
        await self._call("checksums")
        crc = zlib.crc32(self._objects[facts.bucket, facts.key][-1].data)
        return {"CRC32": base64.b64encode(crc.to_bytes(4, "big")).decode()}

    async def begin(
        self, bucket: str, key: str, content_type: str, metadata: Mapping[str, str]
    ) -> Upload:
        """Begin an upload, which is seen nowhere."""
        await self._call("begin", bucket)
        name = f"upload-{next(self._ids)}"
        self._uploads[name] = _Open(key, content_type, metadata)
        return Upload(bucket, key, name)

    async def upload(self, upload: Upload, number: int, data: bytes) -> Part:
        """Take one part."""
        await self._call("upload")
        self._begun(upload).parts[number] = data
        return Part(number, Stored(data).etag, len(data))

    async def parts(self, upload: Upload) -> list[Part] | None:
        """The parts taken so far."""
        await self._call("parts")
        if upload.id not in self._uploads:
            return None
        taken = sorted(self._uploads[upload.id].parts.items())
        return [Part(number, Stored(data).etag, len(data)) for number, data in taken]

    async def complete(self, upload: Upload, parts: list[Part], expected: str | None) -> None:
        """Store the object that the parts make up."""
        await self._call("complete")
        begun = self._begun(upload)
        self._expect(upload.bucket, upload.key, expected)
        data = b"".join(begun.parts[part.number] for part in parts)
        made = Stored(data, None, begun.content_type, "", begun.metadata)
        self.keep(upload.bucket, upload.key, made)
        del self._uploads[upload.id]

    async def standing(self, bucket: str, key: str) -> Standing | None:
        """What is there under the key now."""
        await self._call("standing")
        found = self.found(bucket, key)
        return Standing(found.etag, found.metadata) if found else None

    async def abort(self, upload: Upload) -> None:
        """Forget the upload."""
        await self._call("abort")
        self._uploads.pop(upload.id, None)

    async def put(
        self, what: SmallOutput, metadata: Mapping[str, str], expected: str | None
    ) -> None:
        """Store a small object."""
        await self._call("put", what.bucket)
        self._expect(what.bucket, what.key, expected)
        self.keep(what.bucket, what.key, Stored(what.data, None, what.content_type, "", metadata))

    def _begun(self, upload: Upload) -> "_Open":
        if upload.id not in self._uploads:
            raise UploadGoneError(f"{upload.id} is gone")
        return self._uploads[upload.id]

    def _expect(self, bucket: str, key: str, expected: str | None) -> None:
        found = self.found(bucket, key)
        if expected is not None and expected != (found.etag if found else ABSENT):
            raise ConditionError(f"{key} is not what was expected")

    async def _call(self, name: str, bucket: str | None = None) -> None:
        self.calls.append(name)
        await anyio.lowlevel.checkpoint()
        if (planned := self.failures.get(name)) and (error := planned.pop(0)) is not None:
            raise error
        if bucket is not None and bucket not in self.buckets:
            raise ConfigurationError(f"OUTPUT_URL: there is no bucket {bucket}")


@dataclass(slots=True)
class _Open:
    key: str
    content_type: str
    metadata: Mapping[str, str]
    parts: dict[int, bytes] = field(default_factory=dict)


def _facts(ref: ObjectRef, stored: Stored) -> ObjectFacts:
    return ObjectFacts(
        bucket=ref.bucket,
        key=ref.key,
        version_id=stored.version_id,
        etag=stored.etag,
        size=len(stored.data),
        content_type=stored.content_type,
        content_encoding=stored.content_encoding,
        metadata=stored.metadata,
        last_modified=stored.last_modified,
    )


def message(body: str = "{}", **fields: object) -> Message:
    """A message as SQS gives it."""
    usual: dict[str, object] = {
        "id": "message-1",
        "handle": "a-handle",
        "receive_count": 1,
        "sent_at": 0.0,
        "requested_at": 0.0,
        "attributes": {},
    }
    return Message(body=body, **(usual | fields))  # type: ignore[arg-type]

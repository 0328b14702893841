"""The object as bytes: one pinned version, in order, checked, every body closed."""

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Self

import msgspec

from app import codecs, framing
from app.notifications import ObjectRef
from app.outcomes import OutsideError, Reason, RejectedError
from app.ports import Body, ObjectFacts, ObjectReader, Opened


class StreamLimits(msgspec.Struct, frozen=True):
    """What a stream may take.

    Attributes:
        object_bytes: a larger object is rejected; 0 is no limit.
        spool_dir: where `download` puts the object.
    """

    object_bytes: int
    decompression: codecs.Limits
    spool_dir: Path


class DescribedObject:
    """What is known of an object before its bytes are read.

    Attributes:
        facts: all that the first response said.
    """

    facts: ObjectFacts

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.facts.bucket

    @property
    def key(self) -> str:
        """The decoded key."""
        return self.facts.key

    @property
    def version_id(self) -> str | None:
        """The version, None where the bucket keeps none."""
        return self.facts.version_id

    @property
    def etag(self) -> str:
        """The ETag, with its quotes."""
        return self.facts.etag

    @property
    def size(self) -> int:
        """The size in bytes, as stored."""
        return self.facts.size

    @property
    def content_type(self) -> str:
        """The content type, as stored."""
        return self.facts.content_type

    @property
    def metadata(self) -> Mapping[str, str]:
        """The user's metadata."""
        return self.facts.metadata

    @property
    def last_modified(self) -> datetime:
        """When this version was written."""
        return self.facts.last_modified


class ObjectStream(DescribedObject):
    """One version of one object, as handlers see it."""

    def __init__(
        self,
        reader: ObjectReader,
        opened: Opened,
        limits: StreamLimits,
        on_bytes: Callable[[int], None],
    ) -> None:
        self._reader = reader
        self.facts = opened.facts
        self._first: Opened | None = opened
        self._limits = limits
        self._on_bytes = on_bytes
        self._live: set[Body] = {opened.body}
        self._folder: Path | None = None

    @classmethod
    async def open(
        cls,
        reader: ObjectReader,
        ref: ObjectRef,
        limits: StreamLimits,
        on_bytes: Callable[[int], None],
    ) -> Self:
        """Send the first request; its response pins the version.

        Raises:
            RejectedError: `object_missing` or `object_too_large`.
            OutsideError: anything that may pass.
        """
        opened = await reader.open_at(ref, 0, None, None)
        if limits.object_bytes and opened.facts.size > limits.object_bytes:
            opened.body.close()
            text = f"{opened.facts.size} bytes: more than MAX_OBJECT_BYTES ({limits.object_bytes})"
            raise RejectedError(Reason.OBJECT_TOO_LARGE, text)
        return cls(reader, opened, limits, on_bytes)

    def chunks(self) -> AsyncIterator[bytes]:
        """The raw bytes in order, in chunks of up to a MiB.

        Raises:
            OutsideError: the transport failed, or the object changed.
        """
        return _Chunks(self)

    async def decompressed(self) -> AsyncGenerator[bytes, None]:
        """Decompressed bytes, in chunks of about a MiB; plain objects as they are.

        Raises:
            RejectedError: the data is corrupt, or grows past a limit.
            OutsideError: the transport failed, or the object changed.
        """
        chunks = self.chunks()
        head = b""
        async for chunk in chunks:
            head += chunk
            if len(head) >= codecs.MAGIC_BYTES:
                break
        codec = codecs.detect(self.facts.content_encoding, head, self.key)
        if codec is None:
            if head:
                yield head
            async for chunk in chunks:
                yield chunk
            return
        decoder = codecs.Decoder(codec, self._limits.decompression)
        for piece in decoder.feed(head):
            yield piece
        async for chunk in chunks:
            for piece in decoder.feed(chunk):
                yield piece
        decoder.finish()

    async def batches(self, terminator: bytes = b"\n") -> AsyncGenerator[list[bytes], None]:
        """Decompressed lines without their terminator, as lists, one a chunk: the fast way.

        Raises:
            RejectedError: the data is corrupt, grows past a limit, or has no end of line in sight.
            OutsideError: the transport failed, or the object changed.
        """
        splitter = framing.Splitter(terminator)
        async for piece in self.decompressed():
            if lines := splitter.feed(piece):
                yield lines
        if last := splitter.finish():
            yield last

    async def lines(self, terminator: bytes = b"\n") -> AsyncGenerator[bytes, None]:
        """Decompressed lines without their terminator, one by one; raises as `batches` does."""
        async for batch in self.batches(terminator):
            for line in batch:
                yield line

    async def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, which is cut at the object's size.

        Raises:
            ValueError: the range is no range.
            OutsideError: the transport failed, or the object changed.
        """
        if not 0 <= start <= end:
            raise ValueError(f"read({start}, {end}): expected 0 <= start <= end")
        end = min(end, self.size)
        if start >= end:
            return b""
        chunks = _Chunks(self, start, end)
        return b"".join([chunk async for chunk in chunks])

    async def download(self) -> Path:
        """The object, spooled to a file that lives as long as the job.

        Raises:
            OutsideError: the transport failed, or the object changed.
        """
        import aiofiles

        # The name tells nothing: an object's key is no file path.
        self._folder = self._folder or Path(
            tempfile.mkdtemp(prefix="object-", dir=self._limits.spool_dir)
        )
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        os.close(descriptor)
        async with aiofiles.open(name, "wb") as spool:
            async for chunk in self.chunks():
                await spool.write(chunk)
        return Path(name)

    async def _open(self, start: int, end: int) -> Opened:
        """A response for these bytes; the first one serves once for a read from the start."""
        first, self._first = self._first, None
        if first is not None:
            if (first.start, first.end) == (start, end):
                return first
            first.body.close()
            self._live.discard(first.body)
        ref = ObjectRef(self.bucket, self.key, self.version_id)
        opened = await self._reader.open_at(ref, start, end, self.facts)
        self._live.add(opened.body)
        return opened

    def _done_with(self, body: Body) -> None:
        body.close()
        self._live.discard(body)

    def close(self) -> None:
        """Close every body and remove what was spooled."""
        for body in list(self._live):
            self._done_with(body)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class _Chunks:
    """The bytes of one range, counted; a class, so that no scope is held across a yield."""

    def __init__(self, stream: ObjectStream, start: int = 0, end: int | None = None) -> None:
        self._stream = stream
        self._at = start
        self._end = stream.size if end is None else end
        self._body: Body | None = None
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._ended or self._at >= self._end:
            self._finish()
            raise StopAsyncIteration
        if self._body is None:
            self._body = (await self._stream._open(self._at, self._end)).body  # noqa: SLF001
        try:
            chunk = await self._body.read()
        except BaseException:
            self._finish()
            raise
        self._at += len(chunk)
        self._stream._on_bytes(len(chunk))  # noqa: SLF001
        if not chunk:
            self._finish()
            self._check_length()
            raise StopAsyncIteration
        return chunk

    def _finish(self) -> None:
        self._ended = True
        if self._body is not None:
            self._stream._done_with(self._body)  # noqa: SLF001

    def _check_length(self) -> None:
        if self._at != self._end:
            text = f"{self._stream.key}: the body ended at byte {self._at}, not {self._end}"
            raise OutsideError(Reason.TRANSPORT, text)

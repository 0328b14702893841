"""The object as handlers see it: its bytes, decompressed bytes, lines; one pinned version."""

import os
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any, Self

from app import framing
from app.codecs import PIECE_BYTES
from app.decoding import Decoded
from app.described import DescribedObject, StreamLimits
from app.notifications import ObjectRef
from app.outcomes import FailureError, Reason, RejectedError
from app.ports import ObjectReader, Opened
from app.positions import Place, Position
from app.reading import Reading, open_first
from app.telemetry import Telemetry
from app.verified import Verified


class ObjectStream(DescribedObject):
    """One version of one object.

    The iterators begin where an earlier attempt's checkpoint left off, or at `start`: 0, an
    offset in bytes, or a token that `position` gave.

    Args:
        opened: the first response.
        attempt: 1 for the first one at this work; data that is wrong twice is given up.
    """

    def __init__(
        self,
        reader: ObjectReader,
        opened: Opened,
        limits: StreamLimits,
        telemetry: Telemetry,
        on_bytes: Callable[[int], None],
        *,
        attempt: int = 1,
    ) -> None:
        self.facts = opened.facts
        self._reader = reader
        self._first: Opened | None = opened
        self._limits = limits
        self._telemetry = telemetry
        self._on_bytes = on_bytes
        self._attempt = attempt
        self._resume: Any = None
        self._live: list[Reading] = []
        self._checked: list[Verified] = []
        self._failed: FailureError | None = None
        self._place: Place | None = None
        self._reached = 0
        self._folder: Path | None = None

    @classmethod
    async def open(
        cls,
        reader: ObjectReader,
        ref: ObjectRef,
        limits: StreamLimits,
        telemetry: Telemetry,
        on_bytes: Callable[[int], None],
        *,
        attempt: int = 1,
    ) -> Self:
        """Send the first request; its response pins the version.

        Raises:
            RejectedError: `object_missing` or `object_too_large`.
            OutsideError: anything that may pass.
        """
        opened = await open_first(reader, ref, limits.tuning, telemetry)
        if limits.object_bytes and opened.facts.size > limits.object_bytes:
            opened.body.close()
            text = f"{opened.facts.size} bytes: more than MAX_OBJECT_BYTES ({limits.object_bytes})"
            raise RejectedError(Reason.OBJECT_TOO_LARGE, text)
        return cls(reader, opened, limits, telemetry, on_bytes, attempt=attempt)

    @property
    def position(self) -> Any:
        """The token of the place reached: what comes next starts there; JSON, opaque.

        None before the first byte was read.
        """
        return self._place.token(self._place.mark()) if self._place else None

    @property
    def reached(self) -> int:
        """The furthest stored byte that was delivered in order so far; from any thread."""
        return max([self._reached, *(checked.at for checked in tuple(self._checked))])

    async def chunks(self, start: Any = None) -> AsyncGenerator[bytes, None]:
        """The raw bytes in order, in chunks as they come.

        Raises:
            ValueError: `start` is no place in the object.
            OutsideError: the transport failed too often in a row, the object changed, or its
                checksum is not what S3 says.
            RejectedError: its checksum is wrong for the second time.
        """
        at = Position.of(start if start is not None else self._resume, "chunks").at
        if at > self.size:
            raise ValueError(f"chunks(start={at}): the object has {self.size} bytes")
        source = self._verified(at)
        try:
            while chunk := await source.read():
                at += len(chunk)
                self._place = Place(at, at)
                yield chunk
        finally:
            await source.close()

    async def decompressed(self, start: Any = None) -> AsyncGenerator[bytes, None]:
        """Decompressed bytes; plain objects as they are.

        No piece crosses a multiple of a MiB of the stream, so that a handler can cut what it
        makes of them at places that are the same in every attempt.

        Raises:
            RejectedError: the data is corrupt, or grows past a limit.
            OutsideError: as `chunks`.
        """
        source = self._decoded(start)
        try:
            while piece := await source.read():
                at = source.offset - len(piece)
                while piece:
                    room = PIECE_BYTES - at % PIECE_BYTES
                    cut = len(piece) > room
                    part, piece = (piece[:room], piece[room:]) if cut else (piece, b"")
                    at += len(part)
                    self._place = source.place(at, at)
                    yield part
        finally:
            await source.close()

    async def batches(
        self, terminator: bytes = b"\n", *, start: Any = None
    ) -> AsyncGenerator[list[bytes], None]:
        """Decompressed lines without their terminator, as lists, one a chunk: the fast way.

        Raises:
            RejectedError: the data is corrupt, grows past a limit, or has no end of line in sight.
            OutsideError: as `chunks`.
        """
        source = self._decoded(start)
        splitter = framing.Splitter(terminator, source.offset)
        try:
            while piece := await source.read():
                begin = splitter.offset
                if lines := splitter.feed(piece):
                    self._place = source.place(begin, splitter.offset, lines, len(terminator))
                    yield lines
            if last := splitter.finish():
                self._place = source.place(source.offset, source.offset, last, 0)
                yield last
        finally:
            await source.close()

    async def lines(
        self, terminator: bytes = b"\n", *, start: Any = None
    ) -> AsyncGenerator[bytes, None]:
        """Decompressed lines without their terminator, one by one; raises as `batches` does."""
        # Whoever leaves early leaves nothing for the garbage collector to close.
        async with aclosing(self.batches(terminator, start=start)) as batches:
            async for batch in batches:
                for line in self.one_by_one(batch):
                    yield line

    def begin_attempt(self, number: int, position: Any) -> None:
        """What is known once the work is claimed: the attempt, and where the iterators begin."""
        self._attempt = number
        self._resume = position

    def forget(self, checked: Verified) -> None:
        """A way to the bytes was closed."""
        self._reached = max(self._reached, checked.at)
        if checked in self._checked:
            self._checked.remove(checked)

    def one_by_one(self, batch: list[bytes]) -> Iterator[bytes]:
        """The lines of the batch handed out last; `position` follows each of them."""
        rest = iter(batch)
        if self._place is not None:
            self._place.rest = rest
        return rest

    async def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`, which is cut at the object's size.

        Raises:
            ValueError: the range is no range.
            OutsideError: the transport failed too often in a row, or the object changed.
        """
        if not 0 <= start <= end:
            raise ValueError(f"read({start}, {end}): expected 0 <= start <= end")
        reading = self.reading(start, min(end, self.size))
        pieces = []
        try:
            while piece := await reading.read():
                self._on_bytes(len(piece))
                pieces.append(piece)
        finally:
            await self.done_with(reading)
        return b"".join(pieces)

    async def download(self) -> Path:
        """The object, spooled to a file that lives as long as the job.

        Raises:
            OutsideError, RejectedError: as `chunks`.
        """
        import aiofiles

        # The name tells nothing: an object's key is no file path.
        self._folder = self._folder or Path(
            tempfile.mkdtemp(prefix="object-", dir=self._limits.spool_dir)
        )
        descriptor, name = tempfile.mkstemp(dir=self._folder)
        os.close(descriptor)
        async with aiofiles.open(name, "wb") as spool:
            async for chunk in self.chunks(start=0):
                await spool.write(chunk)
        return Path(name)

    def reading(self, start: int, end: int) -> Reading:
        """Bytes of this version; the first response serves once, for a read from the start."""
        first, self._first = self._first, None
        if first is not None and (start or first.end > end or not end):
            first.body.close()
            first = None
        reading = Reading(
            self._reader,
            self.facts,
            start,
            end,
            tuning=self._limits.tuning,
            telemetry=self._telemetry,
            first=first,
        )
        self._live.append(reading)
        return reading

    async def done_with(self, reading: Reading) -> None:
        """Close what a reading left open."""
        await reading.close()
        if reading in self._live:
            self._live.remove(reading)

    def check(self) -> None:
        """Raise what was found wrong with the data, though the handler may have ignored it."""
        if self._failed is not None:
            raise self._failed

    async def close(self) -> None:
        """Close every body and remove what was spooled."""
        if self._first is not None:
            self._first.body.close()
            self._first = None
        for checked in list(self._checked):
            await checked.close()
        for reading in list(self._live):
            await self.done_with(reading)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _decoded(self, start: Any) -> Decoded:
        position = Position.of(start if start is not None else self._resume, "lines")
        return Decoded(
            self._verified(position.boundary.raw), self.facts, self._limits.decompression, position
        )

    def _verified(self, start: int) -> Verified:
        def failed(error: FailureError) -> None:
            self._failed = error

        checked = Verified(
            self,
            self._reader,
            self._telemetry,
            start,
            attempt=self._attempt,
            on_bytes=self._on_bytes,
            on_failed=failed,
        )
        self._checked.append(checked)
        return checked

"""Bytes of the pinned version in order: over one connection while that is enough.

A fast local network needs one connection, S3 needs many: a connection alone brings some 80 MB/s
there, but costs the least processor time. So reading begins with one, and goes parallel when it
is seen that the handler waits for bytes while this thread has time to spare.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter, thread_time

import msgspec

from app.notifications import ObjectRef
from app.outcomes import OutsideError, Reason
from app.ports import ObjectFacts, ObjectReader, Opened
from app.ranges import PASSING, Patience, RangeReader
from app.readahead import ReadAhead
from app.telemetry import Telemetry

# Asked for at once while one connection is enough.
SINGLE_RANGE_BYTES = 64 << 20
# How much, or how long, has to be seen before it is decided upon.
SEEN_BYTES = 4 << 20
SEEN_SECONDS = 0.02
# Of what a thread can do; beyond it more connections only cost.
USABLE = 0.9


class Tuning(msgspec.Struct, frozen=True):
    """How objects are read.

    Attributes:
        first_bytes: of an object that is not known to be smaller, the first request.
        connections: parallel ranged reads, at most.
        budget_bytes: held in memory for them, at most.
    """

    first_bytes: int = 4 << 20
    connections: int = 8
    budget_bytes: int = 64 << 20
    patience: Patience = Patience()


async def open_first(
    reader: ObjectReader, ref: ObjectRef, tuning: Tuning, telemetry: Telemetry
) -> Opened:
    """The first response: all of an object that is known to be small, else its first range.

    Raises:
        RejectedError: `object_missing`.
        OutsideError: it is not to be had, though it was asked for several times.
    """
    small = ref.size is not None and ref.size <= tuning.first_bytes
    end = None if small else tuning.first_bytes
    fruitless = 0
    while True:
        try:
            return await reader.open_at(ref, 0, end, None)
        except OutsideError as error:
            if error.reason is Reason.OBJECT_CHANGED and end is not None:
                end = None  # 416: there is no first byte in an empty object
                continue
            fruitless += 1
            if error.reason not in PASSING or fruitless > tuning.patience.fruitless:
                raise
            pause = tuning.patience.pause(fruitless)
            telemetry.read_retried(error, 0, pause)
            await asyncio.sleep(pause)


class Meter:
    """How well one connection does: what it brings, and what its bytes cost this thread."""

    def __init__(self) -> None:
        self._began = perf_counter()
        self._cpu = thread_time()
        self._bytes = 0

    def count(self, read: int) -> bool:
        """Count bytes; whether enough was seen to decide."""
        self._bytes += read
        return self._bytes >= SEEN_BYTES or perf_counter() - self._began >= SEEN_SECONDS

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self._bytes / max(1e-6, perf_counter() - self._began)

    def useful(self, waited: float) -> int:
        """How many connections this thread could serve, as busy as one keeps it.

        Args:
            waited: seconds of this time in which the handler waited for bytes.
        """
        passed = max(1e-6, perf_counter() - self._began)
        idle = max(0.0, waited - (thread_time() - self._cpu))
        return int(USABLE * passed / max(1e-6, passed - idle))


class Reading:
    """Bytes `start` to `end` in order; the object's one way to its bytes.

    Args:
        first: a response that begins at `start` and has already come.
    """

    def __init__(
        self,
        reader: ObjectReader,
        facts: ObjectFacts,
        start: int,
        end: int,
        *,
        tuning: Tuning,
        telemetry: Telemetry,
        first: Opened | None = None,
    ) -> None:
        self._reader = reader
        self._facts = facts
        self._end = end
        self._tuning = tuning
        self._telemetry = telemetry
        self._ahead: ReadAhead | None = None
        if first is None:
            stop = min(end, start + tuning.first_bytes)
            self._range = self._make(start, stop, lambda: None)
        else:
            self._range = self._make(start, min(end, first.end), lambda: None, first)
        self._meter: Meter | None = None

    async def read(self) -> bytes:
        """The next bytes as they come; empty at the end.

        Raises:
            OutsideError: the version is gone, or the transport failed too often in a row.
        """
        chunk = await self._range.read()
        if chunk:
            if self._ahead is None and self._range.end < self._end:
                self._consider(len(chunk))
            return chunk
        if self._ahead is not None:
            return await self._ahead.read()
        if self._range.end >= self._end:
            return b""
        stop = min(self._end, self._range.end + SINGLE_RANGE_BYTES)
        self._range = self._make(self._range.end, stop, lambda: None)
        self._meter = None
        return await self.read()

    async def close(self) -> None:
        """Close every connection under way."""
        self._range.close()
        if self._ahead is not None:
            await self._ahead.close()

    def _consider(self, read: int) -> None:
        """Go parallel from the end of this range on, where that would help."""
        if self._meter is None:
            # Begun at the first byte: the time to it says nothing of a connection's rate.
            self._meter = Meter()
            self._range.waited = 0.0
            return
        if not self._meter.count(read):
            return
        useful = min(self._tuning.connections, self._meter.useful(self._range.waited))
        if useful > 1:
            self._ahead = ReadAhead(
                self._make,
                self._range.end,
                self._end,
                budget=self._tuning.budget_bytes,
                connections=useful,
                rate_of_one=self._meter.rate,
            )
            self._telemetry.reading_parallel(useful, self._meter.rate)
        else:
            self._meter = Meter()
            self._range.waited = 0.0

    def _make(
        self,
        start: int,
        end: int,
        on_throttled: Callable[[], None],
        first: Opened | None = None,
    ) -> RangeReader:
        return RangeReader(
            self._reader,
            self._facts,
            start,
            end,
            patience=self._tuning.patience,
            telemetry=self._telemetry,
            first=first,
            on_throttled=on_throttled,
        )

"""Bytes of the pinned version in order: over one connection while that is enough.

A fast local network needs one connection, S3 needs many: a connection alone brings some 80 MB/s
there, but costs the least processor time. So reading begins with one, and goes parallel when it
is seen that the handler waits for bytes while this thread has time to spare.
"""

import asyncio
from collections.abc import Callable
from math import ceil
from pathlib import Path
from time import perf_counter, thread_time

import msgspec

from app.notifications import ObjectRef
from app.outcomes import OutsideError, Reason
from app.ports import ObjectFacts, ObjectReader, Opened
from app.ranges import PASSING, Patience, RangeReader
from app.readahead import ReadAhead
from app.telemetry import Telemetry

# Asked for at once while one connection is enough: each request costs a millisecond of CPU.
SINGLE_RANGE_BYTES = 1 << 30
# How long has to be seen before it is decided upon.
SEEN_SECONDS = 0.02
# A connection that brings this much a second, for so many bytes, is no S3; that a busy machine
# holds its other end up for a moment is no reason to add more: it is watched for longer.
FAST_BYTES = 256 << 20
BURST_BYTES = 4 << 20
SEEN_OF_FAST_SECONDS = 0.25
# Between two looks at it: a look costs as much as all else that is done with a chunk.
UNSEEN_SECONDS = 0.5
# Of what a thread can do; beyond it more connections only cost.
USABLE = 0.75
# Of the range under way when reading goes parallel, read on at most.
REST_BYTES = 4 << 20


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


def _waited_for_processor() -> float:
    """Seconds that this thread could have run but did not; 0 where the system does not tell."""
    try:
        text = Path("/proc/thread-self/schedstat").read_text()
    except OSError:
        return 0.0
    return int(text.split()[1]) / 1e9


class Meter:
    """How well the handler is served, and how busy this thread is with it."""

    def __init__(self) -> None:
        # Whether one connection was seen to bring more than S3's do.
        self.fast = False
        self._began = self._burst_began = perf_counter()
        self._delayed = _waited_for_processor()
        self._idle = 0.0
        self._bytes = self._burst_bytes = 0

    def count(self, read: int, idle: float) -> bool:
        """Count bytes, and the seconds this thread was idle over them; whether enough was seen."""
        now = perf_counter()
        self._bytes += read
        self._idle += idle
        self._burst_bytes += read
        if self._burst_bytes >= BURST_BYTES:
            self.fast |= self._burst_bytes > (now - self._burst_began) * FAST_BYTES
            self._burst_began, self._burst_bytes = now, 0
        return now - self._began >= (SEEN_OF_FAST_SECONDS if self.fast else SEEN_SECONDS)

    @property
    def rate(self) -> float:
        """Bytes a second."""
        return self._bytes / max(1e-6, perf_counter() - self._began)

    def useful(self, connections: int) -> int:
        """How many connections this thread could serve, as busy as these keep it."""
        # A busy machine looks like a slow network to a thread that does not get to run.
        delayed = _waited_for_processor() - self._delayed
        passed = max(1e-6, perf_counter() - self._began - delayed)
        idle = max(0.0, self._idle - delayed)
        useful = connections * USABLE * passed / max(1e-6, passed - idle)
        return int(useful) if self.fast else ceil(useful)


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
        self._meter_from = 0.0

    async def read(self) -> bytes:
        """The next bytes as they come; empty at the end.

        Raises:
            OutsideError: the version is gone, or the transport failed too often in a row.
        """
        if self._meter is None:
            chunk = await self._next()
            # Begun at the first byte: the time to it says nothing of a connection's rate.
            if perf_counter() >= self._meter_from and self._could_be_more():
                self._meter = Meter()
            return chunk
        began, busy = perf_counter(), thread_time()
        chunk = await self._next()
        idle = perf_counter() - began - (thread_time() - busy)
        if self._meter.count(len(chunk), idle):
            self._consider(self._meter)
            self._meter = None
        return chunk

    async def close(self) -> None:
        """Close every connection under way."""
        self._range.close()
        if self._ahead is not None:
            await self._ahead.close()

    async def _next(self) -> bytes:
        while self._ahead is None:
            chunk = await self._range.read()
            if chunk or self._range.end >= self._end:
                return chunk
            stop = min(self._end, self._range.end + SINGLE_RANGE_BYTES)
            self._range = self._make(self._range.end, stop, lambda: None)
        return await self._ahead.read()

    def _could_be_more(self) -> bool:
        if self._ahead is not None:
            return self._ahead.could_widen
        return self._range.at + REST_BYTES < self._end

    def _consider(self, meter: Meter) -> None:
        """Read over more connections where that would help; if not, look again later."""
        if self._ahead is not None:
            self._ahead.widen(meter.useful(self._ahead.target))
        elif (useful := min(self._tuning.connections, meter.useful(1))) > 1:
            self._range.shorten(self._range.at + REST_BYTES)
            self._ahead = ReadAhead(
                self._make,
                self._range,
                self._end,
                budget=self._tuning.budget_bytes,
                connections=self._tuning.connections,
                rate_of_one=meter.rate,
            )
            self._ahead.widen(useful)
            self._telemetry.reading_parallel(useful, meter.rate)
        elif meter.fast:
            self._meter_from = perf_counter() + UNSEEN_SECONDS

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

"""Ranges fetched in parallel, delivered in order, within one budget of bytes."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from app.ranges import RangeReader

RANGE_MIN_BYTES = 1 << 20
RANGE_MAX_BYTES = 64 << 20
# A connection has at most about this much in the process that the budget has not seen yet.
CHUNK_BYTES = 256 << 10
QUIET_SECONDS = 10.0
TRIAL_SECONDS = 1.0
# Several connections have to bring this much more than one did, or they are let go again.
HELPED = 1.3


@dataclass(slots=True)
class _Fetch:
    """One range under way: chunks that came and were not delivered."""

    reader: RangeReader
    chunks: deque[bytes] = field(default_factory=deque)
    ended: bool = False
    error: BaseException | None = None
    task: asyncio.Task[None] | None = None


def range_bytes(budget: int, connections: int, remaining: int) -> int:
    """How long ranges are to be: as long as the budget can hold, since each costs a round trip.

    Once under way, ranges end evenly spaced in time, so that of those behind the first one half
    is held on average.
    """
    if connections == 1:
        return RANGE_MAX_BYTES
    # The first round's ranges are graded; they cover (connections + 1) / 2 full ones.
    fair = 2 * remaining // (connections + 1)
    held = 2 * budget // (connections - 1)
    return max(RANGE_MIN_BYTES, min(RANGE_MAX_BYTES, held, fair))


class ReadAhead:
    """Bytes `start` to `end`, over several connections.

    Args:
        make: a reader of one range; told what to do when the store throttles.
        budget: bytes held in memory, at most.
        connections: at the beginning, and at most.
        rate_of_one: bytes a second that one connection alone brought.
    """

    def __init__(
        self,
        make: Callable[[int, int, Callable[[], None]], RangeReader],
        start: int,
        end: int,
        *,
        budget: int,
        connections: int,
        rate_of_one: float,
    ) -> None:
        self._make = make
        self._at = start
        self._end = end
        self._most = max(1, min(connections, budget // RANGE_MIN_BYTES))
        self._target = self._most
        self._budget = max(RANGE_MIN_BYTES // 2, budget - self._most * CHUNK_BYTES)
        self._range = range_bytes(self._budget, self._most, end - start)
        self._rate_of_one = rate_of_one
        self._fetches: deque[_Fetch] = deque()
        self._active = 0
        self._begun = 0
        self._buffered = 0
        self._delivered = 0
        self._starved = False
        self._quiet_until = 0.0
        self._trial_at: float | None = None
        self._wanted: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._grow()

    @property
    def connections(self) -> int:
        """How many ranges are being read now."""
        return self._active

    async def read(self) -> bytes:
        """The next bytes; empty at the end.

        Raises:
            OutsideError: as `RangeReader.read`.
        """
        while self._fetches:
            head = self._fetches[0]
            if head.chunks:
                return self._deliver(head.chunks.popleft())
            if head.error is not None:
                raise head.error
            if head.ended:
                self._fetches.popleft()
                self._grow()
                self._room.set()
                continue
            self._starved = True
            # The first range may go on now, however much those behind it hold.
            self._room.set()
            self._wanted = asyncio.get_running_loop().create_future()
            await self._wanted
        return b""

    async def close(self) -> None:
        """Stop every range and wait until each has closed its body."""
        tasks = [fetch.task for fetch in self._fetches if fetch.task is not None]
        self._at = self._end
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        for fetch in self._fetches:
            fetch.reader.close()
        self._fetches.clear()
        self._buffered = 0

    def throttled(self) -> None:
        """The store asks for fewer requests: half the connections, and none more for a while."""
        self._target = max(1, self._target // 2)
        self._quiet_until = monotonic() + QUIET_SECONDS

    def _deliver(self, chunk: bytes) -> bytes:
        self._buffered -= len(chunk)
        self._delivered += len(chunk)
        if self._buffered < self._budget:
            self._room.set()
        return chunk

    def _grow(self) -> None:
        """Start ranges until as many are read as is wanted."""
        while self._at < self._end and self._active < self._target:
            self._begun += 1
            # Graded at first, so that they do not all end, and all wait, at the same time.
            grade = min(self._begun, self._most)
            size = max(RANGE_MIN_BYTES, self._range * grade // self._most)
            stop = min(self._end, self._at + size)
            if self._end - stop < RANGE_MIN_BYTES:
                stop = self._end
            fetch = _Fetch(self._make(self._at, stop, self.throttled))
            self._at = stop
            self._active += 1
            self._fetches.append(fetch)
            fetch.task = asyncio.create_task(self._fetch(fetch))

    async def _fetch(self, fetch: _Fetch) -> None:
        try:
            while chunk := await fetch.reader.read():
                fetch.chunks.append(chunk)
                self._buffered += len(chunk)
                if self._fetches[0] is fetch:
                    self._wake()
                while self._is_full_for(fetch):
                    self._room.clear()
                    await self._room.wait()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised where its bytes would have come
            fetch.error = error
        finally:
            fetch.reader.close()
            fetch.ended = True
            self._active -= 1
            self._wake()
        self._adapt()
        self._grow()

    def _is_full_for(self, fetch: _Fetch) -> bool:
        # The first range always gets one chunk in, or nothing would ever be delivered.
        is_next = self._fetches[0] is fetch and not fetch.chunks
        return self._buffered >= self._budget and not is_next

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _adapt(self) -> None:
        """At the end of a range: one connection fewer where they run ahead, one more if starved."""
        now = monotonic()
        if self._trial_at is None:
            self._trial_at = now
            self._delivered = 0
        elif self._rate_of_one and now - self._trial_at >= TRIAL_SECONDS:
            rate = self._delivered / (now - self._trial_at)
            if rate < self._rate_of_one * HELPED:
                self._most = self._target = max(1, self._target // 2)
            self._trial_at, self._delivered = now, 0
        if self._starved and now >= self._quiet_until:
            self._target = min(self._most, self._target + 1)
        elif not self._starved and self._buffered > self._budget // 2:
            self._target = max(1, self._target - 1)
        self._starved = False

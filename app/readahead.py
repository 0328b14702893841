"""Ranges fetched in parallel, delivered in order, within one budget of bytes."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic

from app.ranges import RangeReader

RANGE_MIN_BYTES = 1 << 20
RANGE_MAX_BYTES = 64 << 20
# A connection has at most this much in the process that the budget has not seen: the HTTP library
# stops reading at 512 KiB, and uvloop reads 256 KiB at a time.
CHUNK_BYTES = 768 << 10
QUIET_SECONDS = 10.0
TRIAL_SECONDS = 0.5
# A handler that has not waited for so long has more connections than it needs.
CALM_SECONDS = 0.2
# Several connections have to bring this much more than one did, or they are let go again.
HELPED = 1.3
# A response that is this long in coming is worth being asked for before its connection is free.
LATE_SECONDS = 0.01
# So many of them at once; they are of the connections that are allowed, not beyond them.
EARLY_MOST = 1
# With fewer connections than this, one that only waits for a response is missed more.
EARLY_FROM = 4
# Of ranges as long as this the wait for the first byte is a smaller part than one connection is.
EARLY_RANGE_BYTES = 24 << 20


@dataclass(slots=True)
class _Fetch:
    """One range under way: chunks that came and were not delivered."""

    reader: RangeReader
    chunks: deque[bytes] = field(default_factory=deque)
    # Its successor was asked for.
    succeeded: bool = False
    ended: bool = False
    error: BaseException | None = None
    task: asyncio.Task[None] | None = None


def range_bytes(budget: int, connections: int) -> int:
    """How long ranges are to be: as long as the budget can hold, since each costs a round trip.

    Once under way, ranges end evenly spaced in time, so that of those behind the first one half
    is held on average.
    """
    if connections == 1:
        return RANGE_MAX_BYTES
    held = 2 * budget // (connections - 1)
    return max(RANGE_MIN_BYTES, min(RANGE_MAX_BYTES, held))


def early_requests(budget: int, connections: int) -> int:
    """How many of the connections are kept for requests made before one of the others is free."""
    long = range_bytes(budget, connections) >= EARLY_RANGE_BYTES
    return 0 if long or connections < EARLY_FROM else EARLY_MOST


class ReadAhead:
    """Bytes up to `end`, over several connections.

    Args:
        make: a reader of one range; told what to do when the store throttles.
        first: the range under way, whose bytes come first.
        budget: bytes held in memory, at most.
        connections: at most.
        rate_of_one: bytes a second that one connection alone brought.
    """

    def __init__(
        self,
        make: Callable[[int, int, Callable[[], None]], RangeReader],
        first: RangeReader,
        end: int,
        *,
        budget: int,
        connections: int,
        rate_of_one: float,
    ) -> None:
        self.target = 1
        self._make = make
        self._at = first.end
        self._end = end
        self._allowed = max(1, min(connections, budget // RANGE_MIN_BYTES))
        self._budget = max(RANGE_MIN_BYTES // 2, budget - self._allowed * CHUNK_BYTES)
        # One is left for the request that is made while another still brings its last bytes.
        self._most = self._allowed - early_requests(self._budget, self._allowed)
        self._rate_of_one = rate_of_one
        self._fetches: deque[_Fetch] = deque()
        self._begun = 0
        self._active = 0
        # Of the active ones, those whose successor was asked for.
        self._succeeded = 0
        self._buffered = 0
        self._delivered = 0
        self._starved_at = 0.0
        self._throttled = False
        self._quiet_until = 0.0
        self._trial_at: float | None = None
        self._waited = 0.0
        self._wanted: asyncio.Future[None] | None = None
        self._room = asyncio.Event()
        self._start(first)

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
            # The first range may go on now, however much those behind it hold.
            self._room.set()
            self._wanted = asyncio.get_running_loop().create_future()
            began = monotonic()
            await self._wanted
            self._starved_at = monotonic()
            self._waited += self._starved_at - began
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

    @property
    def could_widen(self) -> bool:
        """Whether more connections may be tried now."""
        # A store that has asked for fewer requests gets them back one by one, in `_adapt`.
        quiet = self._throttled or monotonic() < self._quiet_until
        return self.target < self._most and self._at < self._end and not quiet

    def widen(self, connections: int) -> None:
        """Read over so many connections from now on, if they are more."""
        wanted = min(self._most, connections)
        if wanted > self.target and self.could_widen:
            self.target = wanted
            if self._fetches:
                # It may have been long, since it was to be the only one.
                last = self._fetches[-1].reader
                last.shorten(last.at + self._range_bytes())
                self._at = last.end
            self._trial_at = None
            self._grow()

    def throttled(self) -> None:
        """The store asks for fewer requests: half the connections, and none more for a while."""
        self._throttled = True
        self.target = max(1, self.target // 2)
        self._quiet_until = monotonic() + QUIET_SECONDS

    def _deliver(self, chunk: bytes) -> bytes:
        self._buffered -= len(chunk)
        self._delivered += len(chunk)
        if self._buffered < self._budget:
            self._room.set()
        return chunk

    def _grow(self) -> None:
        """Start ranges until as many are read as is wanted."""
        missing = self.target - (self._active - self._succeeded)
        missing = min(missing, self._allowed - self._active)
        for _ in range(missing):
            if self._at >= self._end:
                return
            self._begun += 1
            # Graded at first, so that they do not all end, and all wait, at the same time.
            size = self._range_bytes() * min(self._begun, self._most) // self._most
            size = max(RANGE_MIN_BYTES, min(size, self._share()))
            stop = min(self._end, self._at + size)
            if self._end - stop < RANGE_MIN_BYTES:
                stop = self._end
            start, self._at = self._at, stop
            self._start(self._make(start, stop, self.throttled))

    def _range_bytes(self) -> int:
        # Of the most connections there may soon be: long ranges in front would hold them all up.
        one_is_enough = self.target == 1 and monotonic() < self._quiet_until
        return range_bytes(self._budget, 1 if one_is_enough else self._most)

    def _share(self) -> int:
        """Of all that has yet to come, one connection's part: the last ranges end together."""
        under_way = [fetch for fetch in self._fetches if not fetch.ended]
        left = self._end - self._at + sum(fetch.reader.left for fetch in under_way)
        # A range that is asked for early begins when its predecessor has come.
        early = max((fetch.reader.left for fetch in under_way if fetch.succeeded), default=0)
        return left // self.target - early

    def _start(self, reader: RangeReader) -> None:
        fetch = _Fetch(reader)
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
                if not fetch.succeeded:
                    self._succeed_early(fetch)
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
            self._succeeded -= fetch.succeeded
            self._wake()
        self._adapt()
        self._grow()

    def _succeed_early(self, fetch: _Fetch) -> None:
        """Ask for the next range while the last bytes of this one come.

        What the next one's first byte takes is then no time in which a connection brings nothing.
        """
        latency = fetch.reader.latency_seconds
        if latency < LATE_SECONDS or self._buffered >= self._budget or self._most == self._allowed:
            return
        if fetch.reader.nearly_ended(latency):
            fetch.succeeded = True
            self._succeeded += 1
            self._grow()

    def _is_full_for(self, fetch: _Fetch) -> bool:
        # The first range always gets one chunk in, or nothing would ever be delivered.
        is_next = self._fetches[0] is fetch and not fetch.chunks
        return self._buffered >= self._budget and not is_next

    def _wake(self) -> None:
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)

    def _adapt(self) -> None:
        """At the end of a range: fewer connections where they run ahead or did not help."""
        now = monotonic()
        if self._trial_at is None:
            self._begin_trial(now)
        elif (passed := now - self._trial_at) >= TRIAL_SECONDS:
            slow = self._delivered / passed < self._rate_of_one * HELPED
            # A handler that was busy itself shows nothing of what the connections could bring.
            if slow and self._waited > passed / 2:
                self.target = max(1, self.target // 2)
                self._quiet_until = now + QUIET_SECONDS
            self._begin_trial(now)
        if now - self._starved_at < CALM_SECONDS:
            if self._throttled and now >= self._quiet_until:
                self.target = min(self._most, self.target + 1)
        elif self._buffered > self._budget // 2:
            self.target = max(1, self.target - 1)

    def _begin_trial(self, now: float) -> None:
        self._trial_at = now
        self._delivered = 0
        self._waited = 0.0

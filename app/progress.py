"""How far the work on one object is, how fast it goes and how long it will take."""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import anyio
import msgspec

from app import clock

# What `Meter.look` tells.
FACTS = frozenset(
    {"bytes", "total", "percent", "rate", "eta_seconds", "done", "done_total", "seconds"}
)
# Soon at first, then ever more seldom: a short job is seen to move, a long one does not chatter.
FIRST_SECONDS = 0.5
MOST_SECONDS = 10.0
_LOOK_SECONDS = 0.25
# What was longer ago says little of how fast it goes now.
_WINDOW_SECONDS = 15.0
_MB = 1_000_000
# No count of anything; also excludes what is no number.
_HUGE = 1e18
_MINUTE, _HOUR = 60, 3600


class Counted(msgspec.Struct, frozen=True):
    """What is known of a piece of work at one moment.

    Attributes:
        began: `clock.now()` when it began; no two pieces have the same.
        key: of the object.
        size: of the object, in bytes.
        read: bytes read for it, those that were read twice included.
        reached: the furthest byte delivered in order; after a resume more than `read`.
        done, total: what the handler told, in a unit of its own.
    """

    began: float
    key: str
    size: int
    read: int
    reached: int
    done: float | None = None
    total: float | None = None

    @property
    def bytes(self) -> int:
        """How much of the object was read, at most all of it."""
        return min(self.size, max(self.read, self.reached))

    @property
    def of_handler(self) -> bool:
        """Whether the handler itself says how much there is to do."""
        return bool(self.total)

    @property
    def share(self) -> float | None:
        """From 0 to 1: the handler's own count where it told a total, else of the bytes."""
        done, whole = (self.done, self.total) if self.of_handler else (self.bytes, self.size)
        if done is None or not whole or not math.isfinite(done / whole):
            return None
        return min(1.0, max(0.0, done / whole))


class _Sample(msgspec.Struct, frozen=True):
    at: float
    read: int
    share: float | None


class Meter:
    """Tells the speed from what was counted lately; of one piece of work after the other."""

    def __init__(self) -> None:
        self._seen: deque[_Sample] = deque()
        self._began = 0.0
        self._of_handler = False

    def look(self, now: float, counted: Counted) -> dict[str, Any]:
        """The facts of the event `progress`; what cannot be known is left out.

        `bytes` and `total` are of the object and `rate` is its bytes per second; `percent` and
        `eta_seconds` are of the work; `done` and `done_total` are the handler's own numbers.
        """
        self._note(now, counted)
        facts: dict[str, Any] = {"bytes": counted.bytes, "total": counted.size}
        facts |= dict(self._rates())
        for name, value in (("done", counted.done), ("done_total", counted.total)):
            if value is not None:
                facts[name] = int(value) if value.is_integer() else value
        return facts | {"seconds": round(now - counted.began, 1)}

    def _note(self, now: float, counted: Counted) -> None:
        if counted.began != self._began:
            self._seen.clear()
            self._seen.append(_Sample(counted.began, 0, None))
        elif counted.of_handler != self._of_handler:
            # Of rows then and of bytes now: no speed can be made of these.
            self._seen = deque(_Sample(sample.at, sample.read, None) for sample in self._seen)
        self._began, self._of_handler = counted.began, counted.of_handler
        self._seen.append(_Sample(now, counted.read, counted.share))
        while self._seen[1].at <= now - _WINDOW_SECONDS:
            self._seen.popleft()

    def _rates(self) -> Iterator[tuple[str, float]]:
        first, last = self._seen[0], self._seen[-1]
        if last.share is not None:
            yield "percent", round(100 * last.share, 1)
        if last.at > first.at:
            yield "rate", round((last.read - first.read) / (last.at - first.at))
        for sample in self._seen:
            if sample.share is not None and last.share is not None:
                if sample.share < last.share < 1:
                    share_a_second = (last.share - sample.share) / (last.at - sample.at)
                    yield "eta_seconds", round((1 - last.share) / share_a_second, 1)
                return


async def tell(
    counted: Callable[[], Counted | None],
    say: Callable[..., None],
    now: Callable[[], float] = clock.now,
) -> NoReturn:
    """Call `say` with the facts while the work goes on, at a bounded rate, until cancelled.

    Where nothing has changed, nothing is said: a handler that stands still is the stall timer's.
    """
    meter, last, told_at = Meter(), None, 0.0
    while True:
        await anyio.sleep(_LOOK_SECONDS)
        found, at = counted(), now()
        if found is None or found == last:
            continue
        since = told_at if last is not None and last.began == found.began else found.began
        if at - since >= min(MOST_SECONDS, max(FIRST_SECONDS, (at - found.began) / 4)):
            last, told_at = found, at
            say(**meter.look(at, found))


def in_words(facts: Mapping[str, Any], *, sizes: bool = True) -> str:
    """An event `progress` for people, with or without bytes; empty where it tells nothing."""
    done, size, percent, rate, eta = (
        _number(facts, name) for name in ("bytes", "total", "percent", "rate", "eta_seconds")
    )
    words = []
    if sizes and done is not None and size:
        words.append(f"{done / _MB:,.1f} of {size / _MB:,.1f} MB")
    if percent is not None:
        words.append(f"{int(percent)} %")
    elif (own := _number(facts, "done")) is not None:
        words.append(f"{own:,.0f} so far")
    if rate is not None:
        words.append(f"{rate / _MB:,.1f} MB/s")
    if eta is not None:
        words.append(f"{span(eta)} left")
    return ", ".join(words)


def percent_of(facts: Mapping[str, Any]) -> float | None:
    """The share of the work that an event `progress` tells, whoever wrote it."""
    return _number(facts, "percent")


def span(seconds: float) -> str:
    """A duration in two numbers at most, such as `2 h 5 min`."""
    left = math.ceil(seconds)
    if left >= _HOUR:
        return f"{left // _HOUR} h {left % _HOUR // _MINUTE} min"
    return f"{left // _MINUTE} min {left % _MINUTE} s" if left >= _MINUTE else f"{left} s"


def _number(facts: Mapping[str, Any], name: str) -> float | None:
    value = facts.get(name)
    usable = isinstance(value, int | float) and abs(value) < _HUGE
    return float(value) if usable else None  # type: ignore[arg-type]

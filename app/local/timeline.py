"""The geometry of a picture over time: pure, in seconds and pixels, without any markup."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_TICKS_MOST = 14
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600)


@dataclass(frozen=True, slots=True)
class Axis:
    """Time from left to right.

    Attributes:
        seconds: what the axis spans, from 0.
        left, width: where it lies, in pixels.
    """

    seconds: float
    left: float
    width: float

    @property
    def right(self) -> float:
        """Its right end."""
        return self.left + self.width

    def x(self, at: float) -> float:
        """The place of a time; what lies outside is put at the end."""
        share = at / self.seconds if self.seconds > 0 else 0.0
        return self.left + self.width * min(1.0, max(0.0, share))

    def ticks(self) -> list[int]:
        """Round seconds, not too many."""
        step = next(
            (step for step in _STEPS if self.seconds / step <= _TICKS_MOST),
            math.ceil(self.seconds / _TICKS_MOST),
        )
        return list(range(0, int(self.seconds) + 1, step))

    def span(self, begin: float, end: float, at_least: float = 0.0) -> tuple[float, float]:
        """The left end and the width of a bar; a narrow one is widened within the axis."""
        left, right = self.x(begin), self.x(max(begin, end))
        width = max(at_least, right - left)
        return min(left, self.right - width), width


@dataclass(frozen=True, slots=True)
class Change:
    """A count from one time to another."""

    begin: float
    end: float
    counts: tuple[int, ...]


def changes(samples: Sequence[tuple[float, tuple[int, ...]]], until: float) -> list[Change]:
    """Samples in order of time as spans in which nothing changes."""
    found: list[Change] = []
    for at, counts in samples:
        if found and found[-1].counts == counts:
            continue
        if found:
            found[-1] = Change(found[-1].begin, at, found[-1].counts)
        found.append(Change(at, until, counts))
    return found


def staircase(
    spans: Sequence[Change], which: int, axis: Axis, bottom: float, height: float, most: int
) -> str:
    """The outline of one count over time, for the `d` of a path that is filled to `bottom`."""
    if not spans:
        return ""

    def corners() -> Iterator[tuple[float, float]]:
        yield axis.x(spans[0].begin), bottom
        for span in spans:
            y = bottom - height * span.counts[which] / max(1, most)
            yield axis.x(span.begin), y
            yield axis.x(span.end), y
        yield axis.x(spans[-1].end), bottom

    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners())


def apart(places: Sequence[float], pixels: float) -> list[int]:
    """The indices of those that stand at least so far from the one kept before; the last always."""
    kept: list[int] = []
    for index, place in enumerate(places):
        if kept and place - places[kept[-1]] < pixels:
            if index == len(places) - 1:
                kept[-1] = index
            continue
        kept.append(index)
    return kept

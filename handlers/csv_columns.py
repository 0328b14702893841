"""What a profile knows of one column, for `csv_profile`."""

import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Self

# What is told of a text's least and most.
TEXT_CHARS = 100
LARGEST = sys.float_info.max


class Column:
    """What is known of one column: the narrowest type that fits all of it, and its ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nulls = 0
        # The types it may still be; a batch that the first does not fit drops it for good.
        self._types = list(TYPES)
        self._ends: list[Any] = []
        self._text_ends: list[str] = []

    def state(self) -> list[Any]:
        """All that is known, as JSON."""
        ends = [end.isoformat() if isinstance(end, datetime) else end for end in self._ends]
        return [self._name, self._nulls, self._types, ends, self._text_ends]

    @classmethod
    def of_state(cls, state: list[Any]) -> Self:
        """A column as `state` told it."""
        column = cls(state[0])
        column._nulls, column._types, column._ends, column._text_ends = state[1:]
        if column._types[:1] == ["timestamp"]:
            column._ends = [datetime.fromisoformat(end) for end in column._ends]
        return column

    def add(self, cells: Sequence[str]) -> None:
        """Take the cells of more rows; an empty one is null."""
        if nulls := cells.count(""):
            self._nulls += nulls
            cells = [cell for cell in cells if cell]
        if not cells:
            return
        # Kept beside the others, since what comes later may turn the column into text.
        self._text_ends = ends_of([*self._text_ends, *ends_of(cells)])
        while self._types:
            try:
                self._ends = ends_of([*self._ends, *TYPES[self._types[0]](cells)])
            except (ValueError, TypeError):
                self._widen()
            else:
                return

    def _widen(self) -> None:
        unfit = self._types.pop(0)
        if self._ends:
            # Of what came before, only integers are of a further type as well.
            self._types = ["number"] if unfit == "integer" else []

    def told(self) -> dict[str, Any]:
        """What the profile says of the column."""
        kind, ends = (self._types or ["text"])[0], self._ends
        if kind == "text":
            ends = [text[:TEXT_CHARS] for text in self._text_ends]
        elif kind == "timestamp":
            ends = [moment.isoformat() for moment in ends]
        least, most = ends or (None, None)
        kind = kind if ends else "empty"
        return {"name": self._name, "type": kind, "nulls": self._nulls, "min": least, "max": most}


def ends_of(values: Sequence[Any]) -> list[Any]:
    """The least and the most of some values."""
    return [min(values), max(values)]


# A type is a function from cells to the ends of their values; it raises ValueError, or TypeError
# where values do not compare, if they are not all of the type.


def integers(cells: Sequence[str]) -> list[int]:
    """Whole numbers."""
    return plain_numbers(ends_of([*map(int, cells)]), cells)


def numbers(cells: Sequence[str]) -> list[float]:
    """Numbers; neither infinity nor what is not a number."""
    return plain_numbers(ends_of([*map(float, cells)]), cells)


def plain_numbers(ends: list[Any], cells: Sequence[str]) -> list[Any]:
    """The same ends; refuses what Python takes for numbers and nobody else does."""
    letters = "".join(cells)
    if any(letter in letters for letter in "_nN") or not -LARGEST <= ends[0] <= ends[1] <= LARGEST:
        raise ValueError
    return ends


def booleans(cells: Sequence[str]) -> list[bool]:
    """`true` and `false`, in any case of letters."""
    words = {cell.lower() for cell in set(cells)}
    if not words <= {"true", "false"}:
        raise ValueError
    return ends_of([word == "true" for word in words])


def timestamps(cells: Sequence[str]) -> list[datetime]:
    """Dates and times as ISO 8601 writes them, all with an offset or none."""
    if any(map(str.isdigit, cells)):
        raise ValueError  # a date without hyphens is a number
    return ends_of([*map(datetime.fromisoformat, cells)])


TYPES: dict[str, Callable[[Sequence[str]], list[Any]]] = {
    "integer": integers,
    "number": numbers,
    "boolean": booleans,
    "timestamp": timestamps,
}

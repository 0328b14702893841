"""Writes a profile of a CSV file: its rows, and of each column the type, nulls, least and most.

Memory stays flat whatever the size: what is kept is a few values per column. The speed comes from
working on a batch of lines at a time, column by column, with builtins that loop in C.
"""

import csv
import io
import json
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

from app.handler import Job, Reject

DELIMITERS = ",;\t|"
SNIFFED_ROWS = 50
# So few that their cells stay in the processor's cache, and their rows below the number of new
# objects that wakes the garbage collector: three times as fast as a whole batch.
LINES_AT_ONCE = 300
# What is told of a text's least and most.
TEXT_CHARS = 100
# A quote that is never closed is found out here, instead of swallowing the file.
FIELD_CHARS_MAX = 1 << 20
LARGEST = sys.float_info.max
# No CSV text contains it, so that it can mark the end of a batch.
END_MARK = "\0"


async def csv_profile(job: Job) -> None:
    """Read the CSV, plain or compressed, and write `<key>.profile.json`."""
    text, table = Text(), Table()
    async for lines in job.object.batches():
        for start in range(0, len(lines), LINES_AT_ONCE):
            table.add(text.rows(lines[start : start + LINES_AT_ONCE]))
        job.progress(table.rows)
    table.add(text.last_rows())
    told = {"key": job.object.key, "size": job.object.size, **text.told(), **table.told()}
    async with job.output(f"{job.object.key}.profile.json", "application/json") as out:
        await out.write(json.dumps(told, indent=2, ensure_ascii=False).encode())


class Text:
    """Turns batches of lines into rows of cells."""

    def __init__(self) -> None:
        self._delimiter = ""
        self._held = ""
        self._utf8_errors = 0
        # The csv module has one limit for the whole process.
        csv.field_size_limit(FIELD_CHARS_MAX)

    def rows(self, lines: list[bytes]) -> list[list[str]]:
        """The rows that end in this batch; one that a quote keeps open waits for the next."""
        text = self._held + self._decoded(b"\n".join(lines) + b"\n")
        rows = self._parsed(text + END_MARK)
        if rows and rows[-1] == [END_MARK]:
            self._held = ""
            return rows[:-1]
        # The mark was taken into the last row: held are the lines which that row has before it.
        lines_held = sum(cell.count("\n") for cell in rows.pop())
        self._held = "\n".join(text.rsplit("\n", lines_held + 1)[-lines_held - 1 :])
        return rows

    def last_rows(self) -> list[list[str]]:
        """What the end of the file leaves, where it comes inside of a quoted cell."""
        return self._parsed(self._held.removesuffix("\n"))

    def told(self) -> dict[str, Any]:
        """What the profile says of the text itself."""
        return {"delimiter": self._delimiter, "utf8_errors": self._utf8_errors}

    def _decoded(self, data: bytes) -> str:
        """The text, every line ended alike; what is no UTF-8 is replaced and counted."""
        if b"\0" in data:
            raise Reject("not CSV text: it contains NUL bytes (binary data, or UTF-16?)")
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = data.decode(errors="replace")
            genuine = data.count("\N{REPLACEMENT CHARACTER}".encode())
            self._utf8_errors += text.count("\N{REPLACEMENT CHARACTER}") - genuine
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if not self._delimiter:
            text = text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
            self._delimiter = sniffed(text)
        return text

    def _parsed(self, text: str) -> list[list[str]]:
        try:
            return list(csv.reader(io.StringIO(text), delimiter=self._delimiter or ","))
        except csv.Error as error:
            raise Reject(f"not CSV text: {error}") from error


def sniffed(text: str) -> str:
    """The delimiter that cuts the first rows into the most cells, all rows alike."""

    def fit(delimiter: str) -> tuple[bool, int, int]:
        reader = csv.reader(io.StringIO(text), delimiter=delimiter)
        try:
            widths = [len(row) for row in islice(reader, SNIFFED_ROWS) if row]
        except csv.Error:
            widths = []
        width = widths[0] if widths else 0
        return width > 1, widths.count(width), width

    return max(DELIMITERS, key=fit)


class Table:
    """Counts rows and shares their cells out to the columns; the first row names them."""

    def __init__(self) -> None:
        self.rows = 0
        self._ragged = 0
        self._columns: list[Column] = []

    def add(self, rows: list[list[str]]) -> None:
        """Take more rows; empty lines are none."""
        rows = [row for row in rows if row]
        if rows and not self._columns:
            self._columns = [Column(name) for name in rows.pop(0)]
        if not rows:
            return
        self.rows += len(rows)
        width = len(self._columns)
        ragged = [row for row in rows if len(row) != width]
        self._ragged += len(ragged)
        for row in ragged:
            row[:] = (row + [""] * width)[:width]
        for column, cells in zip(self._columns, zip(*rows, strict=True), strict=True):
            column.add(cells)

    def told(self) -> dict[str, Any]:
        """What the profile says of the table."""
        return {
            "rows": self.rows,
            "ragged_rows": self._ragged,
            "columns": [column.told() for column in self._columns],
        }


class Column:
    """What is known of one column: the narrowest type that fits all of it, and its ends."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._nulls = 0
        # The types it may still be; a batch that the first does not fit drops it for good.
        self._types = list(TYPES)
        self._ends: list[Any] = []
        self._text_ends: list[str] = []

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

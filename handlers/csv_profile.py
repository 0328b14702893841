"""Writes a profile of a CSV file: its rows, and of each column the type, nulls, least and most.

Memory stays flat whatever the size: what is kept is a few values per column. The speed comes from
working on a batch of lines at a time, column by column, with builtins that loop in C.
"""

import csv
import io
import json
from itertools import islice
from typing import Any

from app.handler import Job, Reject
from handlers.csv_columns import Column

DELIMITERS = ",;\t|"
SNIFFED_ROWS = 50
# So few that their cells stay in the processor's cache, and their rows below the number of new
# objects that wakes the garbage collector: three times as fast as a whole batch.
LINES_AT_ONCE = 300
# A quote that is never closed is found out here, instead of swallowing the file.
FIELD_CHARS_MAX = 1 << 20
# No CSV text contains it, so that it can mark the end of a batch.
END_MARK = "\0"


async def csv_profile(job: Job) -> None:
    """Read the CSV, plain or compressed, and write `<key>.profile.json`."""
    text, table = Text(), Table()
    if job.resume:
        # The batches that come now begin where this was saved.
        text.restore(job.resume.state["text"])
        table.restore(job.resume.state["table"])
    async for lines in job.object.batches():
        for start in range(0, len(lines), LINES_AT_ONCE):
            table.add(text.rows(lines[start : start + LINES_AT_ONCE]))
        await job.checkpoint({"text": text.state(), "table": table.state()})
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

    def state(self) -> list[Any]:
        """All that is remembered from one batch to the next, as JSON."""
        return [self._delimiter, self._held, self._utf8_errors]

    def restore(self, state: list[Any]) -> None:
        """Go on from a state."""
        self._delimiter, self._held, self._utf8_errors = state

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

    def state(self) -> list[Any]:
        """All that is known, as JSON."""
        return [self.rows, self._ragged, [column.state() for column in self._columns]]

    def restore(self, state: list[Any]) -> None:
        """Go on from a state."""
        self.rows, self._ragged, columns = state
        self._columns = [Column.of_state(column) for column in columns]

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

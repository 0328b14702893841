"""The profile of any CSV file is what a plain reading of it finds, in memory that stays flat."""

import asyncio
import csv
import io
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fakes import BUCKET, FakeStore, Stored
from hypothesis import given, settings
from hypothesis import strategies as st
from performing import perform
from profiled import profile

from handlers.csv_profile import csv_profile

CELLS = {
    "integer": st.integers(-(10**30), 10**30).map(str),
    "number": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "odd number": st.sampled_from(["nan", "-inf", "1e999", "1_0", " 5 ", "0x1", "٣"]),
    "boolean": st.sampled_from(["true", "false", "True", "FALSE"]),
    "timestamp": st.datetimes().map(datetime.isoformat),
    "moment": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
    "text": st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), max_size=8),
    "quoted": st.text(st.sampled_from('",;\n |'), max_size=6),
}
A_COLUMN = st.sets(st.sampled_from(sorted(CELLS)), min_size=1, max_size=2).map(
    lambda kinds: st.one_of(st.just(""), *(CELLS[kind] for kind in sorted(kinds)))
)


@st.composite
def tables(draw: st.DrawFn) -> list[list[str]]:
    """A header and rows of cells, a kind or two a column."""
    columns = draw(st.lists(A_COLUMN, min_size=2, max_size=4))
    rows = draw(st.lists(st.tuples(*columns).map(list), max_size=20))
    return [[f"column {number}" for number in range(len(columns))], *rows]


@settings(deadline=None)
@given(tables(), st.sampled_from(["\n", "\r\n"]), st.integers(1, 200), st.sampled_from(",;\t|"))
def test_the_profile_is_that_of_a_plain_reading(
    table: list[list[str]], end_of_line: str, chunk_bytes: int, delimiter: str
) -> None:
    """Whatever is in the cells, the fast way finds what the obvious one does."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=end_of_line).writerows(table)
    found = profile(text.getvalue().encode(), chunk_bytes=chunk_bytes)
    if found["delimiter"] == delimiter:  # a few odd cells may speak for another one
        names, *rows = plainly_read(text.getvalue(), delimiter)
        assert found["rows"] == len(rows)
        expected = [described(name, cells) for name, *cells in zip(names, *rows, strict=True)]
        assert found["columns"] == expected


def plainly_read(text: str, delimiter: str) -> list[list[str]]:
    """All rows at once, with every end of line the same."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return [row for row in csv.reader(io.StringIO(plain), delimiter=delimiter) if row]


def described(name: str, cells: Sequence[str]) -> dict[str, Any]:
    """What a profile should say of a column, found out the slow way."""
    there = [cell for cell in cells if cell]
    told = {"name": name, "type": "empty", "nulls": len(cells) - len(there)}
    if not there:
        return told | {"min": None, "max": None}
    for kind, read in (("integer", an_integer), ("number", a_number), ("boolean", a_boolean)):
        values = [read(cell) for cell in there]
        if None not in values:
            return told | {"type": kind, "min": min(values), "max": max(values)}
    with suppress(ValueError, TypeError):
        moments = [a_moment(cell) for cell in there]
        ends = min(moments).isoformat(), max(moments).isoformat()
        return told | {"type": "timestamp", "min": ends[0], "max": ends[1]}
    return told | {"type": "text", "min": min(there)[:100], "max": max(there)[:100]}


def an_integer(cell: str) -> Any:
    """A whole number within what JSON's readers take."""
    return int(cell) if re.fullmatch(r"\s*[+-]?\d+\s*", cell) else None


def a_number(cell: str) -> Any:
    """A finite number as others write it."""
    with suppress(ValueError):
        if not set(cell) & set("_nN") and math.isfinite(float(cell)):
            return float(cell)
    return None


def a_boolean(cell: str) -> Any:
    """True or false."""
    return {"true": True, "false": False}.get(cell.lower())


def a_moment(cell: str) -> datetime:
    """A date or time that is no number."""
    if cell.isdigit():
        raise ValueError
    return datetime.fromisoformat(cell)


def resident_bytes() -> int:
    """What this process has in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
def test_memory_stays_flat() -> None:
    """Fifty megabytes take no more memory than the first five did."""
    rows = b"".join(
        b"%d,2026-01-01T00:00:00Z,city %d,%d.25,true,x\n" % (n, n % 9, n) for n in range(999)
    )
    seen: list[int] = []

    store = FakeStore(chunk_bytes=1 << 18)
    data = b"id,at,city,value,flag,name\n" + rows * (50_000_000 // len(rows))
    store.keep(BUCKET, "a.csv", Stored(data))

    async def watched(job: Any) -> None:
        batches = job.object.batches

        async def looked_at() -> Any:
            async for batch in batches():
                seen.append(resident_bytes())
                yield batch

        job.object.batches = looked_at
        await csv_profile(job)

    asyncio.run(perform(watched, store, "a.csv"))
    early, late = seen[: len(seen) // 10], seen[len(seen) // 10 :]
    assert max(late) - max(early) < 8 << 20

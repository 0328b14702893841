"""The handlers that come with the program, over a store in memory."""

import asyncio
import bz2
import csv
import gzip
import hashlib
import io
import json
import lzma
import math
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard
from fakes import BUCKET, OUTPUT, FakeStore, Stored, perform
from hypothesis import given, settings
from hypothesis import strategies as st

from app.handler import Reject, route_for
from handlers import ROUTES
from handlers.checksum import checksum
from handlers.csv_profile import FIELD_CHARS_MAX, csv_profile

SAMPLE = """\
id,amount,paid,at,city,note
1,10.5,true,2026-01-02T03:04:05Z,Berlin,
-20,3,FALSE,2026-01-01,"Paris, France","two
lines"
300,,true,,Rome,x
"""


def profile(data: bytes, key: str = "a.csv", chunk_bytes: int = 1 << 16) -> dict[str, Any]:
    """The profile that the handler writes of these bytes."""
    store = FakeStore(chunk_bytes=chunk_bytes)
    store.keep(BUCKET, key, Stored(data))
    asyncio.run(perform(csv_profile, store, key))
    written = store.found(OUTPUT.bucket, OUTPUT.key(f"{key}.profile.json"))
    assert written is not None
    assert written.content_type == "application/json"
    assert all(body.closed for body in store.bodies)
    return dict(json.loads(written.data))


def column(found: dict[str, Any], name: str) -> dict[str, Any]:
    """What a profile says of one column."""
    return next(dict(one) for one in found["columns"] if one["name"] == name)


def test_the_profile_of_a_small_file() -> None:
    """Rows, and of each column its type, nulls, least and most."""
    sample = SAMPLE.replace("2026-01-01,", "2026-01-01T00:00:00Z,").encode()
    assert profile(sample) == {
        "key": "a.csv",
        "size": len(sample),
        "delimiter": ",",
        "utf8_errors": 0,
        "rows": 3,
        "ragged_rows": 0,
        "columns": [
            {"name": "id", "type": "integer", "nulls": 0, "min": -20, "max": 300},
            {"name": "amount", "type": "number", "nulls": 1, "min": 3.0, "max": 10.5},
            {"name": "paid", "type": "boolean", "nulls": 0, "min": False, "max": True},
            {
                "name": "at",
                "type": "timestamp",
                "nulls": 1,
                "min": "2026-01-01T00:00:00+00:00",
                "max": "2026-01-02T03:04:05+00:00",
            },
            {"name": "city", "type": "text", "nulls": 0, "min": "Berlin", "max": "Rome"},
            {"name": "note", "type": "text", "nulls": 1, "min": "two\nlines", "max": "x"},
        ],
    }


@pytest.mark.parametrize("chunk_bytes", [1, 2, 7, 100])
@pytest.mark.parametrize("end_of_line", ["\n", "\r\n", "\r"])
def test_the_pieces_it_comes_in_make_no_difference(chunk_bytes: int, end_of_line: str) -> None:
    """Neither how the bytes are cut nor how lines end changes what is found."""
    data = SAMPLE.replace("\n", end_of_line).encode()
    found, whole = profile(data, chunk_bytes=chunk_bytes), profile(SAMPLE.encode())
    assert found | {"size": 0} == whole | {"size": 0}


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.ZstdCompressor().compress),
    ],
)
def test_compressed_files(suffix: str, pack: Callable[[bytes], bytes]) -> None:
    """A compressed file has the profile of what is in it."""
    found = profile(pack(SAMPLE.encode()), f"a.csv{suffix}")
    assert found["columns"] == profile(SAMPLE.encode())["columns"]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_out(delimiter: str) -> None:
    """Four usual delimiters are told apart, also where the others stand in the text."""
    rows = [["a", "b, c; d"], ["1", "x|y"], ["2", "t\tu,v"]]
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter).writerows(rows)
    found = profile(text.getvalue().encode())
    assert found["delimiter"] == delimiter
    assert [one["name"] for one in found["columns"]] == ["a", "b, c; d"]


def test_ragged_rows_are_counted() -> None:
    """A row that is too short has nulls, one that is too long loses its rest; both are counted."""
    found = profile(b"a,b,c\n1,2,3\n4\n5,6,7,8\n\n9,10,11\n")
    assert (found["rows"], found["ragged_rows"]) == (4, 2)
    assert column(found, "a") == {
        "name": "a",
        "type": "integer",
        "nulls": 0,
        "min": 1,
        "max": 9,
    }
    assert column(found, "c")["nulls"] == 1
    assert column(found, "c")["max"] == 11


def test_a_byte_order_mark_is_no_part_of_a_name() -> None:
    """What some spreadsheets write in front of the header is dropped."""
    found = profile("\N{ZERO WIDTH NO-BREAK SPACE}a,b\n1,2\n".encode())
    assert [one["name"] for one in found["columns"]] == ["a", "b"]


def test_what_is_no_utf8_is_replaced_and_counted() -> None:
    """Wrong bytes are counted, and a genuine replacement character is none of them."""
    found = profile("name\nk\N{REPLACEMENT CHARACTER}\n".encode() + b"caf\xe9\n\xff\n")
    assert found["utf8_errors"] == 2
    assert column(found, "name")["min"] == "caf\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("data", [bytes(range(256)), "a,b\n1,2\n".encode("utf-16")])
def test_what_is_no_text_is_rejected(data: bytes) -> None:
    """Binary data goes to the dead letters with a word that says why."""
    with pytest.raises(Reject, match="not CSV text: it contains NUL bytes"):
        profile(data)


def test_a_quote_that_is_never_closed_is_found_out() -> None:
    """One stray quote does not make the rest of a large file into a cell."""
    data = b'a,b\n1,"open\n' + b"some more of the file\n" * (FIELD_CHARS_MAX // 20)
    with pytest.raises(Reject, match="not CSV text: field larger"):
        profile(data)


def test_a_quote_left_open_by_the_last_row() -> None:
    """The last row of a file that was cut off is told of as far as it goes."""
    found = profile(b'a,b\n1,x\n2,"cut\noff')
    assert found["rows"] == 2
    assert column(found, "b")["min"] == "cut\noff"


@pytest.mark.parametrize("data", [b"", b"\n", b"a,b\n", b"a,b"])
def test_files_without_rows(data: bytes) -> None:
    """An empty file has no columns, a header alone has columns of no type."""
    found = profile(data)
    assert found["rows"] == 0
    assert [one["type"] for one in found["columns"]] == ["empty"] * len(found["columns"])


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (["1", "2", "x"], "text"),
        (["1", "2.5"], "number"),
        (["1", "true"], "text"),
        (["1", "2026-01-01"], "text"),
        (["20260101", "20260102"], "integer"),
        (["20260101", "2026-01-02"], "text"),
        (["2026-01-01", "20260102"], "text"),
        (["2026-01-01T00:00:00", "2026-01-01T00:00:00+02:00"], "text"),
        (["nan", "1.5"], "text"),
        (["1e5", "inf"], "text"),
        (["1e999"], "text"),
        (["1_000"], "text"),
        (["9" * 400], "text"),
        ([" 7", "+8"], "integer"),
        (["TRUE", "False"], "boolean"),
        (["", ""], "empty"),
    ],
)
@pytest.mark.parametrize("chunk_bytes", [3, 1000])
def test_the_type_of_a_column(cells: list[str], kind: str, chunk_bytes: int) -> None:
    """The narrowest type that all cells fit, whether they come together or one by one."""
    text = io.StringIO()
    csv.writer(text).writerows([["c", "other"], *([cell, "y"] for cell in cells)])
    found = profile(text.getvalue().encode(), chunk_bytes=chunk_bytes)
    assert column(found, "c")["type"] == kind


def test_texts_are_cut() -> None:
    """The ends of a column of long texts are told as far as people read them."""
    found = profile(b"c,d\n" + b"x" * 5000 + b",1\n")
    assert column(found, "c")["max"] == "x" * 100


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

    class Watched(FakeStore):
        """Looks at the memory whenever the handler has used up what it was given."""

    store = Watched(chunk_bytes=1 << 18)
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


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_the_checksum_of_any_object(size: int) -> None:
    """The manifest has the size and the SHA-256 of the bytes as they are stored."""
    data = bytes(n % 251 for n in range(size))
    store = FakeStore(chunk_bytes=1000)
    store.keep(BUCKET, "a/b ü.bin", Stored(data))
    asyncio.run(perform(checksum, store, "a/b ü.bin"))
    written = store.found(OUTPUT.bucket, OUTPUT.key("a/b ü.bin.manifest.json"))
    assert written is not None
    assert json.loads(written.data) == {
        "bucket": BUCKET,
        "key": "a/b ü.bin",
        "version_id": None,
        "etag": Stored(data).etag,
        "size": size,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


@pytest.mark.parametrize(
    ("key", "handler"),
    [
        ("incoming/2026/a.csv", csv_profile),
        ("a.csv.gz", csv_profile),
        ("incoming/a.csv.zst", csv_profile),
        ("incoming/a.json", checksum),
        ("incoming/a.csv.lz4", checksum),
        ("csv", checksum),
    ],
)
def test_the_routes(key: str, handler: object) -> None:
    """CSV files go to the profile, at any depth and compressed; everything else is hashed."""
    route = route_for(ROUTES, "a-bucket", key)
    assert route is not None
    assert route.handler is handler

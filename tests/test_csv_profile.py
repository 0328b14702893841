"""The profile of a CSV file: what is found in small ones, byte by byte."""

import bz2
import csv
import gzip
import io
import lzma
from collections.abc import Callable

import pytest
import zstandard
from profiled import column, profile

from app.handler import Reject
from handlers.csv_profile import FIELD_CHARS_MAX

SAMPLE = """\
id,amount,paid,at,city,note
1,10.5,true,2026-01-02T03:04:05Z,Berlin,
-20,3,FALSE,2026-01-01,"Paris, France","two
lines"
300,,true,,Rome,x
"""


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
        (["1.5", "true"], "text"),
        (["true", "2026-01-01"], "text"),
        (["1.5", "nan"], "text"),
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

"""`job.object.open()`: a file like any other, whatever a library does with it."""

import asyncio
import io
import os
import zipfile
from collections.abc import Callable
from random import Random

import pyarrow as pa
import pytest
from fakes import BUCKET, FakeStore, Stored
from hypothesis import given, settings
from hypothesis import strategies as st
from performing import perform
from pyarrow import parquet as pq

from app import objectfile
from app.handler import SyncJob
from app.objectfile import ObjectFile
from app.outcomes import OutsideError, Reason
from app.sync import run_in_thread

BLOCK_BYTES = 50
SIZES = st.integers(0, 4 * BLOCK_BYTES)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.one_of(st.none(), st.integers(-1, 600))),
        st.tuples(st.just("readinto"), SIZES),
        st.tuples(st.just("readline"), SIZES),
        st.tuples(st.just("set"), st.integers(-5, 3000)),
        st.tuples(st.just("current"), st.integers(-200, 200)),
        st.tuples(st.just("end"), st.integers(-3000, 20)),
    ),
    max_size=25,
)
WHENCE = {"set": os.SEEK_SET, "current": os.SEEK_CUR, "end": os.SEEK_END}


def step(file: io.RawIOBase | io.BytesIO, name: str, number: int | None) -> object:
    """What a file answers to one call; a refusal is an answer too."""
    match name:
        case "read":
            return file.read(-1 if number is None else number)
        case "readinto":
            buffer = bytearray(number or 0)
            return file.readinto(buffer), bytes(buffer)
        case "readline":
            return file.readline(number)
    try:
        return file.seek(number or 0, WHENCE[name])
    except ValueError:
        return ValueError


@given(st.integers(0, 30 * BLOCK_BYTES), STEPS)
@settings(max_examples=250, deadline=None)
def test_it_answers_as_a_file_in_memory_does(
    size: int, steps: list[tuple[str, int | None]]
) -> None:
    """Any sequence of reads and seeks gives what `io.BytesIO` gives, and memory stays bounded."""
    data = Random(size).randbytes(size)
    wanted, asked = io.BytesIO(data), []

    def fetch(start: int, end: int) -> bytes:
        assert 0 <= start < end <= size
        asked.append(end - start)
        return data[start:end]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objectfile, "BLOCK_BYTES", BLOCK_BYTES)
        patch.setattr(objectfile, "BLOCKS_KEPT", 10)
        found = ObjectFile(size, fetch)
        for name, number in steps:
            before = wanted.tell()
            got, expected = step(found, name, number), step(wanted, name, number)
            # In memory a seek before the start from anywhere but the start stops at it.
            if got is ValueError and expected == 0:
                wanted.seek(before)
            else:
                assert got == expected
            assert found.tell() == wanted.tell()
        found.seek(0)
        assert found.readall() == data


def test_it_is_a_file_to_who_asks() -> None:
    """Readable and seekable, not writable, and closed once it is closed."""
    file = ObjectFile(3, lambda start, end: b"abc"[start:end])
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    assert list(io.TextIOWrapper(io.BufferedReader(file))) == ["abc"]
    file.close()
    with pytest.raises(ValueError, match="closed"):
        file.read(1)


def test_blocks_are_fetched_once_and_ahead() -> None:
    """A reader of small pieces in a row costs few requests, one that jumps back none."""
    asked: list[tuple[int, int]] = []
    size = 6 * objectfile.BLOCK_BYTES

    def fetch(start: int, end: int) -> bytes:
        asked.append((start, end))
        return bytes(end - start)

    file = ObjectFile(size, fetch)
    while file.read(10_000):
        pass
    assert len(asked) <= 3
    assert sum(end - start for start, end in asked) == size
    file.seek(-1000, os.SEEK_END)
    file.read(1000)
    assert len(asked) <= 3


def test_an_error_of_the_read_is_the_readers() -> None:
    """What fetching raises reaches who reads, and the file can be read again afterwards."""
    failures = [OutsideError(Reason.TRANSPORT, "cut")]

    def fetch(start: int, end: int) -> bytes:
        if failures:
            raise failures.pop()
        return b"abcdef"[start:end]

    file = ObjectFile(6, fetch)
    with pytest.raises(OutsideError):
        file.read(4)
    assert file.read(4) == b"abcd"


def performed(handler: Callable[[SyncJob], None], data: bytes, store: FakeStore) -> None:
    """Let a plain handler work on an object in a thread of its own, as a worker does."""
    store.keep(BUCKET, "k", Stored(data))
    asyncio.run(perform(lambda job: run_in_thread(handler, job), store, "k"))
    assert all(body.closed for body in store.bodies)


def test_zipfile_reads_from_it() -> None:
    """Members of an archive in any order, and its own check of each."""
    members = {f"member {n}": Random(n).randbytes(n * 40_000) for n in range(20)}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    found: dict[str, bytes] = {}

    def handler(job: SyncJob) -> None:
        with zipfile.ZipFile(job.object.open()) as archive:
            assert archive.testzip() is None
            found.update({name: archive.read(name) for name in reversed(archive.namelist())})

    performed(handler, buffer.getvalue(), FakeStore(chunk_bytes=10_000))
    assert found == members


def test_pyarrow_reads_parquet_from_it() -> None:
    """One column of one row group is read without the rest of the object, and all of it too."""
    numbers = Random(1)
    columns = {n: [numbers.random() for _ in range(200_000)] for n in "abcd"}
    table = pa.table(columns)
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=50_000, compression="none", use_dictionary=False)
    found: list[pa.Table] = []
    requests: list[int] = []
    store = FakeStore(chunk_bytes=10_000)

    def handler(job: SyncJob) -> None:
        file = pq.ParquetFile(job.object.open())
        found.append(file.read_row_group(2, columns=["c"]))
        requests.append(store.calls.count("open_at"))
        found.append(file.read())

    performed(handler, buffer.getvalue(), store)
    assert found[0] == table.select(["c"]).slice(100_000, 50_000)
    assert found[1] == table
    # The first response, the footer, and the column: not every block of the file.
    assert requests[0] <= 5

"""`csv_to_parquet`: the table as it was, in memory that does not grow with it."""

import asyncio
import gzip
import io
from typing import Any

import pyarrow as pa
import pytest
import zstandard
from fakes import BUCKET, OUTPUT, FakeStore, Stored
from performing import perform
from pyarrow import csv
from pyarrow import parquet as pq

from app.handler import Reject
from app.outcomes import RejectedError
from app.sync import run_in_thread
from handlers import csv_to_parquet as module
from handlers.csv_to_parquet import csv_to_parquet

ROWS = 60_000
BLOCK_BYTES = 128 << 10
ROW_GROUP_BYTES = 1 << 20
TABLE = (
    "id,when,city,share,flag,nothing\n"
    + "".join(
        f'{n},2026-01-02 03:04:{n % 60:02},"city, ""{n % 9}""\nü",{n / 8},'
        + ("true,\n" if n % 3 else ",\n")
        for n in range(ROWS)
    )
).encode()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks and row groups so small that a few megabytes have many of them."""
    monkeypatch.setattr(module, "BLOCK_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(module, "ROW_GROUP_BYTES", ROW_GROUP_BYTES)


def convert(data: bytes, key: str = "a.csv", handler: Any = csv_to_parquet) -> FakeStore:
    """The handler at work on an object of this key, in a thread of its own."""
    store = FakeStore(chunk_bytes=50_000)
    store.keep(BUCKET, key, Stored(data))
    asyncio.run(perform(lambda job: run_in_thread(handler, job), store, key))
    return store


def written(store: FakeStore, key: str = "a.csv") -> Stored:
    """What was committed for this key."""
    found = store.found(OUTPUT.bucket, OUTPUT.key(f"{key}.parquet"))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("key", "data"),
    [
        ("a.csv", TABLE),
        ("a.csv.gz", gzip.compress(TABLE, 1)),
        ("a.csv.zst", zstandard.ZstdCompressor(level=1).compress(TABLE)),
    ],
)
def test_the_table_is_the_same(key: str, data: bytes) -> None:
    """Every row and column, with the types that a reading of the whole file infers."""
    found = written(convert(data, key), key)
    assert found.content_type == "application/vnd.apache.parquet"
    options = csv.ParseOptions(newlines_in_values=True)
    wanted = csv.read_csv(io.BytesIO(TABLE), parse_options=options)
    file = pq.ParquetFile(io.BytesIO(found.data))
    # Parquet has no seconds: times come back in milliseconds.
    assert file.read() == wanted.cast(file.schema_arrow)
    assert [str(column.type) for column in wanted.columns] == [
        *("int64", "timestamp[s]", "string", "double", "bool", "null"),
    ]
    assert file.metadata.num_row_groups > 2


def test_a_table_without_rows() -> None:
    """A header alone becomes a table with its columns and no rows."""
    table = pq.read_table(io.BytesIO(written(convert(b"a,b\n")).data))
    assert table.column_names == ["a", "b"]
    assert table.num_rows == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a,b\n1,2\n1,2,3\n",
        b"a,b\n" + b"1,2\n" * 200_000 + b"1,2,3\n",
        b"a,b\n" + b"1,2\n" * 200_000 + b"no number,2\n",
    ],
    ids=["empty", "ragged", "ragged late", "another type late"],
)
def test_a_broken_table_is_rejected(data: bytes) -> None:
    """What is no table is rejected, early or late, with nothing written; never another error."""
    store = FakeStore(chunk_bytes=50_000)
    store.keep(BUCKET, "a.csv", Stored(data))
    with pytest.raises(Reject):
        asyncio.run(perform(lambda job: run_in_thread(csv_to_parquet, job), store, "a.csv"))
    assert store.found(OUTPUT.bucket, OUTPUT.key("a.csv.parquet")) is None
    assert store.open_uploads == []


def test_what_cannot_be_decompressed_is_rejected_as_such() -> None:
    """An error of the compression keeps its own reason on its way through pyarrow."""
    with pytest.raises(RejectedError, match="gzip"):
        convert(gzip.compress(TABLE)[:-500], "a.csv.gz")


def test_memory_is_bounded() -> None:
    """What pyarrow holds is a row group and a few blocks, however long the table is."""
    seen: list[int] = []

    def watched(job: Any) -> None:
        before = pa.total_allocated_bytes()
        progress = job.progress

        def looked_at(done: float, total: float | None = None) -> None:
            seen.append(pa.total_allocated_bytes() - before)
            progress(done, total)

        job.progress = looked_at
        csv_to_parquet(job)

    rows = b"".join(b"%d,%d,some text of row %d\n" % (n, n * n, n) for n in range(1000))
    convert(b"a,b,c\n" + rows * 800, handler=watched)
    assert len(seen) > 15
    assert max(seen) < 2 * ROW_GROUP_BYTES + 20 * BLOCK_BYTES
    assert max(seen[len(seen) // 2 :]) < max(seen[: len(seen) // 2]) + 2 * BLOCK_BYTES

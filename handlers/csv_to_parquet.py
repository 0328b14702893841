"""Turns a CSV, plain or compressed, into Parquet; needs the extra `parquet`.

A plain `def` handler: pyarrow reads and writes files, and here both are streams. Memory holds one
block of the CSV and one row group, however large the object is.

It does not checkpoint: a Parquet file ends with a footer that describes every row group before it,
and pyarrow can neither save nor load a writer that is half way. An attempt that is interrupted
starts over; where objects take hours, write several smaller files instead.
"""

import io
from collections.abc import Callable, Iterator

import pyarrow as pa
from pyarrow import csv
from pyarrow import parquet as pq

from app.handler import Reject, SyncJob

BLOCK_BYTES = 8 << 20
# A row group is written when it has so many rows, or so many bytes in memory.
ROW_GROUP_ROWS = 1 << 20
ROW_GROUP_BYTES = 64 << 20


def csv_to_parquet(job: SyncJob) -> None:
    """Write `<key>.parquet`; column types are inferred from the first block."""
    source = io.BufferedReader(_Pieces(job.object.decompressed()), BLOCK_BYTES)
    options = csv.ReadOptions(block_size=BLOCK_BYTES)
    # Cells may hold line ends; without this one that lies across two blocks is an error.
    shape = csv.ParseOptions(newlines_in_values=True)
    try:
        # Opened within the block: a writer must be closed before its output is.
        with (
            csv.open_csv(source, read_options=options, parse_options=shape) as reader,
            job.output(f"{job.object.key}.parquet", "application/vnd.apache.parquet") as out,
            pq.ParquetWriter(_Sink(out.write), reader.schema, compression="zstd") as writer,
        ):
            _copy(job, reader, writer)
    except pa.ArrowInvalid as error:
        raise Reject(f"not a CSV of one shape: {error}") from error


def _copy(job: SyncJob, reader: csv.CSVStreamingReader, writer: pq.ParquetWriter) -> None:
    held: list[pa.RecordBatch] = []
    held_rows = held_bytes = rows = 0
    for batch in reader:
        held.append(batch)
        held_rows += batch.num_rows
        held_bytes += batch.nbytes
        if held_rows >= ROW_GROUP_ROWS or held_bytes >= ROW_GROUP_BYTES:
            rows += held_rows
            _write_row_group(writer, held)
            held_rows = held_bytes = 0
            job.progress(rows)
    _write_row_group(writer, held)


def _write_row_group(writer: pq.ParquetWriter, held: list[pa.RecordBatch]) -> None:
    if held:
        writer.write_table(pa.Table.from_batches(held), row_group_size=ROW_GROUP_ROWS)
        held.clear()


class _Pieces(io.RawIOBase):
    """A readable file over pieces of bytes as they come."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = memoryview(next(self._pieces, b""))
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


class _Sink(io.RawIOBase):
    """A writable file that hands its bytes on."""

    def __init__(self, write: Callable[[bytes], None]) -> None:
        super().__init__()
        self._write = write

    def writable(self) -> bool:
        return True

    def write(self, data: bytes | memoryview) -> int:  # type: ignore[override]
        self._write(bytes(data))
        return len(data)

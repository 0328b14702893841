"""gzip to lines: `job.object.lines()` and `batches()` beside `gzip.open` iterated.

First all of them read the same bytes from memory, so that decompressing, verifying and cutting into
lines is compared, and nothing else. Then the lines come from the paced origin, which shows whether
that work holds the reads up. Writes its tables to docs/performance.md.
"""

import argparse
import base64
import gc
import gzip
import io
import logging
import os
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
import uvloop
from awscrt import checksums
from isal import igzip_lib
from report import machine, table, write_part
from s3_origins import BUCKET, environment, paced, write_object

from app.aws import clients
from app.aws.s3 import S3Store
from app.codecs import Limits
from app.described import StreamLimits
from app.notifications import ObjectRef
from app.ports import ObjectFacts, ObjectReader, Opened
from app.reading import Tuning
from app.stream import ObjectStream
from app.telemetry import Telemetry

MIB = 1 << 20
# What uvloop reads at a time.
CHUNK_BYTES = 256 << 10
MEMBER_BYTES = 64 * MIB
TARGETS = {65: (2.2, 3.5), 500: (3.0, 5.0)}
KEY = "lines.gz"


class _Body:
    def __init__(self, data: memoryview) -> None:
        self._data = data
        self._at = 0

    async def read(self) -> bytes:
        chunk = bytes(self._data[self._at : self._at + CHUNK_BYTES])
        self._at += len(chunk)
        return chunk

    def close(self) -> None:
        pass


class Memory:
    """A store of one object in memory, with its checksum."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        crc = checksums.crc64nvme(data, 0)
        self._sums = {"CRC64NVME": base64.b64encode(crc.to_bytes(8, "big")).decode()}

    async def open_at(
        self, ref: ObjectRef, start: int, end: int | None, pin: ObjectFacts | None
    ) -> Opened:
        """Bytes of the object."""
        del pin
        size = len(self._data)
        stop = size if end is None else min(size, end)
        now = datetime.now(UTC)
        facts = ObjectFacts(ref.bucket, ref.key, None, '"e"', size, "", "", {}, now)
        return Opened(facts, _Body(self._data[start:stop]), start, stop)

    async def checksums(self, facts: ObjectFacts) -> Mapping[str, str]:
        """Its CRC64NVME."""
        del facts
        return self._sums


def json_lines(width: int, size: int) -> bytes:
    """JSON lines of this width, their end included; gzip makes a sixth of them."""
    chance = random.Random(width)
    lines = []
    for number in range(20_000):
        line = (
            f'{{"id":{number},"customer":"c{chance.randrange(30_000):05d}",'
            f'"amount":{chance.random() * 500:.2f},"status":"{chance.choice(("paid", "open"))}"'
        )
        while len(line) < width:
            item = f'"sku":"{chance.randrange(1_000_000):06d}","quantity":{chance.randrange(20)}'
            line += f',"item_{chance.randrange(9)}":{{{item}}}'
        lines.append(line[: width - 1] + "\n")
    block = "".join(lines).encode()
    return block * (size // len(block))


async def opened(reader: ObjectReader) -> ObjectStream:
    """The stream of the lines, with the defaults."""
    limits = StreamLimits(0, Limits(), Path(tempfile.gettempdir()))
    ref = ObjectRef(BUCKET, KEY)
    return await ObjectStream.open(reader, ref, limits, Telemetry(), lambda _: None)


async def count_lines(reader: ObjectReader) -> int:
    """A handler that takes line after line."""
    stream = await opened(reader)
    count = 0
    async for _ in stream.lines():
        count += 1
    await stream.close()
    return count


async def count_batches(reader: ObjectReader) -> int:
    """A handler that takes batches, and each of their lines."""
    stream = await opened(reader)
    count = 0
    async for batch in stream.batches():
        for _ in batch:
            count += 1
    await stream.close()
    return count


async def drain(pieces: AsyncIterator[bytes]) -> int:
    """The sum of the lengths."""
    total = 0
    async for piece in pieces:
        total += len(piece)
    return total


def count_gzip_open(data: bytes) -> int:
    """The standard library's way."""
    count = 0
    with gzip.open(io.BytesIO(data)) as file:
        for _ in file:
            count += 1
    return count


def decompress(data: bytes) -> None:
    """What isal takes alone: no way to lines that uses it can be faster."""
    at = 0
    member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    while not member.eof:
        piece = data[at : at + CHUNK_BYTES] if member.needs_input else b""
        at += len(piece)
        member.decompress(piece, MIB)


WAYS: dict[str, Callable[[bytes], int | None]] = {
    "gzip.open": count_gzip_open,
    "lines()": lambda data: uvloop.run(count_lines(Memory(data))),
    "batches()": lambda data: uvloop.run(count_batches(Memory(data))),
    "isal alone": decompress,
}


def from_memory(rounds: int) -> str:
    """The table of both widths."""
    rows = []
    for width, (lines_least, batches_least) in TARGETS.items():
        plain = json_lines(width, MEMBER_BYTES)
        data = gzip.compress(plain, 6)
        took: dict[str, list[float]] = defaultdict(list)
        for _ in range(rounds):
            for name, way in WAYS.items():
                began = time.perf_counter()
                count = way(data)
                took[name].append(time.perf_counter() - began)
                if count not in (None, plain.count(b"\n")):
                    raise RuntimeError(f"{name} counted {count}")
        # Other work on the machine only ever adds.
        of = {name: min(some) for name, some in took.items()}
        least = {"lines()": f">= {lines_least}", "batches()": f">= {batches_least}"}
        for name, seconds in of.items():
            rate = len(plain) / MIB / seconds
            times = of["gzip.open"] / seconds
            row = (name, f"{width}", f"{rate:.0f}", f"{times:.2f}", least.get(name, ""))
            rows.append(row)
            print(*row, flush=True)
    head = ("", "bytes a line", "MiB/s out", "to gzip.open", "target")
    return table(head, rows)


@dataclass(frozen=True, slots=True)
class Pace:
    """How one way of reading did."""

    seconds: float
    cpu_seconds: float


def paced_once(way: Callable[[ObjectReader], Any], reader: Callable[[], Any]) -> Pace:
    """Read the lines once, on a loop of its own."""

    async def run() -> Pace:
        store = reader()
        if isinstance(store, S3Store):
            await store.warm()
        began, cpu = time.perf_counter(), time.process_time()
        await way(store)
        took = Pace(time.perf_counter() - began, time.process_time() - cpu)
        if isinstance(store, S3Store):
            await store.close()
        return took

    return uvloop.run(run())


async def drain_chunks(reader: ObjectReader) -> int:
    """A handler that takes the stored bytes."""
    stream = await opened(reader)
    total = await drain(stream.chunks())
    await stream.close()
    return total


def from_paced(rounds: int) -> str:
    """Whether the lines take longer than the slower of reading and cutting would alone."""
    member = gzip.compress(json_lines(500, MEMBER_BYTES), 6)
    data = member * (192 * MIB // len(member))
    ways = {"chunks()": drain_chunks, "batches()": count_batches, "lines()": count_lines}
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-codecs-") as name:
        write_object(Path(name) / KEY, len(data), data)
        with paced(Path(name)) as origin:
            os.environ.update(environment(origin))
            connections = Tuning().connections

            def store() -> S3Store:
                return S3Store(clients.S3Source(connections + 4, attempts=1), None)

            for way, read in ways.items():
                network = [paced_once(read, store) for _ in range(rounds)]
                alone = [paced_once(read, lambda: Memory(data)) for _ in range(rounds)]
                seconds = statistics.median(one.seconds for one in network)
                cpu = statistics.median(one.cpu_seconds for one in network)
                in_memory = statistics.median(one.seconds for one in alone)
                stored = len(data) / MIB
                rates = (f"{stored / seconds:.0f}", f"{stored / in_memory:.0f}")
                row = (way, *rates, f"{cpu / seconds:.0%}")
                rows.append(row)
                print(*row, flush=True)
    head = ("", "MiB/s stored, paced", "from memory", "processor busy")
    return table(head, rows)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="of each way (default 7)")
    parser.add_argument("--dry-run", action="store_true", help="print only")
    told = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    gc.collect()
    gc.freeze()  # as `app run` does
    what = f"JSON lines, gzip -6 (a sixth), all from memory; the best of {told.rounds} rounds."
    text = "\n".join(
        [
            f"{machine()} {what}\n",
            from_memory(told.rounds),
            "The 500-byte lines from the origin that is paced like S3, and from memory:\n",
            from_paced(3),
        ]
    )
    print(f"\n{text}")
    if not told.dry_run:
        write_part("bench-codecs", text)


if __name__ == "__main__":
    main()

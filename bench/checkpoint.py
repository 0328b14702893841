"""What `job.checkpoint()` costs: a call, and its share of the time `csv_profile` takes.

Prints medians of several rounds; nothing is made durable, since that happens on another loop.
"""

import asyncio
import gc
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import structlog

from app.codecs import Limits
from app.described import StreamLimits
from app.job import Attempt, Job
from app.notifications import ObjectRef
from app.output import OutputPolicy
from app.outputs import Outputs
from app.ports import ObjectFacts, Opened
from app.settings import Location
from app.stream import ObjectStream
from app.telemetry import Telemetry
from handlers.csv_profile import csv_profile

CALLS = 300_000
ROUNDS = 7
ROWS = 400_000
CHUNK_BYTES = 256 << 10


class _Body:
    def __init__(self, data: bytes) -> None:
        self._chunks = iter(
            [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
        )

    async def read(self) -> bytes:
        return next(self._chunks, b"")

    def close(self) -> None:
        pass


class _Objects:
    """A reader whose one object is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def open_at(self, *_: object) -> Opened:
        now = datetime.now(UTC)
        facts = ObjectFacts("b", "k.csv", None, '"e"', len(self._data), "", "", {}, now, {})
        return Opened(facts, _Body(self._data), 0, len(self._data))


class _Store:
    """Takes what is written, and forgets it."""

    async def begin(self, *_: object) -> Any:
        raise AssertionError


async def job_over(data: bytes, *, keeps: bool) -> Job:
    """A job on this object; `keeps` says whether its checkpoints are kept."""
    reader = cast("Any", _Objects(data))
    limits = StreamLimits(0, Limits(), Path("/"))
    stream = await ObjectStream.open(
        reader, ObjectRef("b", "k.csv", size=len(data)), limits, Telemetry(), lambda _: None
    )
    outputs = Outputs(cast("Any", _Store()), Location("o"), OutputPolicy({}), {}, [])
    return Job(stream, outputs, Attempt("key", "id", 1, 1e12, keeps=keeps), Telemetry())


async def a_call() -> float:
    """Seconds for one call in the loop of a handler that reads lines and writes an output."""
    job = await job_over(b"some line of text\n" * 10_000, keeps=True)
    async with job.output("o"):
        async for _ in job.object.lines():
            break
        rows = range(CALLS)
        # The thread's own time: others use the machine too.
        began = time.thread_time()
        for row in rows:
            await job.checkpoint({"rows": row})
        took = time.thread_time() - began
        began = time.thread_time()
        for row in rows:
            {"rows": row}  # noqa: B018 - the loop without the call
        return (took - (time.thread_time() - began)) / CALLS


async def a_profile(data: bytes, *, keeps: bool) -> float:
    """Seconds of processor time for the profile of a CSV in memory."""
    job = await job_over(data, keeps=keeps)
    began = time.process_time()
    await csv_profile(job)
    return time.process_time() - began


async def main() -> None:
    """Measure and print."""
    gc.freeze()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    calls = [await a_call() for _ in range(ROUNDS)]
    print(f"one checkpoint() call: {statistics.median(calls) * 1e6:.2f} us median,", end=" ")
    print(f"{min(calls) * 1e6:.2f} us least; target: at most 0.5")
    rows = b"".join(b"%d,name-%d,%d.5,2026-01-02\n" % (n, n % 977, n) for n in range(ROWS))
    data = b"id,name,amount,day\n" + rows
    pairs = [
        (await a_profile(data, keeps=False), await a_profile(data, keeps=True))
        for _ in range(ROUNDS)
    ]
    without, kept = (statistics.median(times) for times in zip(*pairs, strict=True))
    share = 100 * (kept / without - 1)
    print(f"csv_profile of {len(data) / 1e6:.0f} MB: {without:.2f} s without, {kept:.2f} s with")
    print(f"checkpoints: {share:+.1f} % of it; target: under 10")


asyncio.run(main())

"""A cancelled read leaves no connection open and no task behind, whenever it is cancelled."""

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from faults.origin import Origin
from origins import KIBIBYTE, MEBIBYTE, PATIENCE, store_of
from shaky import NEVER_PAUSES, Heard, ShakyStore, small_ranges, stream_of

from app import readahead, reading
from app.reading import Tuning
from app.stream import ObjectStream

PLAIN = b"".join(b"%d %s\n" % (number, b"x" * (number % 97)) for number in range(250))
OBJECT = b"".join(gzip.compress(PLAIN[at : at + 3000], 0) for at in range(0, len(PLAIN), 3000))
SMALL = Tuning(first_bytes=700, connections=4, budget_bytes=5000, patience=NEVER_PAUSES)
MOMENTS = 200
LARGE = Random(3).randbytes(3 * MEBIBYTE)


async def _chunks(stream: ObjectStream) -> None:
    async for _ in stream.chunks():
        await asyncio.sleep(0)


async def _lines(stream: ObjectStream) -> None:
    async for _ in stream.lines():
        pass


async def _ranges(stream: ObjectStream) -> None:
    async with asyncio.TaskGroup() as group:
        for at in range(0, len(OBJECT), len(OBJECT) // 3):
            group.create_task(stream.read(at, at + 4000))


READS = {"chunks": _chunks, "lines": _lines, "several at once": _ranges}
Read = Callable[[ObjectStream], Awaitable[None]]


async def _left(known: set["asyncio.Task[None]"] | None = None) -> set["asyncio.Task[None]"]:
    """Tasks there are beside the caller and those known, once each has had a few turns.

    A generator that a handler was thrown out of is closed by the loop itself, in a task.
    """
    for _ in range(5):
        await asyncio.sleep(0)
    return asyncio.all_tasks() - (known or set()) - {asyncio.current_task()}


async def _cancelled_after(steps: int, again: int, read: Read) -> bool:
    """Cancel a read after so many turns of the loop, twice if asked to; whether it was over."""
    dice = Random(11)
    store = ShakyStore(OBJECT, dice)
    streams: list[ObjectStream] = []

    async def work() -> None:
        streams.append(await stream_of(store, SMALL))
        await read(streams[0])

    with small_ranges(dice):
        task = asyncio.create_task(work())
        for _ in range(steps):
            await asyncio.sleep(0)
        over = task.done()
        task.cancel()
        for _ in range(again):
            await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        # As the worker does it: whatever the handler did, and however it ended.
        for stream in streams:
            await stream.close()
    assert over or task.cancelled()
    assert store.opened == set(), f"open after {steps} steps"
    assert await _left() == set(), f"pending after {steps} steps"
    return over


@pytest.mark.parametrize("again", [0, 1, 2])
@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_cancelled_at_every_suspension(read: Read, again: int) -> None:
    """At each turn of the loop that a read takes, also when it is cancelled while it cleans up."""
    steps = 0
    while not asyncio.run(_cancelled_after(steps, again, read)):
        steps += 1
    assert steps > 20


async def test_cancelled_at_any_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a real server and from one pool: it counts no response that is still under way."""
    monkeypatch.setattr(readahead, "RANGE_MIN_BYTES", 128 * KIBIBYTE)
    monkeypatch.setattr(readahead, "CHUNK_BYTES", 64 * KIBIBYTE)
    monkeypatch.setattr(reading, "REST_BYTES", 128 * KIBIBYTE)
    monkeypatch.setattr(reading, "SEEN_SECONDS", 0.005)
    dice, heard = Random(17), Heard()
    tuning = Tuning(64 * KIBIBYTE, 4, 2 * MEBIBYTE, PATIENCE)
    origin = Origin(LARGE, pause_seconds=0.001)
    busy = finished = 0
    async with origin, store_of(origin) as store:
        for _ in range(MOMENTS):
            streams: list[ObjectStream] = []

            async def work(streams: list[ObjectStream] = streams) -> None:
                streams.append(await stream_of(store, tuning, telemetry=heard))
                await _chunks(streams[0])

            task = asyncio.create_task(work())
            await asyncio.wait([task], timeout=dice.uniform(0, 0.06))
            finished += task.done()
            origin.frozen = True
            busy += origin.under_way > 0
            task.cancel()
            await asyncio.wait([task])
            for stream in streams:
                await stream.close()
            await origin.quiet()
            assert await _left(origin.tasks) == set()
            origin.frozen = False
    assert busy > MOMENTS / 2, f"only {busy} of {MOMENTS} were cancelled in the middle"
    assert len(heard.parallel) > MOMENTS / 5
    assert finished < MOMENTS / 2

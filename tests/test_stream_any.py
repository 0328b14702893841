"""Whatever the network does: exactly the object's bytes, or an error; and nothing is left open."""

import asyncio
import bz2
import gzip
import json
import lzma
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from shaky import NEVER_PAUSES, PIECE_BYTES, RANGE_MIN_BYTES, ShakyStore, small_ranges, stream_of

from app.outcomes import OutsideError, Reason
from app.reading import Tuning
from app.stream import ObjectStream

MEMBER_BYTES = 7000
# How many connections there are is its choice; seeded by each case.
DICE = Random()
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(level=1).compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


@pytest.fixture(scope="module", autouse=True)
def _small() -> Iterator[None]:
    with small_ranges(DICE):
        yield


@dataclass(frozen=True, slots=True)
class Case:
    """An object, the network to it, and how it is read."""

    codec: str
    plain: bytes
    store: ShakyStore
    tuning: Tuning
    size: int | None
    dice: Random

    @property
    def raw(self) -> bytes:
        """The object's bytes as they are stored."""
        return self.store.data

    @property
    def lines(self) -> list[bytes]:
        """The lines of the decompressed object."""
        lines = self.plain.split(b"\n")
        return lines if lines[-1] else lines[:-1]


@st.composite
def cases(draw: st.DrawFn, *, codecs: tuple[str, ...] = tuple(COMPRESS)) -> Case:
    """Objects of any size, stored in any way, over networks good and bad."""
    seed = draw(st.integers(0, 1 << 32))
    dice = Random(seed)
    DICE.seed(seed)
    codec = draw(st.sampled_from(codecs))
    lines = [
        dice.randbytes(dice.randint(0, 120)).replace(b"\n", b"")
        for _ in range(draw(st.integers(0, 600)))
    ]
    plain = b"".join(line + b"\n" for line in lines) + draw(st.sampled_from([b"", b"tail"]))
    members = [plain[at : at + MEMBER_BYTES] for at in range(0, len(plain), MEMBER_BYTES)]
    data = b"".join(map(COMPRESS[codec], members))
    store = ShakyStore(
        data,
        dice,
        failing=draw(st.sampled_from([0.0, 0.02, 0.1, 0.4])),
        ignores_range=draw(st.sampled_from([False] * 5 + [True])),
        changes_after=draw(st.sampled_from([None] * 5 + [1, 2, 5])),
        checksum=draw(st.booleans()),
    )
    tuning = Tuning(
        first_bytes=draw(st.integers(1, 4000)),
        connections=draw(st.integers(1, 8)),
        budget_bytes=draw(st.sampled_from([600, 5000, 50_000])),
        patience=NEVER_PAUSES,
    )
    return Case(codec, plain, store, tuning, draw(st.sampled_from([None, len(data)])), dice)


@asynccontextmanager
async def reading_of(case: Case) -> AsyncIterator[ObjectStream]:
    """A stream over the case's store; behind it no body is open, and no task goes on."""
    try:
        stream = await stream_of(case.store, case.tuning, size=case.size)
        try:
            yield stream
        finally:
            await stream.close()
    finally:
        assert case.store.opened == set()
        assert asyncio.all_tasks() == {asyncio.current_task()}


def run(case: Case, check: Callable[[Case], Coroutine[Any, Any, None]]) -> None:
    """Check the case; on a network with faults it may end with an error that says so."""
    try:
        asyncio.run(check(case))
    except OutsideError as error:
        faults = [Reason.TRANSPORT, Reason.THROTTLED] if case.store.failing else []
        changed = case.store.changes_after is not None
        if error.reason not in faults + [Reason.OBJECT_CHANGED] * changed:
            raise


def passed_on(token: Any) -> Any:
    """A position as a later attempt gets it: out of a record."""
    return json.loads(json.dumps(token))


async def up_to(source: AsyncGenerator[Any, None], wanted: Any, most: int = 1 << 40) -> int:
    """Take items, each of them what is wanted next, so many at most; how many there were.

    `wanted` is bytes for pieces of them, a list for lists of its items or single ones.
    """
    done = count = 0
    async with aclosing(source):
        async for item in source:
            piece = [item] if isinstance(wanted, list) and isinstance(item, bytes) else item
            assert piece == wanted[done : done + len(piece)]
            done += len(piece)
            count += 1
            if count == most:
                return done
    assert done == len(wanted)
    return done


@given(cases())
@settings(max_examples=120, deadline=None)
def test_whole_objects(case: Case) -> None:
    """All four iterators give exactly the object, in order, or an error; never other bytes."""

    async def check(case: Case) -> None:
        async with reading_of(case) as stream:
            await up_to(stream.chunks(), case.raw)
            await up_to(stream.decompressed(), case.plain)
            await up_to(stream.batches(), case.lines)
            await up_to(stream.lines(), case.lines)

    run(case, check)


@given(cases(), st.data())
@settings(max_examples=120, deadline=None)
def test_from_anywhere(case: Case, data: st.DataObject) -> None:
    """An offset to start at and a range give what lies there, however the ranges are cut."""
    start = data.draw(st.integers(0, len(case.raw)))
    inside = data.draw(st.integers(0, len(case.plain)))
    a, b = sorted(data.draw(st.tuples(*[st.integers(0, len(case.raw) + 5)] * 2)))

    async def check(case: Case) -> None:
        async with reading_of(case) as stream:
            await up_to(stream.chunks(start), case.raw[start:])
            await up_to(stream.decompressed(inside), case.plain[inside:])
            assert await stream.read(a, b) == case.raw[a:b]

    run(case, check)


@given(cases(), st.sampled_from(["chunks", "decompressed", "batches", "lines"]), st.integers(1, 40))
@settings(max_examples=160, deadline=None)
def test_resumed_where_it_was_left(case: Case, kind: str, most: int) -> None:
    """The position told anywhere leads a later attempt to the very next byte or line."""
    wanted: Any = {"chunks": case.raw, "decompressed": case.plain}.get(kind, case.lines)

    async def check(case: Case) -> None:
        async with reading_of(case) as stream:
            done = await up_to(getattr(stream, kind)(), wanted, most)
            token = passed_on(stream.position)
        assert (token is None) == (not done)
        async with reading_of(case) as stream:
            stream.begin_attempt(2, token)
            await up_to(getattr(stream, kind)(), wanted[done:])

    run(case, check)


@given(cases(codecs=("plain",)), st.sampled_from([b"\r\n", b"ab", b"\0", b"\n\n\n"]))
@settings(max_examples=40, deadline=None)
def test_other_terminators(case: Case, terminator: bytes) -> None:
    """Lines end where their terminator is, also where it lies across two pieces."""
    wanted = case.plain.split(terminator)
    wanted = wanted if wanted[-1] else wanted[:-1]

    async def check(case: Case) -> None:
        async with reading_of(case) as stream:
            await up_to(stream.batches(terminator), wanted)

    run(case, check)


@given(cases(codecs=("plain",)))
@settings(max_examples=80, deadline=None)
def test_memory_keeps_to_the_budget(case: Case) -> None:
    """A slow handler never has more bytes waiting for it than the budget, but for one chunk each.

    Beyond the budget there are only the chunk that the handler has, and the one on its way to it.
    """
    # Bytes that wait for their checksum's name are held on top of it; here it is told at once.
    case.store.checksum = False
    slow = case.dice.choice([0, 5, 50])

    async def check(case: Case) -> None:
        async with reading_of(case) as stream:
            async for _ in stream.chunks(1 if case.raw else 0):
                for _ in range(slow):
                    await asyncio.sleep(0)

    run(case, check)
    most = max(1, min(case.tuning.connections, case.tuning.budget_bytes // RANGE_MIN_BYTES))
    least = RANGE_MIN_BYTES // 2 + most * PIECE_BYTES
    assert case.store.memory.most <= max(case.tuning.budget_bytes, least) + 2 * PIECE_BYTES

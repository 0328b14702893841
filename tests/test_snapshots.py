"""What a checkpoint keeps: the place, the state and every output, as they were at the offer."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fakes import BUCKET, OUTPUT, FakeStore, Stored

from app.codecs import Limits
from app.described import StreamLimits
from app.job import Attempt, Checkpoint, Job, Snapshot
from app.notifications import ObjectRef
from app.outcomes import HandlerError
from app.output import PART_BYTES, Output, OutputPolicy, Restored
from app.outputs import Outputs
from app.ports import Part
from app.stream import ObjectStream
from app.telemetry import Telemetry

LINES = [b"%d" % number for number in range(1000)]
DATA = b"".join(line + b"\n" for line in LINES)
A, B = OUTPUT.key("a"), OUTPUT.key("b")


@asynccontextmanager
async def job_of(
    store: FakeStore, before: Snapshot | None = None, parts: Sequence[Part] = ()
) -> AsyncIterator[Job]:
    """An attempt at the object `k`, which goes on from a snapshot of the one before."""
    store.keep(BUCKET, "k", Stored(DATA))
    stream = await ObjectStream.open(
        store, ObjectRef(BUCKET, "k"), StreamLimits(0, Limits(), Path("/")), Telemetry(), print
    )
    resume = Checkpoint(before.state, before.position) if before else None
    if before:
        stream.begin_attempt(1, before.position)
    found = before.outputs if before else []
    restored = {saved.key: Restored(saved, tuple(parts), held) for saved, held in found}
    outputs = Outputs(store, OUTPUT, OutputPolicy({}), restored, [])
    attempt = Attempt("key", "attempt", 1, float("inf"), resume, keeps=True)
    job = Job(stream, outputs, attempt, Telemetry())
    outputs.offers.before_cut = job.capture
    try:
        yield job
    finally:
        await stream.close()


async def snapshot(job: Job) -> Snapshot:
    """The newest one, which is there."""
    taken = await job.take_snapshot()
    assert taken is not None
    return taken


def held(taken: Snapshot) -> dict[str, bytes]:
    """The bytes of each output that are in no part."""
    return {saved.key: data for saved, data in taken.outputs}


async def write(output: Output, *lines: bytes) -> None:
    """Lines of an output."""
    for line in lines:
        await output.write(line)


async def test_the_newest_offer_is_taken_once() -> None:
    """And none where none is new."""
    async with job_of(FakeStore()) as job:
        assert await job.take_snapshot() is None
        await job.checkpoint(1)
        await job.checkpoint(2)
        assert (await snapshot(job)).state == 2
        assert await job.take_snapshot() is None


@pytest.mark.parametrize(
    "state", [None, 1, 1.5, "text", [1, "2"], {"a": {"b": [None, True]}}, (1, 2), {"n": 1 << 70}]
)
async def test_the_state_is_what_it_was(state: Any) -> None:
    """Whatever JSON it is, and whatever becomes of it after the call."""
    mutable = {"state": state, "list": [1]}
    async with job_of(FakeStore()) as job:
        await job.checkpoint(mutable)
        mutable["list"] = []
        mutable["more"] = 1
        assert (await snapshot(job)).state == {"state": state, "list": [1]}


async def test_the_place_is_where_it_was() -> None:
    """Not where the handler has got to since."""
    seen = []
    async with job_of(FakeStore(chunk_bytes=100)) as job:
        async for line in job.object.lines():
            if line == b"500":
                await job.checkpoint()
            if line == b"700":
                break
        taken = await snapshot(job)
    async with job_of(FakeStore(chunk_bytes=77), taken) as again:
        seen = [line async for line in again.object.lines()]
    assert seen == LINES[501:]


async def test_an_output_is_as_long_as_it_was() -> None:
    """What was written since does not belong to the checkpoint."""
    async with job_of(FakeStore()) as job:
        a, b = job.output("a"), job.output("b")
        await write(a, b"one")
        await job.checkpoint()
        await write(a, b"two")
        job.output("c")
        assert held(await snapshot(job)) == {A: b"one", B: b""}
        await write(b, b"three")
        await job.checkpoint()
        await job.checkpoint()
        assert held(await snapshot(job)) == {A: b"onetwo", B: b"three", OUTPUT.key("c"): b""}


async def test_an_offer_is_kept_before_its_bytes_leave() -> None:
    """Between the offer and the save a part went up: the checkpoint is that of the offer."""
    store = FakeStore()
    async with job_of(store) as job:
        a = job.output("a")
        await write(a, b"one")
        await job.checkpoint("small")
        await write(a, bytes(PART_BYTES))
        taken = await snapshot(job)
        ((saved, data),) = taken.outputs
        assert (taken.state, data) == ("small", b"one")
        assert (saved.upload_id, saved.part_count, saved.size) == ("", 0, 3)
        await job.checkpoint("large")
        ((saved, data),) = (await snapshot(job)).outputs
        assert (saved.part_count, saved.size, data) == (1, 3 + PART_BYTES, bytes(3))
        assert store.calls.count("upload") == 1


async def test_an_output_given_up_after_the_offer_belongs_to_it() -> None:
    """A handler that fails within the block: what it had offered is whole all the same."""
    async with job_of(FakeStore()) as job:
        a = job.output("a")
        await write(a, b"one")
        await job.checkpoint("offered")
        await write(a, b"two")
        await a.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
        taken = await snapshot(job)
        assert (taken.state, held(taken)) == ("offered", {A: b"one"})


async def test_an_output_given_up_before_the_offer_does_not() -> None:
    """It was no part of the work at that point; nor does its key stay taken."""
    async with job_of(FakeStore()) as job:
        a = job.output("a")
        await write(a, b"one")
        await a.__aexit__(ZeroDivisionError, ZeroDivisionError(), None)
        await job.checkpoint("offered")
        assert held(await snapshot(job)) == {}
        await write(job.output("a"), b"again")
        await job.checkpoint("again")
        assert held(await snapshot(job)) == {A: b"again"}


async def first_attempt(*finished: str) -> Snapshot:
    """The outputs `a` and `b` with a line each; those named are closed."""
    async with job_of(FakeStore()) as job:
        for key in ("a", "b"):
            output = job.output(key)
            await write(output, key.encode())
            if key in finished:
                await output.__aexit__(None, None, None)
        await job.checkpoint("first")
        return await snapshot(job)


async def test_what_is_not_opened_again_is_kept_on() -> None:
    """A second checkpoint has what the first one had, opened or not."""
    async with job_of(FakeStore(), await first_attempt("a")) as job:
        await job.checkpoint("before")
        assert held(await snapshot(job)) == {A: b"a", B: b"b"}
        await write(job.output("b"), b"2")
        await job.checkpoint("after")
        assert held(await snapshot(job)) == {A: b"a", B: b"b2"}


async def test_an_output_opened_again_after_the_offer_is_as_it_was_restored() -> None:
    """The offer knew it as one that had not been opened again."""
    async with job_of(FakeStore(), await first_attempt()) as job:
        await job.checkpoint("offered")
        await write(job.output("a"), b"2")
        job.output("b")
        assert held(await snapshot(job)) == {A: b"a", B: b"b"}


async def test_what_was_closed_before_is_finished_without_the_handler() -> None:
    """It need not be opened again."""
    async with job_of(FakeStore(), await first_attempt("a", "b")) as job:
        await job._outputs.finish_untouched()  # noqa: SLF001 - a worker's part
        assert [output.key for output in job._outputs.finished()] == [A, B]  # noqa: SLF001


async def test_what_was_open_before_has_to_be_opened_again() -> None:
    """Its end is unknown: neither is it committed as it is, nor does it vanish without a word."""
    async with job_of(FakeStore(), await first_attempt("a")) as job:
        await job._outputs.finish_untouched()  # noqa: SLF001 - a worker's part
        with pytest.raises(HandlerError, match=r"'results/b' was open at the checkpoint"):
            job._outputs.finished()  # noqa: SLF001

"""Plain `def` handlers: in a thread of their own, interrupted at their next call."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from fakes import BUCKET, FakeStore, Stored
from performing import perform

from app.outcomes import Interrupted
from app.sync import SyncJob, run_in_thread
from app.workshop import Errand, Workshop


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    """A workshop, its thread joined at the end."""
    made = Workshop()
    made.start()
    yield made
    assert made.close(10)


async def ended(errand: Errand[Any]) -> Errand[Any]:
    """The errand, once it has stopped."""
    with anyio.fail_after(10):
        await errand.stopped.wait()
    return errand


class Plain:
    """A plain handler that works until it is interrupted, in a way of its own."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.begun = threading.Event()
        self.ended_by: BaseException | None = None

    def __call__(self, job: SyncJob) -> None:
        """Call something of the job, again and again."""
        self.begun.set()
        try:
            while True:
                if self.way == "progress":
                    job.progress(1)
                elif self.way == "read":
                    job.object.read(0, 10)
                elif self.way == "checkpoint":
                    job.checkpoint({})
                elif self.way == "lines":
                    list(job.object.lines())
                else:
                    job.output(f"{time.monotonic_ns()}").write(b"x")
        except BaseException as error:
            self.ended_by = error
            raise


@pytest.mark.parametrize("way", ["progress", "read", "checkpoint", "lines", "output"])
async def test_plain_handlers_are_interrupted_at_their_next_call(
    workshop: Workshop, way: str
) -> None:
    """A thread cannot be cancelled: its next call raises, and its end is waited for."""
    store, handler = FakeStore(), Plain(way)
    store.keep(BUCKET, "k", Stored(b"some lines\n" * 100))

    async def in_thread(job: Any) -> None:
        await run_in_thread(handler, job)

    errand = workshop.submit(perform(in_thread, store, "k"))
    await asyncio.to_thread(handler.begun.wait, 10)
    errand.cancel()
    await ended(errand)
    assert isinstance(handler.ended_by, Interrupted)
    assert isinstance(errand.error, asyncio.CancelledError)


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit(3), StopIteration()])
async def test_what_a_plain_handler_raises_comes_back(
    workshop: Workshop, error: BaseException
) -> None:
    """Also what no future could carry."""
    store = FakeStore()
    store.keep(BUCKET, "k", Stored(b"x"))

    def handler(_: SyncJob) -> None:
        raise error

    async def in_thread(job: Any) -> None:
        await run_in_thread(handler, job)

    errand = await ended(workshop.submit(perform(in_thread, store, "k")))
    raised = errand.error
    assert raised is error or (raised is not None and raised.__cause__ is error)

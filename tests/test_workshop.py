"""The second event loop: an errand's end proves that everything it started has stopped."""

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from app.workshop import Errand, Workshop


@pytest.fixture
def workshop() -> Iterator[Workshop]:
    """A workshop, its thread joined at the end."""
    made = Workshop()
    made.start()
    yield made
    assert made.close(10)


async def ended(errand: Errand[Any], seconds: float = 10) -> Errand[Any]:
    """The errand, once it has stopped; a failure where that takes too long."""
    with anyio.fail_after(seconds):
        await errand.stopped.wait()
    return errand


class Witness:
    """A task that says when it begins and when it is over."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.over = threading.Event()

    async def wait(self) -> None:
        """Wait for ever; tidy up in a few steps when cancelled."""
        try:
            self.begun.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.over.set()


async def test_the_value_of_the_work_comes_back(workshop: Workshop) -> None:
    """Work runs on the other loop, and its value is there when it has stopped."""

    async def work() -> tuple[int, asyncio.AbstractEventLoop]:
        return threading.get_ident(), asyncio.get_running_loop()

    errand = await ended(workshop.submit(work()))
    assert errand.error is None
    assert errand.value is not None
    thread, loop = errand.value
    assert thread != threading.get_ident()
    assert loop is not asyncio.get_running_loop()


class OddError(BaseException):
    """What no `except Exception` catches."""


@pytest.mark.parametrize(
    "error", [ValueError("x"), OddError(), SystemExit(3), KeyboardInterrupt(), GeneratorExit()]
)
async def test_any_error_is_a_value(workshop: Workshop, error: BaseException) -> None:
    """Whatever a handler raises is carried over, and the loop goes on for the next errand."""

    async def work() -> None:
        await asyncio.sleep(0)
        raise error

    errand = await ended(workshop.submit(work()))
    assert errand.error is error
    await ended(workshop.submit(asyncio.sleep(0)))


async def test_children_are_stopped_before_the_end(workshop: Workshop) -> None:
    """A handler that returns leaves nothing running, however deep its tasks were nested."""
    child, grandchild = Witness(), Witness()

    async def nested() -> None:
        task = asyncio.create_task(grandchild.wait())
        await asyncio.gather(task, child.wait())

    async def work() -> None:
        kept.append(asyncio.create_task(nested()))
        await asyncio.to_thread(child.begun.wait, 10)
        await asyncio.to_thread(grandchild.begun.wait, 10)

    kept: list[asyncio.Task[None]] = []
    await ended(workshop.submit(work()))
    assert child.over.is_set()
    assert grandchild.over.is_set()


async def test_a_child_that_begins_another_while_it_ends(workshop: Workshop) -> None:
    """Tasks that are started in the course of stopping are stopped as well."""
    late = Witness()
    begun = asyncio.Event()

    async def stubborn() -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            kept.append(asyncio.create_task(late.wait()))
            await asyncio.sleep(0)

    async def work() -> None:
        kept.append(asyncio.create_task(stubborn()))
        await begun.wait()

    kept: list[asyncio.Task[None]] = []
    await ended(workshop.submit(work()))
    assert all(task.done() for task in kept)
    assert late.over.is_set() or not late.begun.is_set()


async def test_cancelling_stops_the_work_and_its_children(workshop: Workshop) -> None:
    """Cancellation reaches the work; `stopped` waits for all of it."""
    parent, child = Witness(), Witness()

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child.wait())
            await parent.wait()

    errand = workshop.submit(work())
    await asyncio.to_thread(parent.begun.wait, 10)
    await asyncio.to_thread(child.begun.wait, 10)
    errand.cancel()
    await ended(errand)
    assert isinstance(errand.error, asyncio.CancelledError)
    assert parent.over.is_set()
    assert child.over.is_set()


async def test_work_cancelled_before_it_began_has_stopped() -> None:
    """A stop may come when the workshop is busy with something else."""
    workshop = Workshop()
    # Not started yet: both calls wait in its queue, as they do while a handler blocks the loop.
    work = asyncio.sleep(3600)
    errand = workshop.submit(work)
    errand.cancel()
    workshop.start()
    try:
        await ended(errand, 0.5)
    finally:
        workshop.close(10)
        work.close()


async def test_swallowing_the_cancellation_is_the_works_own_end(workshop: Workshop) -> None:
    """Work that returns although it was cancelled has returned; who cancelled it decides."""
    begun = threading.Event()

    async def work() -> str:
        try:
            begun.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "swallowed"
        return "never"

    errand = workshop.submit(work())
    await asyncio.to_thread(begun.wait, 10)
    errand.cancel()
    assert (await ended(errand)).value == "swallowed"
    assert errand.error is None


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
async def test_a_child_that_exits_does_not_end_the_loop(
    workshop: Workshop, error: BaseException
) -> None:
    """Asyncio lets these two through its loop: other errands go on all the same."""
    other = Witness()
    waiting = workshop.submit(other.wait())
    await asyncio.to_thread(other.begun.wait, 10)

    async def exits() -> None:
        raise error

    async def work() -> str:
        task = asyncio.create_task(exits())
        await asyncio.wait([task])
        assert task.exception() is error
        return "went on"

    assert (await ended(workshop.submit(work()))).value == "went on"
    assert not waiting.stopped.is_set()
    waiting.cancel()
    await ended(waiting)
    assert other.over.is_set()


async def test_a_blocked_workshop_blocks_nobody_else(workshop: Workshop) -> None:
    """While a handler blocks its loop, this loop goes on, and can see where it hangs."""
    release = threading.Event()

    async def blocks() -> None:
        release.wait(10)

    errand = workshop.submit(blocks())
    while "release.wait" not in workshop.stacks():  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.001)
    began = time.monotonic()
    errand.cancel()
    await asyncio.sleep(0)
    assert time.monotonic() - began < 1
    assert not errand.stopped.is_set()
    release.set()
    await ended(errand)


async def test_closing_a_blocked_workshop_gives_up() -> None:
    """A thread that does not end is told of, not waited for."""
    workshop, release, blocked = Workshop(), threading.Event(), threading.Event()
    workshop.start()

    async def blocks() -> None:
        blocked.set()
        release.wait(10)

    errand = workshop.submit(blocks())
    await asyncio.to_thread(blocked.wait, 10)
    assert not workshop.close(0.01)
    release.set()
    assert workshop.close(10)
    del errand

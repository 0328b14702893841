"""The second event loop: where handlers live, so that nothing they do can starve the first.

Work is handed over as a coroutine; what comes back is an end (a value or an error) and the proof
that everything the work had started has stopped.
"""

import asyncio
import contextvars
import sys
import threading
import traceback
from collections.abc import Coroutine
from typing import Any, Generic, TypeVar, cast

import anyio
import uvloop

from app.sync import HANDLER_THREAD

T = TypeVar("T")

_current: contextvars.ContextVar["Errand[Any] | None"] = contextvars.ContextVar(
    "errand", default=None
)


class Errand(Generic[T]):
    """One piece of work in the workshop, seen from the loop that gave it.

    Attributes:
        stopped: set, on the giver's loop, by the work's own last line.
        value: what it returned.
        error: what it raised; None where it returned, or has not ended yet.
    """

    def __init__(self, work: Coroutine[Any, Any, T], workshop: asyncio.AbstractEventLoop) -> None:
        self.stopped = anyio.Event()
        self.error: BaseException | None = None
        self._work = work
        self._workshop = workshop
        self._giver = asyncio.get_running_loop()
        self.value: T | None = None
        self._task: asyncio.Task[None] | None = None
        self._spawned: set[asyncio.Task[Any]] = set()
        self._cancelled = False
        self._running = False

    def cancel(self) -> None:
        """Ask the work to stop; `stopped` tells when it has."""
        self._workshop.call_soon_threadsafe(self._cancel)

    def begin(self) -> None:
        """Start; on the workshop's loop."""
        _current.set(self)
        self._task = asyncio.Task(self._run(), loop=self._workshop)

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Count a task among those that have to end before the work has."""
        self._spawned.add(task)
        task.add_done_callback(self._spawned.discard)

    def _cancel(self) -> None:
        self._cancelled = True
        # A task that is cancelled before its first step would never say that it has stopped.
        if self._task is not None and self._running:
            self._task.cancel()

    async def _run(self) -> None:
        self._running = True
        try:
            if self._cancelled:
                self._work.close()
                raise asyncio.CancelledError  # noqa: TRY301 - as if it had been cancelled at work
            self.value = await self._work
        except BaseException as error:  # noqa: BLE001 - carried over to the giver, who raises it
            self.error = error
        await self._join()
        self._giver.call_soon_threadsafe(self.stopped.set)

    async def _join(self) -> None:
        """Cancel what the work left running, and wait until it has ended."""
        while self._spawned:
            left = list(self._spawned)
            for task in left:
                task.cancel()
            try:
                await asyncio.wait(left)
            except asyncio.CancelledError:
                # This task has nothing left to cancel but the waiting itself.
                continue


def _awaiting(task: "asyncio.Task[Any]") -> str:
    """The chain of coroutines that a task is suspended in, outermost first."""
    lines = []
    inner: Any = task.get_coro()
    while (frame := getattr(inner, "cr_frame", None)) is not None:
        lines += traceback.format_list(
            [traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)]
        )
        inner = inner.cr_await
    return "".join(lines)


class Workshop:
    """A daemon thread with a loop of its own."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._loop.set_task_factory(cast("Any", _make_task))
        self._thread = threading.Thread(target=self._serve, name="workshop", daemon=True)
        self._closing = False

    def start(self) -> None:
        """Start the thread; `submit` may be called from then on."""
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> Errand[T]:
        """Hand work over; returns at once."""
        errand = Errand(work, self._loop)
        self._loop.call_soon_threadsafe(errand.begin)
        return errand

    def stacks(self) -> str:
        """Where handlers are now, for the log: what their threads run and their tasks await."""
        try:
            return self._stacks()
        except Exception as error:  # noqa: BLE001 - a look from another thread; the end goes on
            return f"cannot be told: {error!r}"

    def _stacks(self) -> str:
        frames = sys._current_frames()  # noqa: SLF001 - there is no other way
        threads = [
            thread
            for thread in threading.enumerate()
            if thread is self._thread or thread.name == HANDLER_THREAD
        ]
        running = [
            "".join(traceback.format_stack(frames[thread.ident]))
            for thread in threads
            if thread.ident in frames
        ]
        return "\n".join(running + [_awaiting(task) for task in asyncio.all_tasks(self._loop)])

    def close(self, seconds: float) -> bool:
        """Stop the loop and its thread; False where it did not end in so many seconds."""
        self._closing = True
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._closing:
            try:
                self._loop.run_forever()
            except (SystemExit, KeyboardInterrupt):
                # A task of a handler's raised it: asyncio lets these two through its loop. The
                # task keeps its error; the loop has to go on for everyone else.
                continue
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()


def _make_task(
    loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
) -> "asyncio.Task[Any]":
    """A task that its errand knows of: contexts are inherited, so its children are known too."""
    task = asyncio.Task(coro, loop=loop, **options)
    errand = _current.get()
    if errand is not None:
        errand.adopt(task)
    return task

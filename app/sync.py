"""The Job for plain `def` handlers: the same names, blocking, in a thread of its own."""

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from app.described import DescribedObject
from app.job import Checkpoint, Job
from app.objectfile import ObjectFile
from app.outcomes import Interrupted
from app.output import DEFAULT_CONTENT_TYPE, Output
from app.stream import ObjectStream

T = TypeVar("T")
HANDLER_THREAD = "handler"


class Bridge:
    """Lets a handler's thread call into the loop that serves it, until it is told to stop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._stopped = False
        # Several, where a library reads from threads of its own.
        self._calls: set[Future[Any]] = set()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Wait for the coroutine's value.

        Raises:
            Interrupted: the attempt is to stop.
        """
        with self._lock:
            if self._stopped:
                coroutine.close()
                raise Interrupted
            call = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._calls.add(call)
        try:
            return call.result()
        except CancelledError:
            raise Interrupted from None
        finally:
            self._calls.discard(call)

    def check(self) -> None:
        """Raise Interrupted once the attempt is to stop."""
        if self._stopped:
            raise Interrupted

    def stop(self) -> None:
        """Let the call under way, or the next one, raise Interrupted."""
        with self._lock:
            self._stopped = True
            # A copy: each call takes itself out as soon as it is cancelled.
            for call in list(self._calls):
                call.cancel()

    def iterate(self, source: AsyncIterator[T]) -> Iterator[T]:
        """The values of an asynchronous iterator, one call each."""
        while True:
            try:
                value = self.run(_next(source))
            except StopAsyncIteration:
                return
            yield value


async def _next(source: AsyncIterator[T]) -> T:
    return await anext(source)


class SyncOutput:
    """An output whose `write` blocks; a context manager."""

    def __init__(self, output: Output, bridge: Bridge) -> None:
        self._output = output
        self._bridge = bridge

    @property
    def key(self) -> str:
        """The full key."""
        return self._output.key

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._output.size

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bridge.run(self._output.__aexit__(kind, error, trace))

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes; raises as `Output.write` does."""
        self._bridge.run(self._output.write(data))


class SyncObject(DescribedObject):
    """The object as bytes, blocking; the same names as `job.object` of an `async def` handler."""

    def __init__(self, stream: ObjectStream, bridge: Bridge) -> None:
        self.facts = stream.facts
        self._stream = stream
        self._bridge = bridge

    @property
    def position(self) -> Any:
        """As `ObjectStream.position`."""
        return self._stream.position

    def chunks(self, start: Any = None) -> Iterator[bytes]:
        """As `ObjectStream.chunks`."""
        return self._bridge.iterate(self._stream.chunks(start))

    def decompressed(self, start: Any = None) -> Iterator[bytes]:
        """As `ObjectStream.decompressed`."""
        return self._bridge.iterate(self._stream.decompressed(start))

    def batches(self, terminator: bytes = b"\n", *, start: Any = None) -> Iterator[list[bytes]]:
        """As `ObjectStream.batches`."""
        return self._bridge.iterate(self._stream.batches(terminator, start=start))

    def lines(self, terminator: bytes = b"\n", *, start: Any = None) -> Iterator[bytes]:
        """As `ObjectStream.lines`; a call into the loop per chunk, not per line."""
        for batch in self.batches(terminator, start=start):
            rest = self._stream.one_by_one(batch)
            for line in rest:
                self._bridge.check()
                yield line

    def read(self, start: int, end: int) -> bytes:
        """As `ObjectStream.read`."""
        return self._bridge.run(self._stream.read(start, end))

    def open(self) -> ObjectFile:
        """The object as a readable, seekable binary file over ranged reads."""
        return ObjectFile(self.size, self.read)

    def download(self) -> Path:
        """As `ObjectStream.download`."""
        return self._bridge.run(self._stream.download())


class SyncJob:
    """One message's work for a plain `def` handler; every call may raise Interrupted."""

    def __init__(self, job: Job, bridge: Bridge) -> None:
        self.object = SyncObject(job.object, bridge)
        self.log = job.log
        self._job = job
        self._bridge = bridge

    @property
    def resume(self) -> Checkpoint | None:
        """The last durable checkpoint of an earlier attempt, None where there is none."""
        return self._job.resume

    @property
    def stopping(self) -> bool:
        """True once a stop was asked for."""
        return self._job.stopping

    @property
    def idempotency_key(self) -> str:
        """As `Job.idempotency_key`."""
        return self._job.idempotency_key

    @property
    def attempt_id(self) -> str:
        """As `Job.attempt_id`."""
        return self._job.attempt_id

    @property
    def attempt(self) -> int:
        """As `Job.attempt`."""
        return self._job.attempt

    @property
    def deadline(self) -> float:
        """As `Job.deadline`."""
        return self._job.deadline

    def output(self, key: str, content_type: str = DEFAULT_CONTENT_TYPE) -> SyncOutput:
        """As `Job.output`."""
        self._bridge.check()
        return SyncOutput(self._job.output(key, content_type), self._bridge)

    def checkpoint(self, state: Any = None) -> None:
        """As `Job.checkpoint`; costs no call into the loop."""
        self._bridge.check()
        self._job.offer(state)
        if self._job.stopping:
            self._bridge.run(self._job.arrive())

    def progress(self, done: float, total: float | None = None) -> None:
        """As `Job.progress`."""
        self._bridge.check()
        self._job.progress(done, total)


async def run_in_thread(handler: Callable[[SyncJob], object], job: Job) -> None:
    """Call a plain handler in a thread of its own; ends only once the thread has ended.

    Raises:
        CancelledError: after the thread has ended, if this was cancelled meanwhile.
    """
    loop = asyncio.get_running_loop()
    bridge = Bridge(loop)
    # The error is the future's value: a future cannot raise every exception a handler can.
    ended: asyncio.Future[BaseException | None] = loop.create_future()

    def call() -> None:
        error: BaseException | None = None
        try:
            _refuse_unfinished(handler(SyncJob(job, bridge)))
        except BaseException as caught:  # noqa: BLE001 - raised again, on the loop
            error = caught
        loop.call_soon_threadsafe(ended.set_result, error)

    run = contextvars.copy_context().run
    threading.Thread(target=run, args=(call,), name=HANDLER_THREAD, daemon=True).start()
    cancelled: asyncio.CancelledError | None = None
    while not ended.done():
        try:
            await asyncio.wait([ended])
        except asyncio.CancelledError as error:
            # Raised again below: the thread has to be out of the handler first.
            cancelled = error
            bridge.stop()
    # A library's threads may still read, and would wait for ever once this loop is closed.
    bridge.stop()
    if cancelled is not None:
        raise cancelled
    if (raised := ended.result()) is not None:
        raise raised


async def call_handler(handler: Callable[[Any], object], job: Job) -> None:
    """Call a handler of either kind, on the loop or in a thread."""
    # An object may be the handler, and a decorator may stand around an `async def`.
    called = inspect.unwrap(getattr(handler, "__call__", handler))  # noqa: B004
    if inspect.iscoroutinefunction(inspect.unwrap(handler)) or inspect.iscoroutinefunction(called):
        _refuse_unfinished(await cast("Awaitable[object]", handler(job)))
    else:
        await run_in_thread(handler, job)


def _refuse_unfinished(returned: object) -> None:
    """Refuse what a handler returns instead of having done it: nothing would ever run it.

    Raises:
        TypeError: it is a coroutine, a generator or the like.
    """
    if inspect.iscoroutine(returned) or inspect.isgenerator(returned):
        returned.close()
    elif not (inspect.isawaitable(returned) or inspect.isasyncgen(returned)):
        return
    kind = type(returned).__name__
    raise TypeError(f"the handler returned a {kind}, which nobody runs: make it an `async def`")

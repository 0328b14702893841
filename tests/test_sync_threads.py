"""Libraries read from threads of their own, which must not outlive the handler they work for."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import pytest
from fakes import BUCKET, FakeStore, Stored
from performing import perform

from app.handler import Reject, SyncJob
from app.notifications import ObjectRef
from app.outcomes import Interrupted
from app.ports import ObjectFacts, Opened
from app.sync import Bridge, run_in_thread

THREADS = 8


class Silent(FakeStore):
    """Answers the first request and no other, and says that one has come."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = threading.Semaphore(0)

    async def open_at(
        self, ref: ObjectRef, start: int, end: int | None, pin: ObjectFacts | None
    ) -> Opened:
        """The first answer; the rest never comes."""
        if pin is not None:
            self.arrived.release()
            await asyncio.get_running_loop().create_future()
        return await FakeStore.open_at(self, ref, start, end, pin)


class Readers:
    """Threads of a library that read the object, and what became of each."""

    def __init__(self, read: Callable[[], object]) -> None:
        self._read = read
        self.ended: list[BaseException | None] = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        """Wait for all of them."""
        for thread in self._threads:
            thread.join(5)
        assert not any(thread.is_alive() for thread in self._threads), "a thread is still reading"

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as error:  # noqa: BLE001 - it is what the test asks for
            self.ended.append(error)


@pytest.mark.parametrize("ending", [None, Reject("enough")], ids=["returns", "raises"])
def test_reads_under_way_end_with_the_handler(ending: Exception | None) -> None:
    """A handler that is over leaves no thread of a library waiting for bytes for ever.

    pyarrow's would: it reads ahead, and joins its threads when the process exits.
    """
    store = Silent()
    store.keep(BUCKET, "k", Stored(b"x" * 100))
    found: list[Readers] = []

    def handler(job: SyncJob) -> None:
        found.append(Readers(lambda: job.object.read(1, 9)))
        for _ in range(THREADS):
            assert store.arrived.acquire(timeout=5)
        if ending is not None:
            raise ending

    async def work() -> None:
        try:
            await perform(lambda job: run_in_thread(handler, job), store, "k")
        finally:
            await asyncio.to_thread(found[0].join)

    if ending is None:
        asyncio.run(work())
    else:
        with pytest.raises(Reject):
            asyncio.run(work())
    assert [type(error) for error in found[0].ended] == [Interrupted] * THREADS


async def test_stopped_while_several_threads_read() -> None:
    """Every call under way is cancelled, though each forgets itself as soon as it is."""
    arrived = asyncio.Semaphore(0)

    async def wait() -> None:
        arrived.release()
        await asyncio.get_running_loop().create_future()

    for _ in range(20):
        bridge = Bridge(asyncio.get_running_loop())
        readers = Readers(partial(_call, bridge, wait))
        for _ in range(THREADS):
            await arrived.acquire()
        bridge.stop()
        await asyncio.to_thread(readers.join)
        assert [type(error) for error in readers.ended] == [Interrupted] * THREADS


def _call(bridge: Bridge, function: Callable[[], Coroutine[Any, Any, None]]) -> None:
    bridge.run(function())

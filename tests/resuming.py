"""A handler that is stopped at its checkpoints, and gone on with by the next attempt."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from fakerecords import FakeRecords
from fakes import BUCKET, OUTPUT, FakeStore
from performing import METADATA, commit

from app.checkpoints import restore
from app.codecs import Limits
from app.described import StreamLimits
from app.job import Attempt, Checkpoint, Job, Snapshot
from app.ledger import SavedCheckpoint
from app.notifications import ObjectRef
from app.output import Output, OutputPolicy
from app.outputs import Outputs
from app.stream import ObjectStream
from app.telemetry import Telemetry


@dataclass(slots=True)
class Told:
    """What a piece of work took.

    Attributes:
        checkpoints: that were reached, over all attempts.
        bytes_read: of the object as it is stored, over all attempts.
    """

    attempts: int = 0
    checkpoints: int = 0
    bytes_read: int = 0

    def count(self, size: int) -> None:
        """So many bytes were read."""
        self.bytes_read += size


Handler = Callable[[Job], Awaitable[object]]


async def resumed_at(
    stops: Callable[[int], bool], handler: Handler, store: FakeStore, key: str
) -> Told:
    """Work on an object in attempts that end at each checkpoint of the work that `stops` names.

    Checkpoints are counted over all attempts, from 1. Every attempt begins with what can be read
    of the checkpoint and what the store has of the outputs.
    """
    kept: SavedCheckpoint | None = None
    told = Told()
    while True:
        told.attempts += 1
        snapshot = await _attempt(stops, handler, store, key, kept, told)
        if snapshot is None:
            return told
        outputs = tuple(msgspec.structs.replace(o, data=held) for o, held in snapshot.outputs)
        saved = msgspec.json.encode(SavedCheckpoint(snapshot.position, snapshot.state, outputs))
        kept = msgspec.json.decode(saved, type=SavedCheckpoint)


async def _attempt(
    stops: Callable[[int], bool],
    handler: Handler,
    store: FakeStore,
    key: str,
    kept: SavedCheckpoint | None,
    told: Told,
) -> Snapshot | None:
    """One attempt: the snapshot it was stopped at, None at the end."""
    limits = StreamLimits(0, Limits(), Path("/nowhere"))
    telemetry = Telemetry()
    stream = await ObjectStream.open(store, ObjectRef(BUCKET, key), limits, telemetry, told.count)
    stream.begin_attempt(1, kept.position if kept else None)
    restored = await restore(kept, FakeRecords(), store) if kept else []
    assert restored is not None, "the checkpoint's outputs are not whole"
    resume = Checkpoint(kept.state, kept.position) if kept else None
    opened: list[Output] = []
    found = {one.saved.key: one for one in restored}
    outputs = Outputs(store, OUTPUT, OutputPolicy(METADATA), found, opened)
    job = _Stopping(stops, told, stream, outputs, resume)
    outputs.offers.before_cut = job.capture
    work = asyncio.ensure_future(handler(job))
    arrival = asyncio.create_task(job.arrived.wait())
    try:
        await asyncio.wait([work, arrival], return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return await job.take_snapshot()
        work.result()
        for output in outputs.finished():
            await commit(output, store)
        return None
    finally:
        for task in (work, arrival):
            task.cancel()
        await asyncio.wait([work, arrival])
        await stream.close()


class _Stopping(Job):
    """A job that is told to stop in time for a checkpoint."""

    def __init__(
        self,
        stops: Callable[[int], bool],
        told: Told,
        stream: ObjectStream,
        outputs: Outputs,
        resume: Checkpoint | None,
    ) -> None:
        self.arrived = asyncio.Event()
        self._told = told
        self._stops = stops
        attempt = Attempt("the-key", "the-attempt", 1, float("inf"), resume, keeps=True)
        super().__init__(stream, outputs, attempt, Telemetry(), self.arrived.set)

    async def checkpoint(self, state: object = None) -> None:
        """As any job's; a stop came just before it, if this is the one."""
        self._told.checkpoints += 1
        self.stopping = self.stopping or self._stops(self._told.checkpoints)
        await super().checkpoint(state)

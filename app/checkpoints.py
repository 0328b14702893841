"""Makes checkpoints durable while the handler runs, and finds them again for the next attempt."""

import secrets
from collections.abc import Coroutine
from typing import Any, Protocol

import anyio
import msgspec

from app import ledger
from app.claims import Claim
from app.job import Job, Snapshot
from app.ledger import SavedCheckpoint, SavedOutput
from app.outcomes import OutsideError
from app.output import Restored
from app.ports import OutputStore, RecordStore, Upload
from app.telemetry import Telemetry
from app.watch import Errand


class Workshop(Protocol):
    """Where the job's loop is."""

    def submit(self, work: Coroutine[Any, Any, Any]) -> Errand:
        """Hand work over; returns at once."""


class Keeper:
    """Keeps the newest checkpoint of one attempt durable.

    Args:
        every_seconds: between one that is written and the next.
    """

    def __init__(
        self,
        claim: Claim,
        records: RecordStore,
        workshop: Workshop,
        telemetry: Telemetry,
        every_seconds: float,
    ) -> None:
        self._claim = claim
        self._records = records
        self._workshop = workshop
        self._telemetry = telemetry
        self._every = every_seconds
        self._saving = anyio.Lock()
        self._over = anyio.Event()

    async def run(self, job: Job) -> None:
        """Save every so often, until `stop`.

        Raises:
            FencedError: another attempt has taken the work over.
        """
        while not self._over.is_set():
            with anyio.move_on_after(self._every):
                await self._over.wait()
            if not self._over.is_set():
                await self.save(job)

    def stop(self) -> None:
        """Let `run` return once what it is writing is written."""
        self._over.set()

    async def save(self, job: Job) -> None:
        """Make the newest offer durable; one that cannot be is left for the next time.

        Raises:
            FencedError: another attempt has taken the work over.
        """
        async with self._saving:
            errand = self._workshop.submit(job.take_snapshot())
            await errand.stopped.wait()
            if errand.error is not None:
                self._telemetry.checkpoint_failed(errand.error)
            elif errand.value is not None:
                try:
                    await self._write(errand.value)
                except OutsideError as error:
                    self._telemetry.checkpoint_failed(error)

    async def _write(self, snapshot: Snapshot) -> None:
        before = held_names(self._claim.record.checkpoint)
        outputs = tuple([await self._kept(saved, held) for saved, held in snapshot.outputs])
        checkpoint = SavedCheckpoint(snapshot.position, snapshot.state, outputs)
        await self._claim.change(
            lambda record, write_id: ledger.checkpointed(record, write_id, checkpoint)
        )
        self._telemetry.checkpoint_saved(snapshot.position, sum(out.size for out in outputs))
        await drop_blobs(self._records, before - held_names(checkpoint), self._telemetry)

    async def _kept(self, saved: SavedOutput, held: bytes) -> SavedOutput:
        """The output with the bytes that are in no part yet, small ones in the record itself."""
        if len(held) <= ledger.INLINE_MAX_BYTES:
            return msgspec.structs.replace(saved, data=held, held="")
        name = f"{self._claim.key}.held/{secrets.token_hex(8)}"
        await self._records.keep(name, held)
        return msgspec.structs.replace(saved, data=b"", held=name)


def held_names(checkpoint: SavedCheckpoint | None) -> set[str]:
    """The blobs that a checkpoint needs."""
    outputs = checkpoint.outputs if checkpoint else ()
    return {output.held for output in outputs if output.held}


async def drop_blobs(records: RecordStore, names: set[str], telemetry: Telemetry) -> None:
    """Delete blobs that nothing needs any more; what stays behind a lifecycle rule removes."""
    for name in names:
        try:
            await records.drop(name)
        except OutsideError as error:
            telemetry.blob_left_behind(name, error)


async def restore(
    checkpoint: SavedCheckpoint, records: RecordStore, uploads: OutputStore
) -> list[Restored] | None:
    """The outputs of a checkpoint, or None where any part of it is missing: then it is void.

    Raises:
        OutsideError: it cannot be told.
    """
    found = []
    for saved in checkpoint.outputs:
        held = await records.fetch(saved.held) if saved.held else saved.data
        parts = []
        if saved.upload_id:
            listed = await uploads.parts(Upload(saved.bucket, saved.key, saved.upload_id))
            parts = (listed or [])[: saved.part_count]
        whole = held is not None and sum(part.size for part in parts) + len(held) == saved.size
        if held is None or not whole or len(parts) != saved.part_count:
            return None
        found.append(Restored(saved, tuple(parts), held))
    return found

"""Makes outputs visible, once each, and never over those of a newer version of the same object."""

from datetime import datetime
from typing import Protocol

import msgspec

from app.ledger import SavedOutput
from app.outcomes import ConditionError, FailureError, Reason, UploadGoneError
from app.ports import ABSENT, OutputStore, Part, SmallOutput, Standing, Upload
from app.telemetry import Telemetry

# A conditional write that met another one is decided anew, so often.
ROUNDS = 4
STEP_SECONDS = 10.0


class Lease(Protocol):
    """Says whether a step may be begun."""

    async def ensure(self, seconds: float) -> None:
        """Raise unless the lease lasts for so long."""


class Identity(msgspec.Struct, frozen=True):
    """Whose outputs these are.

    Attributes:
        key: the idempotency key.
        source: names the object, whatever its version.
        modified: when this version of it was written.
        sequencer: orders versions of one key; empty where it is not known.
    """

    key: str
    source: str
    modified: datetime
    sequencer: str = ""


class SupersededError(FailureError):
    """The output of a newer version of the same object stands there already."""


class RunAgainError(FailureError):
    """The commit cannot be finished with what there is: the handler has to run again."""

    reason = Reason.OUTPUT_CONFLICT


def is_newer(standing: Standing, ours: Identity) -> bool:
    """Whether what stands there was made of a newer version of our object."""
    theirs = standing.metadata
    if theirs.get("source") != ours.source:
        return False
    sequencer = theirs.get("source-sequencer", "")
    if sequencer and ours.sequencer:
        width = max(len(sequencer), len(ours.sequencer))
        return sequencer.ljust(width, "0") > ours.sequencer.ljust(width, "0")
    try:
        return datetime.fromisoformat(theirs["source-modified"]) > ours.modified
    except (KeyError, ValueError):
        return False


def is_ours(standing: Standing | None, ours: Identity) -> bool:
    """Whether what stands there is this very work's output."""
    return standing is not None and standing.metadata.get("idempotency-key") == ours.key


class Committer:
    """Completes outputs, each under the condition that nobody came in between.

    Args:
        metadata: of outputs that are written in one request.
    """

    def __init__(
        self,
        store: OutputStore,
        lease: Lease,
        ours: Identity,
        metadata: dict[str, str],
        telemetry: Telemetry,
    ) -> None:
        self._store = store
        self._lease = lease
        self._ours = ours
        self._metadata = metadata
        self._telemetry = telemetry

    async def look(self, outputs: list[SavedOutput]) -> list[SavedOutput]:
        """The outputs with what stands at their keys now.

        Raises:
            SupersededError: a newer version's output.
        """
        looked = []
        for output in outputs:
            standing = await self._standing(output)
            etag = standing.etag if standing else ABSENT
            looked.append(msgspec.structs.replace(output, standing=etag))
        return looked

    async def any_foreign(self, outputs: list[SavedOutput]) -> bool:
        """Whether an older or equal version's output stands where one of ours was."""
        for output in outputs:
            try:
                standing = await self._standing(output)
            except SupersededError:
                continue
            if standing is None or is_ours(standing, self._ours):
                continue
            if standing.metadata.get("source") == self._ours.source:
                return True
        return False

    async def commit(self, output: SavedOutput, parts: list[Part] | None) -> None:
        """Make one output visible.

        Args:
            parts: of its upload, where they are known.

        Raises:
            SupersededError: a newer version's output has come to stand there.
            RunAgainError: its upload, or what stood there, is no longer what it was.
            LeaseLostError, OutsideError: it was not begun, or may have come about.
        """
        expected = output.standing
        for _ in range(ROUNDS):
            await self._lease.ensure(STEP_SECONDS)
            try:
                await self._write(output, parts, expected)
            except UploadGoneError as error:
                if is_ours(await self._standing(output), self._ours):
                    break
                raise RunAgainError(str(error)) from error
            except ConditionError as error:
                standing = await self._standing(output)
                if is_ours(standing, self._ours):
                    break
                if standing is not None and standing.metadata.get("source") != self._ours.source:
                    raise RunAgainError(str(error)) from error
                expected = standing.etag if standing else ABSENT
            else:
                break
        else:
            raise RunAgainError(f"{output.key}: others write to the same key")
        self._telemetry.output_committed(output.bucket, output.key, output.size)

    async def _standing(self, output: SavedOutput) -> Standing | None:
        standing = await self._store.standing(output.bucket, output.key)
        if standing is not None and is_newer(standing, self._ours):
            raise SupersededError(f"{output.key} was written from a newer version")
        return standing

    async def _write(self, output: SavedOutput, parts: list[Part] | None, expected: str) -> None:
        if not output.upload_id:
            what = SmallOutput(output.bucket, output.key, output.content_type, output.data)
            await self._store.put(what, self._metadata, expected)
            return
        upload = Upload(output.bucket, output.key, output.upload_id)
        listed = parts if parts is not None else await self._store.parts(upload)
        if listed is None:
            raise UploadGoneError(f"{output.key}: the upload is gone")
        if len(listed) < output.part_count:
            raise RunAgainError(f"{output.key}: parts of the upload are missing")
        await self._store.complete(upload, listed[: output.part_count], expected)

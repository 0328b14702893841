"""The ledger's side of an attempt: the claim, the checkpoint, the commit that happens once."""

import time
from collections.abc import Callable

import anyio

from app import clock, ledger
from app.around import Delivery, Surroundings
from app.checkpoints import drop_blobs, held_names, restore
from app.claims import Claim, Ledger
from app.commit import STEP_SECONDS, Committer, Identity, RunAgainError, SupersededError
from app.job import Attempt, output_metadata, source_id
from app.ledger import AlreadyDead, AlreadyDone, Claimant, Deferred, Exhausted, Record, RollForward
from app.notifications import ObjectRef
from app.outcomes import FailureError, Outcome, OutsideError, Reason, Result
from app.output import Output, Restored
from app.ports import Upload
from app.stream import ObjectStream
from app.watch import Halted


class Hold:
    """One attempt's hold on its work; without a ledger it holds nothing, and stops nobody.

    Attributes:
        claim: None where there is no ledger, or the work is not this attempt's.
    """

    def __init__(
        self, around: Surroundings, delivery: Delivery, ref: ObjectRef, attempt_id: str
    ) -> None:
        self.claim: Claim | None = None
        self._settings = around.settings
        self._stores = around.stores
        self._telemetry = around.telemetry
        self._delivery = delivery
        self._watch = delivery.watch
        self._ref = ref
        self._id = attempt_id

    async def ask(self, book: Ledger, key: str, stream: ObjectStream) -> Result | None:
        """Claim the work; None where it is to be done, else what the record says became of it."""
        left = self._delivery.deadline_at - clock.now()
        who = Claimant(
            self._id,
            self._delivery.message.id,
            time.time() + left + self._settings.grace_seconds,
            f"s3://{stream.bucket}/{stream.key}",
        )
        answer, claim = await book.claim(key, who)
        if isinstance(answer, AlreadyDone) and await self._overwritten(answer, key, stream):
            answer, claim = await book.claim(key, who, redo=True)
        self.claim = claim
        match answer:
            case AlreadyDone():
                self._telemetry.duplicate()
                return Result(Outcome.SKIPPED, Reason.ALREADY_DONE)
            case AlreadyDead(reason):
                return Result(Outcome.REJECTED, Reason(reason), buried=True)
            case Deferred(until):
                wait = max(1.0, until - time.time())
                return Result(Outcome.DEFERRED, Reason.CLAIMED, after_seconds=wait)
            case Exhausted(record):
                self._remember_failed()
                text = f"{record.attempts} failed attempts; the last: {record.error or 'a crash'}"
                return Result(
                    Outcome.REJECTED, Reason.ATTEMPTS_EXHAUSTED, text, attempts=record.attempts
                )
            case RollForward(record):
                with self._telemetry.spans.step("commit"):
                    return await self.roll_forward(record, key, stream)
        return None

    async def _overwritten(self, answer: AlreadyDone, key: str, stream: ObjectStream) -> bool:
        """Whether an older version's output has come to stand where this work's was.

        Without versions an object may be X, then Y, then X again within a second, which nothing
        but the outputs tells from a duplicate of the first event.
        """
        if stream.version_id is not None:
            return False
        committer = self._committer(key, stream, {})
        return await committer.any_foreign(list(answer.outputs))

    async def roll_forward(self, record: Record, key: str, stream: ObjectStream) -> Result | None:
        """Finish what an earlier attempt had begun to commit; None where it has to run again."""
        self._telemetry.rolling_forward(len(record.outputs))
        attempt = Attempt(key, record.attempt_id, record.attempts + 1, 0.0)
        committer = self._committer(key, stream, dict(self.metadata(attempt, stream)))
        try:
            with anyio.CancelScope() as scope, self._watch.committing(scope):
                for output in record.outputs:
                    await committer.commit(output, None)
                await self._change(ledger.done)
        except SupersededError as error:
            return await self.superseded(error)
        except RunAgainError as error:
            self._telemetry.commit_void(error)
            await self._change(ledger.reclaimed)
            return None
        if scope.cancelled_caught:
            raise Halted(self._watch.result())
        await self._drop_checkpoint(record)
        return Result(Outcome.DONE)

    async def register(self, upload: Upload) -> None:
        """Let the record name an upload before it costs anything.

        Raises:
            FencedError: another attempt has taken over.
            OutsideError: `ledger`.
        """
        await self._change(lambda record, write_id: ledger.registered(record, write_id, upload))

    async def _throw_away_stale(self) -> None:
        """Abort the uploads of attempts that died."""
        stale = ledger.stale_uploads(self.claim.record) if self.claim else ()
        for upload in stale:
            await self._abort(upload)
        if stale:
            await self._change(ledger.without_stale)

    async def restored(self) -> list[Restored] | None:
        """The outputs of the last checkpoint; None where there is none, or it is void."""
        await self._throw_away_stale()
        if self.claim is None or self.claim.record.checkpoint is None:
            return None
        checkpoint = self.claim.record.checkpoint
        assert self._stores.records is not None  # noqa: S101 - there is a claim
        found = await restore(checkpoint, self._stores.records, self._stores.commits)
        if found is None:
            self._telemetry.checkpoint_void()
            await self._drop_checkpoint(self.claim.record)
            await self._change(lambda record, write_id: ledger.checkpointed(record, write_id, None))
        return found

    async def commit(
        self, finished: list[Output], key: str, stream: ObjectStream, metadata: dict[str, str]
    ) -> None:
        """Make the outputs visible, once, whoever dies on the way.

        Raises:
            SupersededError: a newer version's output stands there.
            RunAgainError, LeaseLostError, FencedError, OutsideError: it was not finished.
        """
        assert self.claim is not None  # noqa: S101 - the caller's condition
        committer = self._committer(key, stream, metadata)
        before = self.claim.record
        looked = await committer.look([output.pending() for output in finished])
        await self._watch.lease.ensure(STEP_SECONDS)
        if looked:
            await self._change(
                lambda record, write_id: ledger.committing(record, write_id, tuple(looked))
            )
        try:
            for output, saved in zip(finished, looked, strict=True):
                await committer.commit(saved, output.parts if output.upload else None)
                output.state = "committed"
        except RunAgainError:
            await self._change(ledger.reclaimed)
            raise
        await self._change(ledger.done)
        await self._drop_checkpoint(before)

    async def superseded(self, error: SupersededError) -> Result:
        """A newer version's output is there: this work needs no effect of its own any more."""
        before = self.claim.record if self.claim else None
        await self._change(
            lambda record, write_id: ledger.done(ledger.reclaimed(record, ""), write_id)
        )
        if before is not None:
            for output in before.outputs:
                if output.upload_id:
                    await self._abort(Upload(output.bucket, output.key, output.upload_id))
            await self._drop_checkpoint(before)
        return Result(Outcome.SKIPPED, Reason.SUPERSEDED, str(error))

    async def _change(self, make: Callable[[Record, str], Record]) -> None:
        if self.claim is not None:
            await self.claim.change(make)

    async def close(self, result: Result) -> None:
        """Let the record say that this attempt is over; without it the next one counts a crash."""
        claim = self.claim
        if claim is None or claim.record.state == "done" or result.outcome is Outcome.LEASE_LOST:
            return
        self._remember_failed()
        counts = result.outcome in (Outcome.RETRY, Outcome.REJECTED) and result.counts
        try:
            with anyio.fail_after(min(STEP_SECONDS, self._watch.left / 2)):
                await claim.change(
                    lambda record, write_id: ledger.closed(
                        record,
                        write_id,
                        counts=counts,
                        reason=result.reason or "",
                        error=result.error,
                    )
                )
        except (OutsideError, TimeoutError) as error:
            self._telemetry.ledger_unreachable(error)

    def _remember_failed(self) -> None:
        if self.claim is not None:
            self._delivery.failed.append(self.claim)

    async def _drop_checkpoint(self, record: Record) -> None:
        """Throw away what only the checkpoint needed."""
        if self._stores.records is None or record.checkpoint is None:
            return
        await drop_blobs(self._stores.records, held_names(record.checkpoint), self._telemetry)
        used = {output.upload_id for output in record.outputs}
        if self.claim is not None:
            used |= {output.upload_id for output in self.claim.record.outputs}
        for output in record.checkpoint.outputs:
            if output.upload_id and output.upload_id not in used:
                await self._abort(Upload(output.bucket, output.key, output.upload_id))

    async def _abort(self, upload: Upload) -> None:
        try:
            await self._stores.commits.abort(upload)
        except FailureError as error:
            self._telemetry.output_left_behind(upload.bucket, upload.key, error)

    def kept_uploads(self) -> set[str]:
        """The uploads that a checkpoint or a commit under way still needs."""
        if self.claim is None:
            return set()
        record = self.claim.record
        saved = record.checkpoint.outputs if record.checkpoint else ()
        committing = record.outputs if record.state == "committing" else ()
        return {output.upload_id for output in (*saved, *committing)}

    def _committer(self, key: str, stream: ObjectStream, metadata: dict[str, str]) -> Committer:
        ours = Identity(
            key,
            source_id(stream.bucket, stream.key),
            stream.last_modified,
            self._sequencer(stream) or "",
        )
        return Committer(self._stores.commits, self._watch.lease, ours, metadata, self._telemetry)

    def metadata(self, attempt: Attempt, stream: ObjectStream) -> dict[str, str]:
        """What every output of this attempt carries."""
        return dict(output_metadata(attempt, stream, self._sequencer(stream)))

    def _sequencer(self, stream: ObjectStream) -> str | None:
        """The event's, if it is of the version that was opened."""
        same = (self._ref.etag or "").strip('"') == stream.etag.strip('"')
        return self._ref.sequencer if same else None

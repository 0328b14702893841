"""The way of one object: open, claim, handle, commit."""

import asyncio
import secrets
from functools import partial
from typing import cast

import anyio

from app import ledger
from app.around import Delivery, Surroundings
from app.checkpoints import Keeper
from app.commit import STEP_SECONDS, SupersededError
from app.handler import Route
from app.holding import Hold
from app.job import Attempt, Checkpoint, Job
from app.notifications import ObjectRef
from app.outcomes import (
    FailureError,
    FencedError,
    HandlerError,
    Outcome,
    Reason,
    RejectedError,
    Result,
    result_of,
)
from app.output import Output, OutputPolicy, Restored
from app.outputs import Outputs
from app.planning import verdict_on_changed, was_changed
from app.ports import Upload
from app.stream import ObjectStream
from app.sync import call_handler
from app.watch import Cause, Errand, Halted, HandlerStuckError

TIDY_SECONDS = 5.0


class ObjectAttempt:
    """One attempt at one record of one delivery."""

    def __init__(
        self, around: Surroundings, delivery: Delivery, ref: ObjectRef, route: Route
    ) -> None:
        self._settings = around.settings
        self._workshop = around.workshop
        self._stores = around.stores
        self._telemetry = around.telemetry
        self._limits = around.limits
        self._delivery = delivery
        self._watch = delivery.watch
        self._ref = ref
        self._route = route
        self._id = secrets.token_hex(8)
        # 1 + failed attempts before this one, where a ledger counts them.
        self.number: int | None = None
        self._hold = Hold(around, delivery, ref, self._id)

    async def run(self) -> Result:
        """Bring the record to its outcome.

        Raises:
            Halted, FailureError: it was ended early, or failed; its claim is closed.
            HandlerStuckError: the handler did not stop when it had to.
        """
        try:
            stream = await self._open()
        except RejectedError as error:
            if error.reason is Reason.OBJECT_MISSING and self._settings.missing_object == "skip":
                return Result(Outcome.SKIPPED, Reason.OBJECT_MISSING, str(error))
            raise
        outputs: list[Output] = []
        stuck = False
        try:
            return self._changed(stream) or await self._with_claim(stream, outputs)
        except HandlerStuckError:
            stuck = True
            raise
        finally:
            if not stuck:
                await self._tidy(stream, [out for out in outputs if out.state != "committed"])

    async def _open(self) -> ObjectStream:
        def count(read: int) -> None:
            self._delivery.bytes_read += read

        opening = ObjectStream.open(
            self._stores.objects,
            self._ref,
            self._limits,
            self._telemetry,
            count,
            attempt=self._delivery.message.receive_count,
        )
        errand = self._workshop.submit(opening)
        try:
            await self._watch.finish(errand)
        except Halted:
            if errand.error is None:
                await self._tidy(errand.value, [])
            raise
        if errand.error is not None:
            raise errand.error
        stream = cast("ObjectStream", errand.value)
        self._telemetry.object_opened(stream.facts)
        return stream

    def _changed(self, stream: ObjectStream) -> Result | None:
        """The verdict on an object that was overwritten after its event, if there is one."""
        if not was_changed(self._ref, stream.facts):
            return None
        self._telemetry.object_changed(self._ref.etag or "", stream.etag)
        return verdict_on_changed(self._settings.changed_object)

    async def _with_claim(self, stream: ObjectStream, opened: list[Output]) -> Result:
        """Work under a claim, where there is a ledger; whatever comes of it is recorded."""
        key = ledger.work_key(stream.facts, self._route.name, self._route.version)
        try:
            if self._stores.ledger is not None:
                told = await self._hold.ask(self._stores.ledger, key, stream)
                if told is not None:
                    return told
            return await self._work(stream, key, opened)
        except Halted as halted:
            await self._hold.close(halted.result)
            raise
        except FailureError as error:
            await self._hold.close(result_of(error))
            raise

    async def _work(self, stream: ObjectStream, key: str, opened: list[Output]) -> Result:
        restored = await self._hold.restored()
        claim = self._hold.claim
        saved = claim.record.checkpoint if claim and restored is not None else None
        attempt = Attempt(
            key,
            self._id,
            claim.record.attempts + 1 if claim else self._delivery.message.receive_count,
            self._delivery.deadline_at,
            Checkpoint(saved.state, saved.position) if saved else None,
            keeps=claim is not None,
        )
        self.number = attempt.number if claim else None
        metadata = self._hold.metadata(attempt, stream)
        outputs = self._outputs(metadata, restored or [], opened)
        arrived = anyio.Event()
        on_arrival = partial(asyncio.get_running_loop().call_soon_threadsafe, arrived.set)
        job = Job(stream, outputs, attempt, self._telemetry, on_arrival)
        outputs.offers.before_cut = job.capture
        self._delivery.job = job
        stream.begin_attempt(attempt.number, saved.position if saved else None)
        if saved is not None:
            self._telemetry.resumed(saved.position)
        with self._telemetry.spans.step("handle", handler=self._route.name, key=stream.key):
            await self._handle(job, arrived)
        await self._finish_untouched(outputs)
        stream.check()
        with self._telemetry.spans.step("commit"):
            return await self._commit(outputs.finished(), key, stream, metadata)

    def _outputs(
        self, metadata: dict[str, str], restored: list[Restored], opened: list[Output]
    ) -> Outputs:
        claimed = self._hold.claim is not None
        loop = asyncio.get_running_loop()

        async def register(upload: Upload) -> None:
            # From the handler's loop to the one that owns the ledger.
            registering = asyncio.run_coroutine_threadsafe(self._hold.register(upload), loop)
            await asyncio.wrap_future(registering)

        policy = OutputPolicy(metadata, ledger.INLINE_MAX_BYTES, register) if claimed else None
        return Outputs(
            self._stores.uploads,
            self._settings.output_url,
            policy or OutputPolicy(metadata),
            {one.saved.key: one for one in restored},
            opened,
        )

    async def _handle(self, job: Job, arrived: anyio.Event) -> None:
        self._watch.on_halt(job.stop)
        self._telemetry.handler_started(self._route.name, job.attempt)
        errand = self._workshop.submit(call_handler(self._route.handler, job))
        if self._hold.claim is None or self._stores.records is None:
            await self._watch.finish(errand)
        else:
            keeper = Keeper(
                self._hold.claim,
                self._stores.records,
                self._workshop,
                self._telemetry,
                self._settings.checkpoint_seconds,
            )
            await self._keep_while(errand, job, keeper, arrived)
        if errand.error is not None:
            raise HandlerError(errand.error) from errand.error

    async def _keep_while(
        self, errand: Errand, job: Job, keeper: Keeper, arrived: anyio.Event
    ) -> None:
        """Keep checkpoints while the handler runs, and the last one when it is to stop."""
        ended: Halted | HandlerStuckError | None = None
        softly = anyio.Event()
        async with anyio.create_task_group() as group:

            async def keep() -> None:
                try:
                    await keeper.run(job)
                except FencedError as error:
                    self._watch.fence(error)

            async def stop_softly() -> None:
                await softly.wait()
                with anyio.move_on_after(self._settings.grace_seconds / 4):
                    await arrived.wait()
                if not job.stopping or self._watch.cause is Cause.LEASE_LOST:
                    return
                try:
                    with anyio.move_on_after(self._watch.left / 3):
                        await keeper.save(job)
                except FencedError as error:
                    self._watch.fence(error)
                errand.cancel()

            def soften() -> bool:
                if job.has_offered:
                    softly.set()
                return job.has_offered

            group.start_soon(keep)
            group.start_soon(stop_softly)
            try:
                await self._watch.finish(errand, soften)
            except (Halted, HandlerStuckError) as error:
                ended = error
            keeper.stop()
            arrived.set()
            softly.set()
            # What is being written is waited for, as long as there is time.
            bound = 0.0 if isinstance(ended, HandlerStuckError) else self._watch.left / 3
            group.cancel_scope.deadline = anyio.current_time() + min(bound, STEP_SECONDS)
        if ended is not None:
            raise ended

    async def _finish_untouched(self, outputs: Outputs) -> None:
        errand = self._workshop.submit(outputs.finish_untouched())
        await self._watch.finish(errand)
        if errand.error is not None:
            raise errand.error

    async def _commit(
        self, finished: list[Output], key: str, stream: ObjectStream, metadata: dict[str, str]
    ) -> Result:
        """Make the outputs visible, each step only while the lease is provably held."""
        lease = self._watch.lease
        try:
            with anyio.CancelScope() as scope, self._watch.committing(scope):
                if self._hold.claim is None:
                    for output in finished:
                        await lease.ensure(STEP_SECONDS)
                        await self._write(output, metadata)
                else:
                    await self._hold.commit(finished, key, stream, metadata)
                await lease.ensure(STEP_SECONDS)
        except SupersededError as error:
            return await self._hold.superseded(error)
        if scope.cancelled_caught:
            raise Halted(self._watch.result())
        return Result(Outcome.DONE)

    async def _write(self, output: Output, metadata: dict[str, str]) -> None:
        if output.upload is None:
            await self._stores.commits.put(output.small, metadata, None)
        else:
            await self._stores.commits.complete(output.upload, output.parts, None)
        output.state = "committed"
        self._telemetry.output_committed(output.bucket, output.key, output.size)

    async def _tidy(self, stream: ObjectStream, left: list[Output]) -> None:
        """Close every body and throw away what was not committed; worth less than a release."""
        errand = self._workshop.submit(self._put_away(stream, left))
        with anyio.move_on_after(min(TIDY_SECONDS, self._watch.left / 2), shield=True) as scope:
            await errand.stopped.wait()
        if scope.cancelled_caught:
            errand.cancel()
        elif errand.error is not None:
            raise errand.error

    async def _put_away(self, stream: ObjectStream, left: list[Output]) -> None:
        await stream.close()
        kept = self._hold.kept_uploads()
        for output in left:
            if output.upload is None or output.upload.id in kept:
                continue
            try:
                await output.abort(self._stores.uploads)
            except FailureError as error:
                self._telemetry.output_left_behind(output.bucket, output.key, error)

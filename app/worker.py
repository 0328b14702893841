"""The way of one object: open, handle, commit."""

import inspect
import secrets
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import anyio

from app import ledger
from app.codecs import Limits
from app.described import StreamLimits
from app.handler import Handler, Route
from app.job import Attempt, Job, output_metadata
from app.outcomes import FailureError, HandlerError, Outcome, Result, result_of
from app.output import Output, Outputs
from app.planning import Plan, Record, summed_up
from app.ports import Message, ObjectReader, OutputStore
from app.reading import Tuning
from app.settings import Settings
from app.stream import ObjectStream
from app.sync import run_in_thread
from app.telemetry import Telemetry
from app.watch import Errand, Halted, HandlerStuckError, Watch

COMMIT_STEP_SECONDS = 10.0
TIDY_SECONDS = 5.0


class Workshop(Protocol):
    """Where handlers run; this module gives it work and awaits the end."""

    def submit(self, work: Coroutine[Any, Any, Any]) -> Errand:
        """Hand work over; returns at once."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Objects and outputs, each over a client of the loop that uses it.

    Attributes:
        objects, uploads: used by the workshop.
        commits: used by the loop that owns the message.
    """

    objects: ObjectReader
    uploads: OutputStore
    commits: OutputStore


@dataclass(slots=True)
class Delivery:
    """One delivery being worked on.

    Attributes:
        deadline_at: `clock.now()` at which its time is used up.
        results: one per record that has ended.
        bytes_read: of all its objects, so far.
    """

    message: Message
    planned: Plan
    watch: Watch
    deadline_at: float
    results: list[Result] = field(default_factory=list)
    bytes_read: int = 0


class Worker:
    """Processes the records of deliveries, one after the other."""

    def __init__(
        self, settings: Settings, workshop: Workshop, stores: Stores, telemetry: Telemetry
    ) -> None:
        self._settings = settings
        self._workshop = workshop
        self._stores = stores
        self._telemetry = telemetry
        self._limits = StreamLimits(
            settings.max_object_bytes,
            Limits(settings.max_decompression_ratio, settings.max_decompressed_bytes),
            settings.spool_dir,
            Tuning(connections=settings.read_connections, budget_bytes=settings.read_ahead_bytes),
        )

    async def process(self, delivery: Delivery) -> Result:
        """Work on every record; the worst of them decides for the message.

        Raises:
            HandlerStuckError: a handler did not stop when it had to.
        """
        planned = delivery.planned
        if delivery.watch.cause is not None:  # a stop that came during the poll
            return delivery.watch.result()
        if planned.verdict is not None:
            return planned.verdict
        for record in planned.records:
            before = delivery.bytes_read
            result = await self._outcome(delivery, record)
            delivery.results.append(result)
            self._telemetry.object_read(result, delivery.bytes_read - before)
            if len(planned.records) > 1:
                self._telemetry.record_ended(result, record.where)
        return summed_up(planned, delivery.results)

    async def _outcome(self, delivery: Delivery, record: Record) -> Result:
        if record.route is None:
            return record.verdict or Result(Outcome.DEFECT)
        try:
            delivery.watch.check()
            await self._attempt(delivery, record, record.route)
        except Halted as halted:
            self._telemetry.attempt_halted(record.route.name, halted.result)
            return halted.result
        except FailureError as failure:
            result = result_of(failure)
            raised = failure.__cause__ if isinstance(failure, HandlerError) else failure
            self._telemetry.handler_failed(record.route.name, result, raised)
            return result
        return Result(Outcome.DONE)

    async def _attempt(self, delivery: Delivery, record: Record, route: Route) -> None:
        stream = await self._open(delivery, record)
        outputs: Outputs | None = None
        stuck = False
        try:
            key = ledger.work_key(stream.facts, route.name, route.version)
            attempt = Attempt(
                key, secrets.token_hex(8), delivery.message.receive_count, delivery.deadline_at
            )
            outputs = Outputs(
                self._stores.uploads, self._settings.output_url, output_metadata(attempt, stream)
            )
            await self._handle(
                delivery.watch, route, Job(stream, outputs, attempt, self._telemetry)
            )
            stream.check()
            await self._commit(delivery.watch, outputs)
        except HandlerStuckError:
            stuck = True
            raise
        finally:
            if not stuck:
                await self._tidy(delivery.watch, stream, outputs.uncommitted if outputs else [])

    async def _open(self, delivery: Delivery, record: Record) -> ObjectStream:
        def count(read: int) -> None:
            delivery.bytes_read += read

        opening = ObjectStream.open(
            self._stores.objects,
            record.ref,
            self._limits,
            self._telemetry,
            count,
            attempt=delivery.message.receive_count,
        )
        errand = self._workshop.submit(opening)
        try:
            await delivery.watch.finish(errand)
        except Halted:
            if errand.error is None:
                await self._tidy(delivery.watch, errand.value, [])
            raise
        if errand.error is not None:
            raise errand.error
        stream = cast(ObjectStream, errand.value)
        self._telemetry.object_opened(stream.facts)
        return stream

    async def _handle(self, watch: Watch, route: Route, job: Job) -> None:
        watch.on_halt(job.stop)
        self._telemetry.handler_started(route.name, job.attempt)
        errand = self._workshop.submit(_call(route.handler, job))
        await watch.finish(errand)
        if errand.error is not None:
            raise HandlerError(errand.error) from errand.error

    async def _commit(self, watch: Watch, outputs: Outputs) -> None:
        """Make the outputs visible, each step only while the lease is provably held."""
        finished = outputs.finished()
        with anyio.CancelScope() as scope, watch.committing(scope):
            for output in finished:
                await watch.lease.ensure(COMMIT_STEP_SECONDS)
                await output.commit(self._stores.commits)
                self._telemetry.output_committed(output.bucket, output.key, output.size)
            await watch.lease.ensure(COMMIT_STEP_SECONDS)
        if scope.cancelled_caught:
            raise Halted(watch.result())

    async def _tidy(self, watch: Watch, stream: ObjectStream, left: list[Output]) -> None:
        """Close every body and throw away what was not committed; worth less than a release."""
        errand = self._workshop.submit(self._put_away(stream, left))
        with anyio.move_on_after(min(TIDY_SECONDS, watch.left / 2), shield=True) as scope:
            await errand.stopped.wait()
        if scope.cancelled_caught:
            errand.cancel()
        elif errand.error is not None:
            raise errand.error

    async def _put_away(self, stream: ObjectStream, left: list[Output]) -> None:
        await stream.close()
        for output in left:
            try:
                await output.abort(self._stores.uploads)
            except FailureError as error:
                self._telemetry.output_left_behind(output.bucket, output.key, error)


async def _call(handler: Handler, job: Job) -> None:
    called = getattr(handler, "__call__", handler)  # noqa: B004 - an object may be the handler
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(called):
        await cast(Callable[[Job], Awaitable[object]], handler)(job)
    else:
        await run_in_thread(cast(Any, handler), job)

"""One process: receive until the budget is used up, the order of phases, settlement."""

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial

import anyio

from app import clock, planning, progress
from app.around import Delivery
from app.claims import Claim
from app.handler import Route
from app.lease import Lease
from app.outcomes import (
    EXIT_CODES,
    SQS_VISIBILITY_MAX_SECONDS,
    FailureError,
    Outcome,
    Reason,
    Result,
    result_of,
    worst_exit,
)
from app.planning import Plan
from app.podfiles import ReadyFile
from app.ports import Extender, Message, Receiver
from app.settings import DEFAULT_JOB_SECONDS, Settings, fixed_job_seconds
from app.settlement import Settlement
from app.stop import Stop
from app.telemetry import Telemetry
from app.watch import LOOK_SECONDS, Cause, HandlerStuckError, Watch
from app.worker import Worker, mark_dead

# What goes on after the deadline (the hand-back) has to fit in before SQS's 12 hours.
TWELVE_HOURS_MARGIN_SECONDS = 60
# After these there is no point, or no right, to take another message.
_LAST = (Outcome.EMPTY, Outcome.INTERRUPTED, Outcome.MISCONFIGURED, Outcome.DEFECT)


class Phase(StrEnum):
    """Where the process is; what a stop means depends on it."""

    IDLE = "idle"
    RECEIVING = "receiving"
    RUNNING = "running"
    COMMITTING = "committing"
    SETTLING = "settling"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Ending:
    """How the process, or one message of it, ended.

    Attributes:
        stuck: a handler still runs: the process has to be ended around it.
    """

    result: Result
    exit_code: int
    message_id: str | None = None
    stuck: bool = False


@dataclass(slots=True)
class Runtime:
    """Receives, processes and settles messages, one after the other."""

    settings: Settings
    routes: list[Route]
    receiver: Receiver
    extender: Extender
    worker: Worker
    telemetry: Telemetry
    stop: Stop
    phase: Phase = Phase.IDLE
    watch: Watch | None = None
    bytes_read: int = 0
    messages: int = 0

    async def run(self) -> Ending:
        """Take up to MAX_MESSAGES messages; the worst ending stands for the process."""
        ready = ReadyFile(self.settings.ready_file, self.telemetry)
        self.stop.subscribe(partial(self._on_stop, ready))
        endings = [await self._next(ready)]
        while (
            len(endings) < self.settings.max_messages
            and endings[-1].result.outcome not in _LAST
            and not endings[-1].stuck
        ):
            endings.append(await self._next(ready))
        self.phase = Phase.DONE
        code = worst_exit([ending.exit_code for ending in endings])
        worst = next(ending for ending in endings if ending.exit_code == code)
        return replace(worst, stuck=endings[-1].stuck)

    def _on_stop(self, ready: ReadyFile) -> None:
        if self.stop.signal is not None:
            committing = self.watch is not None and self.watch.is_committing
            phase = Phase.COMMITTING if committing else self.phase
            self.telemetry.stop_requested(self.stop.signal.name, phase)
        ready.remove()

    async def _next(self, ready: ReadyFile) -> Ending:
        """Receive one message and see it through."""
        self.phase = Phase.RECEIVING
        if self.stop.requested:
            return self._ending(Result(Outcome.INTERRUPTED, Reason.STOPPED))
        try:
            message = await self._receive()
        except FailureError as error:
            result = result_of(error)
            self.telemetry.receive_failed(result)
            return self._ending(result)
        if message is None:
            stopped = Result(Outcome.INTERRUPTED, Reason.STOPPED)
            return self._ending(stopped if self.stop.requested else Result(Outcome.EMPTY))
        with self.telemetry.spans.message(message):
            if not self.stop.requested:
                ready.show()
            try:
                return await self._see_through(message)
            finally:
                ready.remove()

    async def _receive(self) -> Message | None:
        """Poll once; a stop waits for the poll, since an aborted one can strand a message."""
        with anyio.CancelScope() as scope:

            def bound() -> None:
                # The grace is the one thing that ends a poll whose answer never comes.
                scope.deadline = anyio.current_time() + self._grace_left()

            self.stop.subscribe(bound)
            try:
                return await self.receiver.receive(
                    self.settings.wait_seconds, self.settings.visibility_timeout
                )
            finally:
                self.stop.unsubscribe(bound)
        return None

    async def _see_through(self, message: Message) -> Ending:
        began = clock.now()
        self.messages += 1
        planned = planning.plan(message, self.routes, self.settings)
        self.telemetry.message_received(
            message.body, message.receive_count, message.sent_at, planned.named
        )
        lease = Lease(
            self.extender,
            message,
            self.telemetry,
            seconds=int(
                planned.longest(
                    lambda route: route.visibility_timeout, self.settings.visibility_timeout
                )
            ),
            renewing=not self.settings.fixed,
        )
        try:
            failed: list[Claim] = []
            result = await self._work(message, planned, lease, failed)
            self.phase = Phase.SETTLING
            settlement = Settlement(self.receiver, self.settings, self.telemetry, self._grace_left)
            with self.telemetry.spans.step("settle"):
                result = await settlement.settle(message, result, lease, partial(mark_dead, failed))
        except HandlerStuckError as error:
            self.telemetry.message_left("the handler did not stop")
            self.telemetry.message_settled(error.result, planned.handler, clock.now() - began)
            return self._ending(error.result, message, stuck=True)
        except Exception as error:  # noqa: BLE001 - a defect of this program: said, and exit 70
            self.telemetry.defect(error)
            result = Result(Outcome.DEFECT, Reason.DEFECT, repr(error))
        self.telemetry.message_settled(result, planned.handler, clock.now() - began)
        return self._ending(result, message)

    async def _work(
        self, message: Message, planned: Plan, lease: Lease, failed: list[Claim]
    ) -> Result:
        """Process under a lease that is kept; on return it is kept no more, and nothing runs."""
        received_at = clock.now()
        try:
            await self._take(lease, received_at)
        except FailureError as error:
            return result_of(error)
        if not lease.taken:
            return Result(Outcome.INTERRUPTED, Reason.STOPPED)
        self.phase = Phase.RUNNING
        watch = self.watch = Watch(lease, self.settings.grace_seconds)
        seconds = self._job_seconds(planned, lease)
        delivery = Delivery(message, planned, watch, received_at + seconds, failed)
        stuck: HandlerStuckError | None = None
        result = Result(Outcome.DEFECT)
        async with anyio.create_task_group() as group:
            kept = anyio.Event()
            group.start_soon(self._keep, lease, watch, kept)
            group.start_soon(self._end_at_deadline, watch, delivery.deadline_at)
            group.start_soon(progress.tell, lambda: delivery.counted, self.telemetry.progress)
            if self.settings.stall_timeout:
                group.start_soon(self._end_at_stall, watch, delivery)
            on_stop = partial(self._halt_for_stop, watch)
            self.stop.subscribe(on_stop)
            try:
                result = await self.worker.process(delivery)
            except HandlerStuckError as error:
                stuck = error
            finally:
                self.stop.unsubscribe(on_stop)
                self.bytes_read += delivery.bytes_read
            # Joined, not cancelled: a renewal under way would undo a release that overtook it.
            lease.stop()
            # But one that hangs may not cost a stop the time it has for the release.
            most = self._grace_left() / 2 if self.stop.requested else None
            with anyio.move_on_after(most):
                await kept.wait()
            group.cancel_scope.cancel()
        if stuck is not None:
            raise stuck
        return result

    async def _take(self, lease: Lease, received_at: float) -> None:
        """Anchor the lease; a stop lets the call under way be answered, if that is soon."""
        with anyio.CancelScope() as scope:

            def bound() -> None:
                lease.stop()
                scope.deadline = anyio.current_time() + self._grace_left() / 2

            self.stop.subscribe(bound)
            try:
                await lease.take(received_at, self.settings.visibility_timeout)
            finally:
                self.stop.unsubscribe(bound)

    def _halt_for_stop(self, watch: Watch) -> None:
        watch.halt(Cause.STOP, self.stop.seconds_ago)

    @staticmethod
    async def _keep(lease: Lease, watch: Watch, kept: anyio.Event) -> None:
        await lease.keep()
        if lease.lost is not None:
            watch.halt(Cause.LEASE_LOST)
        kept.set()

    @staticmethod
    async def _end_at_deadline(watch: Watch, deadline_at: float) -> None:
        # Looked at now and then too: timers stand still while the machine is suspended.
        while (left := deadline_at - clock.now()) > 0:  # noqa: ASYNC110 - no event tells of time
            await anyio.sleep(min(left, 30))
        while watch.cause is None:
            # Said again, since a commit under way does not hear it, but the record after it must.
            watch.halt(Cause.DEADLINE)
            await anyio.sleep(LOOK_SECONDS)

    async def _end_at_stall(self, watch: Watch, delivery: Delivery) -> None:
        moves, since = delivery.moves, clock.now()
        while watch.cause is None:
            await anyio.sleep(min(1.0, self.settings.stall_timeout / 4))
            if delivery.moves != moves or watch.is_committing:
                moves, since = delivery.moves, clock.now()
            elif clock.now() - since >= self.settings.stall_timeout:
                watch.halt(Cause.STALL)

    def _job_seconds(self, planned: Plan, lease: Lease) -> float:
        """From now to the deadline: JOB_TIMEOUT or the route's, within what the lease can last."""
        grace = self.settings.grace_seconds
        if self.settings.fixed:
            lasts = fixed_job_seconds(lease.seconds, grace)
            wanted = planned.longest(
                lambda route: route.timeout, self.settings.job_timeout or lasts
            )
            return min(wanted, lasts)
        wanted = planned.longest(
            lambda route: route.timeout, self.settings.job_timeout or DEFAULT_JOB_SECONDS
        )
        most = SQS_VISIBILITY_MAX_SECONDS - grace - TWELVE_HOURS_MARGIN_SECONDS
        return min(wanted, most - self.settings.wait_seconds)

    def _grace_left(self) -> float:
        """Seconds that a stop leaves; the whole grace where there is none."""
        passed = self.stop.seconds_ago if self.stop.requested else 0.0
        return max(0.0, self.settings.grace_seconds - passed - 0.5)

    def _ending(
        self, result: Result, message: Message | None = None, *, stuck: bool = False
    ) -> Ending:
        interrupted = result.outcome is Outcome.INTERRUPTED
        code = self.stop.exit_code if interrupted else EXIT_CODES[result.outcome]
        return Ending(result, code, message.id if message else None, stuck)

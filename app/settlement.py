"""What is done with a message once its outcome is known; the only code that deletes one."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from random import Random
from typing import Protocol, TypeAlias

import anyio

from app import clock, letters
from app.lease import Lease
from app.outcomes import (
    DISPOSITIONS,
    Disposition,
    FailureError,
    Outcome,
    OutsideError,
    Reason,
    Result,
    backoff_seconds,
    result_of,
)
from app.ports import Message, Receiver
from app.settings import Settings
from app.telemetry import Telemetry

STEP_SECONDS = 10.0
INSIST_SECONDS = 20.0
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SetQueueAttributes.html
RETENTION_MIN_SECONDS = 60

AfterLetter: TypeAlias = Callable[[str], Awaitable[None]]


class Budget(Protocol):
    """How long settling may take."""

    def __call__(self) -> float:
        """Seconds left."""


class Settlement:
    """Settles messages: each by one disposition, each step only under a lease that is proven.

    Called when nothing renews the lease any more and no work goes on.
    """

    def __init__(
        self, receiver: Receiver, settings: Settings, telemetry: Telemetry, budget: Budget
    ) -> None:
        self._receiver = receiver
        self._settings = settings
        self._telemetry = telemetry
        self._budget = budget
        self._random = Random()
        self._after_letter: AfterLetter = _nothing

    async def settle(
        self, message: Message, result: Result, lease: Lease, after_letter: AfterLetter
    ) -> Result:
        """Act on the outcome; the result says what really became of the message.

        Args:
            after_letter: called with the reason between a dead letter and the delete.

        An error on the way never deletes and never changes an outcome for the better: a message
        that could not be settled comes back by itself.
        """
        steps = {
            Disposition.DELETE: self._delete,
            Disposition.HIDE: self._hide,
            Disposition.DEAD_LETTER: self._bury,
            Disposition.RELEASE: self._release,
        }
        step = steps.get(DISPOSITIONS[result.outcome])
        if step is None:
            self._telemetry.message_left(result.outcome)
            return result
        self._after_letter = after_letter
        try:
            return await step(message, result, lease)
        except FailureError as error:
            self._telemetry.settlement_failed(step.__name__.strip("_"), error)
            return self._unsettled(result, result_of(error))

    @staticmethod
    def _unsettled(result: Result, failure: Result) -> Result:
        if failure.outcome is Outcome.LEASE_LOST:
            return failure
        if DISPOSITIONS[result.outcome] in (Disposition.DELETE, Disposition.DEAD_LETTER):
            return replace(failure, outcome=Outcome.RETRY)
        return result

    async def _delete(self, message: Message, result: Result, lease: Lease) -> Result:
        await self._insist(lease, lambda: self._receiver.delete(message))
        self._telemetry.message_deleted()
        return result

    async def _hide(self, message: Message, result: Result, lease: Lease) -> Result:
        if result.outcome is Outcome.DEFERRED:
            granted = await self._hide_for(message, lease, result.after_seconds or 1)
            self._telemetry.message_deferred(granted)
            return result
        if await self._outlives_retention(message, result):
            text = f"the queue would drop the message before another try; the last: {result.error}"
            rejected = replace(
                result, outcome=Outcome.REJECTED, reason=Reason.RETENTION_EXPIRING, error=text
            )
            return await self._bury(message, rejected, lease)
        if self._settings.retry_strategy == "expire" and result.after_seconds is None:
            self._telemetry.message_left("RETRY_STRATEGY=expire")
            return result
        seconds = result.after_seconds
        if seconds is None:
            seconds = backoff_seconds(
                result.attempts or message.receive_count,
                self._settings.retry_base_seconds,
                self._settings.retry_max_seconds,
                self._random,
            )
        self._telemetry.message_hidden(await self._hide_for(message, lease, seconds))
        return result

    async def _hide_for(self, message: Message, lease: Lease, seconds: float) -> int:
        lease.check()
        granted = lease.clamp(seconds)
        await self._bounded(lease, self._receiver.hide(message, granted))
        return granted

    async def _outlives_retention(self, message: Message, result: Result) -> bool:
        """Whether the message would be dropped, without a trace, before its next try is over."""
        age = time.time() - message.sent_at
        wait = result.after_seconds or 0
        if result.outcome is not Outcome.RETRY or age + wait < RETENTION_MIN_SECONDS / 2:
            return False
        try:
            retention = await self._receiver.retention_seconds()
        except FailureError as error:
            self._telemetry.settlement_failed("retention", error)
            return False
        again = self._settings.retry_max_seconds + self._settings.visibility_timeout
        # Of a short retention no more than a quarter is spent on waiting for better times.
        return age + max(wait, min(again, retention / 4)) > retention

    async def _release(self, message: Message, result: Result, lease: Lease) -> Result:
        if self._settings.on_sigterm == "expire":
            self._telemetry.message_left("ON_SIGTERM=expire")
            return result
        lease.check()
        await self._bounded(lease, self._receiver.hide(message, 0))
        self._telemetry.message_released()
        return result

    async def _bury(self, message: Message, result: Result, lease: Lease) -> Result:
        if result.buried:
            return await self._delete(message, result, lease)
        letter = letters.compose(
            result,
            message.body,
            message.attributes,
            attempts=self._attempts(message, result),
            message_id=message.id,
            sender=letters.Sender(
                self._settings.queue_url, self._settings.job_name, self._settings.pod_name
            ),
            time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        buried = await self._insist(lease, lambda: self._receiver.bury(message, letter.attributes))
        if not buried:
            seconds = self._settings.retry_max_seconds
            granted = await self._hide_for(message, lease, seconds)
            self._telemetry.no_dead_letter_queue(result, granted)
            return result
        self._telemetry.message_dead_lettered(result, letter.left_out)
        await self._after_letter(result.reason or "")
        return await self._delete(message, result, lease)

    @staticmethod
    def _attempts(message: Message, result: Result) -> int:
        """Attempts made: a message refused for having used them up was not tried once more."""
        if result.attempts is not None:
            return result.attempts
        refused = result.reason is Reason.ATTEMPTS_EXHAUSTED
        return message.receive_count - refused

    async def _insist(self, lease: Lease, step: Callable[[], Awaitable[object]]) -> object:
        """The step's answer; asked for again while it fails in a way that may pass.

        Hours of work would be done again if a short hiccup kept the message from being deleted.
        """
        until = clock.now() + min(INSIST_SECONDS, lease.seconds)
        pause = 0.25
        while True:
            await lease.ensure(STEP_SECONDS)
            try:
                return await self._bounded(lease, step())
            except OutsideError as error:
                if clock.now() + pause > until or pause > self._budget() / 2:
                    raise
                self._telemetry.settlement_retried(error, pause)
            await anyio.sleep(pause)
            pause = min(pause * 2, 4.0)

    async def _bounded(self, lease: Lease, step: Awaitable[object]) -> object:
        """The step's answer, awaited while lease and budget allow."""
        # A lease that was never taken bounds nothing: only a release is sent without one.
        held = lease.left if lease.taken else STEP_SECONDS
        seconds = min(held, STEP_SECONDS, self._budget())
        try:
            with anyio.fail_after(max(0.1, seconds)):
                return await step
        except TimeoutError:
            text = f"no answer within {seconds:.1f} s"
            raise OutsideError(Reason.TRANSPORT, text) from None


async def _nothing(_: str) -> None:
    """Nothing is to be recorded."""

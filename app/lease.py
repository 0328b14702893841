"""Keeps a message invisible, and says when that can no longer be proven.

What SQS answers to a renewal proves little (an expired handle may be answered 200), so the lease
keeps a deadline of its own: it is held until the send time of the last call that succeeded, plus
the visibility asked for, less a sixth of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

import anyio

from app import clock
from app.outcomes import (
    SQS_VISIBILITY_MAX_SECONDS,
    FailureError,
    LeaseLostError,
    MessageGoneError,
    Reason,
)
from app.ports import Extender, Message
from app.telemetry import Telemetry

LOOK_SECONDS = 1.0
CONNECT_SECONDS = 3.0
READ_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Belief:
    """What the last renewal that succeeded proves; pure arithmetic on `clock.now()` values.

    Attributes:
        sent_at: when that call was sent.
        seconds: the visibility it asked for.
    """

    sent_at: float
    seconds: float

    @property
    def until(self) -> float:
        """The end of what can be proven."""
        return self.sent_at + self.seconds * 5 / 6

    @property
    def expires_at(self) -> float:
        """The earliest moment at which another consumer may be given the message."""
        return self.sent_at + self.seconds


def renew_after(seconds: float, random: Random) -> float:
    """The pause from one renewal to the next: a third of the lease, give or take a tenth."""
    return seconds / 3 * random.uniform(0.9, 1.1)


def call_seconds(seconds: float) -> tuple[float, float]:
    """How long one renewal may take to connect and to be answered."""
    return min(CONNECT_SECONDS, seconds / 6), min(READ_SECONDS, seconds / 6)


def clamp(seconds: float, requested_at: float, now: float) -> int:
    """Whole seconds of visibility that SQS will still grant; it counts 12 h from the receive."""
    left = SQS_VISIBILITY_MAX_SECONDS - (now - requested_at)
    # Two seconds for the way there, since asking for too much is an error.
    return max(0, min(int(seconds), int(left) - 2))


class Lease:
    """The right to work on one message.

    Args:
        seconds: visibility asked for at each renewal.
        renewing: False for a lease that is taken once and never renewed.
        now: the clock, in seconds.
    """

    def __init__(
        self,
        extender: Extender,
        message: Message,
        telemetry: Telemetry,
        *,
        seconds: int,
        renewing: bool = True,
        now: Callable[[], float] = clock.now,
    ) -> None:
        self._extender = extender
        self._message = message
        self._telemetry = telemetry
        self._seconds = seconds
        self._renewing = renewing
        self._now = now
        self._random = Random()
        self._belief: Belief | None = None
        self._calling = anyio.Lock()
        self._over = anyio.Event()
        self.lost: FailureError | None = None

    @property
    def seconds(self) -> int:
        """The visibility asked for at each renewal."""
        return self._seconds

    @property
    def left(self) -> float:
        """Seconds for which the lease is still proven; 0 once it is lost."""
        if self.lost or self._belief is None:
            return 0.0
        return max(0.0, self._belief.until - self._now())

    @property
    def taken(self) -> bool:
        """Whether it was ever held."""
        return self._belief is not None

    @property
    def expires_in(self) -> float:
        """Seconds until another consumer may be given the message."""
        return self._belief.expires_at - self._now() if self._belief else 0.0

    def clamp(self, seconds: float) -> int:
        """Whole seconds of visibility that SQS will still grant this delivery."""
        return clamp(seconds, self._message.requested_at, self._now())

    async def take(self, received_at: float, window_seconds: float | None = None) -> None:
        """Anchor the lease with one change of visibility; the receive call's window covers it.

        Returns without it once `stop` was called.

        Args:
            window_seconds: the visibility that the receive call asked for, if another one.

        Raises:
            LeaseLostError, MessageGoneError: it could not be anchored in time.
        """
        window = Belief(received_at, window_seconds or self._seconds)
        while self._belief is None and not self._over.is_set():
            pause = await self._renew()
            late = self._now() >= window.expires_at
            if late or (self._belief is None and self._now() + pause >= window.until):
                self._lose(LeaseLostError("the lease could not be taken in time"))
            self.check()
            if self._belief is None:
                with anyio.move_on_after(pause):
                    await self._over.wait()

    def check(self) -> None:
        """Raise what ended the lease, if anything did."""
        if self.lost is None and self._belief is not None and self._now() >= self._belief.until:
            self._lose(LeaseLostError("no renewal succeeded in time"))
        if self.lost is not None:
            raise self.lost

    async def ensure(self, seconds: float) -> None:
        """Make sure that the lease lasts for a step of so many seconds; renew it if need be.

        Raises:
            LeaseLostError, MessageGoneError: it does not, and cannot be made to.
        """
        # A short lease can never promise a long step; a sixth of it is the margin it has.
        needed = min(seconds, self._seconds / 6)
        while self.left < needed:
            self.check()
            if not self._renewing:
                self._lose(LeaseLostError("too little is left of the fixed visibility timeout"))
                self.check()
            pause = await self._renew()
            if self.left < needed:
                self.check()
                await anyio.sleep(pause)

    async def keep(self) -> None:
        """Renew until `stop` is called or the lease is lost; returns in both cases."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._guard, group.cancel_scope)
            if self._renewing:
                group.start_soon(self._beat)

    def stop(self) -> None:
        """Let `keep` return once the call under way, if any, has been answered."""
        self._over.set()

    async def _beat(self) -> None:
        pause = renew_after(self._seconds, self._random)
        while not self._over.is_set() and self.lost is None:
            with anyio.move_on_after(pause):
                await self._over.wait()
                return
            late = self._now() - self._due(pause)
            pause = await self._renew(late)

    def _due(self, pause: float) -> float:
        sent_at = self._belief.sent_at if self._belief else self._now()
        return sent_at + pause

    async def _guard(self, scope: anyio.CancelScope) -> None:
        """Look at the belief every second too, since timers sleep when the machine does."""
        while not self._over.is_set():
            try:
                self.check()
            except FailureError:
                # A call under way can no longer help: it must not outlive the belief.
                scope.cancel()
                return
            with anyio.move_on_after(min(LOOK_SECONDS, self.left)):
                await self._over.wait()

    async def _renew(self, late: float = 0.0) -> float:
        """Ask once; the seconds to pause before asking again."""
        async with self._calling:
            sent_at = self._now()
            seconds = self.clamp(self._seconds)
            headroom = self.left
            if seconds <= 0:  # asking for none would release the message
                self._lose(LeaseLostError("the 12 hours SQS allows are used up"))
                return 0.0
            try:
                with anyio.fail_after(sum(call_seconds(self._seconds))):
                    await self._extender.extend(self._message, seconds)
            except MessageGoneError as error:
                self._lose(error)
                return 0.0
            except (FailureError, TimeoutError) as error:
                reason = error.reason if isinstance(error, FailureError) else Reason.TRANSPORT
                self._telemetry.lease_renewal_failed(reason, error, self.left)
                return max(0.1, min(2.0, self._seconds / 12))
            if self._belief is not None:
                if self._now() >= self._belief.expires_at:
                    # Another consumer may have been given it before this was granted.
                    self._lose(
                        LeaseLostError("the renewal was answered too late to prove anything")
                    )
                    return 0.0
                self._telemetry.lease_renewed(seconds, headroom, late)
            self._belief = Belief(sent_at, seconds)
            return renew_after(seconds, self._random)

    def _lose(self, error: FailureError) -> None:
        if self.lost is None:
            self.lost = error
            self._over.set()
            self._telemetry.lease_lost(error.reason, str(error))

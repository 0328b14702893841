"""Why work has to end before it is done, and how long it may take to."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, Protocol

import anyio

from app import clock
from app.lease import Lease
from app.outcomes import FencedError, Outcome, Reason, Result

LOOK_SECONDS = 0.5


class Cause(IntEnum):
    """What ends work early, gravest first: where several apply, the gravest decides."""

    LEASE_LOST = 0
    STOP = 1
    DEADLINE = 2
    STALL = 3


class Errand(Protocol):
    """A piece of work that goes on elsewhere and can be asked to stop."""

    stopped: anyio.Event
    error: BaseException | None
    value: Any

    def cancel(self) -> None:
        """Ask it to stop."""


class Halted(Exception):  # noqa: N818 - a state, as `Interrupted` is
    """The work was ended early; `result` is what that means for the message."""

    def __init__(self, result: Result) -> None:
        super().__init__(result.reason)
        self.result = result


class HandlerStuckError(Exception):
    """The handler has not stopped within the time it had; `result` says why it was to."""

    def __init__(self, result: Result) -> None:
        super().__init__("the handler did not stop in time")
        self.result = result


class Watch:
    """Guards the work on one message.

    Args:
        grace_seconds: from the signal, or the deadline, to when the handler has to have stopped.
    """

    def __init__(
        self, lease: Lease, grace_seconds: float, now: Callable[[], float] = clock.now
    ) -> None:
        self.lease = lease
        self.cause: Cause | None = None
        self._grace = grace_seconds
        self._now = now
        self._limit = float("inf")
        self._errand: Errand | None = None
        self._committing: anyio.CancelScope | None = None
        self._soften: Callable[[], bool] | None = None
        self._fenced: FencedError | None = None
        self._on_halt: list[Callable[[], None]] = []

    def halt(self, cause: Cause, since_seconds: float = 0.0) -> None:
        """End the work, for this cause, which began so many seconds ago."""
        if self.cause is not None and cause >= self.cause:
            return
        if cause >= Cause.DEADLINE and self._committing is not None:
            return  # the time is the handler's, and the handler is done
        self.cause = cause
        limit = self._now() + self._allowance(cause) - since_seconds
        self._limit = min(self._limit, limit)
        for notify in self._on_halt:
            notify()
        softly = cause is not Cause.LEASE_LOST and self._soften is not None and self._soften()
        if self._errand is not None and not softly:
            self._errand.cancel()
        if self._committing is not None:
            # A commit under way is finished if budget and lease allow.
            self._committing.deadline = anyio.current_time() + self._limit - self._now()

    def fence(self, error: FencedError) -> None:
        """End the work: the ledger says that a later attempt has taken over."""
        self._fenced = error
        self.halt(Cause.LEASE_LOST)

    def on_halt(self, notify: Callable[[], None]) -> None:
        """Call this as soon as the work is to end."""
        self._on_halt.append(notify)
        if self.cause is not None:
            notify()

    def check(self) -> None:
        """Raise Halted if the work is to end."""
        if self.cause is not None:
            raise Halted(self.result())

    def result(self) -> Result:
        """What the cause means for the message."""
        if self.cause is Cause.LEASE_LOST:
            error = self._fenced or self.lease.lost
            reason = error.reason if error else Reason.LEASE_EXPIRED
            return Result(Outcome.LEASE_LOST, reason, str(error or ""))
        if self.cause is Cause.STOP:
            return Result(Outcome.INTERRUPTED, Reason.STOPPED)
        if self.cause is Cause.STALL:
            return Result(Outcome.RETRY, Reason.STALLED, "nothing was read, written or reported")
        return Result(Outcome.RETRY, Reason.DEADLINE, "the handler's time is used up")

    async def finish(self, errand: Errand, soften: Callable[[], bool] | None = None) -> None:
        """Wait until the errand has stopped, however that came about.

        Args:
            soften: asked before the errand is cancelled for anything but a lost lease; True if
                the asked one will see to its cancelling.

        Raises:
            Halted: the work was ended early, whatever the errand made of it.
            HandlerStuckError: it was to stop and has not.
        """
        self._errand = errand
        self._soften = soften
        if self.cause is not None:
            errand.cancel()
        while not errand.stopped.is_set():
            with anyio.move_on_after(min(LOOK_SECONDS, self.left)):
                await errand.stopped.wait()
            if not self.left and not errand.stopped.is_set():
                raise HandlerStuckError(self.result())
        self._errand = self._soften = None
        self.check()

    @property
    def left(self) -> float:
        """Seconds until the work has to have stopped; infinite while nothing ends it."""
        return max(0.0, self._limit - self._now())

    @property
    def is_committing(self) -> bool:
        """Whether outputs are being made visible just now."""
        return self._committing is not None

    @contextmanager
    def committing(self, scope: anyio.CancelScope) -> Iterator[None]:
        """In this block a stop no longer ends the work at once: it only bounds the scope."""
        self._committing = scope
        try:
            yield
        finally:
            self._committing = None

    def _allowance(self, cause: Cause) -> float:
        if cause is Cause.LEASE_LOST:
            # Nobody else may be given the message while the handler still runs.
            return max(0.0, min(self.lease.expires_in, self.lease.seconds / 6) - 0.05)
        # The rest of the grace is for handing the message back.
        return self._grace - min(2.0, self._grace / 10)

"""A queue that answers renewals as scripted, and leases on the virtual clock over it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from fakes import message
from virtual_time import now

from app.lease import Lease
from app.outcomes import MessageGoneError, OutsideError, Reason
from app.ports import Message
from app.telemetry import Telemetry

PASSING = OutsideError(Reason.TRANSPORT, "no answer")
GONE = MessageGoneError("the handle is stale")


@dataclass(slots=True)
class ScriptedExtender:
    """Answers renewals as the script says, in order: an error, or how many seconds it takes.

    Attributes:
        script: what is left of it; where it is used up, `then` goes on for ever.
        calls: when each call was sent, and how many seconds it asked for.
        answered: when each call was answered.
    """

    script: list[Exception | float] = field(default_factory=list)
    then: Exception | float = 0.01
    calls: list[tuple[float, int]] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)

    async def extend(self, message: Message, seconds: int) -> None:  # noqa: ARG002
        """The next answer."""
        self.calls.append((now(), seconds))
        answer = self.script.pop(0) if self.script else self.then
        if isinstance(answer, Exception):
            await anyio.lowlevel.checkpoint()
            raise answer
        await anyio.sleep(answer)
        self.answered.append(now())


class Said(Telemetry):
    """Remembers which events of the lease were told."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self.late: list[float] = []

    def lease_renewed(self, seconds: int, headroom: float, late: float) -> None:
        """A renewal succeeded."""
        self.events.append("renewed")
        self.late.append(late)
        assert headroom > 0
        assert seconds >= 0

    def lease_renewal_failed(self, reason: Reason, error: BaseException, left: float) -> None:
        """A renewal failed."""
        self.events.append(f"failed {reason}")
        assert error is not None
        assert left >= 0

    def lease_lost(self, reason: Reason, error: str) -> None:
        """The lease is lost."""
        self.events.append(f"lost {reason}")
        assert error is not None


def lease_of(extender: ScriptedExtender, said: Said | None = None, **more: Any) -> Lease:
    """A lease of 60 seconds on the virtual clock, of a message received just now."""
    options: dict[str, Any] = {"seconds": 60, "now": now} | more
    requested_at = options.pop("requested_at", now())
    return Lease(extender, message(requested_at=requested_at), said or Said(), **options)


@asynccontextmanager
async def kept(lease: Lease) -> AsyncIterator[None]:
    """The lease is taken and kept while the block runs, and `keep` is joined after it."""
    await lease.take(now())
    async with anyio.create_task_group() as group:
        group.start_soon(lease.keep)
        yield
        lease.stop()

"""What attempts have around them, and the delivery they belong to."""

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol

from app.claims import Claim, Ledger
from app.described import StreamLimits
from app.job import Job
from app.outcomes import Result
from app.planning import Plan
from app.ports import Message, ObjectReader, OutputStore, RecordStore
from app.progress import Counted
from app.settings import Settings
from app.telemetry import Telemetry
from app.watch import Errand, Watch


class Workshop(Protocol):
    """Where handlers run; this module gives it work and awaits the end."""

    def submit(self, work: Coroutine[Any, Any, Any]) -> Errand:
        """Hand work over; returns at once."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Objects, outputs and records, each over a client of the loop that uses it.

    Attributes:
        objects, uploads: used by the workshop.
        commits, records, ledger: used by the loop that owns the message.
    """

    objects: ObjectReader
    uploads: OutputStore
    commits: OutputStore
    records: RecordStore | None = None
    ledger: Ledger | None = None


@dataclass(slots=True)
class Delivery:
    """One delivery being worked on.

    Attributes:
        deadline_at: `clock.now()` at which its time is used up.
        results: one per record that has ended.
        bytes_read: of all its objects, so far.
        bytes_before: of those before the one under way.
        failed: claims of records that did not end well.
        job: the one under way.
    """

    message: Message
    planned: Plan
    watch: Watch
    deadline_at: float
    failed: list[Claim]
    results: list[Result] = field(default_factory=list)
    bytes_read: int = 0
    bytes_before: int = 0
    job: Job | None = None

    @property
    def moves(self) -> int:
        """Grows whenever something gets done."""
        job = self.job
        return self.bytes_read + (job.moves + job.written if job else 0)

    @property
    def counted(self) -> Counted | None:
        """How far the work under way is; None while no handler runs; from any thread."""
        job = self.job
        return job.counted(self.bytes_read - self.bytes_before) if job else None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What every attempt of this process has around it."""

    settings: Settings
    workshop: Workshop
    stores: Stores
    telemetry: Telemetry
    limits: StreamLimits

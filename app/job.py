"""One message's work on one object, as an `async def` handler sees it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app import clock
from app.output import DEFAULT_CONTENT_TYPE, Output, Outputs
from app.stream import ObjectStream
from app.telemetry import Telemetry

# Soon at first, then ever more seldom: a short job is seen to move, a long one does not chatter.
PROGRESS_FIRST_SECONDS = 0.5
PROGRESS_MOST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where an earlier attempt can be gone on from.

    Attributes:
        state: what the handler had given to `checkpoint`.
        position: the input position's token, as `job.object.position` told it.
    """

    state: Any
    position: Any


@dataclass(frozen=True, slots=True)
class Attempt:
    """What is known of an attempt before it begins.

    Attributes:
        number: 1 + failed attempts before this one.
        deadline: `clock.now()` at which it is cancelled.
    """

    idempotency_key: str
    id: str
    number: int
    deadline: float
    resume: Checkpoint | None = None


class Job:
    """One message's work on one object, in one process.

    Attributes:
        object: the object as bytes.
        resume: the last durable checkpoint of an earlier attempt, None where there is none.
        stopping: true once a stop was asked for.
        log: a logger whose lines carry the ids.
    """

    def __init__(
        self,
        stream: ObjectStream,
        outputs: Outputs,
        attempt: Attempt,
        telemetry: Telemetry,
    ) -> None:
        self.object = stream
        self.resume = attempt.resume
        self.log = telemetry.log
        self.stopping = False
        self._outputs = outputs
        self._attempt = attempt
        self._telemetry = telemetry
        self._began = clock.now()
        self._logged_at = self._began

    @property
    def idempotency_key(self) -> str:
        """The same text for every delivery and attempt of this object version on this route."""
        return self._attempt.idempotency_key

    @property
    def attempt_id(self) -> str:
        """A fresh text for every attempt."""
        return self._attempt.id

    @property
    def attempt(self) -> int:
        """1 + failed attempts before this one."""
        return self._attempt.number

    @property
    def deadline(self) -> float:
        """Seconds left until this attempt is cancelled."""
        return max(0.0, self._attempt.deadline - clock.now())

    def stop(self) -> None:
        """Let the handler see that it is to stop."""
        self.stopping = True

    def output(self, key: str, content_type: str = DEFAULT_CONTENT_TYPE) -> Output:
        """A new output under OUTPUT_URL; invisible until the handler has returned.

        Raises:
            ConfigurationError: OUTPUT_URL is not set.
            ValueError: the key is empty, or was opened already.
        """
        return self._outputs.open(key, content_type)

    async def checkpoint(self, state: Any = None) -> None:  # noqa: ARG002
        """Offer a restart point; without a ledger nothing can keep it, and the call is free.

        Raises:
            CancelledError: a stop was asked for; this is where the handler ends.
        """
        if self.stopping:
            raise asyncio.CancelledError

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how far the work is, in any unit; logged at a bounded rate."""
        now = clock.now()
        pause = (now - self._began) / 4
        if now - self._logged_at < min(PROGRESS_MOST_SECONDS, max(PROGRESS_FIRST_SECONDS, pause)):
            return
        self._logged_at = now
        share = {"percent": round(100 * done / total, 1)} if total else {}
        seconds = round(now - self._began, 1)
        self._telemetry.progress(done=done, total=total, **share, seconds=seconds)


def output_metadata(attempt: Attempt, source: ObjectStream) -> Mapping[str, str]:
    """What every output carries, so that one can tell which attempt on which version made it."""
    return {
        "idempotency-key": attempt.idempotency_key,
        "attempt-id": attempt.id,
        "source-version": source.version_id or source.etag.strip('"'),
    }

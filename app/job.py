"""One message's work on one object, as an `async def` handler sees it."""

import asyncio
import hashlib
import json
import marshal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import length_hint
from typing import Any

import msgspec

from app import clock
from app.ledger import SavedOutput
from app.output import DEFAULT_CONTENT_TYPE, Output
from app.outputs import Outputs
from app.positions import Place
from app.progress import Counted
from app.stream import ObjectStream
from app.telemetry import Telemetry


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
        keeps: whether checkpoints are kept anywhere.
    """

    idempotency_key: str
    id: str
    number: int
    deadline: float
    resume: Checkpoint | None = None
    keeps: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A checkpoint with all that has to be kept of it.

    Attributes:
        outputs: each with the bytes that are in none of its parts.
        waiting: outputs whose last part has to arrive first.
    """

    state: Any
    position: Any
    outputs: list[tuple[SavedOutput, bytes]]
    waiting: list[tuple[Output, int]]


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
        on_arrival: Callable[[], object] = lambda: None,
    ) -> None:
        self.object = stream
        self.resume = attempt.resume
        self.log = telemetry.log
        self.stopping = False
        # Whether the handler has ever offered a checkpoint: it will offer another.
        self.has_offered = False
        # Changes whenever something gets done; the stall timer looks at it.
        self.moves = 0
        self._outputs = outputs
        self._attempt = attempt
        self._keeps = attempt.keeps
        self._on_arrival = on_arrival
        self._offers = outputs.offers
        self._offered: tuple[bytes, Place | None, int] | None = None
        self._snapshot: Snapshot | None = None
        self._began = clock.now()
        self._numbers: tuple[float | None, float | None] = (None, None)

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

        One that an earlier attempt's checkpoint kept goes on where it was.

        Raises:
            ConfigurationError: OUTPUT_URL is not set.
            ValueError: the key is empty, or was opened already.
        """
        return self._outputs.open(key, content_type)

    async def checkpoint(self, state: Any = None) -> None:
        """Offer a restart point here: input position, outputs so far, and `state` (JSON).

        Cheap: may be called for every record. Without a ledger nothing is kept.

        Raises:
            TypeError: the state is not JSON.
            CancelledError: a stop was asked for, and this point was kept: the handler ends here.
        """
        if self._keeps:
            self.offer(state)
        if self.stopping:
            await self.arrive()

    def offer(self, state: Any) -> None:
        """Remember this point; what is kept is what `state` is now, whatever becomes of it."""
        try:
            copied = marshal.dumps(state)
        except ValueError:
            copied = marshal.dumps(msgspec.to_builtins(state))
        if not self.has_offered:  # of the first; the rest will be alike, and are looked at later
            _json_of(copied)
        # A property and a method call here would cost as much as all the rest.
        place = self.object._place  # noqa: SLF001
        rest = place.rest if place is not None else None
        mark = length_hint(rest) if rest is not None else 0
        self._offered = self._offers.newest = (copied, place, mark)
        self.has_offered = True

    async def arrive(self) -> None:
        """Wait at a checkpoint for the end that a stop brings.

        Raises:
            CancelledError: always.
        """
        self._on_arrival()
        await asyncio.get_running_loop().create_future()

    def capture(self) -> None:
        """Turn the newest offer into a snapshot, while all of its bytes are still in memory."""
        if self._offered is None:
            return
        copied, place, mark = self._offered
        kept = self._outputs.saved(self._offered)
        self._offered = None
        self._snapshot = Snapshot(
            state=_json_of(copied),
            position=place.token(mark) if place is not None else None,
            outputs=[(saved, held) for _, saved, held in kept]
            + [(found.saved, found.held) for found in self._outputs.untouched],
            waiting=[(output, saved.part_count) for output, saved, _ in kept],
        )

    async def take_snapshot(self) -> Snapshot | None:
        """The newest offer, once every part it counts has arrived; None where none is new."""
        self.capture()
        snapshot, self._snapshot = self._snapshot, None
        if snapshot is not None:
            for output, count in snapshot.waiting:
                await output.sent(count)
        return snapshot

    def progress(self, done: float, total: float | None = None) -> None:
        """Say how far the work is, in any unit; cheap: may be called for every record.

        Raises:
            TypeError, ValueError: one of them is no number.
        """
        self._numbers = (float(done), None if total is None else float(total))
        self.moves += 1

    def counted(self, read: int) -> Counted:
        """How far the work is, after so many bytes were read for it; from any thread."""
        stream = self.object
        facts = (self._began, stream.key, stream.size, read, stream.reached)
        return Counted(*facts, *self._numbers)

    @property
    def written(self) -> int:
        """Bytes written to all outputs so far."""
        return self._outputs.written


def _json_of(copied: bytes) -> Any:
    """The state that was copied; TypeError where it is not JSON."""
    state = marshal.loads(copied)  # noqa: S302 - our own, of a moment ago
    try:
        json.dumps(state, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the state is not JSON: {error}") from None
    return state


def output_metadata(
    attempt: Attempt, source: ObjectStream, sequencer: str | None
) -> Mapping[str, str]:
    """What every output carries: which attempt on which version of which object made it."""
    named = {
        "idempotency-key": attempt.idempotency_key,
        "attempt-id": attempt.id,
        "source-version": source.version_id or source.etag.strip('"'),
        "source-modified": source.last_modified.isoformat(),
        "source": source_id(source.bucket, source.key),
    }
    return named | ({"source-sequencer": sequencer} if sequencer else {})


def source_id(bucket: str, key: str) -> str:
    """The object's name, whatever its version, in few characters that metadata can hold."""
    return hashlib.sha256(f"{len(bucket)}:{bucket}{key}".encode(errors="surrogatepass")).hexdigest()

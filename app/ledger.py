"""What is known of a piece of work, and what may become of it; pure.

One record per object version and route. Every change is one conditional write of the whole record
(`app.claims`); this module says which changes there are.
"""

import hashlib
from typing import Any, TypeAlias

import msgspec

from app.ports import ObjectFacts, Upload

# An output that is no larger is kept in the record itself, so that whoever takes over a commit
# can finish it.
INLINE_MAX_BYTES = 256 << 10


class SavedOutput(msgspec.Struct, frozen=True, omit_defaults=True):
    """An output as a checkpoint or a commit keeps it.

    Attributes:
        key: the full key.
        upload_id: of the multipart upload, empty where there is none yet.
        part_count: of those S3 has, the first so many count.
        held: the name of the blob beside the record with the bytes that are in no part yet.
        data: the bytes themselves, where they are few.
        size: bytes written in all.
        finished: the handler had closed it.
        standing: the ETag of what stood at the key when the commit began; empty: nothing.
    """

    bucket: str
    key: str
    content_type: str
    upload_id: str = ""
    part_count: int = 0
    held: str = ""
    data: bytes = b""
    size: int = 0
    finished: bool = False
    standing: str = ""


class SavedCheckpoint(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a later attempt may go on from; one unit with its outputs."""

    position: Any = None
    state: Any = None
    outputs: tuple[SavedOutput, ...] = ()


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One piece of work.

    Attributes:
        state: `open`, `claimed`, `committing`, `done` or `dead`.
        write_id: fresh at every write, by which a writer whose answer was lost knows its own.
        attempts: failed ones in a row without a newer durable checkpoint.
        attempt_id, message_id: of the last claim.
        until: seconds since the epoch; a claim's end, set once.
        error: of the last failed attempt, for the dead letter.
        outputs: of the commit.
        furthest: offset of the furthest checkpoint there ever was.
        uploads: begun and not known to be over, for whoever has to throw them away.
    """

    state: str
    write_id: str
    attempts: int = 0
    attempt_id: str = ""
    message_id: str = ""
    until: float = 0.0
    checkpoint: SavedCheckpoint | None = None
    outputs: tuple[SavedOutput, ...] = ()
    reason: str = ""
    error: str = ""
    source: str = ""
    uploads: tuple[Upload, ...] = ()
    furthest: int = 0


class Claimant(msgspec.Struct, frozen=True):
    """Who asks for the work."""

    attempt_id: str
    message_id: str
    until: float
    source: str


class Granted(msgspec.Struct, frozen=True):
    """The work is this attempt's, once the record is written."""

    record: Record


class RollForward(msgspec.Struct, frozen=True):
    """An earlier attempt had begun to commit: finish that, without the handler."""

    record: Record


class Deferred(msgspec.Struct, frozen=True):
    """Another message's attempt is at work, until then (seconds since the epoch)."""

    until: float


class AlreadyDone(msgspec.Struct, frozen=True):
    """The work is done; its outputs."""

    outputs: tuple[SavedOutput, ...]


class AlreadyDead(msgspec.Struct, frozen=True):
    """This very message's letter was sent: only its delete is owed."""

    reason: str


class Exhausted(msgspec.Struct, frozen=True):
    """The attempts are used up: the message is rejected without another.

    Attributes:
        record: to be written, so that a crash is counted only once.
    """

    record: Record


Answer: TypeAlias = Granted | RollForward | Deferred | AlreadyDone | AlreadyDead | Exhausted


def work_key(facts: ObjectFacts, route: str, version: str) -> str:
    """SHA-256, in hex, over the object's version and the route that processes it.

    Never over the message's id: the same work comes under several.
    """
    if facts.version_id:
        content = ("version", facts.version_id)
    else:
        content = (facts.etag, facts.last_modified.isoformat())
    named = (facts.bucket, facts.key, *content, route, version)
    # Each name with its length, so that no two lists of names read the same.
    text = "".join(f"{len(name)}:{name}" for name in named)
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


def claim(  # noqa: PLR0911 - a table of states, one answer each
    record: Record | None,
    who: Claimant,
    write_id: str,
    *,
    now: float,
    max_attempts: int,
    redo: bool = False,
) -> Answer:
    """What a claim of the work in this state comes to; `redo` does again what is done."""
    if record is None or (redo and record.state == "done"):
        return Granted(_claimed(Record("open", ""), who, write_id, attempts=0))
    same = record.message_id == who.message_id
    ended = same or now >= record.until
    match record.state:
        case "done":
            return AlreadyDone(record.outputs)
        case "dead" if same:
            return AlreadyDead(record.reason)
        case "dead":
            # A letter sent back: a new start, but not from byte 0.
            return Granted(_claimed(record, who, write_id, attempts=0))
        case "claimed" | "committing" if not ended:
            return Deferred(record.until)
        case "committing" if record.attempts < max_attempts:
            return RollForward(_claimed(record, who, write_id, state="committing"))
    # A claim that ended unreported was a crash, and counts as a failed attempt.
    attempts = record.attempts + (record.state == "claimed")
    taken = _claimed(record, who, write_id, attempts=attempts)
    return Exhausted(taken) if attempts >= max_attempts else Granted(taken)


def _claimed(record: Record, who: Claimant, write_id: str, **changes: Any) -> Record:
    return msgspec.structs.replace(
        record,
        **{
            "state": "claimed",
            "write_id": write_id,
            "attempt_id": who.attempt_id,
            "message_id": who.message_id,
            "until": who.until,
            "source": who.source,
            "outputs": record.outputs if changes.get("state") == "committing" else (),
        }
        | changes,
    )


def closed(record: Record, write_id: str, *, counts: bool, reason: str, error: str) -> Record:
    """The attempt is over; a failure that counts is one attempt more.

    The work is open again; or, where a commit was begun, whoever comes next finishes it. What turns
    out to be over, by a write whose answer was lost, stays so.
    """
    if record.state in ("done", "dead"):
        return msgspec.structs.replace(record, write_id=write_id)
    begun = record.state == "committing"
    return msgspec.structs.replace(
        record,
        state=record.state if begun else "open",
        write_id=write_id,
        attempts=record.attempts + counts,
        until=0.0,
        outputs=record.outputs if begun else (),
        reason=reason,
        error=error if counts else record.error,
    )


def checkpointed(record: Record, write_id: str, checkpoint: SavedCheckpoint | None) -> Record:
    """A restart point is kept; if it is further on, the failures before it no longer count.

    Only then: a handler that offers the same point again and again gets nowhere.
    """
    if checkpoint is None:
        return msgspec.structs.replace(record, write_id=write_id, checkpoint=None)
    at = _offset(checkpoint.position)
    before = record.checkpoint
    moved = at > record.furthest or (
        at < 0 and (before is None or before.state != checkpoint.state)
    )
    return msgspec.structs.replace(
        record,
        write_id=write_id,
        checkpoint=checkpoint,
        attempts=0 if moved else record.attempts,
        furthest=max(at, record.furthest),
    )


def _offset(position: Any) -> int:
    """How far into the object a position's token is; -1 where the handler reads otherwise."""
    return int(position[1]) if isinstance(position, list) and position else -1


def registered(record: Record, write_id: str, upload: Upload) -> Record:
    """An upload was begun; should this attempt die, the next one throws it away."""
    return msgspec.structs.replace(record, write_id=write_id, uploads=(*record.uploads, upload))


def stale_uploads(record: Record) -> tuple[Upload, ...]:
    """Those of dead attempts that no checkpoint needs."""
    saved = record.checkpoint.outputs if record.checkpoint else ()
    needed = {output.upload_id for output in saved}
    return tuple(upload for upload in record.uploads if upload.id not in needed)


def without_stale(record: Record, write_id: str) -> Record:
    """The stale uploads were thrown away."""
    stale = set(stale_uploads(record))
    left = tuple(upload for upload in record.uploads if upload not in stale)
    return msgspec.structs.replace(record, write_id=write_id, uploads=left)


def committing(record: Record, write_id: str, outputs: tuple[SavedOutput, ...]) -> Record:
    """From here on the work is finished by whoever takes over, without the handler."""
    return msgspec.structs.replace(record, state="committing", write_id=write_id, outputs=outputs)


def reclaimed(record: Record, write_id: str) -> Record:
    """A commit that cannot be finished: the handler has to run again."""
    return msgspec.structs.replace(record, state="claimed", write_id=write_id, outputs=())


def done(record: Record, write_id: str) -> Record:
    """The outputs are visible."""
    outputs = tuple(msgspec.structs.replace(output, data=b"") for output in record.outputs)
    return msgspec.structs.replace(
        record,
        state="done",
        write_id=write_id,
        outputs=outputs,
        checkpoint=None,
        uploads=(),
    )


def dead(record: Record, write_id: str, *, reason: str) -> Record:
    """The message's letter is sent; work that turns out to be done stays so."""
    if record.state == "done":
        return msgspec.structs.replace(record, write_id=write_id)
    return msgspec.structs.replace(
        record, state="dead", write_id=write_id, reason=reason, until=0.0, outputs=()
    )

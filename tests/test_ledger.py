"""What may become of a piece of work: every state, who asks, and when."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from app import ledger
from app.ledger import (
    AlreadyDead,
    AlreadyDone,
    Answer,
    Claimant,
    Deferred,
    Exhausted,
    Granted,
    Record,
    RollForward,
    SavedCheckpoint,
    SavedOutput,
    work_key,
)
from app.ports import ObjectFacts, Upload

UNTIL = 1000.0
OUTPUT = SavedOutput("out", "k", "text/plain", "upload-1", 2, size=17, finished=True)
CHECKPOINT = SavedCheckpoint(["chunks", 10], {"rows": 3}, (OUTPUT,))
ASKING = Claimant("attempt-2", "message-1", 2000.0, "s3://in/k")
OTHER = msgspec.structs.replace(ASKING, message_id="message-2")


def record(state: str, attempts: int = 0) -> Record:
    """A record as `message-1`'s first attempt left it."""
    return Record(
        state,
        "write-1",
        attempts,
        "attempt-1",
        "message-1",
        UNTIL if state in ("claimed", "committing") else 0.0,
        CHECKPOINT,
        (OUTPUT,) if state in ("committing", "done") else (),
        "reason-1",
        "error-1",
        "s3://in/k",
    )


def asked(
    found: Record | None, who: Claimant, now: float = UNTIL - 1, *, redo: bool = False
) -> Answer:
    """The answer to a claim; three failed attempts are too many."""
    return ledger.claim(found, who, "write-2", now=now, max_attempts=3, redo=redo)


@pytest.mark.parametrize("now", [UNTIL - 1, UNTIL, UNTIL + 1])
@pytest.mark.parametrize("who", [ASKING, OTHER], ids=["same", "other"])
@pytest.mark.parametrize("attempts", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("state", ["open", "claimed", "committing", "done", "dead"])
def test_every_claim(state: str, attempts: int, who: Claimant, now: float) -> None:
    """One answer for each state, message, moment and number of failed attempts."""
    found = record(state, attempts)
    ended = who is ASKING or now >= UNTIL
    counted = attempts + (state == "claimed")
    taken: type[Granted | Exhausted] = Exhausted if counted >= 3 else Granted
    answer = asked(found, who, now)
    expected: Answer
    match state:
        case "done":
            expected = AlreadyDone((OUTPUT,))
        case "dead" if who is ASKING:
            expected = AlreadyDead("reason-1")
        case "dead":
            expected = Granted(claimed(found, who, 0))
        case "open":
            expected = taken(claimed(found, who, counted))
        case _ if not ended:
            expected = Deferred(UNTIL)
        case "claimed":
            expected = taken(claimed(found, who, counted))
        case _ if attempts >= 3:
            expected = Exhausted(claimed(found, who, attempts))
        case _:
            committing = claimed(found, who, attempts)
            expected = RollForward(
                msgspec.structs.replace(committing, state="committing", outputs=(OUTPUT,))
            )
    assert answer == expected


def claimed(found: Record, who: Claimant, attempts: int) -> Record:
    """The record once it is this claimant's, all else as it was."""
    return msgspec.structs.replace(
        found,
        state="claimed",
        write_id="write-2",
        attempts=attempts,
        attempt_id=who.attempt_id,
        message_id=who.message_id,
        until=who.until,
        outputs=(),
    )


@pytest.mark.parametrize("who", [ASKING, OTHER], ids=["same", "other"])
def test_work_that_nobody_knows_is_granted(who: Claimant) -> None:
    """The first claim begins at nothing."""
    answer = asked(None, who)
    assert isinstance(answer, Granted)
    assert answer.record == Record(
        "claimed", "write-2", 0, who.attempt_id, who.message_id, who.until, source=who.source
    )


@pytest.mark.parametrize("who", [ASKING, OTHER], ids=["same", "other"])
def test_what_is_done_again_begins_at_nothing(who: Claimant) -> None:
    """Neither attempts nor a checkpoint nor outputs of the first time are left."""
    answer = asked(record("done", 2), who, redo=True)
    assert answer == asked(None, who)


@pytest.mark.parametrize("state", ["open", "claimed", "committing", "dead"])
def test_only_what_is_done_is_done_again(state: str) -> None:
    """To any other state the wish makes no difference."""
    found = record(state)
    assert asked(found, ASKING, redo=True) == asked(found, ASKING)


def test_a_record_survives_its_storage() -> None:
    """Every field, bytes among them, comes back as it was."""
    upload = Upload("out", "k", "upload-1")
    full = msgspec.structs.replace(
        record("committing", 2),
        uploads=(upload,),
        furthest=10,
        outputs=(msgspec.structs.replace(OUTPUT, data=bytes(range(256)), standing='"e"'),),
    )
    stored = msgspec.json.encode(full)
    assert msgspec.json.decode(stored, type=Record) == full


FACTS = ObjectFacts(
    "bucket", "key", None, '"etag"', 3, "", "", {}, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
)


def changed(**fields: object) -> ObjectFacts:
    """The same object but for these."""
    return msgspec.structs.replace(FACTS, **fields)


def test_the_key_is_of_the_version_and_the_route() -> None:
    """Whatever makes it other work makes another key; the rest does not."""
    others = [
        (changed(bucket="bucke", key="tkey"), "route", "1"),
        (changed(bucket="other"), "route", "1"),
        (changed(key="other"), "route", "1"),
        (changed(etag='"other"'), "route", "1"),
        (changed(last_modified=FACTS.last_modified + timedelta(seconds=1)), "route", "1"),
        (changed(version_id="v1"), "route", "1"),
        (changed(version_id="v2"), "route", "1"),
        (changed(version_id='"etag"'), "route", "1"),
        (FACTS, "other", "1"),
        (FACTS, "route", "2"),
        (FACTS, "rout", "e1"),
        (FACTS, "route1", ""),
    ]
    keys = [work_key(facts, route, version) for facts, route, version in others]
    keys.append(work_key(FACTS, "route", "1"))
    assert len(set(keys)) == len(keys)
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)
    same = changed(size=9, content_type="x", metadata={"a": "b"}, checksums={"CRC32": "x"})
    assert work_key(same, "route", "1") == keys[-1]


def test_a_version_is_known_by_its_id_alone() -> None:
    """One version has one key, whatever a store says of its time."""
    one = changed(version_id="v1")
    later = changed(version_id="v1", etag='"o"', last_modified=datetime.now(UTC))
    assert work_key(one, "route", "1") == work_key(later, "route", "1")


def test_any_key_of_s3_can_be_worked_on() -> None:
    """Keys are bytes to S3: what is no proper text has a key of its own too."""
    assert work_key(changed(key="\udcff"), "r", "1") != work_key(changed(key="\udcfe"), "r", "1")

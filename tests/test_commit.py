"""Commits over a store where others write too: once each, and never over something newer."""

from datetime import UTC, datetime, timedelta

import pytest
from fakes import FakeStore, Stored

from app.commit import Committer, Identity, RunAgainError, SupersededError, is_newer
from app.ledger import SavedOutput
from app.outcomes import OutsideError, Reason
from app.ports import ABSENT, Standing, Upload
from app.telemetry import Telemetry

NOW = datetime(2026, 1, 2, tzinfo=UTC)
OURS = Identity("our-key", "our-source", NOW, "0B")
MINE = {"idempotency-key": "our-key", "source": "our-source"}
OLDER = {"idempotency-key": "other", "source": "our-source", "source-sequencer": "0A"}
NEWER = OLDER | {"source-sequencer": "0C"}
FOREIGN = {"idempotency-key": "other", "source": "another-source"}
LOST = OutsideError(Reason.TRANSPORT, "the answer was lost")


class Held:
    """A lease that lasts."""

    async def ensure(self, seconds: float) -> None:
        """It does."""


def committer(store: FakeStore) -> Committer:
    """Of our work."""
    return Committer(store, Held(), OURS, MINE, Telemetry())


async def saved(store: FakeStore, *, large: bool) -> SavedOutput:
    """An output of ours that is ready to be committed, over nothing."""
    if not large:
        return SavedOutput("out", "k", "text/plain", data=b"ours", size=4, finished=True)
    upload = await store.begin("out", "k", "text/plain", MINE)
    await store.upload(upload, 1, b"ours")
    return SavedOutput("out", "k", "text/plain", upload.id, 1, size=4, finished=True)


def write(store: FakeStore, metadata: dict[str, str]) -> None:
    """Somebody writes under the same key."""
    store.keep("out", "k", Stored(b"theirs", metadata=metadata))


def found(store: FakeStore) -> bytes | None:
    """What stands there."""
    there = store.found("out", "k")
    return there.data if there else None


both = pytest.mark.parametrize("large", [False, True], ids=["small", "large"])


@both
async def test_a_commit_over_nothing_and_over_what_was_seen(large: bool) -> None:  # noqa: FBT001
    """The condition is what was looked at."""
    store = FakeStore()
    for before in (None, OLDER, FOREIGN, MINE):
        if before:
            write(store, before)
        (looked,) = await committer(store).look([await saved(store, large=large)])
        assert (looked.standing == ABSENT) == (before is None)
        await committer(store).commit(looked, None)
        assert found(store) == b"ours"
    assert store.open_uploads == []


@both
@pytest.mark.parametrize(
    ("came", "expected"),
    [(OLDER, b"ours"), (MINE, b"theirs"), (NEWER, SupersededError), (FOREIGN, RunAgainError)],
    ids=["older", "ours", "newer", "foreign"],
)
async def test_somebody_came_in_between(
    large: bool,  # noqa: FBT001 - a parameter of the test
    came: dict[str, str],
    expected: bytes | type[Exception],
) -> None:
    """Older: written on top; ours: it is done already; newer: superseded; foreign: not ours to."""
    store = FakeStore()
    (looked,) = await committer(store).look([await saved(store, large=large)])
    write(store, came)
    if isinstance(expected, bytes):
        await committer(store).commit(looked, None)
        assert found(store) == expected
    else:
        with pytest.raises(expected):
            await committer(store).commit(looked, None)
        assert found(store) == b"theirs"


async def test_what_is_newer_is_seen_at_the_look() -> None:
    """Before anything is begun."""
    store = FakeStore()
    write(store, NEWER)
    with pytest.raises(SupersededError):
        await committer(store).look([await saved(store, large=False)])


async def test_an_upload_that_is_gone() -> None:
    """Completed by who came before: done. Thrown away: the handler has to run again."""
    store = FakeStore()
    output = await saved(store, large=True)
    await committer(store).commit(output, None)
    await committer(store).commit(output, None)
    assert found(store) == b"ours"

    store = FakeStore()
    output = await saved(store, large=True)
    await store.abort(Upload("out", "k", output.upload_id))
    with pytest.raises(RunAgainError):
        await committer(store).commit(output, None)
    assert found(store) is None


async def test_an_upload_that_lacks_parts() -> None:
    """It is never completed with what is there."""
    store = FakeStore()
    output = await saved(store, large=True)
    more = SavedOutput("out", "k", "text/plain", output.upload_id, 2, size=8, finished=True)
    with pytest.raises(RunAgainError, match="missing"):
        await committer(store).commit(more, None)
    assert found(store) is None


@both
async def test_an_error_on_the_way_is_no_success(large: bool) -> None:  # noqa: FBT001
    """It may have come about or not: that is for the next one to find out."""
    store = FakeStore(failures={"put": [LOST], "complete": [LOST]})
    output = await saved(store, large=large)
    with pytest.raises(OutsideError):
        await committer(store).commit(output, None)


LATER = (NOW + timedelta(seconds=1)).isoformat()
EARLIER = (NOW - timedelta(seconds=1)).isoformat()


@pytest.mark.parametrize(
    ("theirs", "expected"),
    [
        ({}, False),
        ({"source": "another-source", "source-modified": LATER}, False),
        ({"source": "our-source"}, False),
        ({"source": "our-source", "source-modified": "no time"}, False),
        ({"source": "our-source", "source-modified": LATER}, True),
        ({"source": "our-source", "source-modified": EARLIER}, False),
        ({"source": "our-source", "source-modified": NOW.isoformat()}, False),
        # Where both have a sequencer it decides, the shorter padded with zeros.
        ({"source": "our-source", "source-sequencer": "0A", "source-modified": LATER}, False),
        ({"source": "our-source", "source-sequencer": "0C", "source-modified": EARLIER}, True),
        ({"source": "our-source", "source-sequencer": "0B0"}, False),
        ({"source": "our-source", "source-sequencer": "0B1"}, True),
        ({"source": "our-source", "source-sequencer": "0"}, False),
    ],
)
def test_what_is_newer(theirs: dict[str, str], expected: bool) -> None:  # noqa: FBT001
    """By sequencer where both have one, else by the time of the object it was made of."""
    assert is_newer(Standing("e", theirs), OURS) == expected

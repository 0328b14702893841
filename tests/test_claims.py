"""Claims over a store that fails: every write is settled by its write id, nothing is assumed."""

import anyio
import msgspec
import pytest
from fakerecords import LOST, FakeRecords

from app import claims, ledger
from app.claims import Claim, Ledger
from app.ledger import Claimant, Deferred, Granted, SavedCheckpoint
from app.outcomes import ConditionError, FencedError, OutsideError, Reason

WHO = Claimant("attempt-1", "message-1", 100.0, "s3://in/k")
NEXT = Claimant("attempt-2", "message-1", 200.0, "s3://in/k")
SAVED = SavedCheckpoint(["chunks", 5], {"rows": 1})


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried at once."""
    monkeypatch.setattr(claims, "PAUSES", (0.0,) * len(claims.PAUSES))


@pytest.fixture
def store() -> FakeRecords:
    """An empty store."""
    return FakeRecords()


@pytest.fixture
def book(store: FakeRecords) -> Ledger:
    """The ledger over it, at the beginning of time."""
    return Ledger(store, 5, lambda: 0.0)


async def granted(book: Ledger, who: Claimant = WHO) -> Claim:
    """The work is this one's."""
    answer, claim = await book.claim("k", who)
    assert isinstance(answer, Granted)
    assert claim is not None
    return claim


def stored(store: FakeRecords) -> ledger.Record:
    """The record as the store has it."""
    return msgspec.json.decode(store.records["k"].data, type=ledger.Record)


async def keep(claim: Claim) -> None:
    """A change like any other."""
    await claim.change(lambda record, name: ledger.checkpointed(record, name, SAVED))


NOBODYS = b'{"state":"open","write_id":"x"}'
REFUSED = ConditionError("412, as a repeated request that met its own success")


@pytest.mark.parametrize("error", [LOST, REFUSED], ids=["lost", "refused"])
async def test_an_answer_that_was_lost_is_read_back(
    error: Exception, book: Ledger, store: FakeRecords
) -> None:
    """What was written is known by its write id, for a claim and for a change."""
    store.after["write"] = [error]
    claim = await granted(book)
    assert stored(store) == claim.record
    store.after["write"] = [error]
    await keep(claim)
    assert stored(store) == claim.record
    assert claim.record.checkpoint == SAVED
    assert store.calls["write"] == 2


async def test_a_write_that_did_not_arrive_is_sent_again(book: Ledger, store: FakeRecords) -> None:
    """Where the record is as it was, the same write may be tried once more."""
    store.before["write"] = [LOST]
    claim = await granted(book)
    store.before["write"] = [LOST, ConditionError("409: another request at the same moment")]
    await keep(claim)
    assert stored(store).checkpoint == SAVED


@pytest.mark.parametrize("failing", ["read", "write"])
async def test_a_ledger_that_does_not_answer(
    failing: str, book: Ledger, store: FakeRecords
) -> None:
    """Is an error of the ledger, never work that is granted or done."""
    store.before[failing] = [LOST] * 10
    with pytest.raises(OutsideError) as raised:
        await book.claim("k", WHO)
    assert raised.value.reason is Reason.LEDGER
    assert store.records == {}


@pytest.mark.parametrize("failing", ["read", "write"])
async def test_credentials_are_named(failing: str, book: Ledger, store: FakeRecords) -> None:
    """An expired token is what has to be mended, not the ledger."""
    store.before[failing] = [OutsideError(Reason.CREDENTIALS, "ExpiredToken")] * 10
    with pytest.raises(OutsideError) as raised:
        await book.claim("k", WHO)
    assert raised.value.reason is Reason.CREDENTIALS


@pytest.mark.parametrize("data", [b"", b"{}", b"no json", b'{"state": 1, "write_id": "x"}'])
async def test_a_record_that_cannot_be_read(data: bytes, book: Ledger, store: FakeRecords) -> None:
    """Somebody has written nonsense: that is no empty record."""
    await store.write("k", data, None)
    with pytest.raises(OutsideError, match="unreadable") as raised:
        await book.claim("k", WHO)
    assert raised.value.reason is Reason.LEDGER


async def test_a_record_that_is_fought_over(book: Ledger, store: FakeRecords) -> None:
    """Lost to others again and again: tried later."""

    class Fought(FakeRecords):
        async def write(self, key: str, data: bytes, expected: str | None) -> str:
            found = store.records.get(key)
            await store.write(key, NOBODYS, found.etag if found else None)
            return await store.write(key, data, expected)

    fought = Fought(store.records)
    with pytest.raises(OutsideError, match="fought over"):
        await Ledger(fought, 5, lambda: 0.0).claim("k", WHO)


async def test_another_attempt_fences(book: Ledger, store: FakeRecords) -> None:
    """The first owner's next change is refused, and changes nothing."""
    first = await granted(book)
    second = await granted(book, NEXT)
    with pytest.raises(FencedError):
        await keep(first)
    assert stored(store) == second.record
    await keep(second)
    assert stored(store).checkpoint == SAVED
    assert stored(store).attempts == 0


async def test_a_record_that_was_deleted_fences(book: Ledger, store: FakeRecords) -> None:
    """Whose hold nobody remembers has none."""
    claim = await granted(book)
    store.records.clear()
    with pytest.raises(FencedError):
        await keep(claim)
    assert store.records == {}


async def test_a_claim_meets_another_one(book: Ledger, store: FakeRecords) -> None:
    """Read as open, written meanwhile: decided anew."""
    other = msgspec.structs.replace(WHO, message_id="message-2")
    answers = [await granted(book), await book.claim("k", other)]
    assert answers[1] == (Deferred(100.0), None)


async def test_a_write_that_stayed_unsettled_is_no_fence(book: Ledger, store: FakeRecords) -> None:
    """Applied, its answer lost and the ledger gone: later it is known again as one's own."""
    claim = await granted(book)
    store.after["write"] = [LOST]
    store.before["read"] = [LOST]
    with pytest.raises(OutsideError):
        await keep(claim)
    await claim.change(lambda record, name: ledger.committing(record, name, ()))
    assert stored(store).state == "committing"
    assert stored(store).checkpoint == SAVED


async def test_a_write_that_was_given_up_is_no_fence(book: Ledger, store: FakeRecords) -> None:
    """The handler ended while a checkpoint was being written: the commit goes on from there."""
    claim = await granted(book)
    written = store.stuck["write"] = anyio.Event()
    async with anyio.create_task_group() as group:
        group.start_soon(keep, claim)
        await written.wait()
        group.cancel_scope.cancel()
    del store.stuck["write"]
    await claim.change(lambda record, name: ledger.committing(record, name, ()))
    assert stored(store).state == "committing"
    assert stored(store).checkpoint == SAVED


@pytest.mark.parametrize("end", ["done", "dead"])
async def test_what_is_over_is_not_opened_again(end: str, book: Ledger, store: FakeRecords) -> None:
    """The last write applied, its answer was lost: neither a close nor a letter undoes it."""
    claim = await granted(book)
    store.after["write"] = [LOST]
    store.before["read"] = [LOST]
    with pytest.raises(OutsideError):
        await claim.change(
            ledger.done
            if end == "done"
            else lambda record, name: ledger.dead(record, name, reason="corrupt_data")
        )
    await claim.change(
        lambda record, name: ledger.closed(
            record, name, counts=True, reason="transport", error="reset"
        )
    )
    assert (stored(store).state, stored(store).attempts) == (end, 0)
    await claim.change(lambda record, name: ledger.dead(record, name, reason="corrupt_data"))
    assert stored(store).state == end

"""One suite for every store of records: the fake, and S3's over two servers; races are real."""

from collections.abc import AsyncIterator, Callable
from uuid import uuid4

import anyio
import msgspec
import pytest
from fakerecords import FakeRecords
from harness.aws import Clients
from harness.server import CREDENTIALS, REGION
from turns import Turns, TurnTaking, orders

from app import ledger
from app.aws.clients import S3Source
from app.aws.records import S3Records
from app.claims import Ledger
from app.ledger import AlreadyDone, Answer, Claimant, Deferred, Granted
from app.outcomes import ConditionError, FencedError, OutsideError
from app.ports import RecordStore
from app.settings import Location

OTHER_SERVERS = {"moto": "aws", "ministack": "ministack"}
Stores = Callable[[], RecordStore]


@pytest.fixture(params=["fake", *OTHER_SERVERS])
async def stores(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Stores]:
    """Makes clients of one store, each with connections of its own."""
    if request.param == "fake":
        fake = FakeRecords()
        yield lambda: fake
        return
    aws: Clients = request.getfixturevalue(OTHER_SERVERS[request.param])
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.url)
    bucket = f"ledger-{uuid4().hex[:12]}"
    aws.s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
    sources: list[S3Source] = []

    def make() -> RecordStore:
        sources.append(S3Source(8))
        return S3Records(sources[-1], Location(bucket, "records/"), None)

    yield make
    for source in sources:
        await source.close()


async def test_what_is_written_is_read(stores: Stores) -> None:
    """The bytes, with the ETag that the write answered."""
    store = stores()
    assert await store.read("k") is None
    etag = await store.write("k", b"one", None)
    found = await stores().read("k")
    assert found is not None
    assert (found.data, found.etag) == (b"one", etag)
    later = await store.write("k", b"two", etag)
    assert later != etag
    found = await store.read("k")
    assert found is not None
    assert (found.data, found.etag) == (b"two", later)


async def test_a_first_write_is_the_first(stores: Stores) -> None:
    """Where there is a record, nobody can be first any more."""
    await stores().write("k", b"one", None)
    with pytest.raises(ConditionError):
        await stores().write("k", b"two", None)
    found = await stores().read("k")
    assert found is not None
    assert found.data == b"one"


async def test_a_write_over_another_one_is_refused(stores: Stores) -> None:
    """Only who has seen the last write may write."""
    store = stores()
    first = await store.write("k", b"one", None)
    await store.write("k", b"two", first)
    with pytest.raises(ConditionError):
        await store.write("k", b"three", first)
    found = await store.read("k")
    assert found is not None
    assert found.data == b"two"


async def test_a_record_that_is_gone_is_not_what_was_expected(stores: Stores) -> None:
    """Somebody has cleaned up: a write that builds on the record does not bring it back."""
    with pytest.raises(ConditionError):
        await stores().write("k", b"two", '"d41d8cd98f00b204e9800998ecf8427e"')
    assert await stores().read("k") is None


async def test_records_do_not_meet(stores: Stores) -> None:
    """Each key has its own; a blob is none."""
    store = stores()
    await store.write("k", b"one", None)
    await store.write("k2", b"two", None)
    await store.keep("k.held/3", b"three")
    one, two = await store.read("k"), await store.read("k2")
    assert one is not None
    assert two is not None
    assert (one.data, two.data) == (b"one", b"two")
    assert await store.read("k.held/3") is None


async def test_blobs(stores: Stores) -> None:
    """Written, read and deleted without conditions, of any size."""
    store = stores()
    large = bytes(range(256)) * 4096
    assert await store.fetch("k.held/1") is None
    await store.keep("k.held/1", large)
    assert await store.fetch("k.held/1") == large
    await store.drop("k.held/1")
    await store.drop("k.held/1")
    assert await store.fetch("k.held/1") is None


@pytest.mark.parametrize("there", [False, True], ids=["first", "later"])
async def test_one_of_many_writers_wins(there: bool, stores: Stores) -> None:  # noqa: FBT001
    """All at the same moment with the same expectation: one is told so, and its bytes are there."""
    clients = [stores() for _ in range(6)]
    expected = await clients[0].write("k", b"before", None) if there else None
    won: list[bytes] = []

    async def write(name: bytes, store: RecordStore) -> None:
        try:
            await store.write("k", name, expected)
        except (ConditionError, OutsideError):
            return
        won.append(name)

    async with anyio.create_task_group() as group:
        for number, store in enumerate(clients):
            group.start_soon(write, b"%d" % number, store)
    found = await clients[0].read("k")
    assert found is not None
    assert won == [found.data]


def who(name: str) -> Claimant:
    """A claimant with a message of its own."""
    return Claimant(f"attempt-{name}", f"message-{name}", 100.0, "s3://in/k")


@pytest.mark.parametrize("order", orders(2, 3))
async def test_two_claims_at_once(order: str, stores: Stores) -> None:
    """In whatever order their requests come, one has the work and the other waits for it."""
    turns = Turns(order)
    answers: dict[str, Answer] = {}

    async def claim(name: str) -> None:
        async with turns.player(name):
            book = Ledger(TurnTaking(stores(), turns, name), 5, lambda: 0.0)
            answers[name], _ = await book.claim("k", who(name))

    async with anyio.create_task_group() as group:
        group.start_soon(claim, "a")
        group.start_soon(claim, "b")
    kinds = sorted(type(answer).__name__ for answer in answers.values())
    assert kinds == ["Deferred", "Granted"]
    assert Deferred(100.0) in answers.values()


@pytest.mark.parametrize("order", orders(2, 2))
async def test_a_takeover_meets_the_owner(order: str, stores: Stores) -> None:
    """The owner's write either comes first and is kept, or is refused; never lost unnoticed."""
    turns = Turns("")
    books = {name: Ledger(TurnTaking(stores(), turns, name), 5, lambda: 0.0) for name in "ab"}
    _, claim = await books["a"].claim("k", who("a"))
    assert claim is not None
    turns.order = order
    answers: list[Answer] = []
    fenced: list[FencedError] = []
    saved = ledger.SavedCheckpoint(["chunks", 5], "state")

    async def go_on() -> None:
        async with turns.player("a"):
            try:
                await claim.change(lambda record, name: ledger.checkpointed(record, name, saved))
                await claim.change(ledger.done)
            except FencedError as error:
                fenced.append(error)

    async def take_over() -> None:
        async with turns.player("b"):
            again = msgspec.structs.replace(who("a"), attempt_id="attempt-b")
            answer, _ = await books["b"].claim("k", again)
            answers.append(answer)

    async with anyio.create_task_group() as group:
        group.start_soon(go_on)
        group.start_soon(take_over)
    if isinstance(answers[0], AlreadyDone):
        assert not fenced
    else:
        assert isinstance(answers[0], Granted)
        assert len(fenced) == 1
        kept = answers[0].record.checkpoint
        assert kept == (saved if order.startswith("a") or order == "baab" else None)

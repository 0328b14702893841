"""A message that its queue is about to drop goes to the dead letters first, with the reason."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from fakes import message
from scripted import PASSING, ScriptedExtender

from app import clock
from app.lease import Lease
from app.outcomes import Outcome, Reason, Result
from app.ports import Message
from app.settings import Settings
from app.settlement import Settlement
from app.telemetry import Telemetry

DAY = 86_400.0
FAILED = Result(Outcome.RETRY, Reason.HANDLER_ERROR, "ValueError: as always")


@dataclass
class FakeQueue:
    """A queue that keeps messages for so many seconds; None: it cannot be asked."""

    retention: float | None
    hidden: list[int] = field(default_factory=list)
    letters: list[Mapping[str, str]] = field(default_factory=list)
    deleted: int = 0
    asked: int = 0

    async def receive(self, wait_seconds: int, visibility_seconds: int) -> Message | None:
        """Never asked."""
        raise NotImplementedError

    async def hide(self, message: Message, seconds: int) -> None:  # noqa: ARG002
        """Remember it."""
        self.hidden.append(seconds)

    async def delete(self, message: Message) -> None:  # noqa: ARG002
        """Remember it."""
        self.deleted += 1

    async def retention_seconds(self) -> float:
        """As the test says."""
        self.asked += 1
        if self.retention is None:
            raise PASSING
        return self.retention

    async def bury(self, message: Message, letter: Mapping[str, str]) -> bool:  # noqa: ARG002
        """Remember it."""
        self.letters.append(letter)
        return True


async def settled(queue: FakeQueue, age: float, result: Result = FAILED, **env: str) -> Result:
    """What becomes of a message that was sent so long ago."""
    needed = {"QUEUE_URL": "https://sqs/queue", "ALLOWED_BUCKETS": "*"}
    settings = Settings.from_env(needed | env)
    telemetry = Telemetry()
    given = message(sent_at=time.time() - age, requested_at=clock.now(), receive_count=7)
    lease = Lease(ScriptedExtender(), given, telemetry, seconds=60)
    await lease.take(clock.now())

    async def after_letter(reason: str) -> None:
        assert reason == "retention_expiring"

    settlement = Settlement(queue, settings, telemetry, lambda: 10.0)
    return await settlement.settle(given, result, lease, after_letter)


@pytest.mark.parametrize(
    ("age", "retention"),
    [
        (4 * DAY - 100, 4 * DAY),
        (4 * DAY - 959, 4 * DAY),
        (4 * DAY + 1, 4 * DAY),
        (46, 60),
        (59, 60),
    ],
)
async def test_a_message_that_has_no_time_left(age: float, retention: float) -> None:
    """Before RETRY_MAX_SECONDS and another attempt it would be gone without a trace."""
    queue = FakeQueue(retention)
    result = await settled(queue, age)
    assert (result.outcome, result.reason) == (Outcome.REJECTED, Reason.RETENTION_EXPIRING)
    assert (queue.hidden, queue.deleted) == ([], 1)
    (letter,) = queue.letters
    assert letter["x-death-reason"] == "retention_expiring"
    assert "ValueError: as always" in letter["x-death-error"]


@pytest.mark.parametrize(
    ("age", "retention"), [(0, 60), (29, 60), (44, 60), (DAY, 4 * DAY), (4 * DAY - 970, 4 * DAY)]
)
async def test_a_message_that_has_time_left(age: float, retention: float) -> None:
    """It is tried again, as ever."""
    queue = FakeQueue(retention)
    assert await settled(queue, age) == FAILED
    assert (len(queue.hidden), queue.letters, queue.deleted) == (1, [], 0)


async def test_a_young_message_asks_nothing() -> None:
    """No queue keeps messages for less than a minute: the usual failure costs no request."""
    queue = FakeQueue(60)
    await settled(queue, 20)
    assert queue.asked == 0


async def test_a_retention_that_cannot_be_asked_for() -> None:
    """It is tried again: nobody is declared dead on a guess."""
    queue = FakeQueue(None)
    assert await settled(queue, 14 * DAY) == FAILED
    assert (len(queue.hidden), queue.letters) == (1, [])


@pytest.mark.parametrize(("age", "retention"), [(4 * DAY - 3600, 4 * DAY), (1, 3600)])
async def test_a_handler_that_asks_for_more_time_than_there_is(
    age: float, retention: float
) -> None:
    """Retry(after=…) beyond the end would lose the message."""
    queue = FakeQueue(retention)
    later = Result(Outcome.RETRY, Reason.RETRY_BY_HANDLER, "Retry: later", after_seconds=7200)
    result = await settled(queue, age, later)
    assert result.reason is Reason.RETENTION_EXPIRING
    assert queue.hidden == []


async def test_a_strategy_that_leaves_messages_alone_loses_none() -> None:
    """RETRY_STRATEGY=expire hides nothing, but a message about to be dropped is not left to it."""
    queue = FakeQueue(4 * DAY)
    result = await settled(queue, 4 * DAY - 100, RETRY_STRATEGY="expire")
    assert result.reason is Reason.RETENTION_EXPIRING
    assert len(queue.letters) == 1


@pytest.mark.parametrize("outcome", [Outcome.INTERRUPTED, Outcome.DEFERRED])
async def test_only_failures_are_declared_dead(outcome: Outcome) -> None:
    """A stop or another's claim says nothing of the work: it is given the time that there is."""
    queue = FakeQueue(4 * DAY)
    waiting = Result(outcome, Reason.STOPPED, after_seconds=5)
    assert await settled(queue, 4 * DAY - 100, waiting) == waiting
    assert (len(queue.hidden), queue.letters) == (1, [])


@pytest.mark.parametrize("reason", Reason)
def test_what_counts_as_a_failed_attempt(reason: Reason) -> None:
    """What says something of the work, and nothing of its surroundings."""
    passing = {
        Reason.TRANSPORT,
        Reason.THROTTLED,
        Reason.CREDENTIALS,
        Reason.LEDGER,
        Reason.STOPPED,
        Reason.OBJECT_CHANGED,
        Reason.CONFIGURATION,
    }
    assert Result(Outcome.RETRY, reason).counts == (reason not in passing)

"""Histories of a piece of work, of any length: what always holds of them."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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
)
from app.ports import Upload

MAX_ATTEMPTS = 3
OUTPUT = SavedOutput("out", "k", "text/plain", data=b"x", size=1, finished=True)


@dataclass
class Expected:
    """What a reader of the documentation would have counted."""

    failures: int = 0
    furthest: int = 0
    checkpoint: SavedCheckpoint | None = None
    ids: set[str] = field(default_factory=set)


class Histories(RuleBasedStateMachine):
    """Claims, crashes, failures, interruptions and checkpoints, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.record: Record | None = None
        self.now = 0.0
        self.asked = 0
        self.expected = Expected()

    @initialize()
    def start(self) -> None:
        """The first claim."""
        self.ask("message-0")

    def ask(self, message: str) -> Answer:
        """A claim at this moment; its record is written where there is one."""
        self.asked += 1
        who = Claimant(f"attempt-{self.asked}", message, self.now + 100, "s3://in/k")
        answer = ledger.claim(
            self.record, who, self.fresh(), now=self.now, max_attempts=MAX_ATTEMPTS
        )
        if isinstance(answer, Granted | RollForward | Exhausted):
            self.record = answer.record
        return answer

    def fresh(self) -> str:
        """A write id."""
        self.expected.ids.add(name := f"write-{len(self.expected.ids)}")
        return name

    @property
    def known(self) -> Record:
        """The record, which is there from the first claim on."""
        assert self.record is not None
        return self.record

    def is_in(self, *states: str) -> bool:
        """Whether the record is in one of these states."""
        return self.record is not None and self.record.state in states

    @rule(seconds=st.sampled_from([1.0, 99.0, 101.0]))
    def time_passes(self, seconds: float) -> None:
        """Claims come to their end."""
        self.now += seconds

    @rule(message=st.sampled_from(["message-0", "message-1", "message-2"]))
    def somebody_asks(self, message: str) -> None:
        """The answer is what the state before allows."""
        before = self.known
        same = message == before.message_id
        answer = self.ask(message)
        if before.state == "done":
            assert isinstance(answer, AlreadyDone)
        elif before.state == "dead":
            assert isinstance(answer, AlreadyDead if same else Granted)
            self.expected.failures = self.expected.failures if same else 0
        elif before.state in ("claimed", "committing") and not same and self.now < before.until:
            assert answer == Deferred(before.until)
        elif before.state == "committing" and before.attempts >= MAX_ATTEMPTS:
            assert isinstance(answer, Exhausted)
        elif before.state == "committing":
            assert isinstance(answer, RollForward)
            assert answer.record.outputs == before.outputs
        else:
            # An unreported end is a crash.
            self.expected.failures += before.state == "claimed"
            over = self.expected.failures >= MAX_ATTEMPTS
            assert isinstance(answer, Exhausted if over else Granted)

    @precondition(lambda self: self.is_in("claimed", "committing"))
    @rule(counts=st.booleans())
    def the_attempt_ends(self, counts: bool) -> None:  # noqa: FBT001 - drawn by hypothesis
        """A failure that counts is one more, an interruption none; a commit is never undone."""
        begun = self.known
        self.record = ledger.closed(
            self.known, self.fresh(), counts=counts, reason="r", error="the last one"
        )
        self.expected.failures += counts
        assert self.record.error == "the last one" or not counts
        if begun.state == "committing":
            assert (self.record.state, self.record.outputs) == (begun.state, begun.outputs)

    @precondition(lambda self: self.is_in("claimed"))
    @rule(at=st.integers(0, 20))
    def a_checkpoint_is_kept(self, at: int) -> None:
        """One that is further on than any before forgives the failures."""
        self.expected.checkpoint = SavedCheckpoint(["chunks", at], {"n": at}, (OUTPUT,))
        self.record = ledger.checkpointed(self.known, self.fresh(), self.expected.checkpoint)
        if at > self.expected.furthest:
            self.expected.failures = 0
            self.expected.furthest = at

    @precondition(lambda self: self.is_in("claimed"))
    @rule()
    def the_checkpoint_is_void(self) -> None:
        """Starting over forgives nothing."""
        self.expected.checkpoint = None
        self.record = ledger.checkpointed(self.known, self.fresh(), None)

    @precondition(lambda self: self.is_in("claimed"))
    @rule(number=st.integers(0, 9))
    def an_upload_begins(self, number: int) -> None:
        """It is in the record until somebody has thrown it away, or the work is done."""
        upload = Upload("out", "k", f"upload-{number}")
        self.record = ledger.registered(self.known, self.fresh(), upload)
        assert upload in ledger.stale_uploads(self.record)

    @precondition(lambda self: self.is_in("claimed"))
    @rule()
    def the_stale_are_gone(self) -> None:
        """What no checkpoint needs is no longer named."""
        self.record = ledger.without_stale(self.known, self.fresh())
        assert ledger.stale_uploads(self.record) == ()

    @precondition(lambda self: self.is_in("claimed"))
    @rule()
    def the_commit_begins(self) -> None:
        """From here on only the outputs count."""
        self.record = ledger.committing(self.known, self.fresh(), (OUTPUT,))

    @precondition(lambda self: self.is_in("committing"))
    @rule()
    def the_commit_cannot_be_finished(self) -> None:
        """The handler runs again, and nothing was counted."""
        self.record = ledger.reclaimed(self.known, self.fresh())

    @precondition(lambda self: self.is_in("committing", "claimed"))
    @rule()
    def the_work_is_done(self) -> None:
        """Neither bytes nor a checkpoint are kept any longer."""
        self.record = ledger.done(self.known, self.fresh())
        self.expected.checkpoint = None
        assert all(not output.data for output in self.record.outputs)

    @precondition(lambda self: self.is_in("open", "claimed"))
    @rule()
    def the_letter_is_sent(self) -> None:
        """The work is dead, and its checkpoint is kept for a redrive."""
        self.record = ledger.dead(self.known, self.fresh(), reason="corrupt_data")

    @invariant()
    def attempts_are_failures_and_crashes(self) -> None:
        """Never interruptions; and a checkpoint further on resets them."""
        if self.record is not None and self.record.state != "done":
            assert self.record.attempts == self.expected.failures

    @invariant()
    def the_checkpoint_is_the_last_one_kept(self) -> None:
        """No claim, close or death loses it."""
        if self.record is not None:
            assert self.record.checkpoint == self.expected.checkpoint

    @invariant()
    def every_write_has_an_id_of_its_own(self) -> None:
        """By which a writer whose answer was lost knows it."""
        if self.record is not None:
            assert self.record.write_id in self.expected.ids


TestHistories = Histories.TestCase

STATES = st.one_of(st.none(), st.integers(), st.text(max_size=3))


@given(st.lists(st.tuples(STATES, st.booleans()), max_size=8))
def test_without_a_position_another_state_is_progress(offers: list[tuple[Any, bool]]) -> None:
    """A handler that reads by ranges has no position; the same state again gets nowhere."""
    record = Record("claimed", "w", 0)
    failures = 0
    last: tuple[Any] | None = None
    for state, fails in offers:
        record = ledger.checkpointed(record, "w", SavedCheckpoint(None, state))
        failures = failures if last == (state,) else 0
        last = (state,)
        if fails:
            record = ledger.closed(record, "w", counts=True, reason="r", error="e")
            failures += 1
        assert record.attempts == failures

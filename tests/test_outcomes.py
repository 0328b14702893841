"""Outcomes: the tables are complete, and say what is promised."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.outcomes import (
    DISPOSITIONS,
    EXIT_CODES,
    EXIT_SEVERITY,
    EXIT_SIGINT,
    RECORD_SEVERITY,
    ConfigurationError,
    Disposition,
    FailureError,
    HandlerError,
    LeaseLostError,
    MessageGoneError,
    Outcome,
    OutsideError,
    Reason,
    Reject,
    RejectedError,
    Result,
    Retry,
    backoff_seconds,
    result_of,
    worst,
    worst_exit,
)

PROMISED = {
    Outcome.EMPTY: (Disposition.NOTHING, 0),
    Outcome.DONE: (Disposition.DELETE, 0),
    Outcome.SKIPPED: (Disposition.DELETE, 0),
    Outcome.DEFERRED: (Disposition.HIDE, 0),
    Outcome.RETRY: (Disposition.HIDE, 75),
    Outcome.REJECTED: (Disposition.DEAD_LETTER, 65),
    Outcome.INTERRUPTED: (Disposition.RELEASE, 143),
    Outcome.LEASE_LOST: (Disposition.LEAVE, 76),
    Outcome.DEFECT: (Disposition.LEAVE, 70),
}
OUTCOMES = st.sampled_from(Outcome)


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_disposition_and_an_exit_code(outcome: Outcome) -> None:
    """No outcome can reach settlement, or the exit, without an entry."""
    assert outcome in DISPOSITIONS
    assert EXIT_CODES[outcome] in EXIT_SEVERITY
    assert outcome in RECORD_SEVERITY


@pytest.mark.parametrize(("outcome", "promised"), PROMISED.items())
def test_what_is_promised_of_an_outcome(
    outcome: Outcome, promised: tuple[Disposition, int]
) -> None:
    """What becomes of the message, and the exit code, are what the documentation says."""
    assert (DISPOSITIONS[outcome], EXIT_CODES[outcome]) == promised


def test_only_work_that_is_done_or_explained_is_deleted() -> None:
    """A message is deleted when its work is committed or needless, and not for any other reason."""
    deleted = {one for one, what in DISPOSITIONS.items() if what is Disposition.DELETE}
    assert deleted == {Outcome.DONE, Outcome.SKIPPED}


def test_tables_have_no_doubles() -> None:
    """Every outcome and every code has one place in the order of severity."""
    assert len(set(RECORD_SEVERITY)) == len(RECORD_SEVERITY) == len(Outcome)
    assert set(EXIT_SEVERITY) == set(EXIT_CODES.values()) | {EXIT_SIGINT}
    assert len(set(EXIT_SEVERITY)) == len(EXIT_SEVERITY)


@given(st.lists(OUTCOMES, min_size=1))
def test_the_worst_record_decides(outcomes: list[Outcome]) -> None:
    """Lease lost, interrupted, retry, deferred, rejected, done or skipped, in that order."""
    order = ["lease_lost", "interrupted", "retry", "deferred", "rejected", "done", "skipped"]
    decided = worst([Result(outcome) for outcome in outcomes]).outcome
    assert decided in outcomes
    if set(outcomes) <= set(order):
        assert order.index(decided) == min(order.index(one) for one in outcomes)


def test_records_left_to_do_outweigh_a_rejection() -> None:
    """A letter is sent only when every record is final."""
    for unfinished in (Outcome.RETRY, Outcome.DEFERRED, Outcome.INTERRUPTED, Outcome.LEASE_LOST):
        results = [Result(Outcome.REJECTED), Result(unfinished), Result(Outcome.DONE)]
        assert worst(results).outcome is unfinished


@given(st.lists(st.sampled_from(EXIT_SEVERITY)))
def test_the_most_severe_exit_code_is_that_of_the_process(codes: list[int]) -> None:
    """70, 143, 76, 75, 65, 0: the first of these that was seen."""
    found = worst_exit(codes)
    promised = [code for code in (70, 143, 76, 75, 65, 0) if code in codes]
    if set(codes) <= {70, 143, 76, 75, 65, 0}:
        assert found == (promised[0] if promised else 0)
    assert found in (codes or [0])


@given(
    st.integers(1, 10**9),
    st.floats(0, 43_200),
    st.floats(0, 43_200),
    st.integers(),
)
def test_the_back_off_is_bounded(attempt: int, base: float, most: float, seed: int) -> None:
    """Between nothing and the bound, exponential in the attempt; never a busy loop."""
    seconds = backoff_seconds(attempt, base, most, Random(seed))
    assert 0 <= seconds <= max(1, round(most))
    assert seconds <= max(1, round(base * 2 ** min(attempt - 1, 32)))
    if most >= 1:
        assert seconds >= 1


def test_the_back_off_is_spread() -> None:
    """Full jitter: pods that failed together do not come back together."""
    delays = {backoff_seconds(5, 30, 900, Random(seed)) for seed in range(200)}
    assert len(delays) > 100
    assert min(delays) < 60
    assert max(delays) > 400


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (Reject("bad"), Outcome.REJECTED, Reason.REJECTED_BY_HANDLER),
        (RejectedError(Reason.CORRUPT_DATA, "x"), Outcome.REJECTED, Reason.CORRUPT_DATA),
        (Retry("later"), Outcome.RETRY, Reason.RETRY_BY_HANDLER),
        (OutsideError(Reason.THROTTLED, "x"), Outcome.RETRY, Reason.THROTTLED),
        (MessageGoneError("x"), Outcome.LEASE_LOST, Reason.MESSAGE_GONE),
        (LeaseLostError("x"), Outcome.LEASE_LOST, Reason.LEASE_EXPIRED),
        (ConfigurationError("x"), Outcome.MISCONFIGURED, Reason.CONFIGURATION),
        (ValueError("x"), Outcome.RETRY, Reason.HANDLER_ERROR),
        (KeyboardInterrupt(), Outcome.RETRY, Reason.HANDLER_ERROR),
        (SystemExit(3), Outcome.RETRY, Reason.HANDLER_ERROR),
        (FailureError("x"), Outcome.RETRY, Reason.HANDLER_ERROR),
    ],
)
def test_what_an_error_stands_for(error: BaseException, outcome: Outcome, reason: Reason) -> None:
    """Permanent only where that is known; everything else is tried again."""
    result = result_of(error)
    assert (result.outcome, result.reason) == (outcome, reason)
    assert result_of(HandlerError(error)) == result


def test_an_error_is_told_with_its_type_and_text() -> None:
    """Enough to know what happened without the traceback."""
    assert result_of(ValueError("no number")).error == "ValueError: no number"
    assert result_of(ValueError()).error == "ValueError"


def test_the_delay_a_handler_asks_for() -> None:
    """It is kept, within what SQS can hide a message for."""
    assert result_of(Retry("later", after=7)).after_seconds == 7
    assert result_of(HandlerError(Retry("later", after=0))).after_seconds == 0
    for wrong in (-1, 43_201, float("nan")):
        with pytest.raises(ValueError, match="expected 0 to 43200"):
            Retry(after=wrong)

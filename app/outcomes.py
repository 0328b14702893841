"""What can become of a message, and what follows from it. Imports nothing of this project."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from random import Random

# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
SQS_VISIBILITY_MAX_SECONDS = 43_200


class Outcome(StrEnum):
    """How one message, or one record of it, ended."""

    EMPTY = "empty"
    DONE = "done"
    SKIPPED = "skipped"
    DEFERRED = "deferred"
    RETRY = "retry"
    REJECTED = "rejected"
    INTERRUPTED = "interrupted"
    LEASE_LOST = "lease_lost"
    MISCONFIGURED = "misconfigured"
    DEFECT = "defect"


class Disposition(Enum):
    """What is done with the message itself."""

    NOTHING = "nothing"
    DELETE = "delete"
    HIDE = "hide"
    DEAD_LETTER = "dead_letter"
    RELEASE = "release"
    LEAVE = "leave"


DISPOSITIONS = {
    Outcome.EMPTY: Disposition.NOTHING,
    Outcome.DONE: Disposition.DELETE,
    Outcome.SKIPPED: Disposition.DELETE,
    Outcome.DEFERRED: Disposition.HIDE,
    Outcome.RETRY: Disposition.HIDE,
    Outcome.REJECTED: Disposition.DEAD_LETTER,
    Outcome.INTERRUPTED: Disposition.RELEASE,
    Outcome.LEASE_LOST: Disposition.LEAVE,
    Outcome.MISCONFIGURED: Disposition.HIDE,
    Outcome.DEFECT: Disposition.LEAVE,
}

# Numbers of sysexits.h where one fits; 128 + signal for a stop, as a shell reports it.
EXIT_CODES = {
    Outcome.EMPTY: 0,
    Outcome.DONE: 0,
    Outcome.SKIPPED: 0,
    Outcome.DEFERRED: 0,
    Outcome.REJECTED: 65,
    Outcome.DEFECT: 70,
    Outcome.RETRY: 75,
    Outcome.LEASE_LOST: 76,
    Outcome.MISCONFIGURED: 78,
    Outcome.INTERRUPTED: 143,
}
EXIT_SIGINT = 130
# Worst first: the exit code of a process that took several messages.
EXIT_SEVERITY = (70, 78, 143, EXIT_SIGINT, 76, 75, 65, 0)

# Worst first: the outcome of a message that names several objects.
RECORD_SEVERITY = (
    Outcome.DEFECT,
    Outcome.LEASE_LOST,
    Outcome.INTERRUPTED,
    Outcome.MISCONFIGURED,
    Outcome.RETRY,
    Outcome.DEFERRED,
    Outcome.REJECTED,
    Outcome.DONE,
    Outcome.SKIPPED,
    Outcome.EMPTY,
)


class Reason(StrEnum):
    """The machine word for why, the same in logs, metrics and dead letters."""

    # rejected
    REJECTED_BY_HANDLER = "rejected_by_handler"
    MALFORMED_MESSAGE = "malformed_message"
    BUCKET_NOT_ALLOWED = "bucket_not_allowed"
    NO_ROUTE = "no_route"
    OBJECT_MISSING = "object_missing"
    OBJECT_TOO_LARGE = "object_too_large"
    CORRUPT_DATA = "corrupt_data"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    RETENTION_EXPIRING = "retention_expiring"
    # retry
    RETRY_BY_HANDLER = "retry_by_handler"
    HANDLER_ERROR = "handler_error"
    DEADLINE = "deadline"
    TRANSPORT = "transport"
    THROTTLED = "throttled"
    CREDENTIALS = "credentials"
    ACCESS_DENIED = "access_denied"
    REFUSED = "refused"
    OBJECT_CHANGED = "object_changed"
    CHECKSUM_MISMATCH = "checksum_mismatch"
    OUTPUT_CONFLICT = "output_conflict"
    LEDGER = "ledger"
    STALLED = "stalled"
    # skipped
    TEST_EVENT = "test_event"
    NOT_CREATED_EVENT = "not_created_event"
    ALREADY_DONE = "already_done"
    SUPERSEDED = "superseded"
    # the rest
    CLAIMED = "claimed"
    STOPPED = "stopped"
    FENCED = "fenced"
    LEASE_EXPIRED = "lease_expired"
    MESSAGE_GONE = "message_gone"
    CONFIGURATION = "configuration"
    DEFECT = "defect"


@dataclass(frozen=True, slots=True)
class Result:
    """An outcome with its reason.

    Attributes:
        error: type and text of what was raised; empty where nothing was.
        after_seconds: the delay the handler asked for, None for the usual back-off.
        detail: what the reason is about, for people: a key, a limit, a record's number.
        attempts: failed ones so far, where the ledger knows; None: as often as received.
        buried: the letter was sent before; only the delete is owed.
    """

    outcome: Outcome
    reason: Reason | None = None
    error: str = ""
    after_seconds: float | None = None
    detail: str = ""
    attempts: int | None = None
    buried: bool = False

    @property
    def counts(self) -> bool:
        """Whether this failure says something of the work, and not of its surroundings."""
        return self.reason not in _PASSING


# An interruption, and errors of transport, throttling, credentials or the ledger, are nobody's
# failed attempt.
_PASSING = {
    Reason.TRANSPORT,
    Reason.THROTTLED,
    Reason.CREDENTIALS,
    Reason.LEDGER,
    Reason.STOPPED,
    Reason.OBJECT_CHANGED,
    Reason.CONFIGURATION,
}


class FailureError(Exception):
    """An error whose outcome and reason are known; the base of those that follow."""

    outcome = Outcome.RETRY
    reason = Reason.HANDLER_ERROR
    # Seconds until the next attempt, None for the usual back-off.
    after: float | None = None


class RejectedError(FailureError):
    """The message can never succeed as it is."""

    outcome = Outcome.REJECTED

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Reject(RejectedError):  # noqa: N818 - a verb, as handlers say it
    """Raised by a handler: this object can never be processed; send it to the dead letters."""

    def __init__(self, why: str = "") -> None:
        super().__init__(Reason.REJECTED_BY_HANDLER, why)


class Retry(FailureError):  # noqa: N818 - a verb, as handlers say it
    """Raised by a handler: try again later, in `after` seconds where given."""

    reason = Reason.RETRY_BY_HANDLER

    def __init__(self, why: str = "", *, after: float | None = None) -> None:
        super().__init__(why)
        if after is not None and not 0 <= after <= SQS_VISIBILITY_MAX_SECONDS:
            raise ValueError(f"after={after}: expected 0 to {SQS_VISIBILITY_MAX_SECONDS} seconds")
        self.after = after


class Interrupted(BaseException):
    """Raised by a plain `def` handler's next call once its attempt is to stop."""


class OutsideError(FailureError):
    """Something outside failed in a way that may pass."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class MessageGoneError(FailureError):
    """The queue no longer lets this receipt handle speak for the message."""

    outcome = Outcome.LEASE_LOST
    reason = Reason.MESSAGE_GONE


class LeaseLostError(FailureError):
    """The lease can no longer be proven."""

    outcome = Outcome.LEASE_LOST
    reason = Reason.LEASE_EXPIRED


class ConditionError(FailureError):
    """A conditional write was refused: what is there is not what was expected."""

    reason = Reason.OUTPUT_CONFLICT


class UploadGoneError(FailureError):
    """A multipart upload is no longer there: completed or aborted before."""

    reason = Reason.OUTPUT_CONFLICT


class FencedError(FailureError):
    """A later attempt has taken the work over."""

    outcome = Outcome.LEASE_LOST
    reason = Reason.FENCED


class ConfigurationError(FailureError):
    """What is asked for is not configured; no message can mend it."""

    outcome = Outcome.MISCONFIGURED
    reason = Reason.CONFIGURATION


def told(error: BaseException) -> str:
    """The error's text, whatever its class makes of it."""
    try:
        return str(error)
    except Exception as failed:  # noqa: BLE001 - an error of which nothing can be told is still one
        return f"(its text cannot be told: {type(failed).__name__})"


def result_of(error: BaseException) -> Result:
    """The outcome that what a handler raised stands for; of a group, its only member's."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    if isinstance(error, HandlerError):
        return Result(error.outcome, error.reason, str(error), error.after)
    if isinstance(error, ConfigurationError):
        return Result(error.outcome, error.reason, str(error))
    text = f"{type(error).__name__}: {told(error)}".removesuffix(": ")
    if isinstance(error, FailureError):
        return Result(error.outcome, error.reason, text, error.after)
    return Result(Outcome.RETRY, Reason.HANDLER_ERROR, text)


class HandlerError(FailureError):
    """What a handler raised, with the outcome it stands for."""

    def __init__(self, error: BaseException) -> None:
        result = result_of(error)
        super().__init__(result.error)
        self.outcome = result.outcome
        self.reason = result.reason or self.reason
        self.after = result.after_seconds


def worst(results: list[Result]) -> Result:
    """The record that decides for a message that names several objects."""
    return min(results, key=lambda result: RECORD_SEVERITY.index(result.outcome))


def worst_exit(codes: list[int]) -> int:
    """The exit code of a process that took several messages."""
    return min(codes, key=EXIT_SEVERITY.index, default=0)


def backoff_seconds(attempt: int, base: float, most: float, random: Random) -> int:
    """Exponential in the attempt number (1 for the first), full jitter, whole seconds."""
    ceiling = min(most, base * 2 ** min(attempt - 1, 32))
    # At least one second, so that a failure never comes back as a busy loop.
    return max(min(1, int(most)), round(random.uniform(0, ceiling)))

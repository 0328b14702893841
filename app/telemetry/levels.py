"""How loud an outcome is: WARNING was recovered from, ERROR needs someone."""

from app.outcomes import Outcome

# Those that are missing are well.
LEVELS = {
    Outcome.REJECTED: "error",
    Outcome.DEFECT: "error",
    Outcome.MISCONFIGURED: "error",
    Outcome.LEASE_LOST: "error",
    Outcome.RETRY: "warning",
    Outcome.INTERRUPTED: "warning",
}

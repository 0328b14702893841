"""A configuration that is not usable: one line for each complaint, and exit code 78."""

import sys
from collections.abc import Iterable

from app.outcomes import EXIT_CODES, Outcome


def refused(complaints: Iterable[str]) -> SystemExit:
    """Say what is wrong, and give the exit that is to be raised."""
    print("\n".join(complaints), file=sys.stderr)  # noqa: T201 - for people
    return SystemExit(EXIT_CODES[Outcome.MISCONFIGURED])

"""The clock leases are measured on."""

import time

# BOOTTIME goes on while the machine is suspended, as SQS's own clock does; MONOTONIC would not.
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def now() -> float:
    """Seconds on a clock that never steps and, where the system has one, never stands still."""
    return time.clock_gettime(_CLOCK)

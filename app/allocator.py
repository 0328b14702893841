"""Gives memory back that the C library holds between chunks of all sizes.

Chunks of several connections come and go in no order, and leave holes that others do not fit into:
some 15 MiB after a few gigabytes. Giving them back costs a millisecond.
"""

import ctypes
from collections.abc import Callable
from functools import cache


@cache
def _trim() -> Callable[[int], int] | None:
    try:
        found: Callable[[int], int] = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # not glibc
        return None
    return found


def give_back() -> None:
    """Let the system have what is free; nothing where the C library cannot."""
    trim = _trim()
    if trim is not None:
        trim(0)

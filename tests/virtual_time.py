"""An event loop whose clock moves only when nothing else is left to do.

Hours pass in milliseconds, in the order they would, and a test that never sleeps can still say at
which second something happened.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec

Parameters = ParamSpec("Parameters")


class _Selector(selectors.DefaultSelector):
    """Looks for events, and where there are none lets the clock jump instead of waiting."""

    def __init__(self, loop: "VirtualTimeLoop") -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        """What the standard one does, but for the waiting."""
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        found = super().select(0)
        if not found:
            self._loop.now += timeout
        return found


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """The standard library's loop with a clock of its own, which begins at 1000 seconds."""

    def __init__(self) -> None:
        self.now = 1000.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        """The virtual clock."""
        return self.now


def virtual_time(
    test: Callable[Parameters, Coroutine[Any, Any, None]],
) -> Callable[Parameters, None]:
    """Let an `async def` test run on such a loop."""

    @functools.wraps(test)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


def now() -> float:
    """The running loop's clock; `app.clock.now` in its place."""
    return asyncio.get_running_loop().time()

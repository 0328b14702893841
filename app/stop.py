"""Being told to stop: installed before anything slow is imported, this module among the first."""

import asyncio
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stop:
    """Whether, when and by which signal this process was told to stop.

    Until `attach` a signal ends the process at once: nothing is held then. As process 1 of a
    container Python would ignore SIGTERM without a handler.

    Attributes:
        signal: the first signal, None while there was none.
        at: `time.monotonic()` of it.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self.at = 0.0
        self._notify: list[Callable[[], None]] = []

    def install(self) -> None:
        """Take the signals over; from the main thread."""
        for number in SIGNALS:
            signal.signal(number, self._end_now)

    @property
    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it."""
        return 128 + (self.signal or signal.SIGTERM)

    @property
    def seconds_ago(self) -> float:
        """How long ago the signal came."""
        return time.monotonic() - self.at

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """From now on only remember the signal, and call who asked for it, on this loop."""
        for number in SIGNALS:
            loop.add_signal_handler(number, self._remember, number)

    def subscribe(self, notify: Callable[[], None]) -> None:
        """Call this, on the loop, at the first signal; at once where it has come."""
        self._notify.append(notify)
        if self.requested:
            notify()

    def unsubscribe(self, notify: Callable[[], None]) -> None:
        """Call this no more."""
        self._notify.remove(notify)

    def _remember(self, number: int) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
            self.at = time.monotonic()
            for notify in list(self._notify):
                notify()

    def _end_now(self, number: int, _: FrameType | None) -> None:
        self._remember(number)
        sys.exit(self.exit_code)

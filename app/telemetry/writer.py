"""Writes log lines from a thread of its own.

A pipe whose reader stalls would otherwise hold up the loop that keeps the lease, and one whose
reader is gone would end the process in the middle of its work.
"""

import os
import threading
from queue import SimpleQueue

# Kept for a reader that is slow; what comes on top of them is lost, and counted.
LINES_MAX = 20_000


class LineWriter:
    """A text stream that never blocks and never raises.

    Args:
        descriptor: where the lines go; None: nowhere.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._lines: SimpleQueue[str | threading.Event] = SimpleQueue()
        self._lost = 0
        self._start()
        # A child that a handler forks has the queue, but not the thread.
        os.register_at_fork(after_in_child=self._start_anew)

    def write(self, text: str) -> int:
        """Hand the text over; it is lost where too much waits already."""
        if self._lines.qsize() >= LINES_MAX:
            self._lost += 1
        else:
            self._lines.put(text)
        return len(text)

    def flush(self) -> None:
        """Lines are written as they come."""

    def take_lost(self) -> int:
        """How many lines were lost since this was last asked, while there is room again."""
        if not self._lost or self._lines.qsize() >= LINES_MAX // 2:
            return 0
        lost, self._lost = self._lost, 0
        return lost

    def drain(self, seconds: float) -> None:
        """Wait until all that was handed over is written, but no longer than this."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(seconds)

    def _start(self) -> None:
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def _start_anew(self) -> None:
        self._lines = SimpleQueue()
        self._start()

    def _run(self) -> None:
        lines = self._lines
        while True:
            line = lines.get()
            if isinstance(line, threading.Event):
                line.set()
            elif self._descriptor is not None:
                self._write(line.encode(errors="backslashreplace"))

    def _write(self, data: bytes) -> None:
        try:
            while data and self._descriptor is not None:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            # Nobody reads any more, or the disk is full: no reason to lose a message as well.
            self._descriptor = None

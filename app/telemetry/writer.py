"""Writes log lines from a thread of its own.

A pipe whose reader stalls would otherwise hold up the loop that keeps the lease, and one whose
reader is gone would end the process in the middle of its work.
"""

import os
import sys
import threading
from queue import Empty, SimpleQueue
from typing import Protocol

# Kept for a reader that is slow; what comes on top of them is lost, and counted.
LINES_MAX = 20_000


REDRAW_SECONDS = 0.25


class Footer(Protocol):
    """Something drawn below the lines on a terminal; called by the writer's thread alone."""

    def begin(self) -> bool:
        """Get ready to draw; False where that cannot be."""

    def add(self, text: str) -> None:
        """Write lines above it."""

    def redraw(self) -> None:
        """Draw it anew."""

    def end(self) -> None:
        """Take it off the screen."""


class LineWriter:
    """A text stream that never blocks and never raises.

    Args:
        descriptor: where the lines go; None: nowhere.
    """

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._lines: SimpleQueue[str | threading.Event | Footer | None] = SimpleQueue()
        self._lost = 0
        self._footer: Footer | None = None
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

    @property
    def has_footer(self) -> bool:
        """Whether something is drawn below the lines."""
        return self._footer is not None

    def draw_below(self, footer: Footer | None) -> None:
        """Keep this below all lines from here on; None: nothing any more."""
        self._lines.put(footer)

    def drain(self, seconds: float) -> None:
        """Wait until all that was handed over is written, but no longer than this."""
        written = threading.Event()
        self._lines.put(written)
        written.wait(seconds)

    def _start(self) -> None:
        threading.Thread(target=self._run, name="log", daemon=True).start()

    def _start_anew(self) -> None:
        self._lines = SimpleQueue()
        self._footer = None
        self._start()

    def _run(self) -> None:
        lines = self._lines
        while True:
            try:
                item = lines.get(timeout=REDRAW_SECONDS if self._footer else None)
            except Empty:
                self._draw()
                continue
            if isinstance(item, threading.Event):
                item.set()
            elif not isinstance(item, str):
                self._change(item)
            elif not self._draw(item) and self._descriptor is not None:
                self._write(item.encode(errors="backslashreplace"))

    def _change(self, footer: Footer | None) -> None:
        try:
            if self._footer is not None:
                self._footer.end()
            self._footer = footer if footer is not None and footer.begin() else None
        except Exception as error:  # noqa: BLE001 - said, and the lines go on without it
            self._give_up(error)

    def _draw(self, text: str = "") -> bool:
        """Whether the footer took the text."""
        try:
            if self._footer is not None and text:
                self._footer.add(text)
            elif self._footer is not None:
                self._footer.redraw()
        except Exception as error:  # noqa: BLE001 - said, and the lines go on without it
            self._give_up(error)
        return self._footer is not None

    def _give_up(self, error: Exception) -> None:
        self._footer = None
        if isinstance(error, OSError):
            self._descriptor = None  # the terminal is gone
        else:
            sys.excepthook(type(error), error, error.__traceback__)

    def _write(self, data: bytes) -> None:
        try:
            while data and self._descriptor is not None:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            # Nobody reads any more, or the disk is full: no reason to lose a message as well.
            self._descriptor = None

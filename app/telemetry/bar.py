"""A progress bar for `app run` on a terminal, below its log lines."""

import os
import sys
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any, cast

from app import clock, progress
from app.progress import Counted, Meter

if TYPE_CHECKING:
    from rich.console import RenderableType

_WIDTH = 30


class Bar:
    """How far the work is; a footer of the log's writer, whose thread alone draws it.

    Args:
        counted: how far the work is now; None while there is none.
        otherwise: what happens while there is none, in a few words.
    """

    def __init__(self, counted: Callable[[], Counted | None], otherwise: Callable[[], str]) -> None:
        self._counted = counted
        self._otherwise = otherwise
        self._meter = Meter()
        self._live: Any = None

    def begin(self) -> bool:
        """As Footer says: where rich is installed and the terminal can move its cursor."""
        try:
            from rich.console import Console
            from rich.live import Live
        except ImportError:
            return False
        console = Console(file=cast("IO[str]", _Terminal()), highlight=False)
        if not console.is_terminal or console.is_dumb_terminal:
            return False
        self._live = Live(
            get_renderable=self._picture,
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start(refresh=True)
        return True

    def add(self, text: str) -> None:
        """As Footer says."""
        from rich.text import Text

        self._live.console.print(Text.from_ansi(text.removesuffix("\n")), soft_wrap=True)

    def redraw(self) -> None:
        """As Footer says."""
        self._live.refresh()

    def end(self) -> None:
        """As Footer says."""
        self._live.stop()

    def _picture(self) -> "RenderableType":
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        counted = self._counted()
        if counted is None:
            return Text(self._otherwise(), style="dim", no_wrap=True, overflow="ellipsis")
        line = Table.grid(padding=(0, 1))
        line.add_column(no_wrap=True, overflow="ellipsis")
        line.add_column(no_wrap=True)
        line.add_column(no_wrap=True, overflow="ellipsis")
        share = counted.share
        words = progress.in_words(self._meter.look(clock.now(), counted))
        drawn = ProgressBar(1.0, share, width=_WIDTH) if share is not None else ""
        line.add_row(Text(_shown(counted.key)), drawn, Text(words))
        return line


class _Terminal:
    """Stdout without a buffer: what cannot be written is not tried again at the exit."""

    encoding = getattr(sys.__stdout__, "encoding", "utf-8")

    def write(self, text: str) -> int:
        data = text.encode(self.encoding, errors="replace")
        while data:
            data = data[os.write(1, data) :]
        return len(text)

    def flush(self) -> None:
        """Nothing is held."""

    def isatty(self) -> bool:
        return os.isatty(1)

    def fileno(self) -> int:
        return 1


def _shown(key: str) -> str:
    """The object's key without what a terminal would obey."""
    return "".join(letter if letter.isprintable() else "?" for letter in key)

"""What the demo shows: lines of news, or on a terminal a table that lives."""

import sys
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import anyio

from app.local.journal import FileView, Journal, Observation
from app.local.news import News, short
from app.local.samples import DemoFile
from app.local.verdicts import Ending

if TYPE_CHECKING:
    from rich.console import RenderableType

_REFRESH_SECONDS = 0.25
_NEWS_LINES = 8
_MB = 1_000_000
_BAR_WIDTH = 12


class Screen(Protocol):
    """Shows a demo while it runs, and its end."""

    def say(self, text: str) -> None:
        """Show a text that stays."""

    def heard(self, seen: Observation) -> None:
        """Take note of an observation."""

    async def run(self) -> None:
        """Keep what is shown up to date until cancelled."""

    def summary(self, endings: Sequence[Ending]) -> None:
        """Show how every file ended."""


class PlainScreen:
    """Lines on stdout, one for each change."""

    def __init__(self, files: Sequence[DemoFile], _: Journal) -> None:
        self._news = News(files)

    def say(self, text: str) -> None:
        """As Screen says."""
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def heard(self, seen: Observation) -> None:
        """As Screen says."""
        if line := self._news.of(seen):
            self.say(line)

    async def run(self) -> None:
        """As Screen says; lines are written as they come."""
        await anyio.sleep_forever()

    def summary(self, endings: Sequence[Ending]) -> None:
        """As Screen says."""
        for ending in endings:
            verdict = "WRONG" if ending.problem else "ok   "
            self.say(f"{verdict} {ending.file.name}: {', '.join(_cells(ending))}")
            if ending.problem:
                self.say(f"      {ending.problem}")


class LiveScreen:
    """A table on a terminal, drawn anew four times a second, with the latest news below."""

    def __init__(self, files: Sequence[DemoFile], journal: Journal) -> None:
        from rich.console import Console

        self._files = files
        self._journal = journal
        self._news = News(files)
        self._latest: deque[str] = deque(maxlen=_NEWS_LINES)
        self._console = Console(highlight=False)

    def say(self, text: str) -> None:
        """As Screen says."""
        self._console.print(text, markup=False)

    def heard(self, seen: Observation) -> None:
        """As Screen says."""
        if line := self._news.of(seen):
            self._latest.append(line)

    async def run(self) -> None:
        """As Screen says."""
        from rich.live import Live

        with Live(self._picture(), console=self._console, auto_refresh=False) as live:
            try:
                while True:
                    live.update(self._picture(), refresh=True)
                    await anyio.sleep(_REFRESH_SECONDS)
            finally:
                live.update(self._picture(), refresh=True)

    def summary(self, endings: Sequence[Ending]) -> None:
        """As Screen says."""
        from rich.table import Table
        from rich.text import Text

        table = Table("file", "outcome", "attempts", "seconds", "output, or reason", title="Files")
        for ending in endings:
            style = "red" if ending.problem else "green"
            outcome, attempts, seconds, *rest = _cells(ending)
            told = "\n".join([*rest, *filter(None, [ending.problem])])
            cells = (ending.file.name, outcome, attempts, seconds, told)
            table.add_row(*(Text(cell) for cell in cells), style=style)
        self._console.print(table)

    def _picture(self) -> "RenderableType":
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        journal = self._journal
        title = (
            f"{journal.now:.0f} s   queue: {journal.depth.visible} visible, "
            f"{journal.depth.in_flight} in flight, {journal.letters} dead letters   "
            f"pods: {len(journal.alive)}"
        )
        table = Table(
            "file", "what it is", "size", "state", "attempts", "progress", "pod", title=title
        )
        pods = {pod.key: short(pod.name) for pod in journal.alive}
        for file in self._files:
            view = journal.files[file.key]
            big = _size(view.size) if view.uploaded_at is not None else ""
            pod = pods.get(file.key, "")
            row = (file.name, file.about, big, view.state, str(view.attempts))
            table.add_row(*(Text(cell) for cell in row), _progress(view), Text(pod))
        return Group(table, Text("\n".join(self._latest), style="dim"))


def _progress(view: FileView) -> "RenderableType":
    """A bar where the share is known, and the rest in words."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    if view.percent is None:
        return Text(view.progress)
    cell = Table.grid(padding=(0, 1))
    cell.add_row(ProgressBar(100, view.percent, width=_BAR_WIDTH), Text(view.progress))
    return cell


def _size(count: int) -> str:
    return f"{count / _MB:.1f} MB" if count >= _MB else f"{count} bytes"


def _cells(ending: Ending) -> list[str]:
    attempts = f"{ending.attempts} attempt" + ("" if ending.attempts == 1 else "s")
    seconds = "-" if ending.seconds is None else f"{ending.seconds:.1f} s"
    return [ending.outcome, attempts, seconds, *ending.outputs, *filter(None, [ending.reason])]

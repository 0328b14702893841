"""The figures in docs/performance.md: each bench writes its own part, between its marks."""

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

PERFORMANCE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def write_part(name: str, text: str) -> None:
    """Put the text between the marks of this name.

    Raises:
        ValueError: the page has no such marks.
    """
    page = PERFORMANCE.read_text()
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, found, rest = page.partition(begin)
    _, ended, tail = rest.partition(end)
    if not (found and ended):
        raise ValueError(f"{PERFORMANCE.name} has no place for {name}")
    PERFORMANCE.write_text(head + begin + text + end + tail)
    print(f"written to {PERFORMANCE.relative_to(PERFORMANCE.parents[1])}")


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, aligned for reading as it is."""
    every = [head, *rows]
    widths = [max(len(row[at]) for row in every) for at in range(len(head))]

    def line(row: Sequence[str]) -> str:
        first, *others = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        numbers = [cell.strip().rjust(len(cell)) for cell in others]
        return "| " + " | ".join([first, *numbers]) + " |"

    rule = "|" + "|".join(
        ["-" * (widths[0] + 2)] + ["-" * (width + 1) + ":" for width in widths[1:]]
    )
    return "\n".join([line(head), rule + "|", *map(line, rows)]) + "\n"


def machine() -> str:
    """What the figures were measured on, in a sentence."""
    cores = Path("/proc/cpuinfo").read_text().count("processor\t")
    today = datetime.now(UTC).date().isoformat()
    return f"Measured {today} on {cores} cores, Linux, Python {platform.python_version()}."

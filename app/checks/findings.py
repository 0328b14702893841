"""A finding: what is wrong, what would come of it, and the command that mends it."""

from collections.abc import Iterable
from enum import StrEnum

import msgspec


class Level(StrEnum):
    """How bad; worst first.

    An error would lose or repeat work. A warning will hurt some day. A note says what could not
    be looked at.
    """

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Finding(msgspec.Struct, frozen=True):
    """One thing that is not as it should be.

    Attributes:
        name: the same for every finding of this kind, for scripts.
        text: what is there, and what would happen.
        mend: what to do about it, as a command where there is one.
    """

    level: Level
    name: str
    text: str
    mend: str = ""

    @property
    def line(self) -> str:
        """For people, on one line."""
        told = f"{self.level:7}  {self.name}: {self.text}"
        line = f"{told}; mend: {self.mend}" if self.mend else told
        return " ".join(line.split("\n"))


def error(name: str, text: str, mend: str = "") -> Finding:
    """What would lose or repeat work."""
    return Finding(Level.ERROR, name, text, mend)


def warning(name: str, text: str, mend: str = "") -> Finding:
    """What will hurt some day."""
    return Finding(Level.WARNING, name, text, mend)


def note(name: str, text: str, mend: str = "") -> Finding:
    """What could not be looked at."""
    return Finding(Level.NOTE, name, text, mend)


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """The findings in order of their levels, each once."""
    order = list(Level)
    return sorted(dict.fromkeys(findings), key=lambda one: order.index(one.level))

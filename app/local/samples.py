"""The files of the demo: the user's own, or samples that are made while it runs."""

import gzip
import os
import random
import stat
import unicodedata
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

_PREFIX = "incoming/"
# Rows of 45 bytes: 60 MB before compression.
_LARGE_ROWS = 1_340_000
_ROWS_A_BLOCK = 10_000


class Expected(Enum):
    """How a file of the demo should end."""

    DONE = "done"
    REJECTED = "rejected"
    INTERRUPTED_THEN_DONE = "done after an interruption"
    DONE_ONCE = "done once, though its event comes twice"


@dataclass(frozen=True, slots=True)
class DemoFile:
    """One file to upload.

    Attributes:
        about: what it is there for, in a few words.
        make: writes it to a path, in chunks; None where it is on the disk already.
        path: where it is; None where it has to be made.
    """

    key: str
    expected: Expected
    about: str
    make: Callable[[Path], None] | None = None
    path: Path | None = None

    @property
    def name(self) -> str:
        """The key as it is shown: without the prefix, and fit for a terminal."""
        shown = self.key.removeprefix(_PREFIX)
        return "".join(
            letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown
        )


def built_in() -> list[DemoFile]:
    """The samples: one for each thing that the demo shows."""
    done, poison, stopped, once = Expected
    return [
        DemoFile(f"{_PREFIX}cities.csv", once, "a small CSV file, told of twice", _cities),
        DemoFile(f"{_PREFIX}note.json", done, "any other file: size and SHA-256", _note),
        DemoFile(f"{_PREFIX}poison.csv.gz", poison, "corrupt gzip data", _corrupt),
        DemoFile(f"{_PREFIX}orders.csv.gz", stopped, "its first pod is stopped half-way", _orders),
        DemoFile(f"{_PREFIX}readings.csv.gz", done, "60 MB of CSV, compressed", _readings),
    ]


def own(paths: Sequence[Path]) -> list[DemoFile]:
    """The user's files, each under a key of its own even where names are the same.

    Raises:
        ValueError: with one line for each that cannot be uploaded.
    """
    complaints = [f"{path}: {why}" for path in paths if (why := _unfit(path))]
    if complaints:
        raise ValueError("\n".join(complaints))
    return [
        DemoFile(key, Expected.DONE, "your file", path=path)
        for key, path in zip(_keys([path.name for path in paths]), paths, strict=True)
    ]


def _unfit(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "there is no such file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if not stat.S_ISREG(mode):
        return "is a directory: expected a file" if stat.S_ISDIR(mode) else "is not a regular file"
    if not os.access(path, os.R_OK):
        return "may not be read"
    # Bytes that are no UTF-8 stand in a path as lone surrogates.
    if any(unicodedata.category(letter) == "Cs" for letter in path.name):
        return "has a name that is not UTF-8, which no object key can be"
    return ""


def _keys(names: Sequence[str]) -> Iterator[str]:
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        # A file's name holds no slash, so that a numbered folder meets no other key.
        folder = f"{seen[name]}/" if seen[name] > 1 else ""
        yield f"{_PREFIX}{folder}{name}"


def _cities(path: Path) -> None:
    path.write_text(
        "city,country,population,founded\n"
        "Oslo,NO,717710,1048\nPorto,PT,231800,\nSplit,HR,160577,305\nTurku,FI,201863,1229\n"
    )


def _note(path: Path) -> None:
    path.write_text('{"subject": "any file will do", "lines": [1, 2, 3]}\n')


def _corrupt(path: Path) -> None:
    packed = bytearray(zlib.compress(b"id,amount\n" + b"7,19.90\n" * 50_000, wbits=31))
    middle = len(packed) // 2
    packed[middle : middle + 16] = bytes(16)
    path.write_bytes(packed)


def _orders(path: Path) -> None:
    _write_large(path, "order_id,customer,amount,weight,city", seed=1)


def _readings(path: Path) -> None:
    _write_large(path, "reading_id,sensor,value,error,station", seed=2)


def _write_large(path: Path, header: str, seed: int) -> None:
    """Gzip some 60 MB of CSV into `path`, a block of rows at a time."""
    dice = random.Random(seed)
    places = ("Aarhus", "Bergen", "Coimbra", "Dubrovnik", "Espoo")
    # More than gzip looks back, so that the file packs no better than data does.
    tails = [
        f"name-{dice.randrange(50_000):05},{dice.random() * 1e4:.4f},"
        f"{dice.gauss(0, 1):.6f},{dice.choice(places)}\n"
        for _ in range(20_000)
    ]
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(f"{header}\n".encode())
        for first in range(0, _LARGE_ROWS, _ROWS_A_BLOCK):
            rows = enumerate(dice.choices(tails, k=_ROWS_A_BLOCK), first)
            file.write("".join(f"{row},{tail}" for row, tail in rows).encode())

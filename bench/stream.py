"""A large object read by this program and by its peers, each a process of its own, in turn.

From an origin as fast as loopback goes, and from one that gives each connection what S3 does; and
how much memory the program takes for an object of 256 MiB and of 8 GiB. Writes its tables to
docs/performance.md.
"""

import argparse
import json
import random
import statistics
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from environments import BENCH, REQUIREMENTS, RIVALS, python_with
from report import machine, table, write_part
from s3_origins import Origin, environment, paced, unshaped, write_object

MIB, GIB = 1 << 20, 1 << 30
READERS = {
    "app": "this program, verified",
    "app-wide": "this program, 128 MiB ahead",
    "boto3": "boto3, one stream",
    "aioboto3": "aioboto3, one stream",
    "obstore": "obstore, 8 ranges",
    "obstore-wide": "obstore, 8 ranges, 128 MiB",
    "crt": "AWS CRT (s3transfer), 8 connections",
    "s5cmd": "s5cmd cat, 8 parts",
}
LARGE, SMALL, HUGE = "large", "small", "huge"
TO_BOTO3_LEAST, TO_OBSTORE_MOST = 7.0, 1.1
CPU_TO_AIOBOTO3_MOST = 1.2
GROWTH_MOST, PEAK_MOST = 8 * MIB, 200 * MIB


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took."""

    bytes: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int

    @property
    def rate(self) -> float:
        """MiB a second."""
        return self.bytes / MIB / self.seconds

    @property
    def cpu(self) -> float:
        """Seconds of the processor for a GiB."""
        return self.cpu_seconds / (self.bytes / GIB)


@dataclass(frozen=True, slots=True)
class Result:
    """What the runs of one reader took: the medians."""

    rate: float
    cpu: float
    peak: float

    @classmethod
    def of(cls, runs: Sequence[Run]) -> "Result":
        """The medians of these runs."""
        return cls(
            statistics.median(run.rate for run in runs),
            statistics.median(run.cpu for run in runs),
            statistics.median(run.peak_bytes for run in runs),
        )


def read_once(python: Path, reader: str, origin: Origin, key: str) -> Run:
    """One process that reads the object.

    Raises:
        RuntimeError: it did not end well.
    """
    done = subprocess.run(
        [python, BENCH / "readers.py", reader, origin.endpoint, key],
        env=environment(origin),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"{reader} exited {done.returncode}:\n{done.stderr}")
    return Run(**json.loads(done.stdout))


def compare(python: Path, origin: Origin, rounds: int) -> dict[str, Result]:
    """Interleaved rounds, so that what else the machine does falls on all alike."""
    runs: dict[str, list[Run]] = defaultdict(list)
    for turn in range(rounds):
        for reader in READERS:
            run = read_once(python, reader, origin, LARGE)
            runs[reader].append(run)
            print(
                f"{origin.name:9} {turn + 1}/{rounds} {reader:12} {run.rate:6.0f} MiB/s "
                f"{run.cpu:5.2f} CPU s/GiB {run.peak_bytes / MIB:5.0f} MiB",
                flush=True,
            )
    return {reader: Result.of(some) for reader, some in runs.items()}


def memory(python: Path, origin: Origin) -> tuple[int, int]:
    """The most that the program held for the small and for the huge object."""
    small, huge = (
        statistics.median_low(read_once(python, "app", origin, key).peak_bytes for _ in range(3))
        for key in (SMALL, HUGE)
    )
    print(f"{origin.name:9} peak {small / MIB:.0f} MiB of 256 MiB, {huge / MIB:.0f} of 8 GiB")
    return small, huge


def compared(results: dict[str, Result], baseline: str) -> str:
    """The table of one origin, beside one of the peers."""
    base = results[baseline]
    rows = [
        (
            READERS[reader],
            f"{one.rate:.0f}",
            f"{one.rate / base.rate:.2f}",
            f"{one.cpu:.2f}",
            f"{one.cpu / base.cpu:.2f}",
            f"{one.peak / MIB:.0f}",
        )
        for reader, one in results.items()
    ]
    head = ("", "MiB/s", f"to {baseline}", "CPU s/GiB", f"to {baseline}", "peak MiB")
    return table(head, rows)


def targets(
    fast: dict[str, Result], slow: dict[str, Result], held: dict[str, tuple[int, int]]
) -> str:
    """What was set out to be reached, and what was."""
    app, wide = slow["app"], slow["app-wide"]
    grown = {name: f"{(huge - small) / MIB:.1f} MiB" for name, (small, huge) in held.items()}
    peak = max(max(both) for both in held.values())
    to_obstore = slow["obstore"].rate / app.rate
    to_obstore_wide = slow["obstore-wide"].rate / wide.rate
    cpu = fast["app"].cpu / fast["aioboto3"].cpu
    rows = [
        *(
            (f"paced: to boto3's one stream, {ahead}", f">= {TO_BOTO3_LEAST}", f"{ratio:.2f}")
            for ahead, ratio in (
                ("64 MiB", app.rate / slow["boto3"].rate),
                ("128 MiB", wide.rate / slow["boto3"].rate),
            )
        ),
        ("paced: obstore's rate to this", f"<= {TO_OBSTORE_MOST}", f"{to_obstore:.2f}"),
        ("the same, 128 MiB", f"<= {TO_OBSTORE_MOST}", f"{to_obstore_wide:.2f}"),
        ("unshaped: CPU to aioboto3's", f"<= {CPU_TO_AIOBOTO3_MOST}", f"{cpu:.2f}"),
        *(
            (f"{name}: peak, 8 GiB less 256 MiB", f"< {GROWTH_MOST // MIB} MiB", more)
            for name, more in grown.items()
        ),
        ("peak", f"< {PEAK_MOST // MIB} MiB", f"{peak / MIB:.0f} MiB"),
    ]
    return table(("", "target", "measured"), rows)


def measure(rounds: int) -> str:
    """All of it, as text for the page."""
    python = python_with(REQUIREMENTS, RIVALS)
    held: dict[str, tuple[int, int]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-stream-") as name:
        folder = Path(name)
        write_object(folder / LARGE, 2 * GIB, random.randbytes(16 * MIB))
        write_object(folder / SMALL, 256 * MIB, b"")
        write_object(folder / HUGE, 8 * GIB, b"")
        with unshaped(folder) as origin:
            fast = compare(python, origin, rounds)
            held[origin.name] = memory(python, origin)
        with paced(folder) as origin:
            slow = compare(python, origin, rounds)
            held[origin.name] = memory(python, origin)
    return "\n".join(
        [
            f"{machine()} 2 GiB, medians of {rounds} interleaved rounds.\n",
            "As S3 gives it (80 MB/s a connection, 30 ms to the first byte):\n",
            compared(slow, "boto3"),
            "As fast as loopback goes (nginx, unshaped):\n",
            compared(fast, "aioboto3"),
            targets(fast, slow, held),
        ]
    )


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="of each reader (default 5)")
    parser.add_argument("--dry-run", action="store_true", help="print only")
    told = parser.parse_args()
    text = measure(told.rounds)
    print(f"\n{text}")
    if not told.dry_run:
        write_part("bench-stream", text)


if __name__ == "__main__":
    main()

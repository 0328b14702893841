"""How late heartbeats are while a handler blocks its loop, and how long a stop takes.

Real processes, real signals, one local AWS. The lateness of a renewal is what the process itself
measures, from when it was due to when it was sent.
"""

import argparse
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from local_aws import environment, local_aws, rest_of, wait_for
from signal_handlers import BLOCKED_SECONDS

from app.local.stack import Stack

LATE_SECONDS_MAX = 0.2
COOPERATIVE_SECONDS_MAX = 1.0
GRACE_SECONDS = 3


@dataclass(frozen=True, slots=True)
class Bench:
    """The local AWS and a folder for the processes on it."""

    stack: Stack
    folder: Path

    @contextmanager
    def handling(self, key: str, **env: str) -> Iterator["subprocess.Popen[str]"]:
        """A process whose handler has begun to work on a fresh object."""
        s3, sqs = self.stack.client("s3"), self.stack.client("sqs")
        # A message that the run before has released is not what this one is about.
        found = sqs.receive_message(QueueUrl=self.stack.queue_url, MaxNumberOfMessages=10)
        for message in found.get("Messages", []):
            handle = message["ReceiptHandle"]
            sqs.delete_message(QueueUrl=self.stack.queue_url, ReceiptHandle=handle)
        s3.put_object(Bucket=self.stack.input_bucket, Key=key, Body=b"x")
        process = subprocess.Popen(
            [sys.executable, "-m", "app", "run"],
            cwd=self.folder,
            env=environment(
                self.stack, self.folder, HANDLERS="signal_handlers:ROUTES", MAX_ATTEMPTS="99", **env
            ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            wait_for(process, "handling")
            yield process
        finally:
            process.kill()
            process.communicate()

    def lateness(self) -> list[float]:
        """Of every renewal while a handler blocks its loop, in seconds."""
        with self.handling("blocking/one", VISIBILITY_TIMEOUT="3") as process:
            lines = rest_of(process)
            return [line["late_seconds"] for line in lines if line["event"] == "lease_renewed"]

    def stop(self, key: str) -> tuple[float, int]:
        """Seconds from SIGTERM to the exit, and its code."""
        with self.handling(key, GRACE_SECONDS=str(GRACE_SECONDS)) as process:
            began = time.perf_counter()
            process.send_signal(signal.SIGTERM)
            rest_of(process)
            code = process.wait()
            return time.perf_counter() - began, code


def line(what: str, figures: list[float], expected: str, *, met: bool) -> bool:
    """Print one line of the table; whether the target is met."""
    middle, most = statistics.median(figures), max(figures)
    verdict = "met" if met else "MISSED"
    print(
        f"{what:44} {len(figures):4} {middle * 1e3:8.1f} ms {most * 1e3:8.1f} ms  "
        f"{expected}: {verdict}",
        flush=True,
    )
    return met


def main() -> None:
    """Measure and print; exit 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7, help="of the stops (default 7)")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory(prefix="bench-signals-") as name:
        folder = Path(name)
        with local_aws(folder) as stack:
            bench = Bench(stack, folder)
            print(f"{'':44} {'n':>4} {'median':>11} {'most':>11}", flush=True)
            late = bench.lateness()
            results = [
                line(
                    f"heartbeats late, loop blocked for {BLOCKED_SECONDS} s",
                    late,
                    f"under {LATE_SECONDS_MAX} s",
                    met=max(late) < LATE_SECONDS_MAX,
                )
            ]
            took = [bench.stop("waiting/one") for _ in range(runs)]
            seconds = [one for one, code in took if code == 128 + signal.SIGTERM]
            results.append(
                line(
                    "SIGTERM to exit, cooperative handler",
                    seconds,
                    f"exit 143, under {COOPERATIVE_SECONDS_MAX} s",
                    met=len(seconds) == runs and max(seconds) < COOPERATIVE_SECONDS_MAX,
                )
            )
            took = [bench.stop("blocking/one") for _ in range(max(1, runs // 3))]
            seconds = [one for one, code in took if code == 128 + signal.SIGTERM]
            results.append(
                line(
                    f"SIGTERM to exit, loop blocked, grace {GRACE_SECONDS} s",
                    seconds,
                    "exit 143, at the grace",
                    met=len(seconds) == len(took)
                    and all(GRACE_SECONDS - 1 < one <= GRACE_SECONDS for one in seconds),
                )
            )
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main()

"""The whole life of a one-message process on a 1 kB object, beside scripts without the safety.

`app run` is measured beside the same calls over plain boto3 and over bare aiobotocore, each as a
fresh process from its start to its exit, against one local AWS. All three run in an environment
with the runtime packages only: what is installed beside them is imported by some of them.
"""

import argparse
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from environments import BENCH, REQUIREMENTS, python_with
from local_aws import environment, local_aws

OBJECT = bytes(range(256)) * 4
TARGET_TO_AIOBOTOCORE, AIM_TO_BOTO3 = 1.25, 1.5


@dataclass(slots=True)
class Contestant:
    """One program, and what its runs took."""

    name: str
    arguments: tuple[str, ...]
    wall_seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)

    @property
    def wall(self) -> float:
        """The median, from start to exit."""
        return statistics.median(self.wall_seconds)

    @property
    def cpu(self) -> float:
        """The median of the processor's time."""
        return statistics.median(self.cpu_seconds)


def run_once(contestant: Contestant, python: Path, env: Mapping[str, str], folder: Path) -> None:
    """One process, from its start to its exit.

    Raises:
        RuntimeError: it did not end well.
    """
    with (folder / "output").open("wb") as output:
        began = time.perf_counter()
        process = subprocess.Popen(
            [python, *contestant.arguments],
            cwd=folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        text = (folder / "output").read_text(errors="replace")
        raise RuntimeError(f"{contestant.name} exited {process.returncode}:\n{text}")
    contestant.wall_seconds.append(took)
    contestant.cpu_seconds.append(used.ru_utime + used.ru_stime)


def measure(runs: int) -> tuple[Contestant, Contestant, Contestant]:
    """Interleaved runs, so that what else the machine does falls on all alike."""
    python = python_with(REQUIREMENTS)
    boto3 = Contestant("boto3, no safety", (str(BENCH / "bare_boto3.py"),))
    bare = Contestant("aiobotocore, no safety", (str(BENCH / "bare_aiobotocore.py"),))
    app = Contestant("app run", ("-m", "app", "run"))
    with tempfile.TemporaryDirectory(prefix="bench-start-") as name:
        folder = Path(name)
        with local_aws(folder) as stack:
            env = environment(stack, folder, OUTPUT_BUCKET=stack.output_bucket)
            s3 = stack.client("s3")
            for turn in range(runs + 1):
                for contestant in (boto3, bare, app):
                    # The bucket itself sends the message.
                    s3.put_object(Bucket=stack.input_bucket, Key="small.bin", Body=OBJECT)
                    run_once(contestant, python, env, folder)
                    if turn == 0:  # a warm-up: caches of the disk, and compiled modules
                        contestant.wall_seconds.clear()
                        contestant.cpu_seconds.clear()
    return boto3, bare, app


def show(boto3: Contestant, bare: Contestant, app: Contestant) -> None:
    """The table, and whether the target is met."""
    print(f"\nwhole life of a one-message process, 1 kB object, {len(app.wall_seconds)} runs each")
    print(f"{'':24} {'median':>9} {'least':>9} {'cpu':>9} {'to boto3':>9} {'to aiobotocore':>15}")
    for one in (boto3, bare, app):
        print(
            f"{one.name:24} {one.wall * 1e3:6.0f} ms {min(one.wall_seconds) * 1e3:6.0f} ms "
            f"{one.cpu * 1e3:6.0f} ms {one.wall / boto3.wall:9.2f} {one.wall / bare.wall:15.2f}"
        )
    met = "met" if app.wall / bare.wall <= TARGET_TO_AIOBOTOCORE else "MISSED"
    print(
        f"target: at most {TARGET_TO_AIOBOTOCORE} of aiobotocore: {met}; "
        f"aim: {AIM_TO_BOTO3} of boto3"
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=15, help="of each program (default 15)")
    show(*measure(parser.parse_args().runs))


if __name__ == "__main__":
    main()

"""`app scale`: the local scaler for any queue, as KEDA and the kubelet would treat its pods."""

import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

import anyio
import click

from app.local.depth import DepthReader, PollError
from app.local.keda import QueueDepth, ScaledJob, Strategy, Trigger
from app.local.pods import WORKER_COMMAND, Launcher, Pod
from app.local.replicas import Scaler
from app.local.signals import run_until_signalled
from app.outcomes import EXIT_CODES, Outcome
from app.settings import SettingsError

# From a worker's own GRACE_SECONDS to SIGKILL, so that it can end by itself.
_KILL_MARGIN_SECONDS = 5.0
_DEFAULT_GRACE_SECONDS = 50.0


@click.command()
@click.option(
    "--polling-interval",
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    help="Between two looks at the queue.",
)
@click.option(
    "--max-replicas",
    default=10,
    show_default=True,
    type=click.IntRange(min=1),
    help="Most pods at once.",
)
@click.option(
    "--min-replicas",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="Pods that run even when the queue is empty.",
)
@click.option(
    "--queue-length",
    default=1,
    show_default=True,
    type=click.IntRange(min=1),
    help="Messages a pod is launched for.",
)
@click.option(
    "--strategy",
    default=Strategy.ACCURATE.value,
    show_default=True,
    type=click.Choice([strategy.value for strategy in Strategy]),
    help="How KEDA reckons with pods that run already; `custom` has no parameters here "
    "and falls back to `default`, as in KEDA.",
)
@click.option(
    "--until-idle",
    is_flag=True,
    help="Exit 0 once two polls found the queue empty and no pod running.",
)
def scale(
    polling_interval: float,
    max_replicas: int,
    min_replicas: int,
    queue_length: int,
    strategy: str,
    *,
    until_idle: bool,
) -> None:
    """Poll QUEUE_URL as KEDA does and launch `run` processes as pods.

    Pods inherit the environment, and get POD_NAME, JOB_NAME, READY_FILE and TERMINATION_LOG of
    their own. What they write goes to this command's stdout and stderr, line by line. On SIGTERM
    or SIGINT they get SIGTERM and GRACE_SECONDS to end; a second signal kills them.
    """
    if min_replicas > max_replicas:
        raise click.UsageError("--min-replicas must not exceed --max-replicas")
    if until_idle and min_replicas:
        raise click.UsageError("--until-idle never comes to an end with --min-replicas above 0")
    trigger = Trigger(queue_length, scale_on_in_flight=False)
    job = ScaledJob(trigger, Strategy(strategy), min_replicas, max_replicas)
    try:
        code = scale_queue(job, polling_interval, os.environ, until_idle=until_idle)
    except SettingsError as error:
        click.echo(error, err=True)
        code = EXIT_CODES[Outcome.MISCONFIGURED]
    sys.exit(code)


def scale_queue(
    job: ScaledJob,
    polling_seconds: float,
    env: Mapping[str, str],
    command: Sequence[str] = WORKER_COMMAND,
    *,
    until_idle: bool = False,
) -> int:
    """Scale the queue that `env` names until stopped or idle; the process's exit code.

    Raises:
        SettingsError: naming what is wrong with the environment or the queue.
    """
    queue_url, grace_seconds = read_environment(env)
    with tempfile.TemporaryDirectory(prefix="pods-") as folder:
        scaler = Scaler(
            job,
            DepthReader(queue_url),
            Launcher(env, Path(folder), command).launch,
            _Printer(),
            polling_seconds=polling_seconds,
            grace_seconds=grace_seconds + _KILL_MARGIN_SECONDS,
        )
        if until_idle:
            scaler.drain()
        stopped_by = anyio.run(run_until_signalled, scaler.run, scaler.hurry)
    return 0 if stopped_by is None else 128 + stopped_by


def read_environment(env: Mapping[str, str]) -> tuple[str, float]:
    """QUEUE_URL and GRACE_SECONDS, the only variables the scaler uses itself.

    Raises:
        SettingsError: with one line per variable that is missing or wrong.
    """
    complaints = []
    queue_url = env.get("QUEUE_URL", "").strip()
    if not queue_url.startswith(("http://", "https://")):
        found = f"{queue_url!r} is not usable" if queue_url else "is not set"
        complaints.append(f"QUEUE_URL: {found}: expected the URL of an SQS queue")
    grace = env.get("GRACE_SECONDS", "").strip()
    try:
        grace_seconds = float(grace) if grace else _DEFAULT_GRACE_SECONDS
        usable = 1 <= grace_seconds <= 3600  # noqa: PLR2004 - the range of the worker's own
    except ValueError:
        usable = False
    if not usable:
        complaints.append(
            f"GRACE_SECONDS: {grace!r} is not usable: expected a number from 1 to 3600"
        )
    if complaints:
        raise SettingsError(complaints)
    return queue_url, grace_seconds


class _Printer:
    """Pods' lines to the stream they were written to, the scaler's own news to stderr."""

    def __init__(self) -> None:
        self._last_news = ""

    def polled(self, depth: QueueDepth, running: int, pending: int, created: int) -> None:
        news = (
            f"queue: {depth.visible} visible, {depth.in_flight} in flight, {depth.delayed} delayed"
            f"; pods: {running} running, {pending} of them pending; launching {created}"
        )
        # What a poll finds again is no news.
        if news != self._last_news or created:
            _write(sys.stderr, news)
        self._last_news = news

    def poll_failed(self, error: PollError) -> None:
        self._last_news = ""
        _write(sys.stderr, f"queue: cannot be read, trying again: {error}")

    def pod_started(self, pod: Pod) -> None:
        _write(sys.stderr, f"pod {pod.name}: started")

    def pod_line(self, _: Pod, line: str, stream: str) -> None:
        _write(sys.stdout if stream == "stdout" else sys.stderr, line)

    def pod_ended(self, pod: Pod, exit_code: int) -> None:
        told = f": {pod.termination_message}" if pod.termination_message else ""
        _write(sys.stderr, f"pod {pod.name}: ended with {exit_code}{told}")


def _write(stream: TextIO, line: str) -> None:
    try:
        stream.write(f"{line}\n")
        stream.flush()
    except BrokenPipeError:
        # Nobody reads any more: stop as if told to, with the pods' grace, and write no further.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        signal.raise_signal(signal.SIGTERM)

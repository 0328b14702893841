"""`app demo`: the whole system on this machine, with the user's files or built-in samples."""

import os
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import anyio
import click

from app.local import samples
from app.local.journal import Journal
from app.local.rehearsal import Rehearsal
from app.local.report import Run, page
from app.local.samples import DemoFile
from app.local.screen import LiveScreen, PlainScreen, Screen
from app.local.signals import run_until_signalled
from app.local.stack import clean_environment
from app.outcomes import EXIT_CODES, Outcome

_MISCONFIGURED = EXIT_CODES[Outcome.MISCONFIGURED]
_EXTRA = "pip install 'sqs-file-processor[local]'"

_BEFORE = """\
The whole system on this machine: a local SQS and S3, and one worker process for each message.
Each upload makes S3 send a message; the scaler looks at the queue every second and launches pods
by KEDA's arithmetic; a pod takes one message, works on its file, commits the output, deletes the
message and exits."""

_AFTER_OWN = """\
Each file had a process of its own, whose message was deleted only after its output was committed.
Outputs and dead letters above were read from the bucket and the queue before they were thrown away.
"""

_AFTER_SAMPLES = """\
What you have just seen:
- every message had a process of its own, launched because the message waited for it (one message
  more than there are files: the test event that S3 sends when a notification is set up);
- two compressed files of 60 MB of CSV each went through as streams, never whole in memory;
- the first pod of orders.csv.gz got SIGTERM in the middle: it saved a checkpoint, gave the message
  back at once and left no output behind, and a second pod went on at the checkpoint;
- the event of cities.csv came twice: the ledger knew the work, and the second had no effect;
- poison.csv.gz is in the dead-letter queue with the reason, and left no output;
- a message was deleted only after its output was committed."""


@click.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path), metavar="[FILE]...")
@click.option(
    "--report",
    type=click.Path(path_type=Path),
    metavar="FILE.html",
    help="Write what happened as one page of HTML.",
)
def demo(files: tuple[Path, ...], report: Path | None) -> None:
    """Run the whole system on this machine: a local SQS and S3, files, one process a message.

    Without FILE it brings samples of its own. It needs no AWS account, and ignores AWS_*, QUEUE_URL
    and the worker's other variables. Handlers are found with the working directory first. Exits 0
    only if every file ended as it should.
    """
    if missing := [name for name in ("moto", "flask", "rich") if find_spec(name) is None]:
        click.echo(f"demo: not installed: {', '.join(missing)}: {_EXTRA}", err=True)
        sys.exit(_MISCONFIGURED)
    try:
        chosen = samples.own(files) if files else samples.built_in()
        if report is not None:
            _try_to_write(report, files)
    except ValueError as error:
        click.echo(error, err=True)
        sys.exit(_MISCONFIGURED)
    # The caller's credentials, profiles and endpoints are not for this process either.
    env = clean_environment(os.environ)
    os.environ.clear()
    os.environ.update(env)
    sys.exit(_run(chosen, _BEFORE, _AFTER_OWN if files else _AFTER_SAMPLES, report))


def _try_to_write(report: Path, files: Sequence[Path]) -> None:
    """Find out before the demo whether its page can be written, without harm to what is there.

    Raises:
        ValueError: it cannot, or would be written over one of the files.
    """
    if report.exists() and any(report.samefile(file) for file in files):
        raise ValueError(f"--report: {report}: is one of the files to upload")
    try:
        with report.open("a"):
            pass
    except OSError as error:
        raise ValueError(f"--report: {report}: cannot be written: {error.strerror}") from None


def _run(files: Sequence[DemoFile], before: str, after: str, report: Path | None) -> int:
    """Show a rehearsal from beginning to end; the process's exit code."""
    # A terminal that cannot show a letter of a file's name shows a question mark.
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    journal = Journal([file.key for file in files])
    screen: Screen = (LiveScreen if sys.stdout.isatty() else PlainScreen)(files, journal)
    journal.listeners.append(screen.heard)
    screen.say(f"{before}\n")
    with tempfile.TemporaryDirectory(prefix="demo-", ignore_cleanup_errors=True) as folder:
        rehearsal = Rehearsal(files, journal, os.environ, Path(folder))

        async def show() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(screen.run)
                await rehearsal.run()
                group.cancel_scope.cancel()

        stopped_by = anyio.run(run_until_signalled, show, rehearsal.hurry)
    if stopped_by is not None:
        rehearsal.troubles.append("the demo was stopped before its end")
        screen.say("\nStopped; its processes and temporary files are gone.")
    code = 128 + stopped_by if stopped_by is not None else _conclude(rehearsal, screen, after)
    if report is None:
        return code
    written = _write(report, Run(files, journal, rehearsal.endings, rehearsal.troubles), screen)
    return code if written else code or 1


def _write(report: Path, run: Run, screen: Screen) -> bool:
    """Whether the page could be written."""
    try:
        report.write_text(page(run), encoding="utf-8")
    except OSError as error:
        click.echo(f"--report: {report}: cannot be written: {error.strerror}", err=True)
        return False
    screen.say(f"\nThe whole story, with pictures: {report}")
    return True


def _conclude(rehearsal: Rehearsal, screen: Screen, after: str) -> int:
    screen.say("")
    screen.summary(rehearsal.endings)
    for trouble in rehearsal.troubles:
        screen.say(trouble)
    if rehearsal.misconfigured:
        return _MISCONFIGURED
    wrong = sum(bool(ending.problem) for ending in rehearsal.endings)
    if wrong or rehearsal.troubles:
        screen.say(f"\nNot as it should be: {wrong} of {len(rehearsal.endings)} files.")
        return 1
    screen.say(f"\n{after}")
    return 0

"""The demo: its exit code, what it prints, and that nothing is left behind."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness.launch import WAIT, handlers_module
from harness.process import REPOSITORY

from app.local import demo as demo_module
from app.local import rehearsal, samples
from app.local.journal import FileView, Journal
from app.local.samples import DemoFile, Expected
from app.local.verdicts import Left, Letter, judge

CALLER = {
    "AWS_ACCESS_KEY_ID": "the caller's",
    "AWS_SECRET_ACCESS_KEY": "the caller's",
    "AWS_PROFILE": "the caller's",
    "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
    "QUEUE_URL": "the caller's",
    "ALLOWED_BUCKETS": "the caller's",
    "HTTP_PROXY": "http://127.0.0.1:1",
}
# Every file is done, save that the poison is rejected and the orders wait to be stopped once.
AS_IT_SHOULD = """
async def handle(job):
    if "poison" in job.object.key:
        raise Reject("it is poison")
    while "orders" in job.object.key and job.resume is None:
        await job.checkpoint()
        await asyncio.sleep(0.01)
    async with job.output(job.object.key) as out:
        await out.write(b"done")
"""


class _Demo:
    """`app demo` as a process, in a working directory with handlers of the test's own."""

    def __init__(self, folder: Path, handlers: str, *arguments: str, stdout: int) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        (folder / "handlers.py").write_text(handlers_module(handlers))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "app", "demo", *arguments],
            cwd=folder,
            env={
                **CALLER,
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(REPOSITORY),
                "TMPDIR": str(self.temporary),
                "TERM": "xterm",
            },
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def lines(self) -> Iterator[str]:
        assert self.process.stdout
        while line := self.process.stdout.readline():
            yield line

    def end(self) -> int:
        """The exit code; kills what should have ended, and looks for what is left behind."""
        try:
            code = self.process.wait(60)
        finally:
            self.process.kill()
            if self.process.stdout:
                self.process.stdout.close()
        assert list(self.temporary.iterdir()) == []
        assert _processes_with(f"TMPDIR={self.temporary}") == []
        return code


def _processes_with(variable: str) -> list[str]:
    """The command lines of processes that were started with this in their environment."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append((folder / "cmdline").read_text())
        except OSError:
            continue
    return found


def _run(folder: Path, handlers: str, *arguments: str) -> tuple[int, str]:
    demo = _Demo(folder, handlers, *arguments, stdout=subprocess.PIPE)
    text = "".join(demo.lines())
    return demo.end(), text


def test_the_samples_end_as_they_should(tmp_path: Path) -> None:
    """Done, rejected with its letter, done after an interruption: told so, exit 0."""
    code, text = _run(tmp_path, AS_IT_SHOULD)
    assert code == 0, text
    summary = [line for line in text.splitlines() if line.startswith(("ok", "WRONG"))]
    assert len(summary) == 5
    assert "ok    cities.csv: done, 1 attempt" in text
    assert "ok    orders.csv.gz: done, 2 attempts" in text
    assert "ok    poison.csv.gz: rejected, 1 attempt" in text
    assert "rejected_by_handler: Reject: it is poison" in text
    assert "out/incoming/readings.csv.gz" in text


def test_own_files_in_an_environment_of_the_demos_own(tmp_path: Path) -> None:
    """Two files of one name, a name in need of encoding; nothing of the caller's reaches a pod."""
    keep_environment = """
    async def handle(job):
        with open(job.object.key.replace("/", "-"), "w") as file:
            json.dump(dict(os.environ), file)
    """
    names = ["data.csv", "again/data.csv", "ä +%.txt"]
    (tmp_path / "again").mkdir()
    for name in names:
        (tmp_path / name).write_bytes(b"1\n")
    code, text = _run(tmp_path, keep_environment, *names)
    assert code == 0, text
    for key in ("data.csv", "2-data.csv", "ä +%.txt"):
        kept = (tmp_path / f"incoming-{key}").read_text()
        assert "the caller's" not in kept
        assert "ok    " + key.replace("-", "/") in text


def test_an_own_file_that_fails_is_told_with_its_reason(tmp_path: Path) -> None:
    """What the dead letter says stands in the summary; exit 1."""
    (tmp_path / "a.txt").write_text("1")
    code, text = _run(tmp_path, "async def handle(job): raise Reject('too short')", "a.txt")
    assert code == 1
    assert "WRONG a.txt: rejected, 1 attempt" in text
    assert "rejected_by_handler: Reject: too short" in text


def test_handlers_that_cannot_be_used_end_the_demo(tmp_path: Path) -> None:
    """The first pod that calls itself misconfigured ends it all, with its complaint and 78."""
    (tmp_path / "a.txt").write_text("1")
    code, text = _run(tmp_path, "ROUTES = 5", "a.txt")
    assert code == 78
    assert "HANDLERS: 'handlers:ROUTES' is not usable" in text


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_demo_leaves_nothing_behind(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """Stopped while a pod is at work: no process, no file, and the signal's exit code."""
    (tmp_path / "a.txt").write_text("1")
    demo = _Demo(tmp_path, WAIT, "a.txt", stdout=subprocess.PIPE)
    assert any("takes a.txt" in line for line in demo.lines())
    demo.process.send_signal(number)
    assert "Stopped" in "".join(demo.lines())
    assert demo.end() == code


async def test_a_rehearsal_has_a_deadline_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that waits for ever is stopped with its pod, and the file said not to be done."""
    (tmp_path / "handlers.py").write_text(handlers_module(WAIT))
    (tmp_path / "a.txt").write_text("1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(rehearsal, "_BASE_SECONDS", 4.0)
    files = samples.own([tmp_path / "a.txt"])
    journal = Journal([file.key for file in files])
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    ran = rehearsal.Rehearsal(files, journal, env, tmp_path)
    await ran.run()
    assert ran.troubles == ["stopped after 4 s: not everything was done by then"]
    [ending] = ran.endings
    assert (ending.outcome, ending.problem) == ("interrupted", "expected it to be done")


def test_on_a_terminal_it_draws_tables(tmp_path: Path) -> None:
    """The live table and the summary, each with the file's name."""
    (tmp_path / "a.txt").write_text("1")
    terminal, end = pty.openpty()
    demo = _Demo(tmp_path, "async def handle(job): pass", "a.txt", stdout=end)
    os.close(end)
    drawn = b"".join(_read_terminal(terminal)).decode()
    os.close(terminal)
    assert demo.end() == 0
    assert "your file" in drawn
    assert "seconds" in drawn


def _read_terminal(terminal: int) -> Iterator[bytes]:
    try:
        while chunk := os.read(terminal, 65536):
            yield chunk
    except OSError:
        return  # how Linux tells that nobody holds the other end any more


def test_files_that_cannot_be_uploaded_are_refused_at_once(tmp_path: Path) -> None:
    """One line for each, before anything is started."""
    names = ["missing.csv", "tmp", "handlers.py", "/dev/null", "x" * 300, os.fsdecode(b"\xff")]
    (tmp_path / os.fsdecode(b"\xff")).touch()
    code, text = _run(tmp_path, WAIT, *names)
    assert code == 78
    assert text.splitlines() == [
        "missing.csv: there is no such file",
        "tmp: is a directory: expected a file",
        "/dev/null: is not a regular file",
        f"{'x' * 300}: cannot be read: File name too long",
        "\\udcff: has a name that is not UTF-8, which no object key can be",
    ]


def test_without_its_extra_it_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, exit 78."""
    monkeypatch.setattr(demo_module, "find_spec", lambda name: None if name == "rich" else name)
    ended = CliRunner().invoke(demo_module.demo, [])
    assert ended.exit_code == 78
    [line] = ended.stderr.splitlines()
    assert line == "demo: not installed: rich: pip install 'sqs-file-processor[local]'"


SAMPLE = DemoFile("incoming/a", Expected.DONE, "", make=lambda _: None)
POISON = DemoFile("incoming/a", Expected.REJECTED, "", make=lambda _: None)
STOPPED = DemoFile("incoming/a", Expected.INTERRUPTED_THEN_DONE, "", make=lambda _: None)
TWICE = DemoFile("incoming/a", Expected.DONE_ONCE, "", make=lambda _: None)
OUTPUT = Left(outputs={"out/a": 1})


@pytest.mark.parametrize(
    ("file", "view", "left", "problem"),
    [
        (SAMPLE, FileView("", state="done", committed=["out/a", "out/a"]), OUTPUT, ""),
        (SAMPLE, FileView("", state="done", committed=["out/a"]), Left(), "not in the bucket"),
        (SAMPLE, FileView("", state="done"), OUTPUT, "left no output"),
        (SAMPLE, FileView("", state="retry", error="E: x"), Left(), "the last error was E: x"),
        (
            POISON,
            FileView("", state="rejected"),
            Left(letters={"incoming/a": Letter("", "", 1)}),
            "",
        ),
        (POISON, FileView("", state="done"), Left(), "expected it to be rejected"),
        (STOPPED, FileView("", state="done", committed=["out/a"]), OUTPUT, "was not"),
        (
            STOPPED,
            FileView("", state="done", committed=["out/a"], interruptions=1),
            OUTPUT,
            "was to go on at the checkpoint",
        ),
        (
            STOPPED,
            FileView("", state="done", committed=["out/a"], interruptions=1, resumed=1),
            OUTPUT,
            "",
        ),
        (TWICE, FileView("", state="done", committed=["out/a"]), OUTPUT, "was to be skipped"),
        (TWICE, FileView("", state="done", committed=["out/a"], duplicates=1), OUTPUT, ""),
    ],
)
def test_a_file_is_judged_by_what_is_left_of_it(
    file: DemoFile, view: FileView, left: Left, problem: str
) -> None:
    """What a pod says of itself is not enough."""
    found = judge(file, view, left).problem
    assert problem in found
    assert bool(problem) == bool(found)

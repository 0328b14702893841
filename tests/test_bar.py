"""The progress bar of `app run` on a terminal: a real process on a real pseudo terminal."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from harness.aws import Scene
from harness.launch import Launcher, handlers_module
from harness.process import REPOSITORY
from harness.server import CREDENTIALS, clean_environment
from terminal import HIDE_CURSOR, SHOW_CURSOR, run_on_terminal, screens

SLOWLY = """
def handle(job):
    with job.output("out") as out:
        for start in range(0, job.object.size, 100_000):
            out.write(job.object.read(start, start + 100_000))
            if start == 500_000:
                print("half of it")
            time.sleep(0.2)
"""
EVENTS = [
    "job_started",
    "message_received",
    "object_opened",
    "handler_started",
    "output_committed",
    "message_deleted",
    "job_finished",
]


def _environment(start: Launcher, folder: Path, handlers: str, **more: str) -> dict[str, str]:
    (folder / "handlers.py").write_text(handlers_module(handlers))
    return {
        **clean_environment(),
        **CREDENTIALS,
        **start.environment(folder),
        "PYTHONPATH": str(REPOSITORY),
        "TERM": "xterm-256color",
        "LOG_FORMAT": "console",
        **more,
    }


def _run(start: Launcher, folder: Path, **more: str) -> tuple[int, str]:
    env = _environment(start, folder, SLOWLY, **more)
    return run_on_terminal([sys.executable, "-m", "app", "run"], env, folder)


def test_a_bar_below_the_log(scene: Scene, start: Launcher, tmp_path: Path) -> None:
    """It moves, it says how long it will take, and at the end only the log is left."""
    scene.submit("the\x1b[31mkey", bytes(1_000_000))

    code, written = _run(start, tmp_path)

    assert code == 0, written
    seen = screens(written)
    bars = [screen[-1] for screen in seen if "MB" in screen[-1]]
    assert all(bar.startswith("the?[31mkey ━") for bar in bars), bars[0]
    told = [found for bar in bars if (found := re.search(r"of 1\.0 MB, (\d+) %", bar))]
    percents = [int(found[1]) for found in told]
    assert percents == sorted(percents)
    assert len(set(percents)) > 3
    assert re.search(r"0\.\d MB/s, \d s left", "".join(bars))
    # What is left: the lines of the log and of the handler, whole and in order, and no bar.
    left = [line for line in seen[-1] if line]
    events = [found[1] for line in left if (found := re.match(r"\S+Z \[INFO +\] (\w+)", line))]
    assert [event for event in events if event in EVENTS] == EVENTS
    assert "half of it" in left
    assert not [line for line in left if "━" in line or "progress" in line]
    assert written.rfind(SHOW_CURSOR) > written.rfind(HIDE_CURSOR) > 0


@pytest.mark.parametrize(
    "more", [{"LOG_FORMAT": "json"}, {"TERM": "dumb"}], ids=["json", "dumb terminal"]
)
def test_where_there_is_no_bar(
    more: dict[str, str], scene: Scene, start: Launcher, tmp_path: Path
) -> None:
    """Not in JSON, and not where the cursor cannot be moved: the log alone, with its lines."""
    scene.submit("k", bytes(1_000_000))

    code, written = _run(start, tmp_path, **more)

    assert code == 0, written
    assert "━" not in written
    assert HIDE_CURSOR not in written
    assert "progress" in written
    assert "half of it" in written


def test_what_is_not_drawn_is_not_imported(scene: Scene, start: Launcher) -> None:
    """Start-up costs nothing where stdout is a pipe."""
    scene.submit("k")

    worker = start(
        """
        async def handle(job):
            drawing = ("rich.live", "rich.progress_bar", "app.telemetry.bar")
            job.log.info("imported", drawing=[name for name in drawing if name in sys.modules])
        """,
        LOG_FORMAT="console",
    )

    assert worker.wait() == 0
    assert "drawing=[]" in worker.stdout


def test_a_terminal_that_goes_away_does_not_lose_the_message(
    scene: Scene, start: Launcher, tmp_path: Path
) -> None:
    """Whoever closes the window closes the bar, and the work goes on."""
    scene.submit("k", bytes(1_000_000))
    terminal, end = os.openpty()
    env = _environment(start, tmp_path, SLOWLY)
    command = [sys.executable, "-m", "app", "run"]
    with subprocess.Popen(
        command, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=end, stderr=end
    ) as process:
        os.close(end)
        while b"MB/s" not in os.read(terminal, 65536):
            pass
        os.close(terminal)
        assert process.wait(60) == 0
    assert scene.outputs() == {"out/out": bytes(1_000_000)}

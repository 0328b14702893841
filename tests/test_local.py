"""The local scaler: real processes as pods, real signals, and whatever a pod may do."""

import os
import signal
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from app.local import pods
from app.local.depth import PollError
from app.local.keda import QueueDepth, ScaledJob, Strategy, Trigger
from app.local.pods import Pod
from app.local.replicas import Scaler


class _Seen:
    """An observer that keeps what it is told, and wakes who waits for it."""

    def __init__(self) -> None:
        self.created: list[int] = []
        self.started: list[Pod] = []
        self.lines: list[tuple[str, str]] = []
        self.codes: list[int] = []
        self.failures: list[PollError] = []
        self.fail_at = 0
        self._change = anyio.Event()

    def polled(self, _: QueueDepth, __: int, ___: int, created: int) -> None:
        self.created.append(created)
        self._changed()

    def poll_failed(self, error: PollError) -> None:
        self.failures.append(error)

    def pod_started(self, pod: Pod) -> None:
        self.started.append(pod)

    def pod_line(self, _: Pod, line: str, stream: str) -> None:
        self.lines.append((stream, line))
        if len(self.lines) == self.fail_at:
            raise ZeroDivisionError
        self._changed()

    def pod_ended(self, _: Pod, exit_code: int) -> None:
        self.codes.append(exit_code)
        self._changed()

    @property
    def texts(self) -> list[str]:
        return [line for _, line in self.lines]

    def _changed(self) -> None:
        self._change.set()
        self._change = anyio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(20):
            while not condition():
                await self._change.wait()


class _Cluster:
    """A scaler of pods that run a script instead of the worker, on a queue made of numbers."""

    def __init__(self, folder: Path, script: str, *, most: int = 10, grace: float = 10) -> None:
        self.seen = _Seen()
        self.depth = QueueDepth()
        self.failing = 0
        command = (sys.executable, "-c", textwrap.dedent(script))
        trigger = Trigger(queue_length=1, scale_on_in_flight=False)
        self.scaler = Scaler(
            ScaledJob(trigger, Strategy.ACCURATE, max_replicas=most),
            self._read_depth,
            pods.Launcher(dict(os.environ), folder, command).launch,
            self.seen,
            polling_seconds=0.05,
            grace_seconds=grace,
        )

    async def stop_once_said(self, text: str) -> None:
        """Run for one message, and stop when the pod has written this line."""
        self.depth = QueueDepth(visible=1)
        async with anyio.create_task_group() as group:
            group.start_soon(self.scaler.run)
            await self.seen.until(lambda: text in self.seen.texts)
            group.cancel_scope.cancel()

    async def _read_depth(self) -> QueueDepth:
        if self.failing:
            self.failing -= 1
            raise PollError("not now")
        return self.depth


# Ready once it gets SIGUSR1; tells its number and what happens to it.
POD = """
    import os, pathlib, signal, time
    ready = pathlib.Path(os.environ["READY_FILE"])
    def become_ready(*_):
        ready.touch()
        print("ready", flush=True)
    signal.signal(signal.SIGUSR1, become_ready)
    print(os.getpid(), flush=True)
    while True:
        signal.pause()
"""


async def test_pods_that_are_not_ready_stand_for_messages_that_wait(tmp_path: Path) -> None:
    """Pending pods are not launched twice; once they hold messages, others get pods too."""
    cluster = _Cluster(tmp_path, POD)
    seen = cluster.seen
    cluster.depth = QueueDepth(visible=3)
    async with anyio.create_task_group() as group:
        group.start_soon(cluster.scaler.run)
        await seen.until(lambda: len(seen.lines) == 3 and len(seen.created) > 5)
        assert sum(seen.created) == 3
        # All three take a message, and three more wait.
        cluster.depth = QueueDepth()
        for _, line in list(seen.lines):
            os.kill(int(line), signal.SIGUSR1)
        await seen.until(lambda: seen.texts.count("ready") == 3)
        cluster.depth = QueueDepth(visible=3, in_flight=3)
        await seen.until(lambda: sum(seen.created) == 6)
        group.cancel_scope.cancel()
    assert seen.codes == [143] * 6
    assert not cluster.scaler.pods
    assert _is_empty(tmp_path)


DEAF = """
    import signal
    signal.signal(signal.SIGTERM, lambda *_: print("no", flush=True))
    print("deaf", flush=True)
    while True:
        signal.pause()
"""


async def test_a_pod_that_ignores_sigterm_is_killed_after_its_grace(tmp_path: Path) -> None:
    """First SIGTERM, then SIGKILL."""
    cluster = _Cluster(tmp_path, DEAF, grace=0.5)
    await cluster.stop_once_said("deaf")
    assert cluster.seen.texts == ["deaf", "no"]
    assert cluster.seen.codes == [137]


async def test_hurrying_ends_the_grace(tmp_path: Path) -> None:
    """A second signal, which calls `hurry`, kills what still runs."""
    cluster = _Cluster(tmp_path, DEAF, grace=600)
    cluster.depth = QueueDepth(visible=1)
    async with anyio.create_task_group() as group:
        group.start_soon(cluster.stop_once_said, "deaf")
        await cluster.seen.until(lambda: "no" in cluster.seen.texts)
        cluster.scaler.hurry()
    assert cluster.seen.codes == [137]


async def test_what_a_pod_leaves_behind_does_not_keep_it_alive(tmp_path: Path) -> None:
    """A pod has ended when its process has, even if a child of it holds its stdout open."""
    cluster = _Cluster(
        tmp_path,
        """
        import subprocess
        child = subprocess.Popen(["sleep", "600"])
        print(child.pid, flush=True)
        """,
    )
    cluster.depth = QueueDepth(visible=1)
    async with anyio.create_task_group() as group:
        group.start_soon(cluster.scaler.run)
        await cluster.seen.until(lambda: 0 in cluster.seen.codes)
        cluster.depth = QueueDepth()
        group.cancel_scope.cancel()
    for text in cluster.seen.texts:
        os.kill(int(text), signal.SIGKILL)


async def test_lines_of_both_streams_are_told_also_without_an_end(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 and a last line without its newline are told all the same."""
    cluster = _Cluster(
        tmp_path,
        """
        import os
        os.write(2, b"an error\\n")
        os.write(1, b"one\\ntwo \\xff")
        """,
        most=1,
    )
    cluster.depth = QueueDepth(visible=1)
    async with anyio.create_task_group() as group:
        group.start_soon(cluster.scaler.run)
        await cluster.seen.until(lambda: bool(cluster.seen.codes))
        group.cancel_scope.cancel()
    first = cluster.seen.lines[:3]
    assert sorted(first) == [("stderr", "an error"), ("stdout", "one"), ("stdout", "two \ufffd")]


async def test_a_poll_that_fails_is_told_and_tried_again(tmp_path: Path) -> None:
    """A queue that cannot be read launches nothing, and proves nothing about being idle."""
    cluster = _Cluster(tmp_path, "pass")
    cluster.failing = 3
    cluster.scaler.drain()
    with anyio.fail_after(20):
        await cluster.scaler.run()
    assert len(cluster.seen.failures) == 3
    assert cluster.seen.created == [0, 0]


async def test_a_failing_observer_leaves_no_process_behind(tmp_path: Path) -> None:
    """The error comes out of `run`, after every pod has ended."""
    cluster = _Cluster(tmp_path, POD, most=2)
    cluster.depth = QueueDepth(visible=2)
    cluster.seen.fail_at = 2
    with pytest.RaisesGroup(ZeroDivisionError, flatten_subgroups=True):
        await cluster.scaler.run()
    assert len(cluster.seen.texts) == 2
    assert all(_gone(int(text)) for text in cluster.seen.texts)


def _is_empty(folder: Path) -> bool:
    return not any(folder.iterdir())


def _gone(pid: int) -> bool:
    """Whether no process has this number, save one that is dead and not yet reaped."""
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True

"""A worker process in the role of a pod: its own name, its own files, SIGTERM and SIGKILL."""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import ByteReceiveStream, Process

WORKER_COMMAND = (sys.executable, "-m", "app", "run")

# How long output is still read after the process has ended: what a process it left behind holds
# open must not keep the pod alive.
_LAST_OUTPUT_SECONDS = 1.0

OnLine = Callable[[str, str], None]


class Pod:
    """One process that was launched as a pod.

    Attributes:
        name: its POD_NAME.
        job_name: its JOB_NAME.
        termination_message: what it left in its TERMINATION_LOG, once it has ended.
    """

    def __init__(self, name: str, job_name: str, folder: Path, process: Process) -> None:
        self.name = name
        self.job_name = job_name
        self.termination_message = ""
        self._folder = folder
        self._process = process

    @property
    def ready(self) -> bool:
        """Whether the readiness probe on READY_FILE would succeed; a pod that is not is pending."""
        return (self._folder / "ready").exists()

    def terminate(self) -> None:
        """Send SIGTERM to the main process, as Kubernetes does."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process and to everything it started, as the end of a container."""
        # The pod leads a session of its own; until it is reaped nobody else can have its number.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)

    async def wait(self, on_line: OnLine) -> int:
        """Hand every line it writes to `on_line(line, "stdout" or "stderr")`; its exit code.

        A process that a signal ended counts 128 and the signal, as a container's status does. The
        pod's files are gone afterwards.
        """
        async with anyio.create_task_group() as readers:
            for stream, name in (
                (self._process.stdout, "stdout"),
                (self._process.stderr, "stderr"),
            ):
                if stream is not None:
                    readers.start_soon(_pump, stream, name, on_line)
            code = await self._process.wait()
            readers.cancel_scope.deadline = anyio.current_time() + _LAST_OUTPUT_SECONDS
        await self._process.aclose()
        self._put_away()
        return code if code >= 0 else 128 - code

    def _put_away(self) -> None:
        with contextlib.suppress(OSError):
            told = (self._folder / "termination-log").read_text(errors="replace")
            self.termination_message = told.strip()
        shutil.rmtree(self._folder, ignore_errors=True)


async def _pump(stream: ByteReceiveStream, name: str, on_line: OnLine) -> None:
    rest = b""
    async for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            on_line(line.decode(errors="replace"), name)
    if rest:
        on_line(rest.decode(errors="replace"), name)


@dataclass(frozen=True, slots=True)
class Launcher:
    """Launches pods of one kind.

    Attributes:
        env: what every pod inherits.
        folder: holds each pod's READY_FILE and TERMINATION_LOG; the caller removes it.
        command: the pod's command line.
    """

    env: Mapping[str, str]
    folder: Path
    command: Sequence[str] = WORKER_COMMAND

    async def launch(self) -> Pod:
        """Start one process, with names as Kubernetes would make them.

        Raises:
            OSError: it cannot be started.
        """
        job_name = f"file-processor-{secrets.token_hex(3)}"
        name = f"{job_name}-{secrets.token_hex(3)}"
        folder = self.folder / name
        folder.mkdir()
        process = await anyio.open_process(
            self.command,
            stdin=subprocess.DEVNULL,
            env=self._environment(name, job_name, folder),
            # Ctrl-C in a terminal goes to the scaler alone, which then tells its pods.
            start_new_session=True,
        )
        return Pod(name, job_name, folder, process)

    def _environment(self, name: str, job_name: str, folder: Path) -> dict[str, str]:
        return {
            **self.env,
            "POD_NAME": name,
            "JOB_NAME": job_name,
            "READY_FILE": str(folder / "ready"),
            "TERMINATION_LOG": str(folder / "termination-log"),
        }

"""`python -m app` as a real process, its log read line by line as it comes."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness.server import CREDENTIALS, clean_environment

REPOSITORY = Path(__file__).parents[2]
PRELUDE = """\
import asyncio, json, os, signal, sys, threading, time
from app.handler import Job, Reject, Retry, Route, SyncJob
"""
ALWAYS_LOGGED = ("timestamp", "level", "event", "job_id", "pod_name")

Line = dict[str, Any]
Launch = Callable[[Path, Mapping[str, str], tuple[str, ...]], "subprocess.Popen[str]"]


def start_here(
    folder: Path, env: Mapping[str, str], arguments: tuple[str, ...]
) -> "subprocess.Popen[str]":
    """`python -m app` of this checkout in this folder, beside credentials that nobody has given."""
    base = clean_environment() | CREDENTIALS | {"AWS_EC2_METADATA_DISABLED": "true"}
    return subprocess.Popen(
        [sys.executable, "-m", "app", *arguments],
        cwd=folder,
        env=base | {"HOME": str(folder), "PYTHONPATH": str(REPOSITORY)} | dict(env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Worker:
    """One process of the program under test, in a working directory of its own.

    Leaving the context kills the process if it still runs, and holds its log to the promise that
    every line is one JSON object with the fields that are always there.

    Args:
        folder: the working directory, which the import path of the process begins with.
        env: its environment, beside what `launch` adds.
        arguments: the command line behind `python -m app`.
        launch: starts it.
    """

    def __init__(
        self,
        folder: Path,
        env: Mapping[str, str],
        arguments: tuple[str, ...],
        launch: Launch = start_here,
    ) -> None:
        self.folder = folder
        self._lines: list[str] = []
        self._ended = False
        self._json = env.get("LOG_FORMAT") != "console"
        self._came = threading.Condition()
        self._errors: list[str] = []
        self._process = launch(folder, env, arguments)
        self._readers = [
            threading.Thread(target=self._read_log, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join(10)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe
            pipe.close()
        if error is None and self._json:
            self.check_log()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    @property
    def stdout(self) -> str:
        """What the process has written to its standard output so far."""
        with self._came:
            return "".join(self._lines)

    @property
    def stderr(self) -> str:
        """What the process has written to its standard error so far."""
        return "".join(self._errors)

    @property
    def lines(self) -> list[Line]:
        """The log so far, parsed; lines that are no JSON are missing (see `check_log`)."""
        with self._came:
            return [found for text in self._lines if (found := _parse(text)) is not None]

    def events(self, name: str, **fields: Any) -> list[Line]:
        """The log lines so far of this event with these fields."""
        return [line for line in self.lines if _fits(line, name, fields)]

    def wait_for_event(self, name: str, timeout: float = 30, **fields: Any) -> Line:
        """The first log line of this event with these fields, as soon as it is there.

        Raises:
            AssertionError: it did not come in so many seconds, or the process ended without it.
        """
        with self._came:
            self._came.wait_for(lambda: self._ended or self.events(name, **fields), timeout)
            found = self.events(name, **fields)
        assert found, f"no event {name} {fields or ''} came"
        return found[0]

    def reaches(self, name: str, timeout: float = 60) -> bool:
        """Whether this event comes before the process ends; waits for the one or the other."""
        with self._came:
            told = self._came.wait_for(lambda: self._ended or self.events(name), timeout)
            assert told, f"neither {name} nor an end in {timeout} s"
            return bool(self.events(name))

    def wait_for_count(self, name: str, count: int, timeout: float = 30) -> None:
        """Return once the log has so many lines of this event."""
        with self._came:
            came = self._came.wait_for(lambda: len(self.events(name)) >= count, timeout)
        assert came, f"{count} events {name} did not come"

    def wait_for_stderr(self, text: str, timeout: float = 30) -> None:
        """Return as soon as the process has written this to its standard error.

        Raises:
            AssertionError: it had not within so many seconds.
        """
        with self._came:
            came = self._came.wait_for(lambda: text in self.stderr, timeout)
        assert came, f"{text!r} was not written to stderr"

    def signal(self, number: signal.Signals) -> None:
        """Send the process a signal."""
        self._process.send_signal(number)

    def wait(self, timeout: float = 40) -> int:
        """The exit code, as a shell tells it: 128 and the number of the signal that killed it."""
        code = self._process.wait(timeout)
        for reader in self._readers:
            reader.join(10)
        return code if code >= 0 else 128 - code

    @property
    def termination_log(self) -> Line:
        """What the process left in its termination log."""
        return dict(json.loads((self.folder / "termination-log").read_text()))

    def is_ready(self) -> bool:
        """Whether the ready file is there."""
        return (self.folder / "ready").exists()

    def check_log(self) -> None:
        """Hold every line on stdout to being one JSON object with the fields always there."""
        for text in self.stdout.splitlines():
            line = _parse(text)
            assert line is not None, f"no JSON object: {text!r}"
            missing = [name for name in ALWAYS_LOGGED if name not in line]
            assert not missing, f"{missing} missing in {text!r}"
            written_at = datetime.fromisoformat(line["timestamp"])
            assert written_at.utcoffset() is not None, f"not RFC 3339: {text!r}"

    def _read_log(self) -> None:
        assert self._process.stdout
        for text in self._process.stdout:
            with self._came:
                self._lines.append(text)
                self._came.notify_all()
        with self._came:
            self._ended = True
            self._came.notify_all()

    def _read_errors(self) -> None:
        assert self._process.stderr
        for text in self._process.stderr:
            with self._came:
                self._errors.append(text)
                self._came.notify_all()


def _parse(text: str) -> Line | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _fits(line: Line, name: str, fields: Mapping[str, Any]) -> bool:
    return line.get("event") == name and all(line.get(k) == v for k, v in fields.items())

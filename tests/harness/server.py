"""Local AWS servers, each a process of its own: one for the whole test session."""

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

REGION = "eu-central-1"
# moto takes any; these are none of the caller's.
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST",
    "AWS_SECRET_ACCESS_KEY": "a-secret-that-must-never-be-logged",
    "AWS_DEFAULT_REGION": REGION,
}


def clean_environment() -> dict[str, str]:
    """What a child process gets of this one's environment: nothing that configures AWS or app."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL") if name in os.environ}


@contextmanager
def moto_server() -> Iterator[str]:
    """The URL of a fresh moto server; skips the test where moto is not installed."""
    if find_spec("moto") is None or find_spec("flask") is None:
        pytest.skip("needs the package moto[server]")
    # Port 0 lets the kernel choose, which cannot collide; the server says which one it got.
    with _server(sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0") as url:
        yield url


@contextmanager
def ministack_server() -> Iterator[str]:
    """The URL of a fresh ministack; skips the test where `make setup` did not install it.

    It has an environment of its own, since it wants another SDK than the program does.
    """
    installed = Path(sys.prefix, "ministack", "bin", "ministack")
    if not installed.exists():
        pytest.skip("needs ministack, which `make setup` installs")
    with _server(str(installed), BIND_HOST="127.0.0.1", GATEWAY_PORT="0") as url:
        yield url


@contextmanager
def _server(*command: str, **env: str) -> Iterator[str]:
    process = subprocess.Popen(
        command,
        env=clean_environment() | CREDENTIALS | env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield _url_told_by(process)
    finally:
        process.kill()
        process.wait()
        assert process.stderr
        process.stderr.close()


def _url_told_by(process: "subprocess.Popen[str]") -> str:
    assert process.stderr
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"Running on (http://127\.0\.0\.1:\d+)", line):
            # It logs every request: read on, or it blocks once the pipe is full.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return found[1]
    raise AssertionError(f"the server did not start: {''.join(said)}")

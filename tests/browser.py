"""Chromium without a window: the page as it came out, a picture of it, and what it asked for."""

import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

_SECONDS = 60
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--virtual-time-budget=2000",
    # The browser's own errands end here, too.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)
_DARK = "--blink-settings=preferredColorScheme=0"


def dumped(page: Path) -> str:
    """The document once it is loaded, as HTML."""
    return _run(page, "--dump-dom")


def pictured(page: Path, to: Path, *, width: int, height: int, dark: bool = False) -> bytes:
    """A screenshot, in the light or the dark scheme; a PNG, which is written to a file too."""
    size = f"--window-size={width},{height}"
    _run(page, f"--screenshot={to}", size, *([_DARK] if dark else []))
    return to.read_bytes()


def asked_for(page: Path) -> list[str]:
    """The addresses of what the page itself, not the browser, requested over the network."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "net.json"
        _run(page, "--dump-dom", f"--log-net-log={log}")
        events = json.loads(log.read_text())["events"]
    requests = [event.get("params", {}) for event in events]
    return [
        told["url"]
        for told in requests
        if "url" in told and told.get("initiator", "not an origin") != "not an origin"
    ]


def _run(page: Path, *arguments: str) -> str:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *_FLAGS, f"--user-data-dir={profile}", *arguments, page.as_uri()]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=True
        ).stdout

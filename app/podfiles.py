"""The two files by which a pod is seen from outside: readiness, and its last words."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from app.telemetry import Telemetry


class ReadyFile:
    """Exists while this process holds a message and has not been told to stop."""

    def __init__(self, path: Path, telemetry: Telemetry) -> None:
        self._path = path
        self._telemetry = telemetry

    def show(self) -> None:
        """This process holds a message."""
        try:
            self._path.touch()
        except OSError as error:
            self._telemetry.file_failed(str(self._path), error)

    def remove(self) -> None:
        """It does not, or not for long."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._telemetry.file_failed(str(self._path), error)


def write_last_words(
    path: Path | None, words: Mapping[str, object], telemetry: Telemetry | None
) -> None:
    """One JSON line where Kubernetes looks for why a container ended."""
    if path is None:
        return
    try:
        path.write_bytes(msgspec.json.encode(dict(words)) + b"\n")
    except OSError as error:
        if telemetry is not None:
            telemetry.file_failed(str(path), error)

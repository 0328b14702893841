"""The region by either of its names, for every command that talks to AWS."""

import subprocess
import sys
from pathlib import Path

import pytest
from harness.aws import Scene
from harness.launch import COPY, Launcher, handlers_module
from harness.process import REPOSITORY
from harness.server import CREDENTIALS, REGION, clean_environment

# Each with what it says when all is well.
COMMANDS = {
    ("run",): '"outcome":"done"',
    ("check",): "looked at ",
    ("dlq", "list"): "no dead letters",
    ("janitor",): "0 groups deleted",
}
TOLD = "AWS_REGION: is not set: expected a region of AWS"


def said_by(
    command: tuple[str, ...], gateway: str, start: Launcher, folder: Path, **env: str
) -> str:
    """What a command says without the region that the harness gives to others."""
    (folder / "handlers.py").write_text(handlers_module(COPY))
    keys = {name: value for name, value in CREDENTIALS.items() if name != "AWS_DEFAULT_REGION"}
    more = {"PUSHGATEWAY_URL": gateway, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-m", "app", *command],
        env=clean_environment() | keys | start.environment(folder) | more | env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
def test_either_name_will_do(
    command: tuple[str, ...],
    name: str,
    gateway: str,
    scene: Scene,
    start: Launcher,
    tmp_path: Path,
) -> None:
    """Kubernetes and most SDKs say AWS_REGION, this one AWS_DEFAULT_REGION."""
    scene.submit("k")
    said = said_by(command, gateway, start, tmp_path, **{name: REGION})
    assert COMMANDS[command] in said
    assert TOLD not in said


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_one_it_says_so(
    command: tuple[str, ...], gateway: str, start: Launcher, tmp_path: Path
) -> None:
    """By the name of the variable, and without a traceback."""
    said = said_by(command, gateway, start, tmp_path)
    assert TOLD in said
    assert "Traceback" not in said

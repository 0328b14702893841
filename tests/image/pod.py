"""Runs an image as a pod would: process 1, the image's user, a root that cannot be written."""

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from harness.process import Launch, Worker
from harness.server import CREDENTIALS

from image.building import Builder, Image

# In a view of the mounts, and with process ids, of its own; gone with the process.
AS_POD = """
root=$1 tmp=$2 handlers=$3 folder=$4 user=$5
shift 5
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind "$tmp" "$root/tmp"
[ -z "$handlers" ] || mount --bind -o ro "$handlers" "$root/srv/handlers"
exec unshare --root="$root" --wd="$folder" setpriv --reuid="${user%:*}" --regid="${user#*:}" \
    --clear-groups --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"
"""


def as_pod(image: Image, handlers: Path | None = None) -> Launch:
    """Start the image the way Kubernetes does: its /tmp is the worker's folder.

    Args:
        handlers: mounted over the image's own.
    """

    def launch(
        folder: Path, env: Mapping[str, str], arguments: tuple[str, ...]
    ) -> "subprocess.Popen[str]":
        folder.chmod(0o777)
        alone = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork"]
        places = [str(image.root), str(folder), str(handlers or "")]
        runs = [image.config["WorkingDir"], image.config["User"], *image.config["Entrypoint"]]
        script = ["sh", "-euc", AS_POD, "pod", *places, *runs]
        return _start([*alone, *script, *arguments], image.environment | CREDENTIALS | dict(env))

    return launch


def by_buildah(builder: Builder, image: Image) -> Launch:
    """Start the image by `buildah run`; its /tmp is the container's, not the worker's folder."""

    def launch(
        folder: Path,
        env: Mapping[str, str],
        arguments: tuple[str, ...],
    ) -> "subprocess.Popen[str]":
        variables = [f"--env={n}={v}" for n, v in (CREDENTIALS | dict(env)).items()]
        run = ["run", "--isolation=chroot", *variables, image.container, "--"]
        inside = [*image.config["Entrypoint"], *arguments]
        return _start([*builder.engine, *run, *inside], image.environment)

    return launch


class _Group(subprocess.Popen[str]):
    """A process and all it has started: a killed one must not leave a pod behind.

    The kernel does not do it, since a process that changes its user outlives its parent.
    """

    def kill(self) -> None:
        """Kill every one of them."""
        os.killpg(self.pid, signal.SIGKILL)


def _start(command: list[str], env: Mapping[str, str]) -> _Group:
    return _Group(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def first_process(worker: Worker) -> int:
    """The pod's process 1, by its number outside."""
    children = Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split()
    (child,) = children
    return int(child)


def status(pid: int) -> dict[str, str]:
    """What the kernel tells of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pairs = (line.partition(":") for line in lines)
    return {name: value.strip() for name, _, value in pairs}

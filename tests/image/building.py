"""Builds images with buildah in a folder of its own, on a Debian made from nothing."""

import json
import os
import platform
import shlex
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).parents[2]
BASE = "localhost/base"
PACKAGES = "python3,python3-venv,ca-certificates"
# pip inside the build reaches its index as pip outside does.
MACHINE = (Path("/etc/ssl/certs"), Path("/etc/pip.conf"))


def require() -> None:
    """Skip where images cannot be built."""
    for program in ("buildah", "debootstrap"):
        if shutil.which(program) is None:
            pytest.skip(f"needs the package {program}")
    if os.geteuid() != 0:
        pytest.skip("needs root: debootstrap, mounts and PID namespaces")


@dataclass(frozen=True, slots=True)
class Image:
    """An image, and one container's root made of it.

    Attributes:
        config: what the image says of how it is run, in OCI's words.
    """

    name: str
    container: str
    root: Path
    config: dict[str, Any]

    @property
    def command(self) -> list[str]:
        """What is run where nothing else is asked for."""
        return [*self.config["Entrypoint"], *self.config["Cmd"]]

    @property
    def environment(self) -> dict[str, str]:
        """The variables that every process in it gets."""
        pairs = (each.partition("=") for each in self.config["Env"])
        return {name: value for name, _, value in pairs}

    def size(self) -> int:
        """Bytes of all its files."""
        files = (Path(folder, name) for folder, _, names in os.walk(self.root) for name in names)
        return sum(each.lstat().st_size for each in files)


class Builder:
    """A store of images in this folder; `close` leaves nothing of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.seconds: dict[str, float] = {}
        policy = folder / "policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        store = ("--storage-driver", "vfs", "--root", str(folder / "root"))
        self.engine = ["buildah", *store, "--runroot", str(folder / "run")]
        self._policy = ["--signature-policy", str(policy)]

    def base(self) -> None:
        """A Debian like this machine's, from the archive that it is updated from."""
        began = time.monotonic()
        container = self._buildah("from", "scratch")
        root = self._buildah("mount", container)
        suite = platform.freedesktop_os_release()["VERSION_CODENAME"]
        # What it mounts is gone with its own view of the mounts, however it ends.
        alone = ["unshare", "--mount", "--propagation", "private", "--fork", "--kill-child"]
        make = ["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, root]
        self._run([*alone, *make, *_archive(suite)])
        self._buildah("commit", *self._policy, "--rm", container, BASE)
        self.seconds["base"] = time.monotonic() - began

    def make(self, name: str) -> Image:
        """The project's own image, by the target that a person calls."""
        began = time.monotonic()
        mounts = [f"--volume={each}:{each}:ro" for each in MACHINE if each.exists()]
        options = ["--isolation=chroot", *self._policy, *mounts, f"--build-arg=BASE={BASE}"]
        engine, build = shlex.join(self.engine), shlex.join(options)
        make = ["make", "image", f"ENGINE={engine}", f"BUILD={build}", f"IMAGE={name}"]
        self._run(make, cwd=REPOSITORY)
        self.seconds["image"] = time.monotonic() - began
        return self.open(name)

    def build(self, name: str, context: Path) -> Image:
        """The image of another Dockerfile."""
        options = ["--isolation=chroot", *self._policy, "--pull-never", "--tag", name]
        self._buildah("build", *options, str(context))
        return self.open(name)

    def open(self, name: str) -> Image:
        """A container of this image, mounted."""
        container = self._buildah("from", *self._policy, "--pull-never", name)
        told = json.loads(self._buildah("inspect", "--type", "image", name))
        root = Path(self._buildah("mount", container))
        return Image(name, container, root, told["OCIv1"]["config"])

    def close(self) -> None:
        """Remove every container and image."""
        try:
            self._buildah("umount", "--all")
        finally:
            shutil.rmtree(self.folder)

    def _buildah(self, *arguments: str) -> str:
        return self._run([*self.engine, *arguments])

    def _run(self, command: list[str], cwd: Path | None = None) -> str:
        done = subprocess.run(
            command, capture_output=True, text=True, cwd=cwd, timeout=400, check=False
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()


def _archive(suite: str) -> list[str]:
    """Where apt finds this suite; where it does not, debootstrap has a default of its own."""
    told = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    found = (line.split() for line in told.stdout.splitlines())
    return [uri for codename, uri in found if codename == suite][:1]

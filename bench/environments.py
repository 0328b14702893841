"""Environments for what is measured: what their lock files name, and nothing else."""

import hashlib
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

BENCH = Path(__file__).resolve().parent
REPOSITORY = BENCH.parent
REQUIREMENTS = REPOSITORY / "requirements.txt"
RIVALS = BENCH / "requirements.txt"


def python_with(*locks: Path) -> Path:
    """The interpreter of an environment with what these lock files name; built once per content."""
    told = b"".join(lock.read_bytes() for lock in locks) + sys.version.encode()
    stamp = hashlib.sha256(told).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"sqs-file-processor-bench-{os.getuid()}-{stamp}"
    python = folder / "bin" / "python"
    if not (folder / ".ready").exists():
        print(f"building {folder} from {', '.join(lock.name for lock in locks)} ...", flush=True)
        venv.create(folder, with_pip=True, clear=True)
        install = ["install", "--quiet", "--require-hashes"]
        for lock in locks:
            install += ["-r", str(lock)]
        subprocess.run([python, "-m", "pip", "--disable-pip-version-check", *install], check=True)
        (folder / ".ready").touch()
    return python

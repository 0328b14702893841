"""Where the program begins: signals first, then the slow imports, then the command."""

import gc
import sys
from pathlib import Path

from app.stop import Stop


def main() -> None:
    """Run the command that the command line names, and exit with its code."""
    # What start-up makes lives as long as the process: looking through it finds no garbage.
    gc.disable()
    stop = Stop()
    stop.install()
    # A user's handlers are found in the working directory, also by the installed script.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    from app.commands import program

    program(obj=stop, prog_name="sqs-file-processor")

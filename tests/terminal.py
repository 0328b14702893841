"""A terminal with a process on it, and what a user would see there."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path

_CONTROL = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


def run_on_terminal(
    command: Sequence[str], env: Mapping[str, str], folder: Path, columns: int = 120
) -> tuple[int, str]:
    """Run a process whose stdout is a terminal; its exit code, and all that it wrote there."""
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    with subprocess.Popen(
        command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=end, stderr=end
    ) as process:
        os.close(end)
        written = b""
        try:
            while chunk := os.read(terminal, 65536):
                written += chunk
        except OSError:
            pass  # how Linux tells that nobody holds the other end any more
        finally:
            os.close(terminal)
        return process.wait(60), written.decode()


def screens(written: str) -> list[list[str]]:
    """What stood on the terminal, line by line, whenever something was about to be erased."""
    lines, row, column = [""], 0, 0
    seen = []
    for found in _CONTROL.finditer(written):
        parameters, letter, control, text = found.groups()
        if text:
            line = lines[row].ljust(column)
            lines[row] = line[:column] + text + line[column + len(text) :]
            column += len(text)
        elif control == "\r":
            column = 0
        elif control == "\n":
            row, column = row + 1, 0
            lines += [""] * (row + 1 - len(lines))
        elif letter == "A":
            row = max(0, row - int(parameters or 1))
        elif letter == "K":
            assert parameters == "2", "erases what this terminal does not know how to"
            seen.append([kept.rstrip() for kept in lines])
            lines[row] = ""
        else:
            assert letter in "mhl", f"a control that this terminal does not know: {found[0]!r}"
    return [*seen, [kept.rstrip() for kept in lines]]

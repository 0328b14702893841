"""One JSON object a line on stdout, whatever emits it: seen in processes of their own."""

import json
import subprocess
import sys
from typing import Any

import pytest
from harness.process import ALWAYS_LOGGED, REPOSITORY
from harness.server import clean_environment

CONFIGURED = """\
import asyncio, ctypes, logging, os, sys, threading, warnings
import structlog
from app.telemetry import Telemetry, logs
logs.configure({"job_id": "job-1", "pod_name": "pod-1"}, level="%s", fmt="%s")
telemetry = Telemetry()
log = telemetry.log
"""


def run(source: str, level: str = "INFO", fmt: str = "json") -> "subprocess.CompletedProcess[str]":
    """A process that has configured its log and then does this."""
    return subprocess.run(
        [sys.executable, "-c", CONFIGURED % (level, fmt) + source],
        env=clean_environment() | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def logged(source: str, level: str = "INFO") -> list[dict[str, Any]]:
    """The lines of such a process, each held to the promise."""
    lines = [json.loads(text) for text in run(source, level).stdout.splitlines()]
    for line in lines:
        assert list(line)[:5] == list(ALWAYS_LOGGED)
        assert (line["job_id"], line["pod_name"]) == ("job-1", "pod-1")
        assert line["timestamp"].endswith("Z")
    return lines


@pytest.mark.parametrize(
    ("source", "event", "level", "told"),
    [
        ("log.info('plain', n=1)", "plain", "INFO", ""),
        ("log.info('percent %s', text='50 %')", "percent %s", "INFO", "50 %"),
        ("logging.getLogger('a.b').warning('of %s', 'logging')", "of logging", "WARNING", "a.b"),
        ("logging.getLogger().critical('bad')", "bad", "ERROR", "root"),
        ("logging.getLogger('x').log(25, 'odd level')", "odd level", "INFO", ""),
        ("warnings.warn('careful')", None, "WARNING", "careful"),
        ("print('printed')", "stdout", "INFO", "printed"),
        ("sys.stdout.write('written\\n')", "stdout", "INFO", "written"),
        ("1 / 0", "uncaught_exception", "ERROR", "ZeroDivisionError"),
        (
            "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
            "uncaught_exception",
            "ERROR",
            "ZeroDivisionError",
        ),
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('failed')",
            "failed",
            "ERROR",
            "Traceback",
        ),
        (
            "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('failed')",
            "failed",
            "ERROR",
            "Traceback",
        ),
        pytest.param(
            "class Odd:\n    def __del__(self): raise KeyError('in __del__')\nOdd()",
            None,
            "ERROR",
            "in __del__",
        ),
    ],
)
def test_whatever_emits_a_line(source: str, event: str | None, level: str, told: str) -> None:
    """Ours, the standard library's, warnings, prints, and what nobody caught."""
    (line,) = logged(source)
    assert event in (None, line["event"])
    assert line["level"] == level
    assert told in json.dumps(line)


def test_what_asyncio_says() -> None:
    """A task whose error nobody asked for is told of in the same way."""
    source = """
async def main():
    async def fails(): raise KeyError("lost")
    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    del task
asyncio.run(main())
"""
    (line,) = logged(source)
    assert (line["logger"], line["level"]) == ("asyncio", "ERROR")
    assert "KeyError" in line["traceback"]


@pytest.mark.parametrize(
    "value",
    [
        r"'\ud800 a lone surrogate'",
        "b'\\xff'",
        "float('nan')",
        "float('inf')",
        "2 ** 100",
        "object()",
        "{1: {2, 3}, (4,): None}",
        "{'deep': {'\\ud800': b'x'}}",
        "ValueError('x')",
        "'two\\nlines \\x00 \\x1b[31m'",
        "type('Odd', (), {'__repr__': lambda self: '\\ud800'})()",
    ],
)
def test_any_value_fits_into_a_line(value: str) -> None:
    """No value can break the line, nor keep it from being written."""
    (line,) = logged(f"log.info('odd', value={value})")
    assert line["event"] == "odd"
    assert "value" in line


def test_a_value_that_refers_to_itself() -> None:
    """What has no end is written in short."""
    (line,) = logged("value = []; value.append(value); log.info('odd', value=value)")
    assert line["event"] == "odd"


def test_a_value_whose_text_cannot_be_told() -> None:
    """A broken object in a line of the handler's is not the handler's end."""
    broken = "class Broken:\n    def __repr__(self): raise KeyError('x')\n"
    (line,) = logged(f"{broken}log.info('odd', value=Broken())")
    assert line["event"] == "odd"


def test_no_field_replaces_an_id() -> None:
    """A handler's own field named like an id does not hide whose line it is."""
    (line,) = logged("log.info('x', job_id='forged', pod_name='forged', timestamp=0, level='NO')")
    assert (line["job_id"], line["level"]) == ("job-1", "INFO")


def test_the_message_id_follows_tasks_and_threads() -> None:
    """Once a message is known, every line of its work carries its id, and no line after it."""
    source = """
async def work():
    log.info("in a task")
    await asyncio.to_thread(log.info, "in a thread")
with logs.message("message-1"):
    log.info("at once")
    asyncio.run(work())
log.info("afterwards")
"""
    *during, after = logged(source)
    assert [line["message_id"] for line in during] == ["message-1"] * 3
    assert list(during[0])[:6] == [*ALWAYS_LOGGED, "message_id"]
    assert "message_id" not in after


def test_what_bypasses_python_goes_to_stderr() -> None:
    """C code and child processes cannot put a line of theirs between the others."""
    source = """
os.write(1, b"from C\\n")
os.system("echo from a child")
log.info("ours")
"""
    ended = run(source)
    assert [json.loads(text)["event"] for text in ended.stdout.splitlines()] == ["ours"]
    assert "from C" in ended.stderr
    assert "from a child" in ended.stderr


def test_lines_of_many_threads_are_not_mixed() -> None:
    """Every line is whole, however many write at once."""
    source = """
def work(name):
    for n in range(200):
        log.info("line", name=name, n=n, pad="x" * 500)
        print(name, n)
threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
"""
    lines = logged(source)
    assert len(lines) == 8 * 200 * 2


def test_levels() -> None:
    """LOG_LEVEL is the least that is written; the SDK's own chatter stays off at DEBUG too."""
    source = """
log.debug("debug"); log.info("info"); log.warning("warning"); log.error("error")
logging.getLogger("botocore.auth").debug("a signature")
logging.getLogger("handlers").debug("a handler's")
"""
    assert [line["event"] for line in logged(source, "WARNING")] == ["warning", "error"]
    at_debug = [line["event"] for line in logged(source, "DEBUG")]
    assert at_debug == ["debug", "info", "warning", "error", "a handler's"]


def test_the_console_format_is_for_people() -> None:
    """No JSON, no ids; the event and its fields."""
    ended = run("log.info('file_read', rows=3)", fmt="console")
    assert "file_read" in ended.stdout
    assert "rows=3" in ended.stdout
    assert "job-1" not in ended.stdout

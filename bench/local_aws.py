"""A local AWS for the benchmarks, and one process of the program on it."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from anyio.from_thread import start_blocking_portal

from app.local.stack import Stack, local_stack

REPOSITORY = Path(__file__).resolve().parents[1]


@contextmanager
def local_aws(folder: Path) -> Iterator[Stack]:
    """A local AWS in a process of its own, its queue empty; `folder` takes its log."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(local_stack(folder)) as stack,
    ):
        # The test event that S3 sends when a notification is configured.
        stack.client("sqs").purge_queue(QueueUrl=stack.queue_url)
        yield stack


def environment(stack: Stack, folder: Path, **more: str) -> dict[str, str]:
    """The environment of a process that works on the stack."""
    return stack.environment(os.environ) | {
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "bench")]),
        "READY_FILE": str(folder / "ready"),
        "TERMINATION_LOG": str(folder / "termination-log"),
        **more,
    }


def wait_for(process: "subprocess.Popen[str]", event: str) -> dict[str, Any]:
    """The first line of this event in the process's log.

    Raises:
        RuntimeError: the process ended without it.
    """
    assert process.stdout
    for text in process.stdout:
        line: dict[str, Any] = json.loads(text)
        if line["event"] == event:
            return line
    raise RuntimeError(f"the process ended without {event}")


def rest_of(process: "subprocess.Popen[str]") -> list[Mapping[str, Any]]:
    """The lines of the log up to the end of the process."""
    assert process.stdout
    return [json.loads(text) for text in process.stdout]

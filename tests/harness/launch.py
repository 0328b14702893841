"""Starts workers on a scene, through the proxy, with the settings that most tests want."""

import textwrap
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from faults.proxy import FaultProxy

from harness.aws import Scene
from harness.process import PRELUDE, Worker
from harness.server import CREDENTIALS

# The handlers that tests use most. What waits for ever waits for the test to end it.
COPY = """
async def handle(job):
    async with job.output(job.object.key) as out:
        async for chunk in job.object.chunks():
            await out.write(chunk)
"""
WAIT = """
async def handle(job):
    job.log.info("waiting")
    await asyncio.Event().wait()
"""
# More than one part, so that an upload is open while the handler waits.
WRITE_AND_WAIT = """
async def handle(job):
    async with job.output("big") as out:
        await out.write(bytes(9 << 20))
        job.log.info("waiting")
        await asyncio.Event().wait()
"""
# Copies lines, with a checkpoint behind each; at the one named in the environment it waits for a
# stop, and then for the checkpoint behind it.
COPY_LINES = """
PAUSE_AT = int(os.environ.get("PAUSE_AT", "0"))

async def pause(job, rows):
    if rows == PAUSE_AT:
        job.log.info("waiting")
        while not job.stopping:
            await asyncio.sleep(0.01)

async def handle(job):
    rows = job.resume.state["rows"] if job.resume else 0
    job.log.info("began", rows=rows, attempt=job.attempt)
    async with job.output("copy") as out:
        async for line in job.object.lines():
            await out.write(line + b"\\n")
            rows += 1
            await pause(job, rows)
            await job.checkpoint({"rows": rows})
"""
# Rejects at line 600 unless told to be good; once `let_reject` has seen what came before it kept.
REJECT_AT_600 = COPY_LINES.replace(
    "await pause(job, rows)",
    """
            if rows == 600 and "GOOD" not in os.environ:
                while not os.path.exists("go-on"):
                    await asyncio.sleep(0.01)
                raise Reject("at line 600")
""",
)


@dataclass(slots=True)
class Launcher:
    """Call it with the source of a handlers' module to get a worker that runs it.

    Where the source names no `ROUTES`, its function `handle` takes every object.

    Attributes:
        more: variables for every worker from now on.
    """

    scene: Scene
    proxy: FaultProxy
    folder: Path
    more: dict[str, str] = field(default_factory=dict)
    _stack: ExitStack = field(default_factory=ExitStack)
    _workers: list[Worker] = field(default_factory=list)

    def __call__(self, handlers: str, /, *arguments: str, **env: str) -> Worker:
        """Start `python -m app run`, or what the arguments say, in a folder of its own.

        `env` comes on top of the usual; an empty value takes a variable away.
        """
        folder = self.folder / f"pod-{len(self._workers)}"
        folder.mkdir()
        (folder / "handlers.py").write_text(handlers_module(handlers))
        variables = self.environment(folder) | self.more | env
        worker = Worker(folder, {n: v for n, v in variables.items() if v}, arguments or ("run",))
        self._workers.append(worker)
        return self._stack.enter_context(worker)

    def environment(self, folder: Path) -> dict[str, str]:
        """The variables that a worker gets unless a test says otherwise."""
        return {
            "AWS_ENDPOINT_URL": self.proxy.url,
            "QUEUE_URL": self.scene.queue_url,
            "ALLOWED_BUCKETS": self.scene.bucket,
            "OUTPUT_URL": f"s3://{self.scene.output_bucket}/out",
            "WAIT_SECONDS": "1",
            "GRACE_SECONDS": "10",
            "READY_FILE": str(folder / "ready"),
            "TERMINATION_LOG": str(folder / "termination-log"),
            "SPOOL_DIR": str(folder),
            "POD_NAME": folder.name,
            "JOB_NAME": "job-of-the-test",
        }

    def close(self) -> None:
        """End every worker, show what it wrote, and hold it to what is never written."""
        secrets = {CREDENTIALS["AWS_SECRET_ACCESS_KEY"], CREDENTIALS["AWS_ACCESS_KEY_ID"]}
        secrets |= {
            call.parameters["ReceiptHandle"]
            for call in self.proxy.calls(service="sqs")
            if "ReceiptHandle" in call.parameters
        }
        with self._stack:
            for worker in self._workers:
                print(f"--- {worker.folder.name}\n{worker.stdout}{worker.stderr}")  # noqa: T201
                written = worker.stdout + worker.stderr
                assert not any(secret in written for secret in secrets), "a secret was logged"


def let_reject(worker: Worker, data: bytes) -> None:
    """Let `REJECT_AT_600` go on once the checkpoint behind line 599 of the data is durable."""
    kept = sum(map(len, data.splitlines(keepends=True)[:599]))
    worker.wait_for_event("checkpoint_saved", output_bytes=kept)
    (worker.folder / "go-on").touch()


def handlers_module(source: str) -> str:
    """The text of a handlers' module, with the imports that handlers need."""
    body = textwrap.dedent(source)
    routes = "" if "ROUTES" in body else '\nROUTES = [Route("*", handle)]\n'
    return PRELUDE + body + routes

"""A handler at work on an object of the fake store, with all that a worker does around it."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from fakes import BUCKET, OUTPUT, FakeStore

from app.codecs import Limits
from app.described import StreamLimits
from app.job import Attempt, Job, output_metadata
from app.notifications import ObjectRef
from app.output import Output, OutputPolicy
from app.outputs import Outputs
from app.stream import ObjectStream
from app.telemetry import Telemetry

METADATA = {"attempt-id": "one"}


async def commit(output: Output, store: FakeStore, metadata: dict[str, str] | None = None) -> None:
    """Make a finished output visible, without a condition."""
    if output.upload is None:
        await store.put(output.small, metadata or METADATA, None)
    else:
        await store.complete(output.upload, output.parts, None)
    output.state = "committed"


async def perform(
    handler: Callable[[Job], Awaitable[object]],
    store: FakeStore,
    key: str,
    folder: Path | None = None,
) -> Job:
    """Let a handler work on an object of the store, and commit its outputs, as a worker does."""
    limits = StreamLimits(0, Limits(), folder or Path("/nowhere"))
    telemetry = Telemetry()
    stream = await ObjectStream.open(
        store, ObjectRef(BUCKET, key), limits, telemetry, lambda _: None
    )
    attempt = Attempt("the-key", "the-attempt", 1, float("inf"))
    policy = OutputPolicy(output_metadata(attempt, stream, None))
    opened: list[Output] = []
    outputs = Outputs(store, OUTPUT, policy, {}, opened)
    job = Job(stream, outputs, attempt, telemetry)
    try:
        await handler(job)
        stream.check()
        for output in outputs.finished():
            await commit(output, store)
    finally:
        await stream.close()
        for output in opened:
            if output.state != "committed":
                await output.abort(store)
    return job

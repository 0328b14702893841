"""One run of the whole system on the local AWS: files in, pods at work, and how each file ended."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from app.local.depth import DepthReader, PollError
from app.local.journal import Journal, Observation
from app.local.keda import ScaledJob, Strategy, Trigger
from app.local.pods import Launcher
from app.local.replicas import Scaler
from app.local.samples import DemoFile, Expected
from app.local.stack import Stack, StackError, local_stack
from app.local.verdicts import Ending, judge, read_left
from app.outcomes import EXIT_CODES, Outcome
from app.progress import percent_of

_MISCONFIGURED = EXIT_CODES[Outcome.MISCONFIGURED]
# More at once would only share the processors with one another and with the local AWS.
_SCALED_JOB = ScaledJob(
    Trigger(queue_length=1, scale_on_in_flight=False), Strategy.ACCURATE, max_replicas=4
)
_POLLING_SECONDS = 1.0
# For the eye alone: nothing is launched for it.
_MEASURING_SECONDS = 0.25
# A little more than the GRACE_SECONDS of the stack's environment.
_GRACE_SECONDS = 22.0
# What a run may take: a constant, and time for the files' bytes at a slow handler's pace.
_BASE_SECONDS = 75.0
_BYTES_A_SECOND = 2_000_000
# The pod to be stopped is signalled half-way, or so long after it opened its object where that is
# sooner: a fast machine is through with the file in little more than a second.
_HALF_WAY_PERCENT = 40.0
_HALF_WAY_SECONDS = 0.7


class Rehearsal:
    """Uploads files, scales pods for them, stops one of them on the way, and reads what is left.

    Args:
        env: what the pods' environment is made of.
        folder: takes all temporary files; the caller removes it.

    Attributes:
        endings: one for each file, once `run` has returned.
        troubles: what went wrong beside the files, one text each.
        misconfigured: whether a pod found its configuration wrong, the handlers' among it.
    """

    def __init__(
        self, files: Sequence[DemoFile], journal: Journal, env: Mapping[str, str], folder: Path
    ) -> None:
        self.endings: list[Ending] = []
        self.troubles: list[str] = []
        self.misconfigured = False
        self._files = files
        self._journal = journal
        self._env = env
        self._folder = folder
        self._scaler: Scaler | None = None
        self._work: anyio.CancelScope | None = None
        journal.listeners.append(self._heard)

    async def run(self) -> None:
        """Run until the queue is empty, bounded in time; all processes have ended then."""
        try:
            async with local_stack(self._folder) as stack:
                await self._work_off(stack)
                left = await anyio.to_thread.run_sync(read_left, stack)
        except StackError as error:
            self.troubles.append(str(error))
            return
        views = self._journal.files
        self.endings = [judge(file, views[file.key], left) for file in self._files]

    def hurry(self) -> None:
        """Give pods that are being stopped no more time."""
        if self._scaler is not None:
            self._scaler.hurry()

    async def _work_off(self, stack: Stack) -> None:
        scaler = self._scaler = self._scaler_of(stack)
        own_bytes = sum(file.path.stat().st_size for file in self._files if file.path)
        seconds = _BASE_SECONDS + own_bytes / _BYTES_A_SECOND
        with anyio.move_on_after(seconds) as limit, anyio.CancelScope() as self._work:
            async with anyio.create_task_group() as group:
                for file in self._files:
                    if file.expected is Expected.INTERRUPTED_THEN_DONE:
                        group.start_soon(self._interrupt, file, scaler)
                    if file.expected is Expected.DONE_ONCE:
                        group.start_soon(self._repeat, file, stack)
                group.start_soon(self._upload_all, stack, scaler)
                group.start_soon(self._measure, stack)
                await scaler.run()
                group.cancel_scope.cancel()
        if limit.cancelled_caught:
            self.troubles.append(f"stopped after {seconds:.0f} s: not everything was done by then")

    async def _measure(self, stack: Stack) -> None:
        """Look at both queues more often than the scaler does."""
        client = await anyio.to_thread.run_sync(stack.client, "sqs")
        queue, letters = (
            DepthReader(url, lambda: client) for url in (stack.queue_url, stack.dlq_url)
        )
        while True:
            # The scaler reads the same queue, and tells where that fails.
            with contextlib.suppress(PollError):
                self._journal.measured(await queue(), (await letters()).visible)
            await anyio.sleep(_MEASURING_SECONDS)

    def _scaler_of(self, stack: Stack) -> Scaler:
        return Scaler(
            _SCALED_JOB,
            DepthReader(stack.queue_url, lambda: stack.client("sqs")),
            Launcher(stack.environment(self._env), self._folder).launch,
            self._journal,
            polling_seconds=_POLLING_SECONDS,
            grace_seconds=_GRACE_SECONDS,
        )

    async def _upload_all(self, stack: Stack, scaler: Scaler) -> None:
        for file in self._files:
            try:
                size = await anyio.to_thread.run_sync(
                    self._upload, stack, file, abandon_on_cancel=True
                )
            except OSError as error:
                self.troubles.append(f"{file.name}: cannot be uploaded: {error}")
            else:
                self._journal.note("uploaded", "", file.key, size=size)
        scaler.drain()

    def _upload(self, stack: Stack, file: DemoFile) -> int:
        path = file.path or self._folder / "sample"
        if file.make is not None:
            file.make(path)
        with path.open("rb") as body:
            # One streamed request: of an upload in parts moto would send two notifications.
            stack.client("s3").put_object(Bucket=stack.input_bucket, Key=file.key, Body=body)
        return path.stat().st_size

    async def _interrupt(self, file: DemoFile, scaler: Scaler) -> None:
        """Send SIGTERM to the first pod that works on the file, about half-way."""
        opened, half_way = anyio.Event(), anyio.Event()
        pods: list[str] = []

        def heard(seen: Observation) -> None:
            if seen.key == file.key and seen.kind == "object_opened":
                pods.append(seen.pod)
                opened.set()
            if seen.key == file.key and (percent_of(seen.facts) or 0) >= _HALF_WAY_PERCENT:
                half_way.set()

        self._journal.listeners.append(heard)
        await opened.wait()
        with anyio.move_on_after(_HALF_WAY_SECONDS):
            await half_way.wait()
        if pod := scaler.pods.get(pods[0]):
            pod.terminate()
            self._journal.note("signalled", pods[0], file.key)

    async def _repeat(self, file: DemoFile, stack: Stack) -> None:
        """Send the event of a file again, once it is done: S3 notifies at least once."""
        done = anyio.Event()

        def heard(seen: Observation) -> None:
            if seen.key == file.key and seen.kind == "message_deleted":
                done.set()

        self._journal.listeners.append(heard)
        await done.wait()
        await anyio.to_thread.run_sync(stack.notify, file.key)
        self._journal.note("repeated", "", file.key)

    def _heard(self, seen: Observation) -> None:
        """Stop the run when a pod finds itself misconfigured: the next one would be no wiser."""
        if seen.kind != "pod_ended" or seen.facts["exit_code"] != _MISCONFIGURED:
            return
        if self._work is not None and not self.misconfigured:
            self.misconfigured = True
            self.troubles.append("\n".join(self._journal.pods[seen.pod].stderr))
            self._work.cancel()

"""As many pods as KEDA would keep for a queue: polling, launching, stopping."""

from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio
from anyio.abc import TaskGroup

from app.local.depth import PollError
from app.local.keda import QueueDepth, ScaledJob, jobs_to_create
from app.local.pods import Pod

# The counts of a real queue lag: one poll that finds nothing proves little.
_IDLE_POLLS = 2


class Observer(Protocol):
    """Is told what the scaler does; called on its event loop, so it must not block for long."""

    def polled(self, depth: QueueDepth, running: int, pending: int, created: int, /) -> None:
        """A poll found this, with so many pods before it, and led to so many new ones."""

    def poll_failed(self, error: PollError, /) -> None:
        """A poll could not read the queue; no pod is launched for it."""

    def pod_started(self, pod: Pod, /) -> None:
        """A process was launched."""

    def pod_line(self, pod: Pod, line: str, stream: str, /) -> None:
        """A pod wrote a line to `stdout` or `stderr`."""

    def pod_ended(self, pod: Pod, exit_code: int, /) -> None:
        """A process has ended and all its lines were told."""


class Scaler:
    """Keeps as many pods as a ScaledJob would; `run` leaves none behind, however it ends.

    Args:
        job: what the ScaledJob says.
        read_depth: reads the queue; raises PollError where that may pass.
        launch: starts one pod.
        polling_seconds: from the end of one poll to the next.
        grace_seconds: from SIGTERM to SIGKILL when the scaler is stopped.
    """

    def __init__(
        self,
        job: ScaledJob,
        read_depth: Callable[[], Awaitable[QueueDepth]],
        launch: Callable[[], Awaitable[Pod]],
        observer: Observer,
        *,
        polling_seconds: float,
        grace_seconds: float,
    ) -> None:
        self.pods: dict[str, Pod] = {}
        self._job = job
        self._read_depth = read_depth
        self._launch = launch
        self._observer = observer
        self._polling_seconds = polling_seconds
        self._grace_seconds = grace_seconds
        self._draining = False
        self._pod_ended = anyio.Event()
        self._grace: anyio.CancelScope | None = None

    def drain(self) -> None:
        """Let `run` return once the queue is empty and no pod runs."""
        self._draining = True

    def hurry(self) -> None:
        """Give pods that are being stopped no more time."""
        self._grace_seconds = 0
        if self._grace is not None:
            self._grace.cancel()

    async def run(self) -> None:
        """Poll and launch, until idle after `drain` or until cancelled.

        Pods that still run get SIGTERM then, and SIGKILL at the end of their grace. What reading
        the queue or launching a pod raises ends it, and comes out as it is.
        """
        failure: Exception | None = None
        async with anyio.create_task_group() as group:
            try:
                await self._poll_until_idle(group)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the group
                failure = error
            finally:
                with anyio.CancelScope(shield=True):
                    await self._stop_pods()
        if failure is not None:
            raise failure

    async def _poll_until_idle(self, group: TaskGroup) -> None:
        idle_polls = 0
        while True:
            depth = await self._poll(group)
            idle = self._draining and depth is not None and depth.empty and not self.pods
            idle_polls = idle_polls + 1 if idle else 0
            if idle_polls == _IDLE_POLLS:
                return
            await anyio.sleep(self._polling_seconds)

    async def _poll(self, group: TaskGroup) -> QueueDepth | None:
        # Before the messages are: a pod that takes one meanwhile is not missed on both sides.
        running = len(self.pods)
        pending = sum(not pod.ready for pod in self.pods.values())
        try:
            depth = await self._read_depth()
        except PollError as error:
            self._observer.poll_failed(error)
            return None
        created = jobs_to_create(self._job, depth, running, pending)
        self._observer.polled(depth, running, pending, created)
        for _ in range(created):
            await self._start(group)
        return depth

    async def _start(self, group: TaskGroup) -> None:
        # A process that was begun must be known, or nobody would stop it.
        with anyio.CancelScope(shield=True):
            pod = await self._launch()
        self.pods[pod.name] = pod
        group.start_soon(self._attend, pod)
        self._observer.pod_started(pod)

    async def _attend(self, pod: Pod) -> None:
        def on_line(line: str, stream: str) -> None:
            self._observer.pod_line(pod, line, stream)

        try:
            # Bounded all the same: when `run` is cancelled, it ends every process.
            with anyio.CancelScope(shield=True):
                exit_code = await pod.wait(on_line)
        finally:
            pod.kill()  # only where the observer failed: nobody waits for the process any more
            del self.pods[pod.name]
            self._pod_ended.set()
        self._observer.pod_ended(pod, exit_code)

    async def _stop_pods(self) -> None:
        for pod in self.pods.values():
            pod.terminate()
        with anyio.move_on_after(self._grace_seconds) as self._grace:
            await self._no_pods()
        for pod in self.pods.values():
            pod.kill()
        await self._no_pods()

    async def _no_pods(self) -> None:
        while self.pods:
            self._pod_ended = anyio.Event()
            await self._pod_ended.wait()

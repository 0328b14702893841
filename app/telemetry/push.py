"""Hands the metrics to a Pushgateway: pods live for seconds, so that nothing scrapes them.

From a thread of its own, and never for longer than it is given: whatever the gateway does, the
message, the outcome and the exit code stay what they are.
"""

import threading
from queue import SimpleQueue

from prometheus_client import CollectorRegistry, push_to_gateway

# For each push, and for all that the end of the process waits for: with what comes around it,
# the exit is late by less than 2 s.
PUSH_SECONDS = 1.5


class Pusher:
    """Replaces one group on the gateway: that of this job and this pod.

    Args:
        url: of the gateway.
        job, instance: the group's labels.
    """

    def __init__(self, url: str, job: str, instance: str, registry: CollectorRegistry) -> None:
        self._url = url
        self._job = job
        self._instance = instance
        self._registry = registry
        self._asked: SimpleQueue[threading.Event] = SimpleQueue()
        self._failed: Exception | None = None
        threading.Thread(target=self._run, name="push", daemon=True).start()

    def push(self) -> threading.Event:
        """Push as soon as the push before is through; the event tells when this one is."""
        done = threading.Event()
        self._asked.put(done)
        return done

    def finish(self, seconds: float) -> Exception | None:
        """Push a last time, within so many seconds; why it failed, if it did."""
        if not self.push().wait(seconds):
            return TimeoutError(f"no answer within {seconds:.1f} s")
        return self._failed

    def _run(self) -> None:
        while True:
            done = self._asked.get()
            try:
                # PUT: the group becomes what it is here, however often it is said.
                push_to_gateway(
                    self._url,
                    self._job,
                    self._registry,
                    grouping_key={"instance": self._instance},
                    timeout=PUSH_SECONDS,
                )
                self._failed = None
            except Exception as error:  # noqa: BLE001 - told at the end, with the counters
                self._failed = error
            done.set()

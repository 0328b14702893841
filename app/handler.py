"""What a handler's author imports: Job, SyncJob, Route, Reject, Retry, Interrupted."""

import fnmatch
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from app.job import Checkpoint, Job
from app.outcomes import Interrupted, Reject, Retry
from app.sync import SyncJob

__all__ = ["Checkpoint", "Interrupted", "Job", "Reject", "Retry", "Route", "SyncJob"]

Handler: TypeAlias = Callable[[Job], Awaitable[object]] | Callable[[SyncJob], object]


class Route:
    """Which objects go to which handler; the first route that matches wins.

    Args:
        pattern: fnmatch, on the decoded key.
        handler: `async def` with a Job, or plain `def` with a SyncJob.
        bucket: fnmatch, on the bucket's name.
        name: in logs, metrics and the idempotency key; the function's name if not given.
        version: part of the idempotency key; another one makes old objects new work.
        timeout: seconds a handler may take, instead of JOB_TIMEOUT.
        visibility_timeout: seconds, instead of VISIBILITY_TIMEOUT.
    """

    def __init__(
        self,
        pattern: str,
        handler: Handler,
        *,
        bucket: str = "*",
        name: str | None = None,
        version: str = "1",
        timeout: float | None = None,
        visibility_timeout: int | None = None,
    ) -> None:
        if not callable(handler):
            raise TypeError(f"Route({pattern!r}): the handler {handler!r} cannot be called")
        if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
            raise TypeError(f"Route({pattern!r}): the handler {handler!r} yields: nobody takes it")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"Route({pattern!r}): timeout={timeout}: expected more than 0 seconds")
        if visibility_timeout is not None and not 2 <= visibility_timeout <= 43_200:  # noqa: PLR2004
            raise ValueError(
                f"Route({pattern!r}): visibility_timeout={visibility_timeout}: "
                "expected 2 to 43200 seconds"
            )
        self.pattern = pattern
        self.handler = handler
        self.bucket = bucket
        self.name: str = name or getattr(handler, "__name__", "") or type(handler).__name__
        self.version = str(version)
        self.timeout = timeout
        self.visibility_timeout = visibility_timeout

    def matches(self, bucket: str, key: str) -> bool:
        """Whether this route takes the object."""
        return fnmatch.fnmatchcase(bucket, self.bucket) and fnmatch.fnmatchcase(key, self.pattern)

    def __repr__(self) -> str:
        return f"Route({self.pattern!r}, {self.name})"


def route_for(routes: list[Route], bucket: str, key: str) -> Route | None:
    """The first route that takes the object."""
    return next((route for route in routes if route.matches(bucket, key)), None)

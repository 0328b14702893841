"""One range of one object version, whatever the connection does to it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import uniform
from time import perf_counter

from app.notifications import ObjectRef
from app.outcomes import OutsideError, Reason
from app.ports import Body, ObjectFacts, ObjectReader, Opened
from app.telemetry import Telemetry

# What may pass if the request is made again, at once or soon.
PASSING = (Reason.TRANSPORT, Reason.THROTTLED)


@dataclass(frozen=True, slots=True)
class Patience:
    """When a body is given up, and how often it is asked for again.

    Attributes:
        fruitless: requests in a row without a single new byte before the error is raised;
            requests that bring some are not counted.
        base_seconds, most_seconds: of the back-off between such requests, with full jitter.
        floor_bytes, floor_seconds: a body that brings fewer bytes in so long is reopened.
    """

    fruitless: int = 6
    base_seconds: float = 0.2
    most_seconds: float = 5.0
    floor_bytes: int = 256 << 10
    floor_seconds: float = 15.0

    def pause(self, fruitless: int) -> float:
        """Seconds to wait after so many requests in a row that brought nothing."""
        return uniform(0, min(self.most_seconds, self.base_seconds * 2**fruitless))


class RangeReader:
    """Bytes `at` to `end` of the pinned version, in order, reopened where the body breaks.

    Args:
        first: a response for these bytes that has already come.
        on_throttled: called when the store asks for fewer requests.
    """

    def __init__(
        self,
        reader: ObjectReader,
        facts: ObjectFacts,
        start: int,
        end: int,
        *,
        patience: Patience,
        telemetry: Telemetry,
        first: Opened | None = None,
        on_throttled: Callable[[], None] = lambda: None,
    ) -> None:
        self.at = start
        self.end = end
        # From the last request to its response, 0 for one that had come already.
        self.latency_seconds = 0.0
        self._reader = reader
        self._facts = facts
        self._patience = patience
        self._telemetry = telemetry
        self._on_throttled = on_throttled
        self._fruitless = 0
        self._skip = 0
        self._body: Body | None = None
        self._taken = (0.0, start)
        self._window_waited = 0.0
        self._window_bytes = 0
        if first is not None:
            self._take(first)

    async def read(self) -> bytes:
        """The next bytes as they come; empty at the end of the range.

        Raises:
            OutsideError: the version is gone, or the transport failed too often in a row.
        """
        while self.at < self.end:
            try:
                if self._body is None:
                    self._take(await self._open())
                chunk = await self._next()
            except OutsideError as error:
                await self._recover(error)
                continue
            except BaseException:
                self.close()
                raise
            if chunk:
                self.at += len(chunk)
                self._fruitless = 0
                return chunk
        self.close()
        return b""

    def close(self) -> None:
        """Close the body under way; harmless twice."""
        if self._body is not None:
            self._body.close()
            self._body = None

    @property
    def left(self) -> int:
        """Bytes of the range that are yet to come."""
        return self.end - self.at

    def nearly_ended(self, seconds: float) -> bool:
        """Whether what is left of the range will have come in so many seconds."""
        since, start = self._taken
        took = perf_counter() - since
        # The first bytes come with the response, all at once: they say nothing of the rate.
        return took >= seconds and self.left * took <= (self.at - start) * seconds

    def shorten(self, end: int) -> None:
        """Read up to `end` only; what the body brings beyond it is given up."""
        self.end = max(self.at, min(self.end, end))

    async def _open(self) -> Opened:
        facts = self._facts
        ref = ObjectRef(facts.bucket, facts.key, facts.version_id)
        asked = perf_counter()
        opened = await self._reader.open_at(ref, self.at, self.end, facts)
        self.latency_seconds = perf_counter() - asked
        same = (opened.facts.etag, opened.facts.size) == (facts.etag, facts.size)
        if not same or opened.start > self.at:
            opened.body.close()
            text = f"s3://{facts.bucket}/{facts.key} changed while it was read"
            raise OutsideError(Reason.OBJECT_CHANGED, text)
        return opened

    def _take(self, opened: Opened) -> None:
        self._body = opened.body
        # A store that ignores Range answers with the whole object: what comes before is skipped.
        self._skip = self.at - opened.start
        self._taken = (perf_counter(), self.at)
        self._window_waited = 0.0
        self._window_bytes = 0

    async def _next(self) -> bytes:
        """The next bytes of the body that are wanted; empty where all of them were skipped."""
        assert self._body is not None  # noqa: S101 - `read` opened it
        began = perf_counter()
        chunk = await self._body.read()
        waited = perf_counter() - began
        if not chunk:
            raise self._broken(f"the body ended at byte {self.at} of {self.end}")
        self._check_floor(waited, len(chunk))
        if self._skip:
            cut = min(self._skip, len(chunk))
            self._skip -= cut
            chunk = chunk[cut:]
        if len(chunk) > self.end - self.at:
            # More than was asked for: right up to here, if the store ignores Range.
            chunk = chunk[: self.end - self.at]
        return chunk

    def _check_floor(self, waited: float, count: int) -> None:
        """Give a body up that only trickles; time in which nobody asked it does not count."""
        self._window_waited += waited
        self._window_bytes += count
        if self._window_waited < self._patience.floor_seconds:
            return
        if self._window_bytes < self._patience.floor_bytes:
            raise self._broken(f"{self._window_bytes} bytes in {self._window_waited:.1f} s")
        self._window_waited = 0.0
        self._window_bytes = 0

    def _broken(self, text: str) -> OutsideError:
        name = f"s3://{self._facts.bucket}/{self._facts.key}"
        return OutsideError(Reason.TRANSPORT, f"reading {name}: {text}")

    async def _recover(self, error: OutsideError) -> None:
        """Close what is broken and pause, or raise where asking again cannot help."""
        self.close()
        if error.reason is Reason.THROTTLED:
            self._on_throttled()
        self._fruitless += 1
        if error.reason not in PASSING or self._fruitless > self._patience.fruitless:
            raise error
        pause = self._patience.pause(self._fruitless)
        self._telemetry.read_retried(error, self.at, pause)
        await asyncio.sleep(pause)

"""The ledger's store in memory, with a failure plan; held to the same suite as S3 itself."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import count

import anyio

from app.outcomes import ConditionError, OutsideError, Reason
from app.ports import Stored

LOST = OutsideError(Reason.TRANSPORT, "the answer was lost")


@dataclass(slots=True)
class FakeRecords:
    """Records and blobs in memory.

    Attributes:
        before, after: by the name of a call, what its next calls raise before or after they took
            effect, in order; None succeeds.
        stuck: by the name of a call, what is set once it took effect; it is never answered.
        calls: how often each call was made.
    """

    records: dict[str, Stored] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    before: dict[str, list[Exception | None]] = field(default_factory=dict)
    after: dict[str, list[Exception | None]] = field(default_factory=dict)
    stuck: dict[str, anyio.Event] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    _ids: "count[int]" = field(default_factory=lambda: count(1))

    async def read(self, key: str) -> Stored | None:
        """The record; None where there is none."""
        await self._fail("read", self.before)
        found = self.records.get(key)
        await self._fail("read", self.after)
        return found

    async def write(self, key: str, data: bytes, expected: str | None) -> str:
        """Write the record under its condition."""
        await self._fail("write", self.before)
        found = self.records.get(key)
        if expected != (found.etag if found else None):
            raise ConditionError(f"{key} is not what was expected")
        etag = f'"etag-{next(self._ids)}"'
        self.records[key] = Stored(data, etag)
        await self._fail("write", self.after)
        return etag

    async def keep(self, key: str, data: bytes) -> None:
        """Write a blob."""
        await self._fail("keep", self.before)
        self.blobs[key] = data

    async def fetch(self, key: str) -> bytes | None:
        """A blob's bytes; None where there is none."""
        await self._fail("fetch", self.before)
        return self.blobs.get(key)

    async def drop(self, key: str) -> None:
        """Delete a blob."""
        await self._fail("drop", self.before)
        self.blobs.pop(key, None)

    async def _fail(self, name: str, plan: dict[str, list[Exception | None]]) -> None:
        self.calls[name] += plan is self.before
        await anyio.lowlevel.checkpoint()
        if plan is self.after and name in self.stuck:
            self.stuck[name].set()
            await anyio.sleep_forever()
        if (planned := plan.get(name)) and (error := planned.pop(0)) is not None:
            raise error

"""Two clients of one store that take turns at every request, in an order that a test gives."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeVar

import anyio

from app.ports import RecordStore, Stored

T = TypeVar("T")


def orders(one: int, other: int) -> list[str]:
    """Every order in which `a` can take one number of turns, and `b` the other."""
    return [
        "".join("a" if at in places else "b" for at in range(one + other))
        for places in combinations(range(one + other), one)
    ]


@dataclass
class Turns:
    """Who may send the next request; behind the order's end, and once one is out, anybody."""

    order: str
    out: set[str] = field(default_factory=set)
    _changed: anyio.Condition = field(default_factory=anyio.Condition)

    async def take(self, name: str, request: Callable[[], Awaitable[T]]) -> T:
        """Send the request when it is this one's turn; the next turn begins with its answer."""
        async with self._changed:
            while self.order and self.order[0] != name and self.order[0] not in self.out:
                await self._changed.wait()
            try:
                return await request()
            finally:
                self.order = self.order[1:] if self.order.startswith(name) else self.order
                self._changed.notify_all()

    @asynccontextmanager
    async def player(self, name: str) -> AsyncIterator[None]:
        """In this block it is one who takes turns."""
        try:
            yield
        finally:
            async with self._changed:
                self.out.add(name)
                self._changed.notify_all()


@dataclass(frozen=True)
class TurnTaking:
    """A store whose requests wait for their turn."""

    store: RecordStore
    turns: Turns
    name: str

    async def read(self, key: str) -> Stored | None:
        """As the store does it."""
        return await self.turns.take(self.name, lambda: self.store.read(key))

    async def write(self, key: str, data: bytes, expected: str | None) -> str:
        """As the store does it."""
        return await self.turns.take(self.name, lambda: self.store.write(key, data, expected))

    async def keep(self, key: str, data: bytes) -> None:
        """As the store does it."""
        await self.turns.take(self.name, lambda: self.store.keep(key, data))

    async def fetch(self, key: str) -> bytes | None:
        """As the store does it."""
        return await self.turns.take(self.name, lambda: self.store.fetch(key))

    async def drop(self, key: str) -> None:
        """As the store does it."""
        await self.turns.take(self.name, lambda: self.store.drop(key))

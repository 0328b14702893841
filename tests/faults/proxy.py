"""The proxy itself: a thread with a loop of its own, and a small synchronous face for tests."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from faults.calls import Call, classify
from faults.exchange import HEAD_LIMIT_BYTES, Exchange, HungUp
from faults.plan import Gate, Rule, When
from faults.wire import Head, read_head, read_request_body


class FaultProxy:
    """Stands between a process and a server, records every call, and does what the plan says.

    Use it as a context manager; the process under test gets `url` as its endpoint.

    Args:
        upstream: the URL of the server.
        rules: the plan; more can be added at any time.
    """

    def __init__(self, upstream: str, rules: Iterable[Rule] = ()) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._rules = list(rules)
        self._calls: list[Call] = []
        self._changed = threading.Condition()
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="fault-proxy")
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop
        self._stop: asyncio.Event
        self.url = ""

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._started.wait(10), "the proxy did not start"
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        assert not self._thread.is_alive(), "the proxy did not stop"

    def add(self, *rules: Rule) -> None:
        """Take these rules into the plan; they count calls from now on."""
        with self._changed:
            self._rules.extend(rules)

    def clear(self) -> None:
        """Forget the plan: from now on nothing is done to any call."""
        with self._changed:
            self._rules.clear()

    def hold(
        self,
        call: str,
        *,
        when: When = "before",
        first: int = 1,
        where: Callable[[Call], bool] = lambda _: True,
    ) -> Gate:
        """A gate that one call of this name will stand at."""
        gate = Gate()
        self.add(Rule(call, gate, when, first=first, times=1, where=where))
        return gate

    def calls(self, *names: str, service: str | None = None) -> list[Call]:
        """The calls seen so far, in the order of their coming; all, or those of these names."""
        with self._changed:
            return [
                call
                for call in self._calls
                if (not names or call.name in names) and service in (None, call.service)
            ]

    def names(self) -> list[str]:
        """The names of the calls seen so far, in the order of their coming."""
        return [call.name for call in self.calls()]

    def wait_for(
        self, name: str, count: int = 1, timeout: float = 20, *, over: bool = True
    ) -> Call:
        """The `count`-th call of this name, as soon as it is over, or (not `over`) has come.

        Raises:
            AssertionError: it was not within so many seconds.
        """

        def found() -> list[Call]:
            named = (call for call in self._calls if name in ("*", call.name))
            return [call for call in named if call.ended_at is not None or not over]

        with self._changed:
            came = self._changed.wait_for(lambda: len(found()) >= count, timeout)
            seen = [call.name for call in self._calls]
            assert came, f"no {name} number {count} in {timeout} s; seen: {seen}"
            return found()[count - 1]

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_LIMIT_BYTES)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A plain function: a coroutine here would have its task's errors handled by asyncio.
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Nothing is kept back in the transport: what was written before a fault has been sent.
        writer.transport.set_write_buffer_limits(high=0)
        try:
            while (head := await read_head(reader)) is not None:
                if head.get("expect"):
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                body = await read_request_body(reader, head)
                call, faults = self._note(head, body)
                try:
                    await Exchange(self._upstream, reader, writer, call, faults).run(head, body)
                finally:
                    self._end(call)
        except (HungUp, ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            with contextlib.suppress(ConnectionError):
                writer.close()

    def _note(self, head: Head, body: bytes) -> tuple[Call, list[Rule]]:
        call = classify(head, body)
        with self._changed:
            self._calls.append(call)
            rules = [rule for rule in self._rules if rule.claims(call)]
            self._changed.notify_all()
        return call, rules

    def _end(self, call: Call) -> None:
        with self._changed:
            call.ended_at = time.monotonic()
            self._changed.notify_all()

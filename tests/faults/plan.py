"""What is to be done to which call, and when."""

import asyncio
import json
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal

from faults.calls import Call

When = Literal["before", "after"]


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection in good order."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Close the connection with a TCP reset; bytes still on their way may be lost with it."""


@dataclass(frozen=True, slots=True)
class Drop:
    """Say nothing more, and leave the connection open."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Go on after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer in the server's place."""

    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


class Gate:
    """Holds one call until the test says go on."""

    def __init__(self) -> None:
        self._arrived: Future[Call] = Future()
        self._opened: Future[None] = Future()

    def __repr__(self) -> str:
        return "Gate()"

    def wait(self, timeout: float = 20) -> Call:
        """The call that has come to the gate, as soon as it has.

        Raises:
            TimeoutError: none came in so many seconds.
        """
        return self._arrived.result(timeout)

    def open(self) -> None:
        """Let the call go on; harmless when done twice."""
        if not self._opened.done():
            self._opened.set_result(None)

    async def hold(self, call: Call) -> None:
        """Wait, on the proxy's loop, until the test opens the gate."""
        if not self._arrived.done():
            self._arrived.set_result(call)
        # Shielded, since a proxy that is stopped must not cancel what the test holds.
        await asyncio.shield(asyncio.wrap_future(self._opened))


Fault = Cut | Reset | Drop | Delay | Answer | Gate


@dataclass(slots=True)
class Rule:
    """One fault, and the calls it happens to.

    Attributes:
        call: the call's name, `*` for any.
        when: before the request was sent on (it takes no effect), or after the server answered
            (it did).
        after_bytes: instead of `when`: in the middle of the response body, after so many of its
            bytes.
        first: the number of the first call it happens to, counted from 1 over those that match.
        times: to how many in a row; None for all that follow.
        where: a further condition on the call.
    """

    call: str
    fault: Fault
    when: When = "before"
    after_bytes: int | None = None
    first: int = 1
    times: int | None = None
    where: Callable[[Call], bool] = lambda _: True
    _seen: int = field(default=0, init=False)

    def claims(self, call: Call) -> bool:
        """Whether the fault happens to this call; to be asked once for each call."""
        if self.call not in ("*", call.name) or not self.where(call):
            return False
        self._seen += 1
        last = float("inf") if self.times is None else self.first + self.times - 1
        return self.first <= self._seen <= last


def s3_error(status: int, code: str) -> Answer:
    """The answer by which S3 says that something went wrong."""
    body = f"<Error><Code>{code}</Code><Message>made up by the test</Message></Error>"
    return Answer(status, body.encode(), (("Content-Type", "application/xml"),))


def sqs_error(status: int, code: str, message: str = "made up by the test") -> Answer:
    """The answer by which SQS says that something went wrong; `code` as in its JSON protocol."""
    body = json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": message})
    kind = ("Content-Type", "application/x-amz-json-1.0")
    query_code = {"MessageNotInflight": "AWS.SimpleQueueService.MessageNotInflight"}
    blame = "Sender" if status < 500 else "Receiver"
    return Answer(
        status,
        body.encode(),
        (kind, ("x-amzn-query-error", f"{query_code.get(code, code)};{blame}")),
    )

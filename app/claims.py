"""Claims of work: every change of a record is one conditional write, settled by its write id."""

import secrets
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import anyio
import msgspec

from app import ledger
from app.ledger import Answer, Claimant, Exhausted, Granted, Record, RollForward
from app.outcomes import ConditionError, FencedError, OutsideError, Reason, RejectedError
from app.ports import RecordStore

Change: TypeAlias = Callable[[Record, str], Record]
# A claim lost to another one is decided anew; so often, then the message is tried later.
ROUNDS = 5
# Between tries of one write that left the record as it was; seconds.
PAUSES = (0.1, 0.3, 0.9)

_NOBODYS_ETAG = f'"{"0" * 32}"'

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Record).decode


class Ledger:
    """The records, behind a store that writes under conditions."""

    def __init__(
        self, store: RecordStore, max_attempts: int, now: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._max_attempts = max_attempts
        self._now = now

    async def claim(
        self, key: str, who: Claimant, *, redo: bool = False
    ) -> "tuple[Answer, Claim | None]":
        """Ask for the work; the claim comes with answers that give it.

        Raises:
            OutsideError: `ledger`; the ledger cannot be asked, or is fought over.
        """
        for _ in range(ROUNDS):
            found = await self._read(key)
            record, etag = found or (None, None)
            write_id = secrets.token_hex(8)
            answer = ledger.claim(
                record,
                who,
                write_id,
                now=self._now(),
                max_attempts=self._max_attempts,
                redo=redo,
            )
            if not isinstance(answer, Granted | RollForward | Exhausted):
                return answer, None
            written = await self._write(key, answer.record, etag)
            if written is not None:
                return answer, Claim(self._read, self._write, key, answer.record, written)
        raise OutsideError(Reason.LEDGER, f"the record {key} is fought over")

    async def _read(self, key: str) -> tuple[Record, str] | None:
        try:
            found = await self._store.read(key)
        except (OutsideError, RejectedError) as error:
            raise _unreachable(error) from error
        if found is None:
            return None
        try:
            return _decode(found.data), found.etag
        except msgspec.MsgspecError as error:
            raise OutsideError(Reason.LEDGER, f"the record {key} is unreadable: {error}") from error

    async def _write(self, key: str, record: Record, etag: str | None) -> str | None:
        """The new ETag, or None where the record is no longer the one that was read."""
        for pause in PAUSES:
            try:
                return await self._store.write(key, _encode(record), etag)
            except (ConditionError, OutsideError) as error:
                failed = error
            # Refused, or the answer lost: a retried request can meet its own success.
            found = await self._read(key)
            if found is not None and found[0].write_id == record.write_id:
                return found[1]
            if (found[1] if found else None) != etag:
                return None
            await anyio.sleep(pause)
        raise _unreachable(failed)


def _unreachable(error: Exception) -> OutsideError:
    if isinstance(error, OutsideError) and error.reason is Reason.CREDENTIALS:
        return error
    return OutsideError(Reason.LEDGER, f"the ledger cannot be asked: {error}")


class Claim:
    """This attempt's hold on the work; fenced as soon as another one has taken it over."""

    def __init__(
        self,
        read: Callable[[str], Awaitable[tuple[Record, str] | None]],
        write: Callable[[str, Record, str | None], Awaitable[str | None]],
        key: str,
        record: Record,
        etag: str,
    ) -> None:
        self.key = key
        self.record = record
        self._read = read
        self._write = write
        self._etag = etag
        self._writing = anyio.Lock()

    async def change(self, make: Change) -> None:
        """Write the record that follows from the present one.

        Raises:
            FencedError: another attempt has taken over.
            OutsideError: `ledger`.
        """
        async with self._writing:
            for _ in range(ROUNDS):
                record = make(self.record, secrets.token_hex(8))
                written = await self._write(self.key, record, self._etag)
                if written is not None:
                    self.record, self._etag = record, written
                    return
                found = await self._read(self.key)
                if found is None or found[0].attempt_id != self.record.attempt_id:
                    break
                # A write of this attempt's own, whose answer was lost or not waited for.
                self.record, self._etag = found
            raise FencedError(f"the work {self.key} was taken over by another attempt")


async def honours_conditions(store: RecordStore) -> bool:
    """Whether the store refuses a write whose condition is not met; a ledger needs one that does.

    Writes a record of its own, and deletes it.

    Raises:
        OutsideError: the store cannot be asked.
    """
    key = f"probe-{secrets.token_hex(8)}"
    await store.write(key, b"{}", None)
    try:
        return await _refuses(store, key, None) and await _refuses(store, key, _NOBODYS_ETAG)
    finally:
        await store.drop(f"{key}.json")


async def _refuses(store: RecordStore, key: str, expected: str | None) -> bool:
    try:
        await store.write(key, b"{}", expected)
    except ConditionError:
        return True
    return False

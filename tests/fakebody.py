"""The bytes of one response of the store in memory."""

import anyio


class FakeBody:
    """The bytes of one response; ends early, with an error or without, where the plan says so."""

    def __init__(self, data: bytes, chunk_bytes: int, failure: Exception | None) -> None:
        self._data = data
        self._at = 0
        self._chunk_bytes = chunk_bytes
        self._failure = failure
        self.closed = False

    async def read(self) -> bytes:
        """The next bytes; empty at the end, or once closed."""
        await anyio.lowlevel.checkpoint()
        chunk = self._data[self._at : self._at + self._chunk_bytes]
        self._at += len(chunk)
        if not chunk and self._failure is not None:
            raise self._failure
        return b"" if self.closed else chunk

    def close(self) -> None:
        """Remember that the connection was given up."""
        self.closed = True

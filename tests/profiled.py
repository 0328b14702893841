"""The CSV handler over a store in memory."""

import asyncio
import json
from typing import Any

from fakes import BUCKET, OUTPUT, FakeStore, Stored
from performing import perform

from handlers.csv_profile import csv_profile


def profile(data: bytes, key: str = "a.csv", chunk_bytes: int = 1 << 16) -> dict[str, Any]:
    """The profile that the handler writes of these bytes."""
    store = FakeStore(chunk_bytes=chunk_bytes)
    store.keep(BUCKET, key, Stored(data))
    asyncio.run(perform(csv_profile, store, key))
    written = store.found(OUTPUT.bucket, OUTPUT.key(f"{key}.profile.json"))
    assert written is not None
    assert written.content_type == "application/json"
    assert all(body.closed for body in store.bodies)
    return dict(json.loads(written.data))


def column(found: dict[str, Any], name: str) -> dict[str, Any]:
    """What a profile says of one column."""
    return next(dict(one) for one in found["columns"] if one["name"] == name)

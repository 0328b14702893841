"""The handlers that come with the program, and which objects go to which."""

import asyncio
import hashlib
import json

import pytest
from fakes import BUCKET, OUTPUT, FakeStore, Stored
from performing import perform

from app.handler import route_for
from handlers import ROUTES
from handlers.checksum import checksum
from handlers.csv_profile import csv_profile


@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_the_checksum_of_any_object(size: int) -> None:
    """The manifest has the size and the SHA-256 of the bytes as they are stored."""
    data = bytes(n % 251 for n in range(size))
    store = FakeStore(chunk_bytes=1000)
    store.keep(BUCKET, "a/b ü.bin", Stored(data))
    asyncio.run(perform(checksum, store, "a/b ü.bin"))
    written = store.found(OUTPUT.bucket, OUTPUT.key("a/b ü.bin.manifest.json"))
    assert written is not None
    assert json.loads(written.data) == {
        "bucket": BUCKET,
        "key": "a/b ü.bin",
        "version_id": None,
        "etag": Stored(data).etag,
        "size": size,
        "sha256": hashlib.sha256(data).hexdigest(),
    }


@pytest.mark.parametrize(
    ("key", "handler"),
    [
        ("incoming/2026/a.csv", csv_profile),
        ("a.csv.gz", csv_profile),
        ("incoming/a.csv.zst", csv_profile),
        ("incoming/a.json", checksum),
        ("incoming/a.csv.lz4", checksum),
        ("csv", checksum),
    ],
)
def test_the_routes(key: str, handler: object) -> None:
    """CSV files go to the profile, at any depth and compressed; everything else is hashed."""
    route = route_for(ROUTES, "a-bucket", key)
    assert route is not None
    assert route.handler is handler

"""Whether a store honours conditions is found out by asking it."""

import pytest
from fakerecords import FakeRecords

from app.claims import honours_conditions


class Careless(FakeRecords):
    """A store that overwrites whatever is there."""

    def __init__(self, heeds: str) -> None:
        super().__init__()
        self._heeds = heeds

    async def write(self, key: str, data: bytes, expected: str | None) -> str:
        """Write the record, whatever was expected, but for the one condition it heeds."""
        heeded = "absent" if expected is None else "etag"
        found = self.records.get(key)
        met = expected if heeded == self._heeds else (found.etag if found else None)
        return await super().write(key, data, met)


async def test_a_store_that_refuses_is_known() -> None:
    """One that refuses both a second first write and a write over another one is fit."""
    assert await honours_conditions(FakeRecords())


@pytest.mark.parametrize("heeds", ["absent", "etag", "neither"])
async def test_a_careless_store_is_found_out(heeds: str) -> None:
    """One that heeds only one of the conditions, or none, is not."""
    assert not await honours_conditions(Careless(heeds))

"""The ledger's records as objects of S3, written under conditions."""

from typing import Any

from app.aws.errors import CONDITION_CODES, codes_behind, translated
from app.aws.s3 import Source
from app.outcomes import ConditionError, ConfigurationError, OutsideError, RejectedError
from app.ports import Stored
from app.settings import Location


class S3Records:
    """Records under one prefix; a store that ignores conditions is no store for a ledger."""

    def __init__(self, source: Source, where: Location, owner: str | None) -> None:
        self._source = source
        self._where = where
        self._owner = {"ExpectedBucketOwner": owner} if owner else {}

    async def read(self, key: str) -> Stored | None:
        """The record; None where there is none."""
        answer = await self._get(f"{key}.json")
        return Stored(*answer) if answer else None

    async def write(self, key: str, data: bytes, expected: str | None) -> str:
        """Write the record if it still has this ETag (None: if there is none); its new ETag."""
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        client = await self._source.client()
        name = self._where.key(f"{key}.json")
        try:
            with translated(f"writing the record s3://{self._where.bucket}/{name}"):
                answer = await client.put_object(
                    **self._at(name), Body=data, ContentType="application/json", **condition
                )
        except (OutsideError, RejectedError) as error:
            codes = codes_behind(error)
            # If-Match on a record that is gone answers 404.
            if codes & CONDITION_CODES or isinstance(error, RejectedError):
                raise ConditionError(str(error)) from error
            raise
        return str(answer["ETag"])

    async def keep(self, key: str, data: bytes) -> None:
        """Write a blob."""
        client = await self._source.client()
        name = self._where.key(key)
        with translated(f"writing s3://{self._where.bucket}/{name}"):
            await client.put_object(**self._at(name), Body=data)

    async def fetch(self, key: str) -> bytes | None:
        """A blob's bytes; None where there is none."""
        answer = await self._get(key)
        return answer[0] if answer else None

    async def drop(self, key: str) -> None:
        """Delete a blob; harmless where there is none."""
        client = await self._source.client()
        name = self._where.key(key)
        with translated(f"deleting s3://{self._where.bucket}/{name}"):
            await client.delete_object(**self._at(name))

    async def _get(self, name: str) -> tuple[bytes, str] | None:
        client = await self._source.client()
        full = self._where.key(name)
        try:
            with translated(f"reading s3://{self._where.bucket}/{full}"):
                answer = await client.get_object(**self._at(full))
                async with answer["Body"]:
                    data = await answer["Body"].read()
        except RejectedError as error:
            codes = codes_behind(error)
            if "NoSuchBucket" in codes:
                raise ConfigurationError(f"LEDGER_URL: {error}") from error
            return None
        return data, answer["ETag"]

    def _at(self, name: str) -> dict[str, Any]:
        return {"Bucket": self._where.bucket, "Key": name, **self._owner}

"""What is known of an object before its bytes are read, and what reading it may take."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec

from app import codecs
from app.ports import ObjectFacts
from app.reading import Tuning


class StreamLimits(msgspec.Struct, frozen=True):
    """What a stream may take.

    Attributes:
        object_bytes: a larger object is rejected; 0 is no limit.
        spool_dir: where `download` puts the object.
    """

    object_bytes: int
    decompression: codecs.Limits
    spool_dir: Path
    tuning: Tuning = Tuning()


class DescribedObject:
    """What is known of an object before its bytes are read.

    Attributes:
        facts: all that the first response said.
    """

    facts: ObjectFacts

    @property
    def bucket(self) -> str:
        """The bucket's name."""
        return self.facts.bucket

    @property
    def key(self) -> str:
        """The decoded key."""
        return self.facts.key

    @property
    def version_id(self) -> str | None:
        """The version, None where the bucket keeps none."""
        return self.facts.version_id

    @property
    def etag(self) -> str:
        """The ETag, with its quotes."""
        return self.facts.etag

    @property
    def size(self) -> int:
        """The size in bytes, as stored."""
        return self.facts.size

    @property
    def content_type(self) -> str:
        """The content type, as stored."""
        return self.facts.content_type

    @property
    def metadata(self) -> Mapping[str, str]:
        """The user's metadata."""
        return self.facts.metadata

    @property
    def last_modified(self) -> datetime:
        """When this version was written."""
        return self.facts.last_modified

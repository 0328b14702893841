"""Stores under test, each with ways to fill it and to look into it that go around it."""

from collections.abc import Callable
from dataclasses import dataclass

from fakes import BUCKET, OUTPUT, FakeStore, Stored
from harness.aws import Scene

from app.aws.s3 import S3Store
from app.notifications import ObjectRef
from app.settings import Location

Store = FakeStore | S3Store


@dataclass(frozen=True, slots=True)
class Place:
    """A store under test, with ways to fill it and to look into it that go around it.

    Attributes:
        keep: stores an object in the input bucket; its version id.
        found: an object of the output bucket, None where there is none.
        open_uploads: keys of the output bucket's unfinished uploads.
        keep_versions: makes the input bucket keep versions.
    """

    store: Store
    bucket: str
    where: Location
    keep: Callable[[str, Stored], str | None]
    found: Callable[[str], Stored | None]
    open_uploads: Callable[[], list[str]]
    keep_versions: Callable[[], None]

    def ref(self, key: str, version_id: str | None = None) -> ObjectRef:
        """A reference to an object of the input bucket."""
        return ObjectRef(self.bucket, key, version_id)


def fake_place() -> Place:
    """The fake, and its own drawers."""
    store = FakeStore()
    return Place(
        store,
        BUCKET,
        OUTPUT,
        lambda key, stored: store.keep(BUCKET, key, stored),
        lambda key: store.found(OUTPUT.bucket, key),
        lambda: store.open_uploads,
        lambda: store.versioned.add(BUCKET),
    )


def s3_place(store: S3Store, scene: Scene) -> Place:
    """S3 behind the adapter, and boto3 beside it."""
    s3 = scene.aws.s3

    def keep(key: str, stored: Stored) -> str | None:
        answer = s3.put_object(
            Bucket=scene.bucket,
            Key=key,
            Body=stored.data,
            ContentType=stored.content_type,
            ContentEncoding=stored.content_encoding,
            Metadata=dict(stored.metadata),
        )
        return str(answer["VersionId"]) if "VersionId" in answer else None

    def found(key: str) -> Stored | None:
        if key not in scene.outputs():
            return None
        got = s3.get_object(Bucket=scene.output_bucket, Key=key)
        return Stored(got["Body"].read(), None, got["ContentType"], "", got["Metadata"])

    def keep_versions() -> None:
        enabled = {"Status": "Enabled"}
        s3.put_bucket_versioning(Bucket=scene.bucket, VersioningConfiguration=enabled)

    where = Location(scene.output_bucket, "results/")
    return Place(store, scene.bucket, where, keep, found, scene.open_uploads, keep_versions)

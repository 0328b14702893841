"""Objects: read whole and as one version, or not at all."""

import gzip

import pytest
from faults.plan import Cut, Fault, Reset, Rule, s3_error
from faults.proxy import FaultProxy
from harness.aws import Depth, Scene, s3_event
from harness.launch import COPY, Launcher

EMPTY = Depth(0, 0)
HIDDEN = Depth(0, 1)
KINDS = {"async": "async def", "plain": "def"}


LINES = """
async def handle(job):
    async for line in job.object.lines():
        pass
"""
BOMB = gzip.compress(bytes(40 << 20))
GZIP = gzip.compress(b"".join(b"%d\n" % number for number in range(100_000)))


@pytest.mark.parametrize(
    ("data", "env"),
    [
        (BOMB, {}),
        (GZIP, {"MAX_DECOMPRESSED_BYTES": "1000"}),
        (GZIP[: len(GZIP) // 2], {}),
        (GZIP[:5000] + b"spoilt" + GZIP[5006:], {}),
    ],
    ids=["a bomb", "too large", "cut short", "spoilt"],
)
def test_data_that_cannot_be_decompressed_is_rejected(
    data: bytes, env: dict[str, str], scene: Scene, start: Launcher
) -> None:
    """An error of the content is permanent, unlike one of transport."""
    scene.submit("k.gz", data)

    worker = start(LINES, **env)

    assert worker.wait() == 65
    (letter,) = scene.letters()
    assert letter.attributes["x-death-reason"] in ("corrupt_data", "object_too_large")
    assert scene.depth() == Depth(0, 0)


def test_an_object_that_changes_meanwhile_is_tried_again(
    scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """One attempt reads one version: bytes of two are never mixed."""
    scene.submit("k", b"first")
    second_read = proxy.hold("GetObject", first=2)
    worker = start("async def handle(job): await job.object.read(0, 3)")
    second_read.wait()

    scene.put("k", b"second")
    second_read.open()

    assert worker.wait() == 75
    assert worker.events("job_finished")[0]["reason"] == "object_changed"
    assert scene.depth() == HIDDEN


@pytest.mark.parametrize(
    ("env", "reason", "present"),
    [
        ({}, "object_missing", False),
        ({"MAX_OBJECT_BYTES": "5"}, "object_too_large", True),
    ],
)
def test_an_object_that_cannot_be_processed_is_rejected(
    *,
    env: dict[str, str],
    reason: str,
    present: bool,
    scene: Scene,
    start: Launcher,
) -> None:
    """A missing or oversized object is a dead letter; the handler never sees it."""
    scene.submit("k", b"more than five")
    if not present:
        scene.aws.s3.delete_object(Bucket=scene.bucket, Key="k")

    worker = start(COPY, **env)

    assert worker.wait() == 65
    (letter,) = scene.letters()
    assert letter.attributes["x-death-reason"] == reason
    assert worker.events("handler_started") == []
    assert scene.depth() == Depth(0, 0)
    assert scene.outputs() == {}


PLAIN_COPY = """
def handle(job):
    with job.output(job.object.key) as out:
        for chunk in job.object.chunks():
            out.write(chunk)
"""


@pytest.mark.parametrize("handler", [COPY, PLAIN_COPY], ids=KINDS)
@pytest.mark.parametrize("size", [0, 11, 20 << 20])
def test_a_handler_copies_an_object(handler: str, size: int, scene: Scene, start: Launcher) -> None:
    """What goes in comes out, byte for byte, empty or in parts."""
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    scene.submit("k", data)

    worker = start(handler)

    assert worker.wait() == 0
    assert scene.outputs() == {"out/k": data}
    assert worker.events("job_finished")[0]["bytes_read"] == size
    assert worker.events("output_committed", size=size)
    assert scene.open_uploads() == []
    assert scene.depth() == Depth(0, 0)


@pytest.mark.parametrize(
    ("fault", "after_bytes", "times"),
    [(Cut(), 1_000_000, 1), (Reset(), 1_000_000, None), (Cut(), 0, None)],
    ids=["once", "again and again", "without any progress"],
)
def test_a_broken_download_never_makes_an_output(
    *,
    fault: Fault,
    after_bytes: int,
    times: int | None,
    scene: Scene,
    start: Launcher,
    proxy: FaultProxy,
) -> None:
    """A body that ends early is an error of transport: read on or tried again, never believed."""
    data = bytes(range(250)) * 20_000
    scene.submit("k", data)
    proxy.add(Rule("GetObject", fault, after_bytes=after_bytes, times=times))

    worker = start(COPY)

    code = worker.wait()
    if code == 0:
        assert after_bytes
        assert scene.outputs() == {"out/k": data}
        assert scene.depth() == EMPTY
    else:
        assert code == 75
        assert worker.events("job_finished")[0]["reason"] == "transport"
        assert scene.outputs() == {}
        assert scene.depth() == HIDDEN


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Reset(), "transport"),
        (s3_error(403, "AccessDenied"), "access_denied"),
        (s3_error(403, "ExpiredToken"), "credentials"),
    ],
)
def test_an_object_that_cannot_be_opened_now_is_tried_again(
    fault: Fault, reason: str, scene: Scene, start: Launcher, proxy: FaultProxy
) -> None:
    """Network, credentials and permissions may pass: 75, no letter."""
    scene.submit("k")
    proxy.add(Rule("GetObject", fault))

    worker = start(COPY)

    assert worker.wait() == 75
    assert worker.events("job_finished")[0]["reason"] == reason
    assert scene.letters() == []
    assert scene.depth() == HIDDEN


def test_an_object_that_was_uploaded_in_parts(scene: Scene, start: Launcher) -> None:
    """A checksum of checksums, which not every store calls so, is not taken for the bytes' own."""
    part = bytes(range(256)) * (20 << 10)
    s3, where = scene.aws.s3, {"Bucket": scene.bucket, "Key": "k"}
    upload = s3.create_multipart_upload(**where, ChecksumAlgorithm="CRC32")["UploadId"]
    parts = [
        s3.upload_part(
            **where, UploadId=upload, PartNumber=number, Body=part, ChecksumAlgorithm="CRC32"
        )
        for number in (1, 2)
    ]
    told = [{"PartNumber": n, "ETag": one["ETag"]} for n, one in enumerate(parts, 1)]
    s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload={"Parts": told})
    scene.send(s3_event(scene.bucket, "k", size=2 * len(part)))

    worker = start(COPY)

    assert worker.wait() == 0
    assert scene.outputs() == {"out/k": part * 2}
    assert worker.events("object_verified")[0]["integrity"] == "length_only"

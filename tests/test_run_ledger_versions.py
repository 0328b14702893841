"""Versions of one object that meet: the output ends as that of the newest."""

import hashlib
import signal

import pytest
from faults.plan import Cut, Rule
from faults.proxy import FaultProxy
from harness.aws import Scene, s3_event
from harness.book import Book
from harness.launch import COPY, Launcher
from harness.process import Worker

BIG = 9 << 20
# Waits, with all written, where the object's first byte is that of the environment.
SLOW = """
async def handle(job):
    async with job.output("k") as out:
        async for chunk in job.object.chunks():
            await out.write(chunk)
        if chunk[:1].decode() == os.environ.get("SLOW"):
            job.log.info("waiting")
            while not os.path.exists("go-on"):
                await asyncio.sleep(0.01)
"""


def keep_versions(scene: Scene, status: str = "Enabled") -> None:
    """Let the input bucket keep versions, or only have done so."""
    for one in ("Enabled", status):
        scene.aws.s3.put_bucket_versioning(
            Bucket=scene.bucket, VersioningConfiguration={"Status": one}
        )


def upload(scene: Scene, data: bytes, sequencer: str = "") -> None:
    """Put the object `k`, and send the message that S3 would send."""
    put = scene.aws.s3.put_object(Bucket=scene.bucket, Key="k", Body=data)
    event = s3_event(scene.bucket, "k", size=len(data))
    told = event["Records"][0]["s3"]["object"]
    told["eTag"] = hashlib.md5(data, usedforsecurity=False).hexdigest()
    told["sequencer"] = sequencer
    if not sequencer:
        del told["sequencer"]
    if put.get("VersionId", "null") != "null":
        told["versionId"] = put["VersionId"]
    scene.send(event)


def finished(worker: Worker, code: int = 0) -> tuple[str, str | None]:
    """The outcome and the reason of a worker that ended with this exit code."""
    assert worker.wait() == code
    (line,) = worker.events("job_finished")
    return line["outcome"], line["reason"]


@pytest.mark.parametrize("sequencers", [("1A", "1B", "1C"), ("", "", "")], ids=["yes", "no"])
@pytest.mark.parametrize("versions", ["never", "Suspended"])
def test_x_y_x_under_one_key(
    versions: str, sequencers: tuple[str, ...], scene: Scene, book: Book, start: Launcher
) -> None:
    """Also within one second, where neither name nor time tells the first from the third."""
    if versions == "Suspended":
        keep_versions(scene, versions)
    worker = start(COPY, MAX_MESSAGES="3", WAIT_SECONDS="5")
    for number, (data, sequencer) in enumerate(zip((b"X", b"Y", b"X"), sequencers, strict=True)):
        upload(scene, data, sequencer)
        worker.wait_for_count("message_deleted", number + 1)
    assert worker.wait() == 0
    assert scene.outputs() == {"out/k": b"X"}
    book.assert_nothing_left()


@pytest.mark.parametrize("held", ["", "Complete", "Put"], ids=["look", "complete", "put"])
def test_an_old_version_that_was_slow(
    held: str, scene: Scene, book: Book, start: Launcher, proxy: FaultProxy
) -> None:
    """Whether it finds the newer output when it looks or when it writes: superseded."""
    keep_versions(scene)
    size = BIG if held == "Complete" else 10
    upload(scene, b"1" * size, "1A")
    old = start(SLOW, SLOW="1")
    old.wait_for_event("waiting")
    name = {"Complete": "CompleteMultipartUpload", "Put": "PutObject"}.get(held, "")
    if held:
        gate = proxy.hold(name, where=lambda call: call.bucket == scene.output_bucket)
        (old.folder / "go-on").touch()
        gate.wait()
    upload(scene, b"2" * 20, "2A")
    assert finished(start(SLOW)) == ("done", None)
    if held:
        gate.open()
    (old.folder / "go-on").touch()
    assert finished(old) == ("skipped", "superseded")
    assert scene.outputs() == {"out/k": b"2" * 20}
    assert [record.state for record in book.records()] == ["done", "done"]
    book.assert_nothing_left()


def test_an_old_version_that_died_in_its_commit(
    scene: Scene, book: Book, start: Launcher, proxy: FaultProxy
) -> None:
    """Rolled forward, it finds the newer version's output, and its upload is thrown away."""
    keep_versions(scene)
    upload(scene, b"1" * BIG, "1A")
    complete = Rule("CompleteMultipartUpload", Cut())
    gate = proxy.hold("CompleteMultipartUpload")
    proxy.add(complete)
    old = start(SLOW)
    gate.wait()
    old.signal(signal.SIGKILL)
    old.wait()
    gate.open()
    complete.times = 0
    assert [record.state for record in book.records()] == ["committing"]
    taken = proxy.calls("ChangeMessageVisibility")[-1].parameters["ReceiptHandle"]
    upload(scene, b"2" * 20, "2A")
    assert finished(start(SLOW)) == ("done", None)
    book.release(taken)
    again = start(SLOW)
    assert finished(again) == ("skipped", "superseded")
    assert again.events("handler_started") == []
    assert scene.outputs() == {"out/k": b"2" * 20}
    book.assert_nothing_left()


def test_a_new_version_finds_the_old_one_come_in_between(
    scene: Scene, book: Book, start: Launcher, proxy: FaultProxy
) -> None:
    """The older output appeared after the look: the newer one is written on top of it."""
    keep_versions(scene)
    upload(scene, b"1", "1A")
    old = start(SLOW, SLOW="1")
    old.wait_for_event("waiting")
    upload(scene, b"2", "2A")
    gate = proxy.hold("PutObject", where=lambda call: call.bucket == scene.output_bucket)
    new = start(SLOW)
    gate.wait()
    (old.folder / "go-on").touch()
    assert finished(old) == ("done", None)
    assert scene.outputs() == {"out/k": b"1"}
    gate.open()
    assert finished(new) == ("done", None)
    assert scene.outputs() == {"out/k": b"2"}

    upload_again = s3_event(scene.bucket, "k")
    del upload_again["Records"][0]["s3"]["object"]["sequencer"]
    scene.send(upload_again)
    assert finished(start(SLOW)) == ("skipped", "already_done")
    book.assert_nothing_left()

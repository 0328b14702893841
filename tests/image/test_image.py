"""The image: what is in it, and that a pod of it works and stops as promised."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.aws import Scene
from harness.launch import WAIT, handlers_module
from harness.process import Worker

from image.building import BASE, REPOSITORY, Builder, Image, require
from image.pod import as_pod, by_buildah, first_process, status

# Making the Debian is most of it; the first test pays for all.
pytestmark = [pytest.mark.image, pytest.mark.timeout(900)]

GRACE_SECONDS = 20
Tell = Callable[[str], None]


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Builder]:
    """A store with a Debian in it, for this run alone."""
    require()
    made = Builder(tmp_path_factory.mktemp("images"))
    try:
        made.base()
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def image(builder: Builder) -> Image:
    """The image that `make image` builds."""
    return builder.make("localhost/files:test")


@pytest.fixture
def tell(capsys: pytest.CaptureFixture[str]) -> Tell:
    """Prints a figure, whether or not the test fails."""

    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", end="")  # noqa: T201 - figures are what one runs this for

    return tell


def environment(scene: Scene) -> dict[str, str]:
    """What a pod is told."""
    return {
        "AWS_ENDPOINT_URL": scene.aws.url,
        "QUEUE_URL": scene.queue_url,
        "ALLOWED_BUCKETS": scene.bucket,
        "OUTPUT_URL": f"s3://{scene.output_bucket}/out",
        "WAIT_SECONDS": "1",
        "GRACE_SECONDS": str(GRACE_SECONDS),
        "TERMINATION_LOG": "/tmp/termination-log",
        "POD_NAME": "files-x7x7x",
        "JOB_NAME": "files",
    }


def inside(image: Image, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command in the image's root, as its user."""
    user = image.config["User"]
    return subprocess.run(
        ["chroot", f"--userspec={user}", str(image.root), *command],
        env=image.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def installed(image: Image) -> dict[str, str]:
    """The packages of its environment and their versions."""
    ask = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    told = inside(image, "/opt/venv/bin/python", "-c", ask).stdout.splitlines()
    pairs = (line.split() for line in told)
    return {name.lower().replace("_", "-"): version for name, version in pairs}


def test_what_the_image_says_of_itself(image: Image, builder: Builder, tell: Tell) -> None:
    """Exec form, a user that is not root, labels filled in; its size is told."""
    assert image.config["Entrypoint"] == ["/opt/venv/bin/python", "-m", "app"]
    assert image.config["Cmd"] == ["run"]
    assert image.config["User"] == "10001:10001"
    labels = {
        name.rpartition(".")[2]: value
        for name, value in image.config["Labels"].items()
        if name.startswith("org.opencontainers.image.")
    }
    assert set(labels) == {"title", "description", "licenses", "version", "revision", "created"}
    assert all(value and value != "unknown" for value in labels.values())
    base = builder.open(BASE)
    tell(f"base {base.size() >> 20} MiB, image {image.size() >> 20} MiB")
    tell(", ".join(f"{name} made in {took:.0f} s" for name, took in builder.seconds.items()))


def test_nothing_to_install_or_compile_with(image: Image) -> None:
    """Neither pip nor a compiler, in the environment or beside it."""
    for python in ("/opt/venv/bin/python", "/usr/bin/python3"):
        assert "No module named pip" in inside(image, python, "-m", "pip").stderr
        assert "No module named" in inside(image, python, "-m", "ensurepip").stderr
    assert not {"pip", "setuptools"} & installed(image).keys()
    for compiler in ("cc", "gcc", "c++", "clang", "make", "pip", "pip3"):
        assert inside(image, "sh", "-c", f"command -v {compiler}").returncode != 0
    assert inside(image, "test", "-f", "/etc/passwd").returncode == 0, "the probe needs test"


def test_everything_is_compiled_and_nothing_is_writable(image: Image) -> None:
    """A pod's root is read-only: what is not compiled now is compiled at every start."""
    uid = int(image.config["User"].partition(":")[0])
    for top in ("opt/venv/lib", "srv"):
        for folder, _, names in os.walk(image.root / top):
            assert Path(folder).stat().st_uid != uid
            cached = {each.name.partition(".")[0] for each in Path(folder, "__pycache__").glob("*")}
            sources = {name.removesuffix(".py") for name in names if name.endswith(".py")}
            assert {s for s in sources if s.partition(".")[0] not in cached} == set(), folder


def test_the_bill_of_materials_lists_what_is_in_it(image: Image) -> None:
    """`make sbom` names the packages of the image and their versions, no more and no fewer."""
    subprocess.run(["make", "sbom"], cwd=REPOSITORY, check=True, capture_output=True, timeout=300)
    bill = json.loads((REPOSITORY / "build" / "sbom.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "sqs-file-processor"
    listed = {each["name"].lower().replace("_", "-"): each for each in bill["components"]}
    assert {name: each["version"] for name, each in listed.items()} == installed(image)


def test_a_job_by_buildah(builder: Builder, image: Image, scene: Scene, tmp_path: Path) -> None:
    """The image's own handlers process an object, as the image's own user."""
    scene.submit("incoming/a.csv", b"a,b\n1,2\n")
    with Worker(tmp_path, environment(scene), ("run",), by_buildah(builder, image)) as worker:
        assert worker.wait() == 0, worker.stderr
        assert worker.events("message_deleted")
    assert list(scene.outputs()) == ["out/incoming/a.csv.profile.json"]
    assert scene.depth().visible == 0


def test_a_job_in_a_pod_with_a_read_only_root(
    image: Image, scene: Scene, tmp_path: Path, tell: Tell
) -> None:
    """Only /tmp can be written, and that is enough; what the start takes is told."""
    scene.submit("incoming/a.csv", b"a,b\n1,2\n")
    began = time.monotonic()
    with Worker(tmp_path, environment(scene), ("run",), as_pod(image)) as worker:
        worker.wait_for_event("message_received")
        received = time.monotonic() - began
        assert worker.wait() == 0, worker.stderr
        ended = time.monotonic() - began
    assert list(scene.outputs()) == ["out/incoming/a.csv.profile.json"]
    assert worker.termination_log["outcome"] == "done"
    tell(f"cold start: message received after {received:.2f} s, done after {ended:.2f} s")


def test_sigterm_to_process_1_while_it_holds_a_message(
    image: Image, scene: Scene, tmp_path: Path, tell: Tell
) -> None:
    """Exit 143 and the message handed back, long before Kubernetes would kill."""
    handlers, folder = tmp_path / "handlers", tmp_path / "pod"
    handlers.mkdir()
    folder.mkdir()
    (handlers / "__init__.py").write_text(handlers_module(WAIT))
    scene.submit("k")
    with Worker(folder, environment(scene), ("run",), as_pod(image, handlers)) as worker:
        worker.wait_for_event("waiting")
        pid = first_process(worker)
        seen = status(pid)
        assert seen["NSpid"].split()[-1] == "1"
        assert set(seen["Uid"].split() + seen["Gid"].split()) == {"10001"}
        assert (int(seen["CapEff"], 16), int(seen["CapBnd"], 16), seen["NoNewPrivs"]) == (0, 0, "1")
        root = next(m for m in Path(f"/proc/{pid}/mounts").read_text().splitlines() if " / " in m)
        assert "ro" in root.split()[3].split(",")
        assert worker.is_ready()

        began = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        assert worker.wait(GRACE_SECONDS) == 143, worker.stderr
        took = time.monotonic() - began
    assert not worker.is_ready()
    assert worker.termination_log["outcome"] == "interrupted"
    assert scene.depth().visible == 1
    tell(f"SIGTERM to process 1: exit 143 after {took:.2f} s (promised: 2 s)")


def test_an_image_made_from_this_one_brings_its_own_handlers(
    builder: Builder, image: Image, scene: Scene, tmp_path: Path
) -> None:
    """`FROM` and `COPY`: the handlers that run are the new ones, compiled before or not."""
    context, folder = tmp_path / "context", tmp_path / "pod"
    (context / "handlers").mkdir(parents=True)
    folder.mkdir()
    (context / "Dockerfile").write_text(f"FROM {image.name}\nCOPY handlers /srv/handlers\n")
    source = 'async def handle(job):\n    async with job.output("mine"):\n        pass\n'
    (context / "handlers" / "__init__.py").write_text(handlers_module(source))
    scene.submit("k")
    mine = builder.build("localhost/mine:test", context)
    with Worker(folder, environment(scene), ("run",), as_pod(mine)) as worker:
        assert worker.wait() == 0, worker.stderr
    assert list(scene.outputs()) == ["out/mine"]

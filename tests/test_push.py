"""Metrics on a real Pushgateway: what pods push, what the janitor sweeps."""

import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest
from harness.aws import Scene
from harness.launch import COPY, Launcher
from harness.server import CREDENTIALS, clean_environment

JOB = "files-of-the-test"


@pytest.fixture
def gateway() -> Iterator[str]:
    """A Pushgateway of Debian's package, on a port of its own."""
    program = shutil.which("prometheus-pushgateway")
    if program is None:
        pytest.skip("needs the package prometheus-pushgateway")
    # Port 0 lets the kernel choose; the server says which one it got.
    server = subprocess.Popen(
        [program, "--web.listen-address=127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    )
    try:
        yield f"http://127.0.0.1:{_port_told_by(server)}"
    finally:
        server.terminate()
        server.wait()
        assert server.stderr
        server.stderr.close()


def _port_told_by(server: "subprocess.Popen[str]") -> int:
    assert server.stderr
    for line in server.stderr:
        if found := re.search(r"Listening on.*127\.0\.0\.1:(\d+)", line):
            threading.Thread(target=server.stderr.read, daemon=True).start()
            return int(found[1])
    raise AssertionError("the Pushgateway did not start")


def sweep(scene: Scene, folder: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """One run of the janitor that leaves no group of a pod."""
    return subprocess.run(
        [sys.executable, "-m", "app", "janitor", "--ttl", "0"],
        env=clean_environment()
        | CREDENTIALS
        | {"AWS_ENDPOINT_URL": scene.aws.url, "QUEUE_URL": scene.queue_url}
        | env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def groups(url: str) -> dict[str, dict[str, Any]]:
    """The gateway's groups by their instance."""
    with urlopen(f"{url}/api/v1/metrics") as answer:
        found = msgspec.json.decode(answer.read())["data"]
    return {group["labels"].get("instance", ""): group for group in found}


def value(group: dict[str, Any], name: str, **labels: str) -> float | None:
    """One sample of a group."""
    for metric in group.get(f"file_processor_{name}", {}).get("metrics", ()):
        if labels.items() <= metric["labels"].items():
            return float(metric["value"])
    return None


def test_a_pod_pushes_what_it_did(gateway: str, scene: Scene, start: Launcher) -> None:
    """One group by job and instance, with the outcome's counters; no `_created` series."""
    scene.submit("k", b"x" * 100)
    worker = start(COPY, PUSHGATEWAY_URL=gateway, METRICS_JOB=JOB, POD_NAME="pod-7")
    assert worker.wait() == 0
    group = groups(gateway)["pod-7"]
    assert group["labels"]["job"] == JOB
    assert value(group, "jobs_launched_total") == 1
    assert value(group, "messages_total", outcome="done", handler="handle") == 1
    assert value(group, "object_bytes_total") == 100
    assert not [name for name in group if name.endswith("_created")]


@pytest.mark.parametrize("kind", ["nobody listens", "never answers"])
def test_a_gateway_that_fails_changes_nothing(kind: str, scene: Scene, start: Launcher) -> None:
    """Outcome and exit code stay; the log line carries what the gateway would have."""
    scene.submit("k", b"x")
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        if kind == "never answers":
            deaf.listen()
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        worker = start(COPY, PUSHGATEWAY_URL=url)
        assert worker.wait() == 0
    (failed,) = worker.events("metrics_push_failed")
    assert failed["counters"]["file_processor_jobs_launched_total"] == 1
    assert scene.outputs() == {"out/k": b"x"}


def test_the_janitor_sweeps_only_its_own_job(gateway: str, scene: Scene, tmp_path: Path) -> None:
    """Old groups of this job go; another job's, and the janitor's own, stay; depths are told."""
    for path in (f"job/{JOB}/instance/old", "job/another/instance/old", f"job/{JOB}/zone/a"):
        body = Request(f"{gateway}/metrics/{path}", data=b"x 1\n", method="PUT")
        urlopen(body).close()
    scene.submit("k")

    for _ in range(2):
        swept = sweep(scene, tmp_path, PUSHGATEWAY_URL=gateway, METRICS_JOB=JOB)
        assert swept.returncode == 0, swept.stderr

    with urlopen(f"{gateway}/api/v1/metrics") as answer:
        found = [group["labels"] for group in msgspec.json.decode(answer.read())["data"]]
    assert {"job": "another", "instance": "old"} in found
    assert {"job": JOB, "zone": "a"} in found
    assert {"job": JOB, "instance": "old"} not in found
    queue = scene.queue_url.rpartition("/")[2]
    group = groups(gateway)["janitor"]
    assert value(group, "queue_messages", state="visible", queue=queue) == 1
    assert value(group, "queue_messages", state="visible", queue=f"{queue}-dlq") == 0


def test_the_janitor_says_what_it_lacks(scene: Scene, tmp_path: Path) -> None:
    """Exit 78, one line per variable."""
    refused = sweep(scene, tmp_path, QUEUE_URL="")
    assert refused.returncode == 78
    named = [line.split(":")[0] for line in refused.stderr.splitlines()]
    assert named == ["PUSHGATEWAY_URL", "QUEUE_URL"]

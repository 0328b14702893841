"""Metrics on a real Pushgateway: what pods push, what the janitor sweeps."""

import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import msgspec
import pytest
from faults.plan import Answer, Delay, Drop, Fault, Reset, Rule
from faults.proxy import FaultProxy
from harness.aws import Scene
from harness.launch import COPY, WAIT, Launcher
from harness.monitoring import eventually, sweep
from harness.process import Worker

JOB = "files-of-the-test"


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


REJECT = "async def handle(job): raise Reject('no')"
FAULTS = [
    *(pytest.param(fault, COPY, id=f"{fault}") for fault in (None, Drop(), Delay(30), Reset())),
    pytest.param(Answer(400, b"pushed metrics are invalid"), COPY, id="400"),
    pytest.param(Answer(500), COPY, id="500"),
    pytest.param(Drop(), REJECT, id="Drop() and a rejected message"),
    pytest.param(Answer(500), REJECT, id="500 and a rejected message"),
]


@pytest.mark.parametrize(("fault", "handler"), FAULTS)
def test_a_gateway_that_fails_changes_nothing(
    fault: Fault | None, handler: str, gateway: str, scene: Scene, start: Launcher
) -> None:
    """Outcome and exit code stay, the exit is late by less than 2 s, the log has the counters."""
    scene.submit("k", b"x")
    plain, plain_code, plain_seconds = ended(start(handler))
    scene.submit("k", b"x")
    with FaultProxy(gateway if fault else nobody()) as between:
        between.add(*([Rule("*", fault)] if fault else []))
        worker, code, seconds = ended(start(handler, PUSHGATEWAY_URL=between.url))
    assert code == plain_code
    assert outcome(worker) == outcome(plain)
    assert seconds - plain_seconds < 2
    (failed,) = worker.events("metrics_push_failed")
    assert failed["counters"]["file_processor_jobs_launched_total"] == 1
    assert worker.lines[-1]["event"] == "job_finished"


def ended(worker: Worker) -> tuple[Worker, int, float]:
    """The worker once it ended, its exit code, and the seconds that took from the message's end."""
    worker.wait_for_event("message_deleted")
    settled_at = time.monotonic()
    code = worker.wait()
    return worker, code, time.monotonic() - settled_at


def outcome(worker: Worker) -> str:
    """What the worker said became of its message."""
    return str(worker.events("job_finished")[0]["outcome"])


def nobody() -> str:
    """The URL of a port where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_a_slow_gateway_gets_the_metrics(gateway: str, scene: Scene, start: Launcher) -> None:
    """One that answers within the time a pod has for it."""
    scene.submit("k", b"x")
    with FaultProxy(gateway, [Rule("*", Delay(0.3))]) as between:
        worker = start(COPY, PUSHGATEWAY_URL=between.url, METRICS_JOB=JOB)
        assert worker.wait() == 0
    assert value(groups(gateway)["pod-0"], "jobs_finished_total", outcome="done") == 1
    assert not worker.events("metrics_push_failed")


def test_a_stop_does_not_wait_for_the_gateway(gateway: str, scene: Scene, start: Launcher) -> None:
    """A gateway that hangs uses up none of the grace that is not left."""
    scene.submit("k", b"x")
    with FaultProxy(gateway, [Rule("*", Drop())]) as between:
        worker = start(WAIT, PUSHGATEWAY_URL=between.url, GRACE_SECONDS="3")
        worker.wait_for_event("waiting")
        worker.signal(signal.SIGTERM)
        began = time.monotonic()
        assert worker.wait() == 143
        assert time.monotonic() - began < 3
    assert scene.visible_now()


def test_a_pod_that_began_and_one_that_found_nothing(
    gateway: str, scene: Scene, start: Launcher
) -> None:
    """A group says that its pod ended only once it has; finding no message is an end too."""
    before = time.time()
    idle = start(COPY, PUSHGATEWAY_URL=gateway, METRICS_JOB=JOB, WAIT_SECONDS="0")
    assert idle.wait() == 0
    scene.submit("k", b"x")
    busy = start(WAIT, PUSHGATEWAY_URL=gateway, METRICS_JOB=JOB)
    busy.wait_for_event("waiting")
    eventually(lambda: "pod-1" in groups(gateway))
    found = groups(gateway)
    assert value(found["pod-0"], "jobs_finished_total", outcome="empty") == 1
    assert value(found["pod-1"], "jobs_launched_total") == 1
    assert before <= (value(found["pod-1"], "job_start_time_seconds") or 0) <= time.time()
    assert value(found["pod-1"], "jobs_finished_total") is None


def test_the_janitor_sweeps_only_its_own_job(gateway: str, scene: Scene, tmp_path: Path) -> None:
    """Old groups of this job go; another job's, and the janitor's own, stay; depths are told."""
    for path in (f"job/{JOB}/instance/old", "job/another/instance/old", f"job/{JOB}/zone/a"):
        push(gateway, path)
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
    assert value(group, "dead_letters", queue=f"{queue}-dlq") == 0
    assert value(group, "dead_letters", queue=queue) is None


def test_the_janitor_counts_letters(gateway: str, scene: Scene, tmp_path: Path) -> None:
    """Whatever their state; a queue without dead letters has no number of them."""
    for text in ("one", "two"):
        scene.aws.sqs.send_message(QueueUrl=scene.dlq_url, MessageBody=text)
    scene.aws.sqs.receive_message(QueueUrl=scene.dlq_url, VisibilityTimeout=60)
    assert sweep(scene, tmp_path, PUSHGATEWAY_URL=gateway).returncode == 0
    assert value(groups(gateway)["janitor"], "dead_letters") == 2

    alone = Scene(scene.aws, with_dlq=False)
    assert sweep(alone, tmp_path, PUSHGATEWAY_URL=gateway).returncode == 0
    assert value(groups(gateway)["janitor"], "dead_letters") is None


def test_the_janitor_spares_who_pushes_while_it_sweeps(
    gateway: str, scene: Scene, tmp_path: Path
) -> None:
    """A slow sweep looks again: a pod that came back meanwhile keeps its last word."""
    for name in ("a", "b"):
        push(gateway, f"job/{JOB}/instance/{name}")
    time.sleep(1.1)  # not to wait for anything: how old they are is the point
    with FaultProxy(gateway) as between, ThreadPoolExecutor(1) as beside:
        gate = between.hold("DeleteObject")
        env = {"PUSHGATEWAY_URL": between.url, "METRICS_JOB": JOB}
        sweeping = beside.submit(sweep, scene, tmp_path, "--ttl", "1", **env)
        other = "b" if gate.wait().key.endswith("/a") else "a"
        time.sleep(1.1)  # as long as a list of groups is gone by
        push(gateway, f"job/{JOB}/instance/{other}")
        gate.open()
        swept = sweeping.result()
    assert swept.returncode == 0, swept.stderr
    assert swept.stdout.startswith("1 groups deleted")
    assert set(groups(gateway)) == {other, "janitor"}


@pytest.mark.parametrize(
    "fault",
    [
        Reset(),
        Answer(500),
        Answer(200, b"no JSON"),
        Answer(200, b"{}"),
        Answer(200, b'{"data": 1}'),
    ],
)
def test_the_janitor_names_a_gateway_that_fails(
    fault: Fault, gateway: str, scene: Scene, tmp_path: Path
) -> None:
    """Exit 1 and one line, no traceback; nothing is deleted."""
    push(gateway, f"job/{JOB}/instance/a")
    with FaultProxy(gateway, [Rule("*", fault)]) as between:
        swept = sweep(scene, tmp_path, PUSHGATEWAY_URL=between.url, METRICS_JOB=JOB)
    assert swept.returncode == 1
    assert between.url in swept.stderr
    assert swept.stderr.count("\n") == 1
    assert set(groups(gateway)) == {"a"}


def push(gateway: str, path: str) -> None:
    """Make a group with one metric."""
    urlopen(Request(f"{gateway}/metrics/{path}", data=b"x 1\n", method="PUT")).close()


def test_the_janitor_says_what_it_lacks(scene: Scene, tmp_path: Path) -> None:
    """Exit 78, one line per variable."""
    refused = sweep(scene, tmp_path, QUEUE_URL="")
    assert refused.returncode == 78
    named = [line.split(":")[0] for line in refused.stderr.splitlines()]
    assert named == ["PUSHGATEWAY_URL", "QUEUE_URL"]

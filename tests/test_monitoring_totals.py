"""A hundred jobs whose outcomes are known, and what the recording rules make of them."""

import contextlib
import json
import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.request import urlopen

import pytest
from faults.plan import Rule, sqs_error
from faults.proxy import FaultProxy
from harness.aws import Scene, s3_event
from harness.book import Book
from harness.launch import Launcher
from harness.monitoring import (
    MONITORING,
    Prometheus,
    eventually,
    rule_groups,
    rules,
    sweep,
)
from harness.monitoring import prometheus as running_prometheus
from harness.process import Worker

JOB = "a-hundred-files"
# What a key begins with says what becomes of its object.
HANDLERS = """
async def work(job):
    async for _ in job.object.chunks():
        pass
    kind = job.object.key.split("-")[0]
    if kind == "rejected":
        raise Reject("as planned")
    if kind == "retry" or (kind == "again" and job.attempt == 1):
        raise Retry("as planned", after=900 if kind == "retry" else 0)
    if kind == "killed":
        job.log.info("waiting")
    if kind in ("killed", "lost"):
        await asyncio.Event().wait()
    if kind == "slow":
        await asyncio.sleep(4)

async def count(job):
    async for line in job.object.lines():
        pass

ROUTES = [Route("*.csv", count), Route("*", work)]
"""
# Of the objects: how many of each kind. Every one is a message, and a pod or, of `again`, two.
FIRST = {"done": 38, "table": 10, "rejected": 8, "retry": 8, "again": 5, "killed": 8}
SLOW, LOST, TWICE, TEST_EVENTS, EMPTY = 2, 1, 6, 6, 3
KILLED, PODS = FIRST["killed"], 100


def key(kind: str, number: int) -> str:
    """The key of one object of a kind."""
    return f"{kind}-{number}" + (".csv" if kind == "table" else "")


def size(number: int) -> int:
    """Its size: no two of a kind have the same."""
    return 100 + 37 * number


def bytes_of(*kinds: str) -> int:
    """All bytes of the objects of these kinds."""
    counts = FIRST | {"slow": SLOW, "lost": LOST}
    return sum(size(number) for kind in kinds for number in range(counts[kind]))


# By metric: what its hour's total has to be, by the labels named beside `job`.
AGAIN = FIRST["again"]
RETRIED = FIRST["retry"] + AGAIN
DONE = FIRST["done"] + SLOW + AGAIN
WASTED = bytes_of("rejected", "retry", "again", "lost")
ORACLE: dict[str, tuple[tuple[str, ...], dict[tuple[str, ...], float]]] = {
    "jobs_launched": ((), {(): PODS}),
    "jobs_finished": (
        ("outcome",),
        {
            ("done",): DONE + FIRST["table"],
            ("rejected",): FIRST["rejected"],
            ("retry",): RETRIED,
            ("skipped",): TWICE + TEST_EVENTS,
            ("lease_lost",): LOST,
            ("empty",): EMPTY,
        },
    ),
    "jobs_unfinished": ((), {(): KILLED}),
    "messages": (
        ("outcome", "handler"),
        {
            ("done", "work"): DONE,
            ("done", "count"): FIRST["table"],
            ("rejected", "work"): FIRST["rejected"],
            ("retry", "work"): RETRIED,
            ("skipped", "work"): TWICE,
            ("skipped", "none"): TEST_EVENTS,
            ("lease_lost", "work"): LOST,
        },
    ),
    "failures": (
        ("reason",),
        {
            ("rejected_by_handler",): FIRST["rejected"],
            ("retry_by_handler",): RETRIED,
            ("message_gone",): LOST,
        },
    ),
    "retries": ((), {(): AGAIN}),
    "object_bytes": ((), {(): bytes_of("done", "table", "slow", "again") + WASTED}),
    "wasted_bytes": ((), {(): WASTED}),
    "duplicates": ((), {(): TWICE}),
    "lease_lost": ((), {(): LOST}),
}


@dataclass(slots=True)
class Fleet:
    """Pods, three at a time, that push to a gateway."""

    start: Launcher
    gateway: str
    pods: list[Worker] = field(default_factory=list)
    _starting: threading.Lock = field(default_factory=threading.Lock)

    def run(self, count: int, **env: str) -> None:
        """Start so many pods, and see each to its end; one that waits for it is killed."""
        with ThreadPoolExecutor(3) as several:
            for run in [several.submit(self._run_one, env) for _ in range(count)]:
                run.result()

    def _run_one(self, env: dict[str, str]) -> None:
        with self._starting:
            pod = self.start(HANDLERS, PUSHGATEWAY_URL=self.gateway, METRICS_JOB=JOB, **env)
            self.pods.append(pod)
        if pod.reaches("waiting"):
            eventually(lambda: pod.folder.name in pods_on(self.gateway))
            pod.signal(signal.SIGKILL)
        pod.wait()


def pods_on(gateway: str) -> set[str]:
    """The instances that have a group."""
    with urlopen(f"{gateway}/api/v1/metrics") as answer:
        groups = json.load(answer)["data"]
    return {group["labels"]["instance"] for group in groups}


@pytest.fixture
def fleet(scene: Scene, book: Book, proxy: FaultProxy, start: Launcher, gateway: str) -> Fleet:
    """A hundred pods that have run, each on one message, as the oracle says."""
    ran = Fleet(start, gateway)
    for kind, count in FIRST.items():
        for number in range(count):
            scene.submit(key(kind, number), b"x" * size(number))
    for _ in range(TEST_EVENTS):
        scene.send({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": scene.bucket})
    # A poll that waits, since what comes back at once may do so after the last pods have begun; and
    # a lease so long that nothing of a killed pod comes back.
    ran.run(sum(FIRST.values()) + AGAIN + TEST_EVENTS, WAIT_SECONDS="9", VISIBILITY_TIMEOUT="900")
    for number in range(TWICE):
        scene.send(s3_event(scene.bucket, key("done", number)))
    ran.run(TWICE)
    ran.run(EMPTY, WAIT_SECONDS="0")
    for number in range(SLOW):
        scene.submit(key("slow", number), b"x" * size(number))
    ran.run(SLOW, VISIBILITY_TIMEOUT="9")
    # The last, since its message comes back.
    for number in range(LOST):
        scene.submit(key("lost", number), b"x" * size(number))
    proxy.add(Rule("ChangeMessageVisibility", sqs_error(400, "MessageNotInflight"), first=2))
    ran.run(LOST, VISIBILITY_TIMEOUT="9")
    assert len(ran.pods) == PODS
    # A machine that is too slow for the pushes is no reason to doubt the sums.
    assert [pod.folder.name for pod in ran.pods if pod.events("metrics_push_failed")] == []
    return ran


def told(prometheus: Prometheus) -> dict[str, dict[tuple[str, ...], float]]:
    """What the recording rules say of the oracle's metrics."""
    return {
        name: prometheus.totals(f'file_processor:{name}:1h{{job="{JOB}"}}', *labels)
        for name, (labels, _) in ORACLE.items()
    }


def assert_totals(prometheus: Prometheus, fleet: Fleet) -> None:
    """Every total is exactly what the pods did, by the oracle and by their own logs."""
    assert told(prometheus) == {name: totals for name, (_, totals) in ORACLE.items()}

    settled = prometheus.totals("file_processor:job_seconds_count:1h", "outcome", "handler")
    assert settled == ORACLE["messages"][1]
    counted = prometheus.totals(
        'file_processor:job_seconds_bucket:1h{le="+Inf"}', "outcome", "handler"
    )
    assert counted == settled

    renewed = [line for pod in fleet.pods for line in pod.events("lease_renewed")]
    assert renewed
    renewals = prometheus.totals("file_processor:lease_renewals:1h", "result")
    assert renewals == {("ok",): len(renewed)}
    least = prometheus.totals("file_processor:lease_headroom_seconds:min_1h")[()]
    assert least == pytest.approx(min(line["headroom_seconds"] for line in renewed), abs=0.001)

    received = [line for pod in fleet.pods for line in pod.events("message_received")]
    ended = {line["pod_name"] for pod in fleet.pods for line in pod.events("job_finished")}
    ages = [
        line["age_seconds"]
        for line in received
        if line["receive_count"] == 1 and line["pod_name"] in ended
    ]
    oldest = prometheus.totals("file_processor:message_age_seconds:max_1h")[()]
    assert oldest == pytest.approx(max(ages), abs=0.001)


def assert_vanished(prometheus: Prometheus) -> None:
    """Once no pod can be as old as they are, the killed ones are known for what they are."""
    (rule,) = (r for r in rules("record") if r["record"] == "file_processor:jobs_vanished:1h")
    # Asked of a time to come: what is recorded is looked at as that time will see it.
    then = time.time() + 23460
    assert prometheus.totals(rule["expr"], "job", at=then) == {(JOB,): KILLED}


def assert_all_queries_answered(prometheus: Prometheus) -> None:
    """Every panel of the dashboard has data; every alert can be asked, of series there are."""
    for expression in panels():
        found = prometheus.query(expression.replace("$job", JOB))
        assert found or "kube_" in expression, expression
    for alert in rules("alert"):
        prometheus.query(alert["expr"])
        for name in re.findall(r"\bfile_processor[\w:]+", alert["expr"]):
            assert prometheus.query(name), f"{alert['alert']} asks for {name}"


def panels() -> Iterator[str]:
    """The queries of the dashboard."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))


@pytest.mark.timeout(400)
def test_a_hundred_jobs_add_up(
    scene: Scene, gateway: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The totals are exact while the groups stand, and after the janitor has taken them down."""
    folder = tmp_path / "prometheus"
    folder.mkdir()
    with running_prometheus(folder, gateway, rule_groups()) as prometheus:
        fleet: Fleet = request.getfixturevalue("fleet")
        wanted = {name: totals for name, (_, totals) in ORACLE.items()}
        with contextlib.suppress(AssertionError):
            eventually(lambda: told(prometheus) == wanted, 20)
        assert_totals(prometheus, fleet)
        assert_vanished(prometheus)

        swept = sweep(scene, tmp_path, PUSHGATEWAY_URL=gateway, METRICS_JOB=JOB)
        assert swept.returncode == 0, swept.stderr
        assert pods_on(gateway) == {"janitor"}
        after = time.time() + 1
        eventually(lambda: not prometheus.query("file_processor_jobs_launched_total"))
        recorded = "timestamp(file_processor:queue_messages:fresh)"
        eventually(lambda: any(at > after for _, at in prometheus.query(recorded)))
        assert_totals(prometheus, fleet)
        assert_vanished(prometheus)
        assert_all_queries_answered(prometheus)

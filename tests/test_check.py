"""`check` as a user runs it: nothing where nothing is wrong, each mistake by its name."""

import json
import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest
from faults.plan import Rule, s3_error, sqs_error
from faults.proxy import FaultProxy
from harness.aws import Clients, Depth, Scene
from harness.launch import Launcher
from harness.process import Worker
from harness.sound import (
    admit,
    expiring,
    make_sound,
    notify,
    redrive,
    set_attributes,
)

HANDLER = "async def handle(job): pass\nROUTES = [Route('incoming/*', handle)]"


@dataclass
class Checked:
    """What one run of `check` said."""

    code: int
    lines: list[str]
    stderr: str

    @property
    def names(self) -> dict[str, str]:
        """The findings' names, with their levels."""
        parts = (line.split(None, 2) for line in self.lines)
        return {name.rstrip(":"): level for level, name, _ in parts}

    def line(self, name: str) -> str:
        """The first finding of this name."""
        return next(line for line in self.lines if f"  {name}: " in line)


@dataclass
class Doctor:
    """Runs `check` on a scene that was sound before anything was planted."""

    scene: Scene
    proxy: FaultProxy
    start: Launcher

    def begin(self, handlers: str = HANDLER, *arguments: str, **env: str) -> Worker:
        """Start it, configured as a worker on this scene would be."""
        variables = {
            "ALLOWED_BUCKETS": f"{self.scene.bucket}/incoming/",
            "LEDGER_URL": f"s3://{self.scene.output_bucket}/ledger",
            "LOG_FORMAT": "console",
        }
        return self.start(handlers, "check", *arguments, **(variables | env))

    def check(self, handlers: str = HANDLER, *arguments: str, **env: str) -> Checked:
        """What it says."""
        worker = self.begin(handlers, *arguments, **env)
        code = worker.wait()
        return Checked(code, worker.stdout.splitlines(), worker.stderr)


@pytest.fixture
def doctor(scene: Scene, proxy: FaultProxy, start: Launcher) -> Doctor:
    """A sound scene, and who looks at it."""
    make_sound(scene)
    return Doctor(scene, proxy, start)


def test_nothing_is_found_where_nothing_is_wrong(doctor: Doctor) -> None:
    """Not a line, exit 0; and nothing of the stack has changed."""
    scene = doctor.scene
    before = scene.depth()
    checked = doctor.check()
    assert checked.lines == [], checked.stderr
    assert checked.code == 0
    assert scene.queue_url.rpartition("/")[2] in checked.stderr
    assert (scene.depth(), scene.depth(scene.dlq_url)) == (before, Depth(0, 0))
    assert scene.outputs() == {}
    assert scene.open_uploads() == []


# What is planted, by the name it is to be found under.
STACK: dict[str, tuple[str, Callable[[Scene], object]]] = {
    "max_receive_count": ("error", lambda scene: redrive(scene, 3)),
    "max_receive_count of 49": ("warning", lambda scene: redrive(scene, 49)),
    "queue_retention": (
        "warning",
        lambda scene: set_attributes(scene, scene.queue_url, MessageRetentionPeriod="86400"),
    ),
    "dead_letter_retention": (
        "error",
        lambda scene: set_attributes(scene, scene.dlq_url, MessageRetentionPeriod="345600"),
    ),
    "queue_key": (
        "error",
        lambda scene: set_attributes(scene, scene.queue_url, KmsMasterKeyId="alias/aws/sqs"),
    ),
    "queue_delay": (
        "warning",
        lambda scene: set_attributes(scene, scene.queue_url, DelaySeconds="60"),
    ),
    "queue_policy": ("error", lambda scene: admit(scene, "another-bucket")),
    "notification_missing": ("error", lambda scene: notify(scene, prefix="elsewhere/")),
    "notification_events": (
        "error",
        lambda scene: notify(scene, events="s3:ObjectCreated:Put", prefix="incoming/"),
    ),
    "notification_partial": ("warning", lambda scene: notify(scene, prefix="incoming/2026/")),
    "notification_too_wide": ("warning", notify),
    "outputs_notify": ("error", lambda scene: notify(scene, bucket=scene.output_bucket)),
    "records_expire_early": (
        "error",
        lambda scene: scene.aws.s3.put_bucket_lifecycle_configuration(
            Bucket=scene.output_bucket,
            LifecycleConfiguration={"Rules": [expiring("all", "", 7)]},
        ),
    ),
    "uploads_left": (
        "warning",
        lambda scene: scene.aws.s3.put_bucket_lifecycle_configuration(
            Bucket=scene.output_bucket,
            LifecycleConfiguration={"Rules": [expiring("records", "ledger/", 35)]},
        ),
    ),
    "queue": ("error", lambda scene: scene.aws.sqs.delete_queue(QueueUrl=scene.queue_url)),
    "dead_letter_queue": (
        "error",
        lambda scene: scene.aws.sqs.delete_queue(QueueUrl=scene.dlq_url),
    ),
    "bucket": ("error", lambda scene: scene.aws.s3.delete_bucket(Bucket=scene.bucket)),
}


@pytest.mark.parametrize("planted", STACK)
def test_a_mistake_in_the_stack(planted: str, doctor: Doctor) -> None:
    """Found by its name, with what would happen and how it is mended; an error exits with 1."""
    level, plant = STACK[planted]
    plant(doctor.scene)
    checked = doctor.check()
    name = planted.split(maxsplit=1)[0]
    assert checked.names.get(name) == level, (checked.lines, checked.stderr)
    assert "; mend: " in checked.line(name)
    assert checked.code == (1 if "error" in checked.names.values() else 0)
    assert "Traceback" not in checked.stderr


CONFIGURED: dict[str, tuple[str, dict[str, str]]] = {
    "visibility_short": ("warning", {"VISIBILITY_TIMEOUT": "20"}),
    "no_ledger": ("warning", {"LEDGER_URL": ""}),
    "job_timeout_cut": ("warning", {"VISIBILITY_STRATEGY": "fixed", "JOB_TIMEOUT": "3600"}),
    "any_bucket": ("warning", {"ALLOWED_BUCKETS": "*"}),
    "ready_file": ("error", {"READY_FILE": "/proc/nowhere/ready"}),
    "handlers": ("error", {"HANDLERS": "no_such_module:ROUTES"}),
}


@pytest.mark.parametrize("name", CONFIGURED)
def test_a_mistake_in_the_configuration(name: str, doctor: Doctor) -> None:
    """The same for what the variables alone get wrong."""
    level, env = CONFIGURED[name]
    checked = doctor.check(**env)
    assert checked.names.get(name) == level, (checked.lines, checked.stderr)
    assert checked.code == (1 if level == "error" else 0)


ROUTED = {
    "route_unreachable": (
        "error",
        "[Route('incoming/*', handle), Route('incoming/*.csv', handle)]",
    ),
    "route_not_allowed": (
        "warning",
        "[Route('incoming/*', handle), Route('outgoing/*', handle)]",
    ),
    "no_route": ("error", "[Route('outgoing/*', handle)]"),
}


@pytest.mark.parametrize("name", ROUTED)
def test_a_mistake_in_the_routes(name: str, doctor: Doctor) -> None:
    """Routes that nothing comes to, and objects that come to no route."""
    level, routes = ROUTED[name]
    checked = doctor.check(f"async def handle(job): pass\nROUTES = {routes}")
    assert checked.names.get(name) == level, (checked.lines, checked.stderr)
    assert checked.code == (level == "error")


@pytest.mark.parametrize(
    ("call", "action"),
    [
        ("ReceiveMessage", "sqs:ReceiveMessage"),
        ("ChangeMessageVisibility", "sqs:ChangeMessageVisibility"),
        ("DeleteMessage", "sqs:DeleteMessage"),
        ("SendMessage", "sqs:SendMessage"),
        ("ListObjectsV2", "s3:ListBucket"),
        ("GetObject", "s3:GetObject"),
        ("CreateMultipartUpload", "s3:PutObject"),
        ("ListParts", "s3:ListMultipartUploadParts"),
        ("AbortMultipartUpload", "s3:AbortMultipartUpload"),
    ],
)
def test_a_permission_that_is_missing(call: str, action: str, doctor: Doctor) -> None:
    """Each by the name of its action, and where it is needed."""
    denied = sqs_error if action.startswith("sqs") else s3_error
    doctor.proxy.add(Rule(call, denied(403, "AccessDenied")))
    checked = doctor.check(LEDGER_URL="")
    found = [line for line in checked.lines if f"permission: {action} is not permitted" in line]
    assert found, (checked.lines, checked.stderr)
    assert checked.code == 1


def test_a_ledger_that_cannot_be_written(doctor: Doctor) -> None:
    """No work could be claimed."""
    doctor.proxy.add(Rule("PutObject", s3_error(403, "AccessDenied")))
    checked = doctor.check()
    assert checked.names.get("ledger") == "error", checked.lines
    assert checked.code == 1


def test_what_may_not_be_looked_at_is_said(doctor: Doctor) -> None:
    """The worker's own role cannot read a bucket's notification: a note, and nothing worse."""
    for call in ("GetBucketNotificationConfiguration", "GetBucketLifecycleConfiguration"):
        doctor.proxy.add(Rule(call, s3_error(403, "AccessDenied")))
    checked = doctor.check()
    assert set(checked.names.values()) == {"note"}, checked.lines
    assert checked.code == 0


def test_a_gateway_that_is_down(doctor: Doctor) -> None:
    """Metrics would be lost, but no work."""
    with closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}"
        checked = doctor.check(PUSHGATEWAY_URL=url)
    assert checked.names == {"gateway": "warning"}
    assert checked.code == 0


def test_a_queue_without_dead_letters(aws: Clients, doctor: Doctor) -> None:
    """What can never succeed would come back until it is lost."""
    lonely = Scene(aws, with_dlq=False)
    make_sound(lonely)
    doctor.start.scene = doctor.scene = lonely
    checked = doctor.check()
    assert checked.names == {"no_dead_letter_queue": "error"}
    assert checked.code == 1


def test_several_mistakes_come_worst_first(doctor: Doctor) -> None:
    """Errors, warnings, notes; one line each."""
    redrive(doctor.scene, 3)
    checked = doctor.check(VISIBILITY_TIMEOUT="10", ALLOWED_BUCKETS="*")
    levels = [line.split()[0] for line in checked.lines]
    assert levels == sorted(levels, key=["error", "warning", "note"].index)
    assert {"max_receive_count", "visibility_short", "any_bucket"} <= checked.names.keys()


def test_a_wrong_configuration_is_refused(doctor: Doctor) -> None:
    """78, one line per variable, as `run` does; nothing is asked of AWS."""
    checked = doctor.check(QUEUE_URL="", VISIBILITY_TIMEOUT="soon")
    assert checked.code == 78
    assert [line.split(":")[0] for line in checked.stderr.splitlines()] == [
        "VISIBILITY_TIMEOUT",
        "QUEUE_URL",
    ]
    assert doctor.proxy.calls() == []


def test_events_by_way_of_a_topic(doctor: Doctor) -> None:
    """A topic that the queue is subscribed to tells it; one that it is not tells nothing."""
    scene = doctor.scene
    topic = scene.aws.sns.create_topic(Name=f"topic-{scene.bucket}")["TopicArn"]
    target: dict[str, Any] = {"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}
    target["Filter"] = {"Key": {"FilterRules": [{"Name": "prefix", "Value": "incoming/"}]}}
    scene.aws.s3.put_bucket_notification_configuration(
        Bucket=scene.bucket, NotificationConfiguration={"TopicConfigurations": [target]}
    )
    assert doctor.check().names == {"notification_missing": "error"}
    scene.aws.sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=scene.arn(scene.queue_url))
    assert doctor.check().lines == []


def manifest(**changes: Any) -> str:
    """A ScaledJob with which nothing is wrong but these changes, by the path to each."""
    annotations = {
        "karpenter.sh/do-not-disrupt": "true",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    }
    condition = [{"type": "DisruptionTarget", "status": "True"}]
    container = {
        "envFrom": [{"configMapRef": {"name": "files"}}],
        "readinessProbe": {"exec": {"command": ["test", "-f", "READY"]}},
        "resources": {"limits": {"memory": "512Mi"}},
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 60,
        "containers": [container],
    }
    job: dict[str, Any] = {
        "backoffLimit": 0,
        "activeDeadlineSeconds": 23_450,
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": condition}]},
        "template": {"metadata": {"annotations": annotations}, "spec": pod},
    }
    trigger = {"queueURL": "QUEUE", "queueLength": "1", "scaleOnInFlight": "false"}
    spec: dict[str, Any] = {
        "rollout": {"strategy": "gradual"},
        "scalingStrategy": {"strategy": "accurate", "pendingPodConditions": ["Ready"]},
        "triggers": [{"type": "aws-sqs-queue", "metadata": trigger}],
        "jobTargetRef": job,
    }
    places = {"spec": spec, "job": job, "pod": pod, "trigger": trigger, "container": container}
    for path, value in changes.items():
        where, _, name = path.partition("_")
        places[where][name] = value
    config = {"kind": "ConfigMap", "metadata": {"name": "files"}, "data": {"GRACE_SECONDS": "50"}}
    return json.dumps([{"kind": "ScaledJob", "spec": spec}, config])


MANIFESTS: dict[str, tuple[str, dict[str, Any]]] = {
    "rollout": ("error", {"spec_rollout": {}}),
    "scaling_strategy": ("warning", {"spec_scalingStrategy": {}}),
    "scaling_strategy eager": ("warning", {"spec_scalingStrategy": {"strategy": "eager"}}),
    "pending_pods": ("warning", {"spec_scalingStrategy": {"strategy": "accurate"}}),
    "scale_on_in_flight": ("warning", {"trigger_scaleOnInFlight": "true"}),
    "queue_length": ("warning", {"trigger_queueLength": "5"}),
    "other_queue": ("error", {"trigger_queueURL": "https://sqs.example.com/1/other"}),
    "active_deadline": ("error", {"job_activeDeadlineSeconds": 3600}),
    "active_deadline without room": ("warning", {"job_activeDeadlineSeconds": 22_000}),
    "grace": ("error", {"pod_terminationGracePeriodSeconds": 30}),
    "grace without room": ("warning", {"pod_terminationGracePeriodSeconds": 55}),
    "kubernetes_retries": ("warning", {"job_backoffLimit": 6}),
    "evictions_count": ("warning", {"job_podFailurePolicy": {}}),
    "evictable": ("warning", {"job_template": {"spec": {}}}),
    "memory": ("error", {"container_resources": {"limits": {"memory": "128Mi"}}}),
    "readiness": ("warning", {"container_readinessProbe": {}}),
}


def judged(doctor: Doctor, **changes: Any) -> Checked:
    """What `check --manifest` says of the render; its ConfigMap gives GRACE_SECONDS."""
    path = doctor.start.folder / "render.json"
    text = manifest(**changes).replace('"QUEUE"', json.dumps(doctor.scene.queue_url))
    ready = str(doctor.start.folder / "ready")
    path.write_text(text.replace('"READY"', json.dumps(ready)))
    more = {"GRACE_SECONDS": "", "READY_FILE": ready}
    return doctor.check(HANDLER, "--manifest", str(path), **more)


def test_a_manifest_with_which_nothing_is_wrong(doctor: Doctor) -> None:
    """Not a line."""
    assert judged(doctor).lines == []


@pytest.mark.parametrize("planted", MANIFESTS)
def test_a_mistake_in_the_manifest(planted: str, doctor: Doctor) -> None:
    """Found by its name."""
    level, changes = MANIFESTS[planted]
    checked = judged(doctor, **changes)
    assert checked.names.get(planted.split(maxsplit=1)[0]) == level, (checked.lines, checked.stderr)


@pytest.mark.parametrize(
    ("text", "why"),
    [("{ no: [yaml", "is no YAML"), ("", "no ScaledJob"), ("kind: ConfigMap", "no ScaledJob")],
)
def test_a_manifest_that_is_none(text: str, why: str, doctor: Doctor) -> None:
    """Said, and a usage error: an empty file is what a render that failed leaves."""
    path = doctor.start.folder / "render.yaml"
    path.write_text(text)
    checked = doctor.check(HANDLER, "--manifest", str(path))
    assert checked.code == 2
    assert why in checked.stderr

"""The ScaledJob, or the Job this pod belongs to: what KEDA and Kubernetes would do to the work."""

import re
from collections.abc import Iterator
from typing import Any

from app.checks.findings import Finding, error, warning
from app.settings import DEFAULT_JOB_SECONDS, Settings

# For waiting for a node and pulling the image, which activeDeadlineSeconds counts too.
START_SECONDS = 1800
GRACE_MARGIN_SECONDS = 10
DEADLINE_MOST_SECONDS = 43_200
# What a process holds beside the budget for reading: modules, parts of outputs, buffers.
RESIDENT_BYTES = 128 << 20
_UNITS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
_ANNOTATIONS = {
    "karpenter.sh/do-not-disrupt": "true",
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
}
Object = dict[str, Any]


def variables(documents: list[Object]) -> dict[str, str]:
    """What ConfigMaps and literal values give the worker of a render."""
    found: dict[str, str] = {}
    for scaled in _of_kind(documents, "ScaledJob"):
        container = _container(_at(scaled, "spec", "jobTargetRef"))
        named = {_at(source, "configMapRef", "name") for source in container.get("envFrom") or []}
        for config in _of_kind(documents, "ConfigMap"):
            if _at(config, "metadata", "name") in named:
                found |= {name: str(value) for name, value in (config.get("data") or {}).items()}
        for variable in container.get("env") or []:
            if "value" in variable:
                found[variable["name"]] = str(variable["value"])
    return found


def judge(documents: list[Object], settings: Settings) -> Iterator[Finding]:
    """Every ScaledJob of a render."""
    for scaled in _of_kind(documents, "ScaledJob"):
        yield from _scaling(scaled, settings)
        yield from judge_job(_at(scaled, "spec", "jobTargetRef"), settings)


def _scaling(scaled: Object, settings: Settings) -> Iterator[Finding]:
    spec = scaled.get("spec") or {}
    if _at(spec, "rollout", "strategy") != "gradual":
        yield error(
            "rollout",
            "rollout.strategy is not gradual: every edit of the ScaledJob kills the running Jobs",
            "rollout: {strategy: gradual}",
        )
    for trigger in spec.get("triggers") or []:
        if trigger.get("type") == "aws-sqs-queue":
            yield from _trigger(trigger.get("metadata") or {}, spec, settings)


def _trigger(metadata: Object, spec: Object, settings: Settings) -> Iterator[Finding]:
    strategy = _at(spec, "scalingStrategy", "strategy")
    in_flight = str(metadata.get("scaleOnInFlight", "true")).lower()
    if strategy == "accurate" and in_flight != "false":
        text = "every poll starts pods for messages that others hold, and finds nothing"
        yield warning("scale_on_in_flight", f"scaleOnInFlight: {text}", 'scaleOnInFlight: "false"')
    elif strategy in (None, "default") and in_flight == "true":
        pass  # the other pair that counts right, for KEDA before 2.20
    elif strategy != "accurate":
        yield warning(
            "scaling_strategy",
            f"scalingStrategy is {strategy or 'default'} with scaleOnInFlight {in_flight}: running "
            "Jobs are taken off the count of waiting messages, which starve while long ones run",
            "scalingStrategy: {strategy: accurate, pendingPodConditions: [Ready]}, and "
            'scaleOnInFlight: "false"',
        )
    elif "Ready" not in (_at(spec, "scalingStrategy", "pendingPodConditions") or []):
        yield warning(
            "pending_pods",
            "pendingPodConditions lacks Ready: a pod that has started but holds no message yet is "
            "started a second time",
            "scalingStrategy: {pendingPodConditions: [Ready]}, with a probe on READY_FILE",
        )
    length = str(metadata.get("queueLength", "5"))
    if length != str(settings.max_messages):
        yield warning(
            "queue_length",
            f"queueLength is {length}, but a pod takes {settings.max_messages}: "
            "messages wait though pods could be started, or pods find nothing",
            f'queueLength: "{settings.max_messages}"',
        )
    url = metadata.get("queueURL") or metadata.get("queueURLFromEnv")
    if metadata.get("queueURL") and url != settings.queue_url:
        yield error(
            "other_queue",
            f"KEDA counts {url}, but pods poll {settings.queue_url}: messages are left lying",
            f"queueURL: {settings.queue_url}",
        )


def judge_job(spec: Object, settings: Settings) -> Iterator[Finding]:
    """A Job's spec, of a ScaledJob or read in the pod."""
    pod = _at(spec, "template", "spec") or {}
    yield from _deadline(spec, settings)
    yield from _grace(pod, settings)
    yield from _retries(spec, pod)
    yield from _memory(pod, settings)
    annotations = _at(spec, "template", "metadata", "annotations") or {}
    for name, value in _ANNOTATIONS.items():
        if annotations.get(name) != value:
            yield warning(
                "evictable",
                f"the pod template lacks {name}: running jobs are evicted to save a node",
                f'template.metadata.annotations: {{{name}: "{value}"}}',
            )
    yield from _probe(pod, settings)


def _deadline(spec: Object, settings: Settings) -> Iterator[Finding]:
    job_seconds = settings.job_timeout or DEFAULT_JOB_SECONDS
    least = job_seconds + settings.grace_seconds
    wanted = min(DEADLINE_MOST_SECONDS, least + START_SECONDS)
    found = spec.get("activeDeadlineSeconds")
    if found is None:
        text = (
            "activeDeadlineSeconds is not set: a pod that cannot start counts as running for ever"
        )
        yield warning("active_deadline", text, f"activeDeadlineSeconds: {wanted:.0f}")
    elif found < wanted:
        make = error if found < least else warning
        yield make(
            "active_deadline",
            f"activeDeadlineSeconds is {found}, and counts waiting for a node and pulling the "
            f"image too; JOB_TIMEOUT ({job_seconds:g}) and grace ({settings.grace_seconds:g}) need "
            f"{least:g}: jobs are stopped in their middle, as if evicted, again and again",
            f"activeDeadlineSeconds: {wanted:.0f}",
        )


def _grace(pod: Object, settings: Settings) -> Iterator[Finding]:
    given = pod.get("terminationGracePeriodSeconds", 30)
    needed = settings.grace_seconds + GRACE_MARGIN_SECONDS
    if given < needed:
        make = error if given <= settings.grace_seconds else warning
        yield make(
            "grace",
            f"terminationGracePeriodSeconds is {given}, GRACE_SECONDS {settings.grace_seconds:g}: "
            "the pod is killed before it has released its message, and what came after the last "
            "checkpoint is done again",
            f"terminationGracePeriodSeconds: {needed:.0f}",
        )


def _retries(spec: Object, pod: Object) -> Iterator[Finding]:
    if spec.get("backoffLimit", 6) != 0 or pod.get("restartPolicy") != "Never":
        yield warning(
            "kubernetes_retries",
            "Kubernetes starts failed pods again (backoffLimit, restartPolicy), beside the queue: "
            "pods that find nothing, and deadlines that are not theirs",
            "backoffLimit: 0 and restartPolicy: Never",
        )
    rules = _at(spec, "podFailurePolicy", "rules") or []
    ignored = any(
        rule.get("action") == "Ignore"
        and any(one.get("type") == "DisruptionTarget" for one in rule.get("onPodConditions") or [])
        for rule in rules
    )
    if not ignored:
        text = "an eviction counts as a failed Job (podFailurePolicy does not ignore it)"
        mend = "podFailurePolicy: Ignore on the pod condition DisruptionTarget"
        yield warning("evictions_count", text, mend)


def _memory(pod: Object, settings: Settings) -> Iterator[Finding]:
    limit = _bytes(_at(_container_of(pod), "resources", "limits", "memory"))
    volumes = sum(
        _bytes(_at(volume, "emptyDir", "sizeLimit")) or 0
        for volume in pod.get("volumes") or []
        if _at(volume, "emptyDir", "medium") == "Memory"
    )
    needed = settings.read_ahead_bytes + RESIDENT_BYTES + volumes
    if limit is not None and limit < needed:
        yield error(
            "memory",
            f"the memory limit is {limit >> 20} MiB; READ_AHEAD_BYTES, the process and volumes in "
            f"memory take up to {needed >> 20} MiB: pods are killed, and their work is done again",
            f"limits: {{memory: {(needed >> 20) + 64}Mi}}, or a smaller READ_AHEAD_BYTES",
        )


def _probe(pod: Object, settings: Settings) -> Iterator[Finding]:
    command = _at(_container_of(pod), "readinessProbe", "exec", "command") or []
    if str(settings.ready_file) not in " ".join(map(str, command)):
        yield warning(
            "readiness",
            f"no readiness probe looks at READY_FILE ({settings.ready_file}): KEDA cannot tell "
            "pods that hold a message from those that are starting",
            f"readinessProbe: {{exec: {{command: [test, -f, {settings.ready_file}]}}}}",
        )


def _of_kind(documents: list[Object], kind: str) -> list[Object]:
    return [one for one in documents if isinstance(one, dict) and one.get("kind") == kind]


def _container(job: Any) -> Object:
    return _container_of(_at(job, "template", "spec") or {})


def _container_of(pod: Object) -> Object:
    containers: list[Object] = pod.get("containers") or [{}]
    return containers[0]


def _at(value: Any, *path: str) -> Any:
    """What stands under these names, None where one of them is missing."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _bytes(text: Any) -> int | None:
    """A Kubernetes quantity in bytes; None where there is none."""
    found = re.fullmatch(r"([0-9.]+)([kMG]i?|Ki|)", str(text or ""))
    return int(float(found[1]) * _UNITS[found[2]]) if found else None

"""The manifests are valid for those who read them, and have the promised values."""

import jsonschema
import kubernetes_validate
import pytest
from manifests import RENDERS, Manifest, Render, keda_schema, references, render

KUBERNETES = ("1.33", "1.34", "1.35")


@pytest.fixture(params=RENDERS)
def found(request: pytest.FixtureRequest) -> Render:
    """Each kustomization in turn."""
    return render(request.param)


def job_of(found: Render) -> Manifest:
    """The Job that KEDA makes of the ScaledJob."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"generateName": "file-processor-"},
        "spec": found.scaling["jobTargetRef"],
    }


def is_kedas(manifest: Manifest) -> bool:
    """Whether an object is one of KEDA's."""
    return str(manifest["apiVersion"]).startswith("keda.sh/")


@pytest.mark.may_skip("KEDA's CRDs")
def test_keda_accepts_its_objects(found: Render) -> None:
    """The API server would take them whole: nothing wrong, and nothing it would silently drop."""
    kinds = {each["kind"] for each in found.objects if is_kedas(each)}
    assert kinds == {"ScaledJob", "TriggerAuthentication"}
    for each in filter(is_kedas, found.objects):
        assert [error.message for error in keda_schema(each["kind"]).iter_errors(each)] == []


@pytest.mark.may_skip("KEDA's CRDs")
@pytest.mark.parametrize("field", ["cooldownPeriod", "scaleTargetRef"])
def test_what_belongs_to_a_scaledobject_is_refused(field: str) -> None:
    """A ScaledJob has no such field: the check above would have said so."""
    scaled = render("base").one("ScaledJob")
    wrong = scaled | {"spec": scaled["spec"] | {field: {}}}
    assert not keda_schema("ScaledJob").is_valid(wrong)


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_accepts_the_rest(found: Render, version: str) -> None:
    """Strictly: an unknown field is an error, in the Job that KEDA creates too."""
    core = [each for each in found.objects if not is_kedas(each)]
    assert {"Namespace", "ServiceAccount", "ConfigMap", "NetworkPolicy"} <= {
        each["kind"] for each in core
    }
    for each in [*core, job_of(found)]:
        kubernetes_validate.validate(each, version, strict=True)


def test_a_field_that_kubernetes_does_not_know_is_refused() -> None:
    """The check above would see a slip of the pen."""
    job = job_of(render("base"))
    wrong = job | {"spec": job["spec"] | {"backofLimit": 0}}
    with pytest.raises(jsonschema.ValidationError):
        kubernetes_validate.validate(wrong, "1.35", strict=True)


def test_every_name_that_is_referred_to_exists(found: Render) -> None:
    """No pod waits for a ConfigMap that has another name."""
    for kind, name in references(found):
        assert name in found.names(kind), f"{kind} {name}"
    namespace = found.one("Namespace")["metadata"]["name"]
    inside = [each for each in found.objects if each["kind"] != "Namespace"]
    assert {each["metadata"]["namespace"] for each in inside} == {namespace}
    mounted = {mount["name"] for mount in found.container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in found.pod["volumes"]}


def test_scaling_as_promised(found: Render) -> None:
    """The defaults of the ScaledJob, whichever the overlay."""
    spec = found.scaling
    assert spec["pollingInterval"] == 10
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (0, 10)
    assert spec["successfulJobsHistoryLimit"] == 3
    assert spec["failedJobsHistoryLimit"] == 5
    assert spec["rollout"] == {"strategy": "gradual"}
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "aws-sqs-queue"
    assert found.trigger["queueLength"] == "1"
    assert all(isinstance(value, str) for value in found.trigger.values())


def test_jobs_as_promised(found: Render) -> None:
    """Kubernetes retries nothing, and an eviction is no failure."""
    job = found.scaling["jobTargetRef"]
    assert (job["parallelism"], job["completions"], job["backoffLimit"]) == (1, 1, 0)
    assert job["podReplacementPolicy"] == "Failed"
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert found.pod["restartPolicy"] == "Never"
    assert job["ttlSecondsAfterFinished"] == 3600
    assert job["template"]["metadata"]["annotations"] == {
        "karpenter.sh/do-not-disrupt": "true",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    }


def test_the_pods_are_restricted(found: Render) -> None:
    """What the Pod Security Standard `restricted` asks for, a read-only root, and no API token."""
    pod, container = found.pod, found.container
    assert pod["automountServiceAccountToken"] is False
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == security["runAsGroup"] == 10001
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    labels = found.one("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


def test_the_pod_is_told_who_it_is(found: Render) -> None:
    """POD_NAME, POD_NAMESPACE and JOB_NAME come from the downward API."""
    fields = {
        each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"] for each in found.container["env"]
    }
    assert fields == {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "JOB_NAME": "metadata.labels['batch.kubernetes.io/job-name']",
    }

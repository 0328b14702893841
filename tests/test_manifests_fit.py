"""The manifests fit the app: its variables, times, memory, files and endpoints."""

import re
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from manifests import RENDERS, REPOSITORY, Render, in_bytes, render

from app import routes
from app.output import PART_BYTES
from app.settings import Settings

# What a streaming job holds beside its budget, parts and files: modules and buffers, rounded up
# (docs/performance.md has the peak).
PROCESS_BYTES = 96 << 20
HANDLER_BYTES = 128 << 20
# The SDK reads these itself.
SDK = {
    "AWS_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
}
FROM_THE_POD = {"POD_NAME", "POD_NAMESPACE", "JOB_NAME"}


@pytest.fixture(params=RENDERS)
def found(request: pytest.FixtureRequest) -> Render:
    """Each kustomization in turn."""
    return render(request.param)


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self, env: dict[str, str]) -> None:
        super().__init__(env)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        """As a dict's."""
        self.names.add(name)
        return super().get(name, default)


def test_the_app_accepts_the_configuration(found: Render) -> None:
    """No pod ends with 78: every variable is known and usable, and the routes fit the buckets."""
    asked = Asked(found.environment)
    settings = Settings.from_env(asked)
    assert set(found.environment) <= asked.names | SDK
    assert routes.load(settings)


def test_the_configuration_is_whole() -> None:
    """Every variable the app reads is named in the ConfigMap, with its default if there is one."""
    data = render("base").configuration
    asked = Asked(data)
    settings = msgspec.structs.asdict(Settings.from_env(asked))
    text = (REPOSITORY / "k8s" / "base" / "configmap.yaml").read_text()
    assert [name for name in sorted(asked.names) if not re.search(rf"\b{name}\b", text)] == []

    own = ("QUEUE_URL", "ALLOWED_BUCKETS", "OUTPUT_URL", "LEDGER_URL")
    bare = msgspec.structs.asdict(Settings.from_env({name: data[name] for name in own}))
    from_the_machine = {"pod_name", "job_name", "termination_log", "spool_dir"}
    assert {k for k in bare if bare[k] != settings[k]} <= from_the_machine
    assert set(data).isdisjoint(FROM_THE_POD)


def test_the_times_fit_together(found: Render) -> None:
    """No deadline ends a job that may still run, and none outlives SQS's twelve hours."""
    settings = Settings.from_env(found.environment)
    assert settings.job_timeout is not None
    grace = found.pod["terminationGracePeriodSeconds"]
    assert (grace, settings.grace_seconds) == (60, 50)
    deadline = found.scaling["jobTargetRef"]["activeDeadlineSeconds"]
    assert deadline == settings.job_timeout + grace + 1800
    assert deadline <= 43200


def test_the_memory_fits_together(found: Render) -> None:
    """Files in memory, the read-ahead and three parts of an output leave the handler its share."""
    settings = Settings.from_env(found.environment)
    (volume,) = found.pod["volumes"]
    assert volume["emptyDir"]["medium"] == "Memory"
    resources = found.container["resources"]
    assert resources["requests"]["memory"] == resources["limits"]["memory"]
    held = in_bytes(volume["emptyDir"]["sizeLimit"]) + settings.read_ahead_bytes + 3 * PART_BYTES
    assert held + PROCESS_BYTES + HANDLER_BYTES <= in_bytes(resources["limits"]["memory"])


def test_ready_means_holding_a_message(found: Render) -> None:
    """The probe looks at READY_FILE, which lies in the one place that can be written."""
    settings = Settings.from_env(found.environment)
    probe = found.container["readinessProbe"]
    assert probe["exec"]["command"] == ["test", "-f", str(settings.ready_file)]
    assert probe["periodSeconds"] < found.scaling["pollingInterval"]
    (mount,) = found.container["volumeMounts"]
    assert mount["mountPath"] == str(settings.ready_file.parent) == str(settings.spool_dir)


def test_keda_counts_the_queue_that_the_pods_receive_from(found: Render) -> None:
    """Queue, region and endpoint are the same for both."""
    env = found.environment
    assert found.trigger["queueURL"] == env["QUEUE_URL"]
    assert found.trigger["awsRegion"] == env["AWS_REGION"]
    assert found.trigger.get("awsEndpoint") == env.get("AWS_ENDPOINT_URL")


def test_nothing_comes_in_and_what_is_needed_goes_out(found: Render) -> None:
    """The policy meets the pods, admits nobody, and lets every endpoint of theirs be reached."""
    policy = found.one("NetworkPolicy")["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert policy["ingress"] == []
    labels = found.scaling["jobTargetRef"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    anywhere = {
        (port["protocol"], port["port"])
        for rule in policy["egress"]
        if "to" not in rule
        for port in rule["ports"]
    }
    assert {("UDP", 53), ("TCP", 53), ("TCP", 443)} <= anywhere
    for name in ("QUEUE_URL", "AWS_ENDPOINT_URL"):
        if url := found.environment.get(name):
            parts = urlsplit(url)
            assert ("TCP", parts.port or {"https": 443}[parts.scheme]) in anywhere

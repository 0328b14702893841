"""k8s/monitoring as kubectl renders it, beside the base."""

import json
import os
import re
import subprocess
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.aws import Scene
from harness.launch import COPY, Launcher
from harness.monitoring import MONITORING, installed, rule_groups
from harness.process import REPOSITORY

kubernetes_validate = pytest.importorskip("kubernetes_validate")

Resource = dict[str, Any]
CRDS = {"ServiceMonitor", "PrometheusRule", "ScaledJob", "TriggerAuthentication"}
NAME = "app.kubernetes.io/name"
GATEWAY_PORT = 9091


def render(folder: Path) -> list[Resource]:
    """What `kubectl apply -k` would send."""
    kubectl = installed("kubectl", package="kubectl")
    ran = subprocess.run(
        [kubectl, "kustomize", str(folder)], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    return list(yaml.safe_load_all(ran.stdout))


@pytest.fixture(scope="module")
def rendered() -> list[Resource]:
    """The kustomization by itself."""
    return render(MONITORING)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> list[Resource]:
    """An overlay of the base with all of it."""
    folder = tmp_path_factory.mktemp("overlay").resolve()
    here = os.path.relpath(REPOSITORY / "k8s", folder)
    overlay = {
        "resources": [f"{here}/base", f"{here}/monitoring"],
        "components": [f"{here}/monitoring/push"],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    return render(folder)


def one(resources: list[Resource], kind: str, name: str) -> Resource:
    """The resource of this kind and name."""
    (found,) = (r for r in resources if (r["kind"], r["metadata"]["name"]) == (kind, name))
    return found


def pod_templates(resources: list[Resource]) -> dict[str, Resource]:
    """The pod templates by the name of what makes the pods."""
    found = {}
    for resource in resources:
        spec = resource.get("spec", {})
        for key in ("jobTemplate", "jobTargetRef"):
            spec = spec.get(key, spec)
        spec = spec.get("spec", spec)
        if "template" in spec:
            found[resource["metadata"]["name"]] = spec["template"]
    return found


@pytest.mark.parametrize("version", ["1.33", "1.35"])
def test_what_kubernetes_knows_is_valid(version: str, rendered: list[Resource]) -> None:
    """No unknown field, no wrong type."""
    for resource in rendered:
        assert resource["metadata"]["namespace"] == "files"
        if resource["kind"] not in CRDS:
            kubernetes_validate.validate(resource, version, strict=True)


def test_pods_are_restricted(rendered: list[Resource]) -> None:
    """What the namespace enforces; small, and with no token they do not need."""
    templates = pod_templates(rendered)
    assert set(templates) == {"pushgateway", "file-processor-janitor"}
    for template in templates.values():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
            assert re.search(r":v?\d[\w.]*$", container["image"]), "an image is pinned"


def test_the_janitor_is_bounded(together: list[Resource]) -> None:
    """One run at a time, over before the next, with the workers' image and configuration."""
    cron = one(together, "CronJob", "file-processor-janitor")["spec"]
    assert cron["concurrencyPolicy"] == "Forbid"
    every = int(re.match(r"\*/(\d+) \* \* \* \*$", cron["schedule"])[1])  # type: ignore[index]
    job = cron["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] < every * 60
    assert job["backoffLimit"] == 0
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    (worker,) = pod_templates(together)["file-processor"]["spec"]["containers"]
    assert container["image"] == worker["image"]
    assert container["args"] == ["janitor"]
    assert container["envFrom"] == worker["envFrom"]
    assert pod["serviceAccountName"] == "file-processor-janitor"


def test_names_that_are_referred_to_exist(together: list[Resource]) -> None:
    """Service accounts, ConfigMaps, the gateway's Service and ports, and who is selected."""
    for template in pod_templates(together).values():
        account = template["spec"].get("serviceAccountName")
        assert account is None or one(together, "ServiceAccount", account)
        for source in template["spec"]["containers"][0].get("envFrom", ()):
            assert one(together, "ConfigMap", source["configMapRef"]["name"])

    service = one(together, "Service", "pushgateway")
    (port,) = service["spec"]["ports"]
    settings = one(together, "ConfigMap", "file-processor")["data"]
    assert settings["PUSHGATEWAY_URL"] == f"http://pushgateway:{port['port']}"
    assert settings["QUEUE_URL"], "the component adds, and takes nothing away"

    gateway = pod_templates(together)["pushgateway"]
    assert service["spec"]["selector"].items() <= gateway["metadata"]["labels"].items()
    (container,) = gateway["spec"]["containers"]
    (listens,) = container["ports"]
    assert listens == {"name": port["targetPort"], "containerPort": GATEWAY_PORT}
    assert container["args"] == [f"--web.listen-address=:{GATEWAY_PORT}"]

    monitor = one(together, "ServiceMonitor", "pushgateway")["spec"]
    selected = monitor["selector"]["matchLabels"]
    assert selected.items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] == port["name"]


def test_the_scrape_keeps_the_workers_labels(rendered: list[Resource]) -> None:
    """`job` and `instance` are the worker's, and nothing tells one gateway's pod from the next."""
    (endpoint,) = one(rendered, "ServiceMonitor", "pushgateway")["spec"]["endpoints"]
    assert endpoint["honorLabels"] is True
    assert {"action": "labeldrop", "regex": "pod"} in endpoint["relabelings"]


def test_who_may_reach_the_gateway(together: list[Resource]) -> None:
    """Workers and the janitor may push, Prometheus may scrape, and the gateway goes nowhere."""
    policies = [r["spec"] for r in together if r["kind"] == "NetworkPolicy"]
    templates = pod_templates(together)
    for pusher in ("file-processor", "file-processor-janitor"):
        labels = templates[pusher]["metadata"]["labels"]
        rules = [
            rule
            for policy in policies
            if policy["podSelector"]["matchLabels"].items() <= labels.items()
            for rule in policy.get("egress", ())
        ]
        assert any(
            {"protocol": "TCP", "port": GATEWAY_PORT} in rule["ports"]
            and rule["to"] == [{"podSelector": {"matchLabels": {NAME: "pushgateway"}}}]
            for rule in rules
        ), pusher
        assert any({"protocol": "UDP", "port": 53} in rule["ports"] for rule in rules)

    gateway = one(together, "NetworkPolicy", "pushgateway")["spec"]
    assert gateway["egress"] == []
    (ingress,) = gateway["ingress"]
    assert ingress["ports"] == [{"protocol": "TCP", "port": GATEWAY_PORT}]
    pods, scraper = ingress["from"]
    (named,) = pods["podSelector"]["matchExpressions"]
    pushers = {"file-processor", "file-processor-janitor"}
    assert set(named["values"]) == {templates[name]["metadata"]["labels"][NAME] for name in pushers}
    assert scraper["namespaceSelector"]
    assert scraper["podSelector"]


def test_files_arrive_whole_under_fixed_names(rendered: list[Resource]) -> None:
    """Rules, dashboard and Fluent Bit's configuration; others look for them by name or label."""
    assert one(rendered, "PrometheusRule", "file-processor")["spec"]["groups"] == rule_groups()
    dashboard = one(rendered, "ConfigMap", "file-processor-dashboard")
    assert dashboard["metadata"]["labels"] == {"grafana_dashboard": "1"}
    (text,) = dashboard["data"].values()
    assert text == (MONITORING / "dashboard.json").read_text()
    (text,) = one(rendered, "ConfigMap", "file-processor-fluent-bit")["data"].values()
    assert text == (MONITORING / "fluent-bit.yaml").read_text()


def test_the_dashboard_can_be_imported() -> None:
    """Panels have ids and places of their own, and ask for the job that was chosen."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    assert [variable["name"] for variable in dashboard["templating"]["list"]] == [
        "datasource",
        "job",
    ]
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
        for target in panel.get("targets", ()):
            foreign = "kube_" in target["expr"]
            assert foreign == ("kube-state-metrics" in panel["title"])
            assert foreign == ('job=~"$job"' not in target["expr"])


def fluent_bit() -> tuple[Resource, Resource, Resource]:
    """The input, the filter and the parser that Fluent Bit's configuration has."""
    configuration = yaml.safe_load((MONITORING / "fluent-bit.yaml").read_text())
    assert set(configuration) == {"parsers", "pipeline"}
    assert set(configuration["pipeline"]) == {"inputs", "filters"}
    (source,) = configuration["pipeline"]["inputs"]
    (filtered,) = configuration["pipeline"]["filters"]
    (parser,) = configuration["parsers"]
    return source, filtered, parser


def test_fluent_bit_takes_the_logs_of_workers_alone(together: list[Resource]) -> None:
    """By the names that the kubelet gives to containers' log files."""
    source, filtered, parser = fluent_bit()
    assert source["name"] == "tail"
    assert filtered["name"] == "parser"
    assert filtered["match"] == source["tag"]
    assert filtered["parser"] == parser["name"]

    templates = pod_templates(together)
    taken = {
        name
        for name, template in templates.items()
        for container in template["spec"]["containers"]
        if fnmatchcase(
            f"/var/log/containers/{name}-x7k2p-9fqzd_files_{container['name']}-0a1b2c.log",
            source["path"],
        )
    }
    assert taken == {"file-processor"}
    assert one(together, "ScaledJob", "file-processor")["metadata"]["namespace"] == "files"


def test_fluent_bit_keeps_every_field(scene: Scene, start: Launcher) -> None:
    """A worker's lines are JSON whose fields collide with none that the container runtime adds."""
    source, filtered, parser = fluent_bit()
    # Its parser for container runtimes gives a record these fields, the line itself under `log`.
    assert source["multiline.parser"] == "cri"
    runtime = {"time", "stream", "_p"}
    assert filtered["key_name"] == "log"
    assert filtered["reserve_data"] is True
    assert parser["format"] == "json"
    assert parser["time_keep"] is True
    time_format = parser["time_format"].replace("%L", "%f")

    scene.submit("k")
    worker = start(COPY)
    assert worker.wait() == 0
    assert worker.events("message_deleted")
    for line in worker.lines:
        assert {"job_id", "pod_name"} <= set(line)
        assert not {*runtime, filtered["key_name"]} & set(line)
        datetime.strptime(line[parser["time_key"]], time_format)  # noqa: DTZ007 - Z is in it
    assert "message_id" in worker.events("message_deleted")[0]

"""The rules as promtool sees them, and what alerts promise to those they wake."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness.monitoring import installed, rule_groups, rules
from harness.process import REPOSITORY

RULE_TESTS = REPOSITORY / "tests" / "monitoring"
OPERATIONS = REPOSITORY / "docs" / "operations.md"
SEVERITIES = {"critical", "warning"}
ALERTS = [rule["alert"] for rule in rules("alert")]


def promtool(folder: Path, *arguments: str) -> None:
    """Run promtool in a folder that has the rules as `rules.yaml`; it must succeed."""
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rule_groups()}))
    ran = subprocess.run(
        [installed("promtool", package="prometheus"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_rules_are_valid(tmp_path: Path) -> None:
    """What the operator would hand to Prometheus, Prometheus takes."""
    promtool(tmp_path, "check", "rules", "--lint-fatal", "rules.yaml")


@pytest.mark.parametrize("name", ["totals.yaml", "alerts.yaml"])
def test_the_rules_say_what_they_should(name: str, tmp_path: Path) -> None:
    """Totals minute by minute; alerts that fire when they should, and only then."""
    shutil.copy(RULE_TESTS / name, tmp_path)
    promtool(tmp_path, "test", "rules", name)


def asked_of_alerts() -> Iterable[dict[str, Any]]:
    """The expectations of alerts in all rule tests."""
    tests = yaml.safe_load((RULE_TESTS / "alerts.yaml").read_text())["tests"]
    return [asked for test in tests for asked in test["alert_rule_test"]]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_seen_to_fire_and_not_to_fire(alert: str) -> None:
    """A rule that was never seen to fire may be one that cannot."""
    fired = {
        bool(asked["exp_alerts"]) for asked in asked_of_alerts() if asked["alertname"] == alert
    }
    assert fired == {True, False}


@pytest.mark.parametrize("rule", rules("alert"), ids=ALERTS)
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """Severity, summary, description, and a runbook whose heading is there."""
    assert rule["labels"]["severity"] in SEVERITIES
    notes = rule["annotations"]
    assert notes["summary"]
    assert notes["description"]
    page, _, anchor = notes["runbook"].partition("#")
    assert REPOSITORY / page == OPERATIONS
    assert anchor == rule["alert"].lower()
    assert anchor in headings(OPERATIONS)


def headings(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    found = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text).strip().lower().replace(" ", "-") for text in found}


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    """The page has a heading for each alert, and for no other."""
    told = {anchor for anchor in headings(OPERATIONS) if anchor.startswith("fileprocessor")}
    assert told == {alert.lower() for alert in ALERTS}


def test_what_others_expose_is_named() -> None:
    """A rule over series of kube-state-metrics says so in a label; all others need none."""
    for rule in [*rules("alert"), *rules("record")]:
        needs = rule.get("labels", {}).get("needs")
        foreign = bool(re.search(r"\bk(ube|eda)_", rule["expr"]))
        assert foreign == (needs == "kube-state-metrics"), rule


def test_numbers_of_the_base_stand_in_the_rules() -> None:
    """Deadline, maximum, lease and names are those that k8s/base deploys."""
    base = REPOSITORY / "k8s" / "base"
    scaled = yaml.safe_load((base / "scaledjob.yaml").read_text())
    settings = yaml.safe_load((base / "configmap.yaml").read_text())["data"]
    namespace = yaml.safe_load((base / "kustomization.yaml").read_text())["namespace"]
    found = {rule.get("record") or rule["alert"]: rule["expr"] for rule in rules("expr")}

    deadline = scaled["spec"]["jobTargetRef"]["activeDeadlineSeconds"]
    vanished = found["file_processor:jobs_vanished:1h"]
    assert vanished.count(f"offset {deadline}s") == 2
    assert f"time() - {deadline} - 3600" in vanished
    assert f"[{deadline + 7200}s]" in vanished

    sixth = int(settings["VISIBILITY_TIMEOUT"]) // 6
    assert found["FileProcessorLeaseHeadroomLow"].endswith(f" < {sixth}")
    assert f">= {scaled['spec']['maxReplicaCount']}" in found["FileProcessorAtMaximum"]
    for name in ("FileProcessorAtMaximum", "FileProcessorPodsSilent"):
        assert f'namespace="{namespace}"' in found[name]
        assert f'owner_name="{scaled["metadata"]["name"]}"' in found[name]

"""The manifests as kustomize renders them, and the schemas of those who will read them."""

import functools
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

REPOSITORY = Path(__file__).parents[1]
CRDS = REPOSITORY.parent / "shared" / "crds"
RENDERS = ("base", "overlays/eks", "overlays/local", "overlays/keda-2.18")
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Render:
    """Every object of one kustomization."""

    objects: list[Manifest]

    def one(self, kind: str) -> Manifest:
        """The only object of this kind."""
        (found,) = (each for each in self.objects if each["kind"] == kind)
        return found

    def names(self, kind: str) -> set[str]:
        """What objects of this kind are called."""
        return {each["metadata"]["name"] for each in self.objects if each["kind"] == kind}

    @property
    def scaling(self) -> Manifest:
        """The ScaledJob's spec."""
        return dict(self.one("ScaledJob")["spec"])

    @property
    def trigger(self) -> dict[str, str]:
        """The metadata of the only trigger."""
        (trigger,) = self.scaling["triggers"]
        return dict(trigger["metadata"])

    @property
    def pod(self) -> Manifest:
        """The pod's spec."""
        return dict(self.scaling["jobTargetRef"]["template"]["spec"])

    @property
    def container(self) -> Manifest:
        """The pod's only container."""
        (container,) = self.pod["containers"]
        return dict(container)

    @property
    def configuration(self) -> dict[str, str]:
        """The ConfigMap's variables."""
        return dict(self.one("ConfigMap")["data"])

    @property
    def environment(self) -> dict[str, str]:
        """Every variable the container gets, but for what the downward API fills in."""
        found = self.configuration
        for secret in (each for each in self.objects if each["kind"] == "Secret"):
            found |= secret["stringData"]
        return found


@functools.cache
def render(name: str) -> Render:
    """One kustomization under k8s/ as `kubectl apply -k` would send it."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    done = subprocess.run(
        ["kubectl", "kustomize", str(REPOSITORY / "k8s" / name)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return Render(list(yaml.safe_load_all(done.stdout)))


@functools.cache
def keda_schema(kind: str) -> Draft202012Validator:
    """What KEDA's CRD says of this kind, unknown fields refused; skips where it is not there."""
    path = CRDS / f"keda.sh_{kind.lower()}s.yaml"
    if not path.exists():
        pytest.skip("needs KEDA's CRDs in ../shared/crds")
    crd = yaml.safe_load(path.read_text())
    (version,) = (each for each in crd["spec"]["versions"] if each["name"] == "v1alpha1")
    return Draft202012Validator(_closed(version["schema"]["openAPIV3Schema"]))


def _closed(schema: Any) -> Any:
    """The schema, refusing what the API server would drop without a word."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(each) for name, each in schema.items()}
    open_by_design = "additionalProperties" in schema or schema.get(
        "x-kubernetes-preserve-unknown-fields"
    )
    if isinstance(schema.get("properties"), dict) and not open_by_design:
        closed["additionalProperties"] = False
    return closed


def in_bytes(quantity: str) -> int:
    """A quantity of memory as Kubernetes writes it."""
    return int(quantity[:-2]) * UNITS[quantity[-2:]]


def references(found: Render) -> Iterator[tuple[str, str]]:
    """The kind and name of every object that another one names."""
    yield "ServiceAccount", found.pod["serviceAccountName"]
    kinds = {"configMapRef": "ConfigMap", "secretRef": "Secret"}
    for source in found.container["envFrom"]:
        for field, of in source.items():
            yield kinds[field], of["name"]
    for trigger in found.scaling["triggers"]:
        yield "TriggerAuthentication", trigger["authenticationRef"]["name"]
    for secret in found.one("TriggerAuthentication")["spec"].get("secretTargetRef", []):
        yield "Secret", secret["name"]

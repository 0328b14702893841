"""The overlays: what each changes, and how many pods KEDA starts with it."""

import re

import pytest
from manifests import RENDERS, Render, render

from app.local.keda import QueueDepth, ScaledJob, Strategy, Trigger, jobs_to_create


@pytest.fixture(params=RENDERS)
def found(request: pytest.FixtureRequest) -> Render:
    """Each kustomization in turn."""
    return render(request.param)


def described(found: Render) -> ScaledJob:
    """What KEDA's arithmetic needs to know of a render."""
    strategy = found.scaling.get("scalingStrategy", {}).get("strategy", "default")
    return ScaledJob(
        Trigger(
            int(found.trigger["queueLength"]),
            scale_on_in_flight=found.trigger["scaleOnInFlight"] == "true",
        ),
        Strategy(strategy),
        found.scaling["minReplicaCount"],
        found.scaling["maxReplicaCount"],
    )


@pytest.mark.parametrize(("visible", "running"), [(3, 3), (1, 0), (20, 4), (1, 9), (5, 10)])
def test_a_poll_starts_the_missing_pods(found: Render, visible: int, running: int) -> None:
    """With every pod at work: one for each visible message, up to the most there may be."""
    depth = QueueDepth(visible=visible, in_flight=running)
    created = jobs_to_create(described(found), depth, running, 0)
    assert created == min(visible, 10 - running)


def test_base_counts_what_is_visible_and_what_is_pending() -> None:
    """The settings for KEDA 2.20."""
    found = render("base")
    assert found.scaling["scalingStrategy"] == {
        "strategy": "accurate",
        "pendingPodConditions": ["Ready"],
    }
    assert found.trigger["scaleOnInFlight"] == "false"
    assert found.one("TriggerAuthentication")["spec"] == {
        "podIdentity": {"provider": "aws", "identityOwner": "keda"}
    }


def test_eks_gives_the_pods_a_role() -> None:
    """The annotation of IRSA on the service account, and the image of the account's registry."""
    found = render("overlays/eks")
    annotations = found.one("ServiceAccount")["metadata"]["annotations"]
    role = annotations["eks.amazonaws.com/role-arn"]
    assert re.fullmatch(r"arn:aws:iam::\d{12}:role/[\w-]+", role)
    assert found.container["image"].startswith("123456789012.dkr.ecr.")
    assert found.one("TriggerAuthentication") == render("base").one("TriggerAuthentication")


def test_local_has_an_endpoint_and_credentials_that_are_none() -> None:
    """KEDA and the pods take the same ones from a Secret that nobody mistakes for a real one."""
    found = render("overlays/local")
    assert found.trigger["awsEndpoint"].startswith("http://")
    given = found.one("TriggerAuthentication")["spec"]
    assert list(given) == ["secretTargetRef"]
    secret = found.one("Secret")
    taken = {each["parameter"]: each["key"] for each in given["secretTargetRef"]}
    assert taken == {
        "awsAccessKeyID": "AWS_ACCESS_KEY_ID",
        "awsSecretAccessKey": "AWS_SECRET_ACCESS_KEY",
    }
    assert set(taken.values()) == set(secret["stringData"])
    assert all("not-a-real" in value for value in secret["stringData"].values())
    assert {"secretRef": {"name": secret["metadata"]["name"]}} in found.container["envFrom"]


def test_an_older_keda_gets_the_other_pair() -> None:
    """`default`, left out, and messages in flight counted; nothing else differs."""
    base, found = render("base"), render("overlays/keda-2.18")
    assert "scalingStrategy" not in found.scaling
    assert found.trigger["scaleOnInFlight"] == "true"
    pair = {"scalingStrategy", "triggers"}
    assert {k: v for k, v in found.scaling.items() if k not in pair} == {
        k: v for k, v in base.scaling.items() if k not in pair
    }
    assert found.trigger | {"scaleOnInFlight": "false"} == base.trigger


@pytest.mark.parametrize("taken", range(7))
def test_an_older_keda_starts_no_second_pod_for_a_message(taken: int) -> None:
    """While six pods take six messages one by one, no poll starts another pod."""
    job = described(render("overlays/keda-2.18"))
    depth = QueueDepth(visible=6 - taken, in_flight=taken)
    assert jobs_to_create(job, depth, 6, 6 - taken) == 0

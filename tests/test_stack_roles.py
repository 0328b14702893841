"""Who has the template's other policies: the janitor, KEDA, and people; and who may be whom."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError
from guarded import Cloud, guarded_cloud, policy_of, user
from harness.aws import Scene
from harness.launch import COPY, handlers_module
from harness.monitoring import pushgateway
from harness.process import REPOSITORY, Worker
from harness.sound import make_sound
from template import loaded, resolved

ROLES = {
    "WorkerRole": "system:serviceaccount:files:file-processor",
    "JanitorRole": "system:serviceaccount:files:file-processor-janitor",
    "KedaRole": "system:serviceaccount:keda:keda-operator",
}


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    """A server of its own, since the enforcement is for all of it."""
    with guarded_cloud() as running:
        yield running


@pytest.fixture
def sound(cloud: Cloud) -> Scene:
    """A scene with which nothing is wrong."""
    scene = cloud.scene()
    make_sound(scene)
    return scene


def permitted(cloud: Cloud, scene: Scene, *policies: str) -> dict[str, str]:
    """The access key of somebody with these policies."""
    return user(cloud.client("iam"), policy_of(scene, *policies))[1]


def run(key: dict[str, str], scene: Scene, folder: Path, *arguments: str, **env: str) -> Worker:
    """One command on the scene with this key, ended."""
    (folder / "handlers.py").write_text(handlers_module(COPY))
    variables = {
        "AWS_ENDPOINT_URL": scene.aws.url,
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "QUEUE_URL": scene.queue_url,
        "ALLOWED_BUCKETS": f"{scene.bucket}/incoming/",
        "OUTPUT_URL": f"s3://{scene.output_bucket}/out",
        "LEDGER_URL": f"s3://{scene.output_bucket}/ledger",
        "READY_FILE": str(folder / "ready"),
        "LOG_FORMAT": "console",
    }
    with Worker(folder, variables | env, arguments) as worker:
        worker.wait()
    return worker


def test_people_are_told_that_all_is_well(cloud: Cloud, sound: Scene, tmp_path: Path) -> None:
    """With the worker's policy and theirs `check` can look at everything, and finds nothing."""
    key = permitted(cloud, sound, "WorkerPolicy", "OperatorPolicy")
    checked = run(key, sound, tmp_path, "check")
    assert (checked.wait(), checked.stdout) == (0, ""), checked.stdout


def test_people_can_send_letters_back(cloud: Cloud, sound: Scene, tmp_path: Path) -> None:
    """With their policy alone: looked at and left, then sent back."""
    key = permitted(cloud, sound, "OperatorPolicy")
    before = sound.depth().visible
    for text in ("one", "two"):
        sound.aws.sqs.send_message(QueueUrl=sound.dlq_url, MessageBody=text)
    assert run(key, sound, tmp_path, "dlq", "list").wait() == 0
    assert sound.depth(sound.dlq_url).visible == 2
    sent = run(key, sound, tmp_path, "dlq", "redrive", "--all")
    assert sent.wait() == 0, sent.stderr
    assert (sound.depth().visible, sound.depth(sound.dlq_url).visible) == (before + 2, 0)


def test_the_janitor_can_count(cloud: Cloud, sound: Scene, tmp_path: Path) -> None:
    """Both queues, with the policy of its role."""
    key = permitted(cloud, sound, "DepthPolicy")
    with pushgateway() as url:
        counted = run(key, sound, tmp_path, "janitor", PUSHGATEWAY_URL=url)
    assert counted.wait() == 0, counted.stderr


def test_keda_can_count_and_take_nothing(cloud: Cloud, sound: Scene) -> None:
    """Its one call, on the one queue."""
    sqs = cloud.client_of(permitted(cloud, sound, "ScalerPolicy"), "sqs")
    sqs.get_queue_attributes(QueueUrl=sound.queue_url, AttributeNames=["All"])
    with pytest.raises(ClientError, match="not authorized"):
        sqs.receive_message(QueueUrl=sound.queue_url)
    with pytest.raises(ClientError, match="not authorized"):
        sqs.get_queue_attributes(QueueUrl=sound.dlq_url, AttributeNames=["All"])


def trust(role: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Who may be this role: by IRSA, and by Pod Identity."""
    names = {name: one.get("Default") for name, one in loaded()["Parameters"].items()}
    names |= {"OidcProvider": "oidc.example.com/id/E1", "AWS::Partition": "aws"}
    names |= {"AWS::AccountId": "123456789012"}
    condition, irsa, pods = loaded()["Resources"][role]["Properties"]["AssumeRolePolicyDocument"][
        "Fn::If"
    ]
    assert condition == "Irsa"
    text, more = irsa["Fn::Sub"]
    found = json.loads(resolved({"Fn::Sub": text}, names | resolved(more, names)))
    (by_token,), (by_agent,) = found["Statement"], resolved(pods, names)["Statement"]
    return by_token, by_agent


@pytest.mark.parametrize("role", ROLES)
def test_each_role_is_one_service_accounts(role: str) -> None:
    """By the cluster's token as by Pod Identity, and nobody else's."""
    by_token, by_agent = trust(role)
    assert by_token["Principal"]["Federated"].endswith(":oidc-provider/oidc.example.com/id/E1")
    assert by_token["Condition"]["StringEquals"] == {
        "oidc.example.com/id/E1:aud": "sts.amazonaws.com",
        "oidc.example.com/id/E1:sub": ROLES[role],
    }
    assert by_agent["Principal"] == {"Service": "pods.eks.amazonaws.com"}
    told = by_agent["Condition"]["StringEquals"]
    assert told["aws:SourceAccount"] == "123456789012"
    space = told["aws:RequestTag/kubernetes-namespace"]
    account = told["aws:RequestTag/kubernetes-service-account"]
    assert f"system:serviceaccount:{space}:{account}" == ROLES[role]


@pytest.mark.parametrize("folder", ["base", "monitoring"])
def test_the_service_accounts_are_those_of_the_manifests(folder: str) -> None:
    """By name, and in the namespace."""
    file = {"base": "serviceaccount.yaml", "monitoring": "janitor.yaml"}[folder]
    parts = list(yaml.safe_load_all((REPOSITORY / "k8s" / folder / file).read_text()))
    (account,) = (part for part in parts if part["kind"] == "ServiceAccount")
    (space,) = yaml.safe_load_all((REPOSITORY / "k8s/base/namespace.yaml").read_text())
    name = f"system:serviceaccount:{space['metadata']['name']}:{account['metadata']['name']}"
    assert name in ROLES.values()


def test_the_outputs_are_the_variables_of_the_overlay() -> None:
    """Each by its name, so that the overlay's ConfigMap is filled from them."""
    overlay = (REPOSITORY / "k8s/overlays/eks/configuration.yaml").read_text()
    told = {one["Description"] for one in loaded()["Outputs"].values()}
    variables = {one for one in told if one.isupper()}
    assert variables == yaml.safe_load(overlay)["data"].keys() | {"DLQ_URL"}


@pytest.mark.parametrize(
    ("provider", "taken"),
    [("", True), ("oidc.eks.eu-central-1.amazonaws.com/id/E1", True), ("https://oidc/id", False)],
)
def test_a_provider_with_its_scheme_is_refused(provider: str, *, taken: bool) -> None:
    """It would be trusted by a name that no token has."""
    pattern = loaded()["Parameters"]["OidcProvider"]["AllowedPattern"]
    assert bool(re.fullmatch(pattern, provider)) is taken

"""A local AWS that enforces policies, and the template's policies as it understands them.

moto knows the ARNs of objects, buckets and queues, but asks for GetQueueUrl on `*` and for
HeadBucket by its own name, where AWS asks for s3:ListBucket.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import boto3
from botocore.config import Config
from harness.aws import Clients, Scene
from harness.server import REGION, moto_server
from template import loaded, resolved

ANYTHING = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
}
# What moto asks for beside, or elsewhere: by the action of the template that stands for it.
ON_MOTO = {"sqs:GetQueueUrl": "sqs:GetQueueUrl", "s3:ListBucket": "s3:HeadBucket"}


def statements(policy: str) -> list[tuple[str, str]]:
    """Every action of one of the template's policies, with the statement that allows it."""
    document = loaded()["Resources"][policy]["Properties"]["PolicyDocument"]
    return [
        (one.get("Sid", ""), action)
        for one in document["Statement"]
        for action in _listed(one["Action"])
    ]


def policy_of(
    scene: Scene, *policies: str, without: tuple[str, str] | None = None
) -> dict[str, Any]:
    """These policies of the template for the scene, less one action of one statement."""
    names = {
        "Queue.Arn": scene.arn(scene.queue_url),
        "DeadLetters.Arn": scene.arn(scene.dlq_url),
        "InputBucket.Arn": f"arn:aws:s3:::{scene.bucket}",
        "OutputBucket.Arn": f"arn:aws:s3:::{scene.output_bucket}",
        "InputPrefix": "incoming/",
    }
    found: list[dict[str, Any]] = []
    for policy in policies:
        template = loaded()["Resources"][policy]["Properties"]["PolicyDocument"]
        for statement in resolved(template, names)["Statement"]:
            sid = statement.get("Sid", "")
            allowed = [one for one in _listed(statement["Action"]) if (sid, one) != without]
            peculiar = [ON_MOTO[one] for one in allowed if one in ON_MOTO]
            found += [
                {"Effect": statement["Effect"], "Action": actions, "Resource": resource}
                for actions, resource in ((allowed, statement["Resource"]), (peculiar, "*"))
                if actions
            ]
    return {"Version": "2012-10-17", "Statement": found}


def _listed(action: str | list[str]) -> list[str]:
    return [action] if isinstance(action, str) else action


@dataclass(frozen=True)
class Cloud:
    """A local AWS that asks everyone for permission, and somebody who has all."""

    url: str
    key: dict[str, str]

    def client(self, service: str) -> Any:
        """A client of who may do anything."""
        return self.client_of(self.key, service)

    def client_of(self, key: dict[str, str], service: str) -> Any:
        """A client of who has this access key."""
        session = boto3.Session(key["AccessKeyId"], key["SecretAccessKey"])
        once = Config(retries={"total_max_attempts": 1}, proxies={})
        return session.client(service, REGION, endpoint_url=self.url, config=once)

    def scene(self) -> Scene:
        """Buckets and queues."""
        return Scene(Clients(self.url, *(self.client(name) for name in ("s3", "sqs", "sns"))))


def user(iam: Any, policy: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """Somebody with this policy: the name, and an access key."""
    name = f"user-{uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(policy))
    return name, iam.create_access_key(UserName=name)["AccessKey"]


@contextmanager
def guarded_cloud() -> Iterator[Cloud]:
    """A server of its own, since the enforcement is for all of it."""
    with moto_server() as url:
        anybody = boto3.Session("anybody", "anything")
        iam = anybody.client("iam", REGION, endpoint_url=url, config=Config(proxies={}))
        _, key = user(iam, ANYTHING)
        plain = {"Content-Type": "text/plain"}
        urlopen(Request(f"{url}/moto-api/reset-auth", b"0", plain, method="POST")).close()
        yield Cloud(url, key)

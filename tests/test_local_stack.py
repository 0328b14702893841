"""The local AWS: it works, it is nobody else's, and it ends."""

import sys
from pathlib import Path

import anyio
import pytest

from app.local.stack import StackError, clean_environment, local_stack
from app.settings import Settings


def test_nothing_of_the_callers_aws_reaches_the_local_one() -> None:
    """Every variable of a worker and of the SDK goes; what handlers may need stays."""
    worker = {name.upper() for name in Settings.__struct_fields__}
    aws = {"AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3", "AWS_ROLE_ARN", "BOTO_CONFIG"}
    caller = dict.fromkeys(worker | aws | {"LEDGER_URL", "AWS_ACCESS_KEY_ID"}, "the caller's")
    kept = {"PATH": "/bin", "HOME": "/home/me", "PYTHONPATH": "src", "VIRTUAL_ENV": "venv"}
    clean = clean_environment(caller | kept)
    assert "the caller's" not in clean.values()
    assert clean.items() >= kept.items()


async def test_the_local_aws_notifies_and_ends_with_its_context(tmp_path: Path) -> None:
    """An upload becomes a message; afterwards nobody listens at the endpoint any more."""
    async with local_stack(tmp_path) as stack:
        stack.client("s3").put_object(Bucket=stack.input_bucket, Key="a b", Body=b"1")
        sqs = stack.client("sqs")
        got = sqs.receive_message(QueueUrl=stack.queue_url, MaxNumberOfMessages=10)
        assert any('"a+b"' in message["Body"] for message in got["Messages"])
        host, port = stack.endpoint_url.removeprefix("http://").split(":")
        assert host == "127.0.0.1"
    with pytest.raises(OSError, match=r"refused|attempts failed"):
        await anyio.connect_tcp(host, int(port))


async def test_a_local_aws_that_does_not_start_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its server wrote is the error."""
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'no moto here' >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(broken))
    with pytest.raises(StackError, match="no moto here"):
        async with local_stack(tmp_path):
            raise AssertionError("it started")

"""A Pushgateway and a Prometheus of Debian's packages, each a process of its own."""

import json
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from harness.aws import Scene
from harness.process import REPOSITORY
from harness.server import CREDENTIALS, clean_environment

MONITORING = REPOSITORY / "k8s" / "monitoring"


@contextmanager
def pushgateway() -> Iterator[str]:
    """The URL of a fresh Pushgateway."""
    program = installed("prometheus-pushgateway", package="prometheus-pushgateway")
    with _server(program, "--persistence.file=") as url:
        yield url


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running Prometheus, and its answers."""

    url: str

    def query(self, expression: str, at: float | None = None) -> list[tuple[dict[str, str], float]]:
        """The samples of an instant query, now or at a moment of Unix time.

        Raises:
            AssertionError: Prometheus cannot parse or run it.
        """
        asked = {"query": expression} | ({} if at is None else {"time": str(at)})
        try:
            with urlopen(f"{self.url}/api/v1/query?{urlencode(asked)}", timeout=20) as answer:
                found = json.load(answer)["data"]
        except HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        return [(sample["metric"], float(sample["value"][1])) for sample in found["result"]]

    def totals(
        self, expression: str, *by: str, at: float | None = None
    ) -> dict[tuple[str, ...], float]:
        """The values of an instant query by the values of these labels.

        Raises:
            AssertionError: two samples have the same.
        """
        found = self.query(expression, at)
        values = {tuple(labels.get(name, "") for name in by): value for labels, value in found}
        assert len(values) == len(found), f"{expression} has more labels than {by}: {found}"
        return values


@contextmanager
def prometheus(folder: Path, gateway: str, groups: list[dict[str, Any]]) -> Iterator[Prometheus]:
    """A Prometheus that scrapes this gateway, and evaluates these groups of rules, every second."""
    program = installed("prometheus", package="prometheus")
    rules = [{**group, "interval": "1s"} for group in groups]
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rules}))
    scrape = {
        "job_name": "pushgateway",
        "honor_labels": True,
        "static_configs": [{"targets": [gateway.removeprefix("http://")]}],
    }
    every = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    configuration = {"global": every, "rule_files": ["rules.yaml"], "scrape_configs": [scrape]}
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    data = folder / "data"
    with _server(
        program, f"--config.file={folder}/prometheus.yaml", f"--storage.tsdb.path={data}"
    ) as url:
        eventually(lambda: _is_ready(url))
        yield Prometheus(url)


def sweep(
    scene: Scene, folder: Path, *arguments: str, **env: str
) -> "subprocess.CompletedProcess[str]":
    """One run of the janitor, which leaves no group of a pod unless the arguments say otherwise."""
    return subprocess.run(
        [sys.executable, "-m", "app", "janitor", *(arguments or ("--ttl", "0"))],
        env=clean_environment()
        | CREDENTIALS
        | {"AWS_ENDPOINT_URL": scene.aws.url, "QUEUE_URL": scene.queue_url}
        | env,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def rule_groups() -> list[dict[str, Any]]:
    """The groups of the PrometheusRule, as a Prometheus without the operator wants them."""
    resource = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    return list(resource["spec"]["groups"])


def rules(kind: str) -> list[dict[str, Any]]:
    """The rules of one kind, `record` or `alert`, of all groups."""
    return [rule for group in rule_groups() for rule in group["rules"] if kind in rule]


def installed(program: str, *, package: str) -> str:
    """The path of a program; skips the test where its package is not installed."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs the package {package}")
    return found


def eventually(condition: Callable[[], object], seconds: float = 30) -> None:
    """Return once the condition holds; asked of a server that tells nobody.

    Raises:
        AssertionError: it did not within so many seconds.
    """
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s"
        time.sleep(0.1)


def _is_ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/-/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except URLError:
        return False


@contextmanager
def _server(*command: str) -> Iterator[str]:
    # Port 0 lets the kernel choose; the server says which one it got.
    process = subprocess.Popen(
        [*command, "--web.listen-address=127.0.0.1:0"], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr
    reader = threading.Thread(target=process.stderr.read, daemon=True)
    try:
        port = _port_told_by(process.stderr)
        # Read on, or it blocks once the pipe is full.
        reader.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)
        if reader.ident is not None:
            reader.join(20)
        process.stderr.close()


def _port_told_by(log: IO[str]) -> int:
    said = []
    for line in log:
        said.append(line)
        if found := re.search(r"Listening on.*127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    raise AssertionError(f"the server did not start: {''.join(said)}")

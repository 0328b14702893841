"""What all tests share: the local AWS, and a skip that counts as a failure in CI."""

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.proxy import FaultProxy
from harness.aws import Clients, Scene, client
from harness.book import Book
from harness.launch import Launcher
from harness.monitoring import pushgateway
from harness.server import ministack_server, moto_server


@pytest.fixture(scope="session")
def aws() -> Iterator[Clients]:
    """The local AWS of this test session; its process is stopped at the end."""
    with moto_server() as url:
        yield Clients.of(url)


@pytest.fixture(scope="session")
def ministack() -> Iterator[Clients]:
    """Another local AWS, stricter about conditions."""
    with ministack_server() as url:
        yield Clients.of(url)


@pytest.fixture
def scene(aws: Clients) -> Scene:
    """Fresh buckets and queues, under names that no other test has."""
    return Scene(aws)


@pytest.fixture
def proxy(aws: Clients) -> Iterator[FaultProxy]:
    """A fault proxy in front of the local AWS, with an empty plan."""
    with FaultProxy(aws.url) as running:
        yield running


@pytest.fixture
def s3(proxy: FaultProxy) -> Any:
    """S3 through the proxy."""
    return client("s3", proxy.url, read_timeout=5)


@pytest.fixture
def sqs(proxy: FaultProxy) -> Any:
    """SQS through the proxy."""
    return client("sqs", proxy.url, read_timeout=5)


@pytest.fixture
def start(scene: Scene, proxy: FaultProxy, tmp_path: Path) -> Iterator[Launcher]:
    """Starts workers on the scene, through the proxy."""
    launcher = Launcher(scene, proxy, tmp_path)
    yield launcher
    launcher.close()


@pytest.fixture
def book(scene: Scene, proxy: FaultProxy, start: Launcher) -> Book:
    """A ledger, which every worker of this test is told of."""
    made = Book(scene, proxy)
    start.more |= made.env
    return made


@pytest.fixture
def gateway() -> Iterator[str]:
    """The URL of a Pushgateway that holds nothing yet."""
    with pushgateway() as url:
        yield url


def _in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"


def _may_skip(item: pytest.Item, report: pytest.TestReport) -> bool:
    """Whether the test says of this very skip that no package can prevent it."""
    marker = item.get_closest_marker("may_skip")
    return marker is not None and marker.args[0] in report.longreprtext


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A machine that lacks a server may skip its tests, except in CI, which must have it."""
    report = yield
    # An expected failure is reported as skipped too, but says so.
    skipped = report.skipped and not hasattr(report, "wasxfail")
    if _in_ci() and skipped and not _may_skip(item, report):
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {report.longreprtext}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for modules that are skipped as a whole."""
    report = yield
    if _in_ci() and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which is a failure in CI: {report.longreprtext}"
    return report

"""What the tests' own machinery promises."""

import subprocess
import sys
from pathlib import Path

import pytest
from harness.server import clean_environment

TESTS = Path(__file__).parent
BY_TEST = """
import pytest

def test_one():
    pytest.skip("needs the package moto[server]")
"""
BY_MODULE = """
import pytest

pytest.skip("needs the package moto[server]", allow_module_level=True)
"""
EXPECTED_FAILURE = """
import pytest

@pytest.mark.xfail(strict=True)
def test_one():
    assert False
"""


@pytest.mark.parametrize(
    ("source", "ci", "expected"),
    [
        (BY_TEST, "", "1 skipped"),
        (BY_TEST, "true", "1 failed"),
        (BY_MODULE, "true", "1 error"),
        (EXPECTED_FAILURE, "true", "1 xfailed"),
    ],
    ids=["at home", "a test", "a module", "no skip"],
)
def test_a_skip_is_a_failure_in_ci(source: str, ci: str, expected: str, tmp_path: Path) -> None:
    """A machine may lack a package; CI may not, and says which one it lacks."""
    (tmp_path / "test_it.py").write_text(source)

    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-ra", "-p", "conftest", "test_it.py"],
        cwd=tmp_path,
        env=clean_environment() | {"PYTHONPATH": str(TESTS), "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )

    assert expected in ran.stdout
    assert (ran.returncode == 0) == (expected not in {"1 failed", "1 error"})
    if source != EXPECTED_FAILURE:
        assert "moto[server]" in ran.stdout

"""The test-suite's own net: no error inside traceai-vllm is swallowed unseen."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEST_FILE = """
import pytest
from traceai_vllm.guard import Guard

def fail():
    with Guard("a test"):
        raise LookupError("swallowed")

def test_unexpected():
    fail()

@pytest.fixture
def leaving():
    yield
    fail()

def test_in_teardown(leaving):
    pass

@pytest.mark.internal_errors_expected
def test_expected():
    fail()

def test_without():
    pass
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What pytest says of these tests under this suite's conftest, without vLLM."""
    path = tmp_path_factory.mktemp("inner") / "test_inner.py"
    path.write_text(TEST_FILE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", "-rA"]
    result = subprocess.run(
        [*command, "-c", str(ROOT / "pyproject.toml"), f"--rootdir={path.parent}", str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return result.stdout


@pytest.mark.parametrize("name", ["test_unexpected", "test_in_teardown"])
def test_a_swallowed_error_fails_its_test(report: str, name: str) -> None:
    """During the test or while its fixtures are torn down: the test is in error, and the error is shown."""
    assert re.search(rf"^ERROR .*::{name}\b", report, re.MULTILINE)
    assert "LookupError: swallowed" in report
    assert "('a test', 'LookupError'): 1" in report


@pytest.mark.parametrize("name", ["test_expected", "test_without"])
def test_a_marked_or_healthy_test_passes(report: str, name: str) -> None:
    """The marker opts out, and a test without such errors is left alone."""
    assert re.search(rf"^PASSED .*::{name}\b", report, re.MULTILINE)
    assert not re.search(rf"^ERROR .*::{name}\b", report, re.MULTILINE)

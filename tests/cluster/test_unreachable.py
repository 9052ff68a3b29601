"""A database or cluster that is not there is one clear error, in the command too: no traceback, no password."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from traceai_vllm.release import open_source
from traceai_vllm.release.sources.source import SourceError

POLICY = Path(__file__).parents[2] / "examples" / "demo" / "policy.yaml"


def test_a_clickhouse_that_does_not_run() -> None:
    """The message says what to look at, and keeps the password to itself."""
    with pytest.raises(
        SourceError, match=r"ClickHouse at reader:\*\*\*@127\.0\.0\.1:9/otel cannot be read: check"
    ) as found:
        open_source("clickhouse://reader:secret@127.0.0.1:9/otel")  # nobody listens at this port
    assert "secret" not in str(found.value)


@pytest.mark.parametrize("scheme", ["clickhouse", "spark"])
def test_the_command_says_so_in_one_line(scheme: str) -> None:
    """With the exit code of errors."""
    program = Path(sys.executable).with_name("traceai-vllm")
    command = [program, "gate", f"{scheme}://127.0.0.1:9/spans", "--policy", POLICY]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.strip().splitlines()[-1].startswith("traceai-vllm gate: the")

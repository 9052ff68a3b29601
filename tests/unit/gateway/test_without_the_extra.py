"""The base package needs none of the gateway's libraries."""

from __future__ import annotations

import subprocess
import sys

HIDE = "import sys; sys.modules['aiohttp'] = None\n"


def test_the_error_names_the_extra() -> None:
    """Where a library is missing, the line to type is in the error; `import traceai_vllm` works."""
    program = (
        HIDE
        + "import traceai_vllm\ntry:\n    from traceai_vllm.gateway import create_app\n"
        + "except ImportError as error:\n    print(error)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'traceai-vllm[gateway]'" in result.stdout


def test_the_command_says_so_too() -> None:
    """Without a traceback."""
    program = HIDE + "from traceai_vllm.cli.main import main; sys.exit(main(['gateway', '--config', 'x.yaml']))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "traceai-vllm[gateway]" in result.stderr


def test_the_decision_file_can_be_written_without_them() -> None:
    """What a release decision imports needs pydantic, and no web server."""
    program = HIDE + "sys.modules['starlette'] = None\nimport traceai_vllm.gateway.decision"
    subprocess.run([sys.executable, "-c", program], check=True)

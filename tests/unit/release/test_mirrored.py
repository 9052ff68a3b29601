"""Pairs of a proxy that mirrors (NGINX, Envoy): no span says that it is one of two, only ids are the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.paired_spans import Request, spans_of
from traceai_vllm.release import compare, open_source, parse_policy

NAMED = "version: 1\nbaseline: m-bf16\ncandidate: m-int4\nmeasures: {Groundedness: {margin: 0.1}}\n"


def engines(place: int, *, arms: int = 2) -> list[dict[str, Any]]:
    """Return the engines' spans of one request: of both servers, or of the one that was asked."""
    made = [span for span in spans_of(place, Request(route="support")) if span["kind"] == "CLIENT"][:arms]
    for span in made:
        told = {key: value for key, value in span["attributes"].items() if not key.startswith("traceai.pair.")}
        span |= {"kind": "INTERNAL", "attributes": {**told, "gen_ai.response.id": f"chatcmpl-{place}"}}
    return made


def write(directory: Path, spans: list[dict[str, Any]]) -> Path:
    directory.mkdir()
    (directory / "spans-20261127T000000.000000Z-1-0a1b2c3d.jsonl").write_text("".join(map(_line, spans)))
    return directory


def _line(span: dict[str, Any]) -> str:
    return json.dumps(span) + "\n"


def test_what_a_proxy_mirrored_is_paired_by_its_response_id(tmp_path: Path) -> None:
    """Where the policy names both variants. What was not mirrored is no question without an answer."""
    spans = [span for place in range(10) for span in engines(place, arms=2 if place < 4 else 1)]
    store = open_source(write(tmp_path / "spans", spans))

    books = compare(store, parse_policy(NAMED)).books
    assert (books.sampled, books.clean, books.unpaired) == (4, 4, {})

    unnamed = "\n".join(line for line in NAMED.splitlines() if "m-bf16" not in line)
    assert compare(store, parse_policy(unnamed)).books.sampled == 0


def test_calls_of_one_trace_are_paired_each_with_its_copy(tmp_path: Path) -> None:
    """An agent's trace has several, and the candidate may answer one of them alone."""
    spans = [span for place in range(3) for span in engines(place, arms=2 if place else 1)]
    for span in spans:
        span["trace_id"] = "a" * 32
    books = compare(open_source(write(tmp_path / "spans", spans)), parse_policy(NAMED)).books
    assert (books.sampled, books.clean, books.repeated) == (2, 2, 0)


def test_spans_below_the_gateways_are_no_second_pair(tmp_path: Path) -> None:
    """The servers of a gateway have the same ids too: its own spans say what is a pair."""
    spans = [span for place in range(5) for span in (*spans_of(place, Request(route="support")), *engines(place))]
    for span in spans:
        if span["kind"] == "INTERNAL":
            span["parent_span_id"], span["span_id"] = span["span_id"], f"f{span['span_id'][1:]}"
    books = compare(open_source(write(tmp_path / "spans", spans)), parse_policy(NAMED)).books
    assert (books.sampled, books.clean, books.repeated) == (5, 5, 0)

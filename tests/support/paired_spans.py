"""Stores of spans as the gateway and two servers write them, for tests of release decisions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND


@dataclass
class Request:
    """One question, and how each arm answers it; ``candidate`` and ``baseline`` go onto the spans of the arms."""

    route: str | None = "support"
    cohort: str | None = "mirrored-2026-05"
    slices: tuple[str, ...] = ()
    intent: str | None = None
    tokens: int = 400
    fails: tuple[bool, bool] = (False, False)
    seconds: tuple[float, float] = (1.0, 0.65)
    baseline: dict[str, Any] | None = field(default_factory=dict)
    candidate: dict[str, Any] | None = field(default_factory=dict)


class Draw:
    """Draws what happens, the same on every run."""

    def __init__(self, seed: int = 7) -> None:
        self._random = random.Random(seed)

    def fails(self, baseline: float, candidate: float) -> tuple[bool, bool]:
        return self._random.random() < baseline, self._random.random() < candidate

    def seconds(self, ratio: float) -> tuple[float, float]:
        return 0.5 + self._random.random(), ratio * (0.5 + self._random.random())

    def one_of(self, *values: Any) -> Any:
        return self._random.choice(values)


def requests(count: int, make: Callable[[Draw], Request], seed: int = 7) -> list[Request]:
    """Return so many requests."""
    draw = Draw(seed)
    return [make(draw) for _ in range(count)]


def write_store(directory: Path, given: Iterable[Request], *, below: bool = False) -> Path:
    """Write a store; with ``below``, scores are on the servers' own spans below those of the gateway."""
    directory.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(span) for place, request in enumerate(given) for span in spans_of(place, request, below)]
    (directory / "spans-00000000000000000001-1-test.jsonl").write_text("\n".join(lines) + "\n")
    return directory


def spans_of(place: int, request: Request, below: bool = False) -> list[dict[str, Any]]:
    """Return the spans of one request, as lines of a store."""
    trace, start = f"{place + 1:032x}", START_NS + place * SECOND
    root = f"{place * 8 + 1:016x}"
    made = [_span(trace, root, None, "SERVER", start, 1.0, {"traceai.pair.id": f"pair-{place}"})]
    for number, arm in enumerate(("baseline", "candidate")):
        changed = (request.baseline, request.candidate)[number]
        if changed is None:
            continue
        span_id, seconds = f"{place * 8 + 2 + number:016x}", request.seconds[number]
        scores = {
            "gen_ai.evaluation.Groundedness.score": 0.2 if request.fails[number] else 0.9,
            "gen_ai.evaluation.Groundedness.passed": not request.fails[number],
            "traceai.evaluation.status": "ok",
        }
        attributes = {
            "traceai.pair.id": f"pair-{place}",
            "traceai.pair.arm": arm,
            "traceai.pair.prompt_hash": f"hash-{place}",
            "model_variant": ("m-bf16", "m-int4")[number],
            "quantization_format": ("bf16", "int4")[number],
            "prompt_version": "v3",
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": request.tokens,
            "gen_ai.usage.output_tokens": 50,
            "gen_ai.latency.e2e": seconds,
            "gen_ai.latency.time_to_first_token": seconds / 10,
            **({"route": request.route} if request.route else {}),
            **({"traffic_cohort": request.cohort} if request.cohort else {}),
            **({"traceai.slices": list(request.slices)} if request.slices else {}),
            **({"traceai.route.intent": request.intent} if request.intent else {}),
            **({} if below else scores),
            **changed,
        }
        present = {key: value for key, value in attributes.items() if value is not None}
        made.append(_span(trace, span_id, root, "CLIENT", start, seconds, present))
        if below:
            made.append(_span(trace, f"{place * 8 + 4 + number:016x}", span_id, "INTERNAL", start, seconds, scores))
    return made


def _span(
    trace: str, span_id: str, parent: str | None, kind: str, start: int, seconds: float, attributes: dict[str, Any]
) -> dict[str, Any]:
    return {
        "format_version": 1,
        "trace_id": trace,
        "span_id": span_id,
        "parent_span_id": parent,
        "name": "chat m",
        "kind": kind,
        "start_time_unix_nano": start,
        "end_time_unix_nano": start + int(seconds * SECOND),
        "duration_s": seconds,
        "status": "ERROR" if "error.type" in attributes else "UNSET",
        "scope": "test",
        "attributes": attributes,
        "resource": {},
        "events": [],
        "links": [],
    }


def live_span(place: int, arm: str, **attributes: Any) -> dict[str, Any]:
    """Return the span of an answer that a user got, without a pair, as the gateway writes it in a canary."""
    which = ("baseline", "candidate").index(arm)
    given = {
        "traceai.pair.arm": arm,
        "model_variant": ("m-bf16", "m-int4")[which],
        "route": "support",
        "traffic_cohort": "mirrored-2026-05",
        "gen_ai.operation.name": "chat",
        "gen_ai.response.id": f"chatcmpl-{place}",
        "gen_ai.usage.input_tokens": 400,
        **attributes,
    }
    trace, span_id = f"{place + 2**64:032x}", f"{place + 2**48:016x}"
    return _span(trace, span_id, f"{place + 2**52:016x}", "CLIENT", START_NS + place * SECOND, 0.5, given)


def feedback_span(
    place: int,
    kind: str,
    *,
    response_id: str | None = None,
    trace_id: str | None = None,
    about: dict[str, Any] | None = None,
    at_ns: int = START_NS + 10**15,
) -> dict[str, Any]:
    """Return a span of feedback, as `POST /v1/feedback` and `traceai_vllm.feedback()` write it."""
    attributes = {
        "traceai.feedback.kind": kind,
        "traceai.feedback.id": f"feedback-{place}-{kind}",
        **({"gen_ai.response.id": response_id} if response_id else {}),
        **({"traceai.feedback.trace_id": trace_id} if trace_id else {}),
    }
    trace = f"{place + 2**80:032x}" if about is None else about["trace_id"]
    parent = None if about is None else about["span_id"]
    return {**_span(trace, f"{place + 2**40:016x}", parent, "INTERNAL", at_ns, 0, attributes), "name": "feedback"}

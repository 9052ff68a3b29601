"""Runs every scenario on one version's sources, in a process of its own, and prints the result as JSON.

    python -m compat.source_run FOLDER

The folder holds the version's ``vllm/``; see :mod:`compat.wheels`.
"""

from __future__ import annotations

import gc
import json
import logging
import sys
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from compat import hooks, stubs
from compat.scenarios import FACTS, SCENARIOS, Scenario, matches
from compat.world import MODEL, Classes, World


def main() -> int:
    """Run, print the result, and return 0: the caller judges."""
    sources = Path(sys.argv[1])
    warnings.simplefilter("ignore")
    logging.disable(logging.ERROR)  # vLLM logs the failures that are provoked here
    stubs.install(sources)
    try:
        result = run()
    except Exception:
        result = {"crashed": traceback.format_exc()[-3000:]}
    print(json.dumps(result))
    return 0


def run() -> dict[str, Any]:
    """Run every scenario, then each hook taken away; return what happened."""
    from traceai_vllm.engine import patches
    from traceai_vllm.testing import capture

    with capture():  # before vLLM is imported: the hooks come in by the import
        classes = Classes()
        # What stands outside the engine (HTTP server, other libraries) is not run here.
        matched = {name: found for name, found in patches.matched().items() if name.rsplit(".", 2)[0] in stubs.REAL}
        _Warnings.expected = tuple(patches.missing())  # each run would say so again
    outcomes: dict[str, str | None] = {}
    whole: dict[str, Observed] = {}
    for scenario in SCENARIOS:
        for log_stats in (False, True):
            if scenario.applies(classes):
                name = f"{scenario.name}, statistics {'on' if log_stats else 'off'}"
                outcomes[name], whole[scenario.name] = judge(scenario, World(classes, log_stats))
    return {
        "matched": matched,
        "scenarios": outcomes,
        "attributes": sorted({key for seen in whole.values() for found in seen.attributes for key in found}),
        "without": dict(hooks.taken_away(classes, matched, observe, whole)),
    }


def judge(scenario: Scenario, world: World) -> tuple[str | None, Observed]:
    """Run a scenario without and with us; return what is wrong, or None, and what was seen."""
    seen = Observed()
    try:
        bare = scenario.run(world)
        seen = observe(scenario, world)
    except Exception:
        return traceback.format_exc()[-2000:], seen
    if bare != seen.answer:
        return f"the user got {seen.answer!r} with us and {bare!r} without", seen
    if seen.errors:
        return f"the guard swallowed {seen.errors}", seen
    if [scenario.warning is not None and scenario.warning in text for text in seen.warnings] != [True] * bool(
        scenario.warning
    ):
        return f"warnings: {seen.warnings}", seen
    problem = compare(scenario, seen.spans) or missing_details(scenario, seen.attributes)
    return problem or wrong_batch(scenario, seen), seen


class Observed:
    """What one instrumented run of a scenario gave.

    Attributes:
        answer: what the user got.
        spans: the facts of each request's span, in the order in which they ended.
        attributes: all attributes of each.
        others: attributes of further spans (batches), by the span's name.
        errors: what the guard swallowed.
        warnings: what was logged by us.
    """

    def __init__(self) -> None:
        self.answer: Any = None
        self.spans: list[dict[str, Any]] = []
        self.attributes: list[dict[str, Any]] = []
        self.others: dict[str, dict[str, Any]] = {}
        self.errors: dict[str, int] = {}
        self.warnings: list[str] = []


def observe(scenario: Scenario, world: World) -> Observed:
    """Run a scenario instrumented."""
    from traceai_vllm import guard
    from traceai_vllm.testing import capture

    seen, before, reports = Observed(), Counter(guard.internal_errors()), _Warnings()
    logging.getLogger("traceai_vllm").addHandler(reports)
    logging.disable(logging.NOTSET)
    try:
        with capture() as captured:
            seen.answer = scenario.run(world)
            gc.collect()
        # Requests that vLLM forgot end when the instrumentation is taken off.
        seen.attributes = [dict(request.attributes or {}) for request in captured.requests]
        requests = {id(request) for request in captured.requests}
        seen.others = {
            span.name.partition(" ")[0]: dict(span.attributes or {})
            for span in captured.spans
            if id(span) not in requests
        }
    finally:
        logging.disable(logging.ERROR)
        logging.getLogger("traceai_vllm").removeHandler(reports)
    seen.spans = [{fact: found.get(key) for fact, key in FACTS.items()} for found in seen.attributes]
    seen.errors = {": ".join(key): count for key, count in (Counter(guard.internal_errors()) - before).items()}
    seen.warnings = reports.messages
    return seen


class _Warnings(logging.Handler):
    expected: tuple[str, ...] = ()
    """The hooks that this version lacks by itself: a warning names them at each ``instrument()``."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if not any(name in message for name in self.expected):
            self.messages.append(message)


def compare(scenario: Scenario, spans: list[dict[str, Any]]) -> str | None:
    """Return how the spans differ from what the scenario expects, or None."""
    if scenario.optional and not spans:
        return None
    if len(spans) != len(scenario.expected):
        return f"{len(spans)} spans for {len(scenario.expected)} requests: {spans}"
    for expected, found in zip(scenario.expected, spans, strict=True):
        wrong = {fact: found[fact] for fact, value in expected.items() if not matches(value, found[fact])}
        if wrong:
            return f"a span says {wrong} instead of { {fact: expected[fact] for fact in wrong} }"
    return None


def wrong_batch(scenario: Scenario, seen: Observed) -> str | None:
    """Return what is wrong with the span round a call of `LLM`, or None."""
    if set(seen.others) != ({scenario.batch} if scenario.batch else set()):
        return f"there are spans {set(seen.others)} beside those of the requests, and the batch is {scenario.batch}"
    if scenario.optional and seen.others[str(scenario.batch)].get("error.type") != "ValueError":
        return "the span of the batch does not say that it was refused"
    return None


def missing_details(scenario: Scenario, spans: list[dict[str, Any]]) -> str | None:
    """Return what a span lacks that every version can give, or None."""
    for attributes in spans:
        wanted = {"gen_ai.request.model", "model_variant", "quantization_format"} if _has_engine(scenario) else set()
        if attributes.get("gen_ai.usage.output_tokens"):
            wanted.add("gen_ai.latency.time_to_first_token")
        wanted |= {"gen_ai.latency.e2e", "gen_ai.response.id"}
        lacks = wanted - set(attributes)
        if lacks:
            return f"a span lacks {', '.join(sorted(lacks))}"
        if _has_engine(scenario) and attributes["gen_ai.request.model"] != MODEL.rpartition("/")[2]:
            return f"the model is {attributes['gen_ai.request.model']!r}"
    return None


def _has_engine(scenario: Scenario) -> bool:
    return not scenario.name.startswith("OutputProcessor")


if __name__ == "__main__":
    sys.exit(main())

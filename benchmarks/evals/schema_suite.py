"""E1: does JSONValidation agree with the official JSON Schema Test Suite? The test's own code, counted by draft."""

from __future__ import annotations

import json

from tests.unit.evals import test_json_schema_suite as suite

from traceai_vllm.evals import JSONValidation


def run() -> dict[str, tuple[int, int]]:
    """Return, for each draft, how many required tests it agrees with, and how many there are."""
    evaluator = JSONValidation(resources=suite.REMOTES)
    found = {}
    for draft, dialect in suite.DIALECTS.items():
        agree = total = 0
        for _, schema, test in suite.cases(draft):
            dialected = {"$schema": dialect, **schema} if isinstance(schema, dict) else schema
            result = evaluator.evaluate(response=json.dumps(test["data"]), schema=dialected)
            agree += result.passed == test["valid"]
            total += 1
        found[draft] = (agree, total)
    return found

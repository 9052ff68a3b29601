"""E2: does ToolSelectionAccuracy agree with the checker of the Berkeley Function Calling Leaderboard?

Answers are made from BFCL's own accepted values, right ones and ones mutated in a known way, and both judge them.
"""

from __future__ import annotations

import copy
import json
import random
import sys
import types
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals import ToolSelectionAccuracy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PYTHON_SETS = (
    "simple_python",
    "multiple",
    "parallel",
    "parallel_multiple",
    "live_simple",
    "live_multiple",
    "live_parallel",
    "live_parallel_multiple",
)
IRRELEVANCE_SETS = ("irrelevance", "live_irrelevance")
_KINDS = {"extra_arg": "unexpected_argument", "missing_required": "missing_argument"}

Call = dict[str, dict[str, Any]]


class NoBFCL(Exception):
    """bfcl-eval is not where it was looked for."""


def run(bfcl: Path, data: Path | None) -> dict[str, Any]:
    """Return the figures.

    Args:
        bfcl: the folder that ``pip install --no-deps --target`` put bfcl-eval into.
        data: the folder with ``toolcalls_mutated.jsonl``, or None.
    """
    check = official_checker(bfcl)
    folder = bfcl / "bfcl_eval" / "data"
    tables: dict[str, Any] = {"own": against_checker(folder, check), "irrelevance": irrelevance(folder)}
    if data is not None and (data / "toolcalls_mutated.jsonl").exists():
        tables["given"] = given_answers(data / "toolcalls_mutated.jsonl", folder, check)
    return tables


def official_checker(bfcl: Path) -> Callable[..., bool]:
    """Load BFCL's checker alone: its table of models would import every provider's SDK."""
    if not (bfcl / "bfcl_eval").is_dir():
        raise NoBFCL(f"bfcl-eval is not in {bfcl}")
    if str(bfcl) not in sys.path:
        sys.path.insert(0, str(bfcl))
    models = types.ModuleType("bfcl_eval.constants.model_config")
    models.MODEL_CONFIG_MAPPING = defaultdict(lambda: types.SimpleNamespace(underscore_to_dot=False))  # type: ignore[attr-defined]
    sys.modules.setdefault(models.__name__, models)
    from bfcl_eval.constants.enums import Language
    from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

    def check(functions: list[Any], calls: list[Call], gold: list[Any], category: str) -> bool:
        return bool(ast_checker(functions, calls, gold, Language.PYTHON, category, "any")["valid"])

    return check


def rows(folder: Path, category: str) -> Iterator[tuple[dict[str, Any], list[Any]]]:
    """Yield each question of a set with its accepted answers."""
    name = f"BFCL_v4_{category}.json"
    answers = {}
    if (folder / "possible_answer" / name).exists():
        for line in (folder / "possible_answer" / name).read_text("utf-8").splitlines():
            row = json.loads(line)
            answers[row["id"]] = row["ground_truth"]
    for line in (folder / name).read_text("utf-8").splitlines():
        row = json.loads(line)
        yield row, answers.get(row["id"], [])


def against_checker(folder: Path, check: Callable[..., bool]) -> dict[str, Any]:
    """Agreement on answers made from the accepted values, by set and by kind of mutation."""
    seed = random.Random(5)
    evaluator = ToolSelectionAccuracy()
    by_set: dict[str, Counter[str]] = defaultdict(Counter)
    by_kind: dict[str, Counter[str]] = defaultdict(Counter)
    differing = []
    for category in PYTHON_SETS:
        for row, gold in rows(folder, category):
            for kind, calls in answers_of(row["function"], gold, seed):
                official = check(row["function"], copy.deepcopy(calls), gold, category)
                ours = evaluator.evaluate(response=calls, tools=row["function"], expected=gold)
                outcome = "agree" if ours.passed == official else "differ"
                by_set[category][outcome] += 1
                by_kind[kind][outcome] += 1
                by_kind[kind]["right"] += official
                if outcome == "differ":
                    differing.append(
                        {"id": row["id"], "kind": kind, "bfcl": official, "ours": ours.passed, "why": ours.explanation}
                    )
    return {"sets": _shares(by_set), "kinds": _shares(by_kind), "differing": differing}


def irrelevance(folder: Path) -> dict[str, Any]:
    """On questions that no tool serves: an answer in words must pass, and any call must not. BFCL decides it so too."""
    evaluator = ToolSelectionAccuracy()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for category in IRRELEVANCE_SETS:
        for row, _ in rows(folder, category):
            words = evaluator.evaluate(response="None of the tools can do that.", tools=row["function"], expected=[])
            tool = row["function"][0]["name"] if row["function"] else "some_tool"
            called = evaluator.evaluate(response=[{tool: {}}], tools=row["function"], expected=[])
            counts[category]["agree"] += words.passed + (not called.passed)
            counts[category]["differ"] += (not words.passed) + called.passed
    return _shares(counts)


def given_answers(file: Path, folder: Path, check: Callable[..., bool]) -> dict[str, Any]:
    """Agreement on the labelled answers of the data folder: the checker, the label, and validity by tools alone."""
    functions = {row["id"]: row["function"] for name in PYTHON_SETS for row, _ in rows(folder, name)}
    evaluator = ToolSelectionAccuracy()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for line in file.read_text("utf-8").splitlines():
        row = json.loads(line)
        tools, gold = functions[row["src"]], row["ground_truth"]
        calls = [{row["call"]["name"]: row["call"]["arguments"]}]
        ours = evaluator.evaluate(response=[row["call"]], tools=tools, expected=gold)
        valid = evaluator.evaluate(response=[row["call"]], tools=tools)
        pairs = {
            "with BFCL's checker": ours.passed == check(tools, copy.deepcopy(calls), gold, row["category"]),
            "with the label": ours.passed == row["call_correct"],
            "validity by tools alone": valid.passed == row["schema_valid"],
        }
        for name, same in pairs.items():
            counts[name]["agree" if same else "differ"] += 1
    return _shares(counts)


# --- right answers and mutated ones -----------------------------------------------------------------------


def answers_of(functions: list[Any], gold: list[Any], seed: random.Random) -> Iterator[tuple[str, list[Call]]]:
    """Yield (kind, calls): right answers, harmless spellings, and each mutation that the answer allows."""
    right = [{name: _arguments(accepted, seed) for name, accepted in call.items()} for call in gold]
    yield "right", right
    if len(right) > 1:
        yield "right, other order", seed.sample(right, len(right))
        yield "a call dropped", right[:-1]
    yield "a call doubled", [*right, copy.deepcopy(right[0])]
    for kind, change in MUTATIONS.items():
        calls = copy.deepcopy(right)
        ((name, arguments),) = calls[seed.randrange(len(calls))].items()
        if change(arguments, seed):
            yield kind, calls
    renamed = copy.deepcopy(right)
    ((name, arguments),) = renamed[0].items()
    renamed[0] = {f"{name}_v2": arguments}
    yield "unknown tool", renamed
    others = [function["name"] for function in functions if function["name"] != name]
    if others:
        swapped = copy.deepcopy(right)
        swapped[0] = {seed.choice(others): arguments}
        yield "wrong tool", swapped


def _arguments(accepted: dict[str, Any], seed: random.Random) -> dict[str, Any]:
    chosen = {}
    for name, values in accepted.items():
        real = [value for value in values if value != ""]
        if real and ("" not in values or seed.random() < 0.5):
            chosen[name] = _plain(seed.choice(real), seed)
    return chosen


def _plain(value: Any, seed: random.Random) -> Any:
    if isinstance(value, dict):
        picked = {}
        for key, values in value.items():
            real = [one for one in values if one != ""] if isinstance(values, list) else [values]
            if real:
                picked[key] = seed.choice(real)
        return picked
    if isinstance(value, list):
        return [_plain(item, seed) if isinstance(item, dict) else item for item in value]
    return value


def _pick(arguments: dict[str, Any], seed: random.Random, kinds: type | tuple[type, ...]) -> str | None:
    names = [
        n for n, v in arguments.items() if isinstance(v, kinds) and not (kinds is not bool and isinstance(v, bool))
    ]
    return seed.choice(names) if names else None


def _drop(arguments: dict[str, Any], seed: random.Random) -> bool:
    if arguments:
        del arguments[seed.choice(list(arguments))]
        return True
    return False


def _add(arguments: dict[str, Any], seed: random.Random) -> bool:
    arguments["invented"] = seed.choice(["x", 1, True])
    return True


def _change(
    kinds: type | tuple[type, ...], new: Callable[[Any], Any]
) -> Callable[[dict[str, Any], random.Random], bool]:
    def change(arguments: dict[str, Any], seed: random.Random) -> bool:
        name = _pick(arguments, seed, kinds)
        if name is None:
            return False
        arguments[name] = new(arguments[name])
        return True

    return change


MUTATIONS: dict[str, Callable[[dict[str, Any], random.Random], bool]] = {
    "an argument dropped": _drop,
    "an argument added": _add,
    "another number": _change((int, float), lambda value: value + 7),
    "another text": _change(str, lambda _: "something else"),
    "a bool flipped": _change(bool, lambda value: not value),
    "a list shortened": _change(list, lambda value: value[:-1]),
    "a list reversed": _change(list, lambda value: value[::-1]),
    "number as text": _change((int, float), str),
    "text as number": _change(str, lambda _: 5),
    "text as list": _change(str, lambda value: [value]),
    "list as text": _change(list, str),
    "null": _change((str, int, float), lambda _: None),
    "text in capitals": _change(str, str.upper),
    "text without spaces": _change(str, lambda value: value.replace(" ", "")),
    "text with a comma": _change(str, lambda value: value.replace(" ", ", ", 1)),
    "integer as float": _change(int, float),
    "float as integer": _change(float, lambda value: int(value) if value.is_integer() else value),
}


def _shares(counts: dict[str, Counter[str]]) -> dict[str, Any]:
    total = sum(counts.values(), Counter())
    return {
        name: {"n": c["agree"] + c["differ"], "agreement": c["agree"] / (c["agree"] + c["differ"]), "right": c["right"]}
        for name, c in {**counts, "all": total}.items()
    }

"""Each hook taken away in turn, as if a version did not have the method: attributes may be lost, and nothing else.

The method is deleted from vLLM's class before ``instrument()``, so that it is not found there, and lives on in a
subclass that the engine is made of, so that vLLM itself still works.
"""

from __future__ import annotations

import importlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from compat.scenarios import FACTS, SCENARIOS, Scenario, matches
from compat.stubs import REAL
from compat.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compat.world import Classes

# Which scenarios go through a class; all go through the output processor.
_PASS = {"LLM": ("LLM:",), "LLMEngine": ("LLMEngine:", "LLM:"), "AsyncLLM": ("AsyncLLM:",)}


@contextmanager
def without(owner: Any, name: str) -> Iterator[Any]:
    """Take a method from a class, and yield a subclass that has it."""
    homes = {base: vars(base)[name] for base in owner.__mro__ if name in vars(base)}  # abstract bases have it too
    for home in homes:
        delattr(home, name)
    try:
        yield type(owner.__name__, (owner,), {name: next(iter(homes.values()))})
    finally:
        for home, original in homes.items():
            setattr(home, name, original)


def taken_away(
    classes: Classes, matched: dict[str, bool], observe: Callable[[Scenario, World], Any], whole: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name of each hook that this version has, with what happened without it.

    Args:
        classes: the version's real classes.
        matched: which hooks it has.
        observe: runs a scenario instrumented.
        whole: what was seen of each scenario with all hooks.
    """
    from traceai_vllm.engine import patches

    for patch in patches.PATCHES:
        name = f"{patch.module}.{patch.owner}.{patch.name}"
        if patch.module not in REAL or not matched[name] or patch.name == "__init__":  # every class has that one
            continue
        owner = getattr(importlib.import_module(patch.module), patch.owner)
        with without(owner, patch.name) as kind:
            yield (
                f"{patch.owner}.{patch.name}",
                _outcome(patch, World(classes, True, {patch.owner: kind}), observe, whole),
            )


def _outcome(
    patch: Any, world: World, observe: Callable[[Scenario, World], Any], whole: dict[str, Any]
) -> dict[str, Any]:
    problems: list[str] = []
    lost: set[str] = set()
    warned = patch.required or bool(patch.lost)
    for scenario in SCENARIOS:
        if (
            scenario.warning
            or not scenario.applies(world.classes)
            or not scenario.name.startswith(_PASS.get(patch.owner, ("",)))
        ):
            continue
        bare, seen = scenario.run(world), observe(scenario, world)
        naming = [text for text in seen.warnings if f"{patch.owner}.{patch.name}" in text]
        if bare != seen.answer:
            problems.append(f"{scenario.name}: the user got {seen.answer!r} with us and {bare!r} without")
        if seen.errors:
            problems.append(f"{scenario.name}: the guard swallowed {seen.errors}")
        if len(naming) != int(warned) or len(seen.warnings) != len(naming):
            problems.append(f"{scenario.name}: warnings {seen.warnings}")
        lost |= {f"the span `{name}` round the batch" for name in set(whole[scenario.name].others) - set(seen.others)}
        if len(seen.attributes) == len(whole[scenario.name].attributes):
            lost |= keys(whole[scenario.name]) - keys(seen)
        expected = scenario.expected if whole[scenario.name].spans else []
        losses, wrong = difference(expected, seen.spans)
        lost |= losses
        if wrong and _known(patch, scenario):
            lost.add(
                "that a stop string won where the length limit was reached in the same step (the span says `length`)"
            )
        else:
            problems += [f"{scenario.name}: {text}" for text in wrong]
    return {"problems": problems, "lost": sorted(lost), "warned": warned}


def keys(seen: Any) -> set[str]:
    """Return the names of all attributes of an instrumented run's spans."""
    return {f"`{key}`" for found in seen.attributes for key in found}


def _known(patch: Any, scenario: Scenario) -> bool:
    # Only `_update_stats_from_finished` is told that a stop string won over the limit in the same step.
    return patch.name == "_update_stats_from_finished" and scenario.name.endswith("stop string at the limit")


def difference(expected: list[dict[str, Any]], spans: list[dict[str, Any]]) -> tuple[set[str], list[str]]:
    """Return what is missing from spans, and what they say that is not so.

    >>> difference([{"error": None, "output": 4}], [{"error": None, "output": None}])
    ({'`gen_ai.usage.output_tokens`'}, [])
    """
    lost: set[str] = set()
    wrong: list[str] = []
    left = list(spans)
    for facts in expected:
        if not left:
            lost.add("the request")
            continue
        best = min(left, key=lambda found: sum(not matches(value, found[fact]) for fact, value in facts.items()))
        left.remove(best)
        missing, false = _compared(facts, best)
        lost |= missing
        wrong += false
    wrong += [f"one span too many: {found}" for found in left]
    return lost, wrong


def _compared(expected: dict[str, Any], found: dict[str, Any]) -> tuple[set[str], list[str]]:
    if found["error"] == "abandoned":
        return {"how it ended (the span says `abandoned`)"}, []
    missing: set[str] = set()
    false: list[str] = []
    if expected["error"] not in (None, any, found["error"]) and found["error"] is not None:
        return {"why it failed (the span has another `error.type`)"}, []
    for fact, value in expected.items():
        if matches(value, found[fact]):
            continue
        if found[fact] is None:
            missing.add(f"`{FACTS[fact]}`")
        elif fact == "operation" and found[fact] == "text_completion":
            missing.add("the operation (the span says `text_completion`)")
        else:
            false.append(f"a span says {fact} {found[fact]!r}, which is {value!r}")
    return missing, false

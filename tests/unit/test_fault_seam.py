"""The list of functions that the fault harness spares is no longer than it must be."""

from __future__ import annotations

from types import FunctionType
from typing import Any

from tests.support.fault_seam import BUILDERS, CARRIERS, FINALIZERS, HOOKS, SEAM
from tests.support.faults import Target, own_functions
from traceai_vllm.engine import patches
from traceai_vllm.store import processor

# Names under which a function of the seam holds what is the user's.
THE_USERS = {"wrapped", "original", "update", "coroutine", "generator", "app", "receive", "send"}


def by_name() -> dict[str, Target]:
    assert processor  # the walk sees what is imported
    return {target.name: target for target in own_functions().values()}


def name_of(function: FunctionType) -> str:
    return own_functions()[function.__code__].name


def test_every_name_on_the_list_exists() -> None:
    """A function that is renamed or removed is also taken off the list."""
    assert set(by_name()) >= SEAM | FINALIZERS


def test_the_hooks_on_the_list_are_those_of_the_patches() -> None:
    """A function is spared as a hook only if it takes the place of one of vLLM's."""

    def hook_of(patch: patches.Patch) -> Any:
        replacement = patch.build(lambda: None)
        return getattr(replacement, "_self_wrapper", replacement)

    assert {name_of(hook_of(patch)) for patch in patches.PATCHES} == HOOKS
    assert {name_of(patch.build) for patch in patches.PATCHES} == BUILDERS


def test_what_is_spared_holds_the_users_call() -> None:
    """A hook, or what it hands on to, has vLLM's own function or coroutine in its hands."""
    functions = by_name()
    for name in HOOKS | CARRIERS:
        code = functions[name].code
        assert THE_USERS & {*code.co_varnames, *code.co_freevars, *code.co_names}, name

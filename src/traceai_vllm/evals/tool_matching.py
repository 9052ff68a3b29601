"""Compare tool calls with those that were wanted, in any order, and say what is wrong with each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.errors import UnusableInput
from traceai_vllm.evals.tool_calls import ToolCall, call_from, plain, read_tool_calls
from traceai_vllm.evals.tool_values import may_be_left_out, same_value

if TYPE_CHECKING:
    from traceai_vllm.evals.tool_definitions import Tool

_SHOWN = 80
_MESSAGE = frozenset({"role", "tool_calls", "choices", "message"})
_TYPES = {
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "object": Mapping,
    "array": (list, tuple),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """A call that is right: for each argument the accepted values, among them ``""`` where it may be left out."""

    name: str
    accepted: Mapping[str, Sequence[Any]]


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with a call: a label, and a clause that names the tool and argument."""

    label: str
    why: str


def wanted_calls(expected: Any) -> list[Wanted]:
    """Return the calls that are right.

    Args:
        expected: calls in any form of :func:`read_tool_calls` but text, with the exact values, or a message that makes
            them; or BFCL's ``{tool: {argument: [accepted values]}}``.

    Raises:
        UnusableInput: it is neither.
    """
    expected = plain(expected)
    if isinstance(expected, Mapping) and _MESSAGE & expected.keys():
        return [_exactly(call, expected) for call in read_tool_calls(expected)]
    items = [expected] if isinstance(expected, Mapping) else expected
    if not isinstance(items, Sequence) or isinstance(items, str):
        raise UnusableInput("expected tool calls are a list of calls, or an empty list where none is due")
    return [_wanted(plain(item)) for item in items]


def exactly(call: ToolCall) -> Wanted:
    """Return the call itself as the one that is wanted."""
    return Wanted(call.name, {name: [_exact(value)] for name, value in call.arguments.items()})


def match(wanted: Sequence[Wanted], calls: Sequence[ToolCall], tools: Mapping[str, Tool]) -> tuple[int, list[Fault]]:
    """Return how many wanted calls were made, in whatever order, and what is wrong with the others."""
    faults = [[fault_of(call, want, tools) for call in calls] for want in wanted]
    taken: dict[int, int] = {}
    for index in range(len(wanted)):
        _assign(index, faults, taken, set())
    left = [number for number in range(len(calls)) if number not in taken]
    open_wants = [index for index in range(len(wanted)) if index not in taken.values()]
    return len(taken), list(_explained(open_wants, left, faults, wanted, calls))


def fault_of(call: ToolCall, want: Wanted, tools: Mapping[str, Tool]) -> Fault | None:
    """Return the first thing that is wrong with a call, or None if it is the wanted one."""
    if call.problem:
        return Fault("unreadable_call", f"{call.name or 'the call'}: {call.problem}")
    if call.name != want.name and call.name != want.name.replace(".", "_"):  # OpenAI's names have no dots
        label = "unknown_tool" if tools and call.name not in tools else "wrong_tool"
        return Fault(label, f"{call.name or 'a nameless tool'} was called where {want.name} is due")
    tool = tools.get(want.name) or tools.get(call.name)
    for name in tool.required if tool else ():
        if name not in call.arguments:
            return Fault("missing_argument", f"{call.name}: the argument {name} is missing")
    for name, value in call.arguments.items():
        found = _argument_fault(call, name, value, want, tool)
        if found:
            return found
    for name, values in want.accepted.items():
        if name not in call.arguments and not may_be_left_out(values):
            if tool and any(tool.is_default(name, value) for value in values):
                continue
            return Fault("missing_argument", f"{call.name}: the argument {name} is missing")
    return None


def typed(call: ToolCall, tool: Tool | None) -> Mapping[str, Any]:
    """Return the arguments with the types of the schema, where the model's form of writing had none."""
    if not call.untyped or tool is None:
        return call.arguments
    return {name: _typed(value, tool.properties.get(name)) for name, value in call.arguments.items()}


def shown(value: Any) -> str:
    """Return a value as JSON, cut to what an explanation can hold."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


def _argument_fault(call: ToolCall, name: str, value: Any, want: Wanted, tool: Tool | None) -> Fault | None:
    if (tool and tool.properties and name not in tool.properties and not tool.is_open) or name not in want.accepted:
        if tool and tool.is_default(name, value):
            return None
        return Fault("unexpected_argument", f"{call.name}: the argument {name} is not expected")
    kind = tool.kind(name) if tool else None
    if call.untyped and tool:
        value = _typed(value, tool.properties.get(name))
    accepted = want.accepted[name]
    if any(same_value(value, one, integer=kind == "integer") for one in accepted):
        return None
    declared = tool.properties.get(name, {}).get("type") if tool else None
    label = "wrong_value" if _has_type(value, declared, accepted) else "wrong_type"
    likely = " or ".join(shown(_said(one)) for one in accepted if one != "")
    return Fault(label, f"{call.name}: the argument {name} is {shown(value)}, expected {likely}")


def _has_type(value: Any, declared: Any, accepted: Sequence[Any]) -> bool:
    if isinstance(declared, str) and declared in _TYPES:
        return isinstance(value, _TYPES[declared]) and (declared == "boolean" or not isinstance(value, bool))  # type: ignore[arg-type]
    return any(type(value) is type(one) for one in accepted)


def _wanted(item: Any) -> Wanted:
    if isinstance(item, Mapping) and len(item) == 1:
        ((name, arguments),) = item.items()
        if isinstance(arguments, Mapping) and all(isinstance(values, list) for values in arguments.values()):
            return Wanted(name, arguments)
    return _exactly(call_from(item) if isinstance(item, Mapping) else None, item)


def _exactly(call: ToolCall | None, source: Any) -> Wanted:
    if call is None or call.problem:
        raise UnusableInput(f"an expected tool call cannot be read: {shown(source)}")
    return exactly(call)


def _exact(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: [_exact(item)] for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_exact(item) for item in value]
    return value


def _said(accepted: Any) -> Any:
    """An accepted value as a call would have it: of a mapping's lists of accepted values the only one."""
    if isinstance(accepted, Mapping):
        only = {key: v[0] if isinstance(v, list) and len(v) == 1 else v for key, v in accepted.items()}
        return {key: _said(value) for key, value in only.items()}
    return [_said(item) for item in accepted] if isinstance(accepted, (list, tuple)) else accepted


def _assign(index: int, faults: list[list[Fault | None]], taken: dict[int, int], tried: set[int]) -> bool:
    """Give a wanted call one of the calls that match it, moving others if need be (Kuhn's algorithm)."""
    for number, fault in enumerate(faults[index]):
        if fault is None and number not in tried:
            tried.add(number)
            if number not in taken or _assign(taken[number], faults, taken, tried):
                taken[number] = index
                return True
    return False


def _explained(
    open_wants: list[int],
    left: list[int],
    faults: list[list[Fault | None]],
    wanted: Sequence[Wanted],
    calls: Sequence[ToolCall],
) -> list[Fault]:
    """Pair what was wanted with what was done instead, the same tool first."""
    found = []
    for index in open_wants:
        nearest = min(left, key=lambda number: calls[number].name != wanted[index].name, default=None)
        fault = None if nearest is None else faults[index][nearest]
        if nearest is not None:
            left.remove(nearest)
        found.append(fault or Fault("missing_call", f"{wanted[index].name} was not called"))
    label = "extra_call" if wanted else "needless_call"
    found += [Fault(label, f"{calls[number].name or 'a tool'} was called and should not have been") for number in left]
    return found


def _typed(value: Any, schema: Any) -> Any:
    if not isinstance(value, str) or _may_be_text(value, schema):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return {"True": True, "False": False, "None": None}.get(value, value)


def _may_be_text(value: str, schema: Any) -> bool:
    """Whether a schema takes a text as it stands: `90210` for a string, and for a string or null too."""
    if not isinstance(schema, Mapping):
        return False
    kind, choices = schema.get("type"), schema.get("enum")
    if kind == "string" or (isinstance(choices, list) and value in choices):
        return True
    if value in {"null", "None"}:
        return False
    branches = [branch for key in ("anyOf", "oneOf") if isinstance(found := schema.get(key), list) for branch in found]
    return (isinstance(kind, list) and "string" in kind) or any(_may_be_text(value, branch) for branch in branches)

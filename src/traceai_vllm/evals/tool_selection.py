"""ToolSelectionAccuracy: the right tools with the right arguments, and none when none is due."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from traceai_vllm.evals.base import BaseEvaluator
from traceai_vllm.evals.errors import MissingInput
from traceai_vllm.evals.result import EvaluationResult
from traceai_vllm.evals.tool_calls import ToolCall, plain, read_tool_calls
from traceai_vllm.evals.tool_definitions import Tool, read_tools
from traceai_vllm.evals.tool_matching import Fault, Wanted, exactly, match, typed, wanted_calls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.json_schema import SchemaChecker, Violation

_SHOWN = 5
_NO_CALL = "no tool was called, and none is due"
_ANY_CALL = frozenset({"required", "any"})  # OpenAI's word and Anthropic's
_WORDS = _ANY_CALL | {"none"}
_LABELS = {"required": "missing_argument", "additionalProperties": "unexpected_argument", "type": "wrong_type"}


class ToolSelectionAccuracy(BaseEvaluator):
    """Score the share of tool calls that are right; the order of parallel calls does not matter.

    Compared with the expected calls if they are given, else with the baseline's calls (agreement), else each call with
    the definition of its tool (validity), which cannot judge an answer without calls.

    Labels: ``correct``; ``no_call`` (none made, and none due); ``wrong_tool``, ``unknown_tool``,
    ``missing_argument``, ``unexpected_argument``, ``wrong_type``, ``wrong_value``, ``missing_call``, ``extra_call``,
    ``needless_call`` (none was due), ``unreadable_call``. With several faults, that of the first call.

    Args:
        threshold: the least score that passes; by default 1, every call right.
    """

    name: ClassVar[str] = "ToolSelectionAccuracy"
    default_threshold: ClassVar[float] = 1.0
    reads_tool_calls: ClassVar[bool] = True

    def __init__(self, *, threshold: float | None = None) -> None:
        super().__init__(threshold=threshold)
        self._checker: SchemaChecker | None = None

    def evaluate(
        self,
        *,
        response: Any,
        tools: Any = None,
        expected: Any = None,
        baseline: Any = None,
        tool_choice: Any = None,
    ) -> EvaluationResult:
        """Check the tool calls of one answer.

        Args:
            response: the answer: calls, a message or completion (mappings or objects), or the model's raw text.
            tools: the request's tool definitions, as OpenAI's or Anthropic's API have them, or bare functions.
            expected: the calls that are right, with exact values or as BFCL's lists of accepted values; an empty list
                where no call is due.
            baseline: the baseline's answer, in any form of ``response``.
            tool_choice: the request's, where there are only definitions: whether a call was due, or of which tool.

        Raises:
            MissingInput: neither expected calls nor a baseline's answer nor tools are given; or only tools, no call was
                made, and nothing says whether one was due.
            SchemaError: a tool's definition is no JSON schema.
        """
        if expected is None and baseline is None and tools is None:
            raise MissingInput(f"{self.name} needs expected calls, a baseline's answer, or the tool definitions")
        calls = read_tool_calls(response)
        known = read_tools(tools)
        if expected is not None:
            return self._compared(wanted_calls(expected), calls, known, "expected")
        if baseline is not None:
            reference = [exactly(_retyped(call, known)) for call in read_tool_calls(baseline)]
            return self._compared(reference, calls, known, "baseline")
        return self._validated(calls, known, _choice(tool_choice))

    def _compared(
        self, wanted: Sequence[Wanted], calls: Sequence[ToolCall], tools: Mapping[str, Tool], against: str
    ) -> EvaluationResult:
        right, faults = match(wanted, calls, tools)
        names = Counter(want.name for want in wanted) & Counter(call.name for call in calls)
        counts = {"expected": len(wanted), "calls": len(calls), "right": right, "right_tool": names.total()}
        return self._result(right, max(len(wanted), len(calls)), faults, counts, against)

    def _validated(self, calls: Sequence[ToolCall], tools: Mapping[str, Tool], choice: str | None) -> EvaluationResult:
        if not calls and choice is None:
            raise MissingInput("no tool was called, and the definitions alone do not say whether a call was due")
        faults = [self._invalid(call, tools) or _unasked(call, choice) for call in calls]
        found = [fault for fault in faults if fault]
        right = len(calls) - len(found)
        missing = not calls and choice != "none"
        if missing:
            found = [Fault("missing_call", "no tool was called, although the request asks for a call")]
        counts = {"calls": len(calls), "right": right}
        return self._result(right, len(calls) or int(missing), found, counts, "tools")

    def _invalid(self, call: ToolCall, tools: Mapping[str, Tool]) -> Fault | None:
        if call.problem:
            return Fault("unreadable_call", f"{call.name or 'the call'}: {call.problem}")
        tool = tools.get(call.name)
        if tool is None:
            return Fault("unknown_tool", f"there is no tool {call.name!r}")
        schema = dict(tool.schema)
        if not tool.is_open:
            schema["additionalProperties"] = False
        first = next(iter(self._schema_checker.violations(dict(typed(call, tool)), schema)), None)
        return None if first is None else _fault(call, first)

    @property
    def _schema_checker(self) -> SchemaChecker:
        if self._checker is None:  # validity alone needs jsonschema-rs
            from traceai_vllm.evals.json_schema import SchemaChecker

            self._checker = SchemaChecker()
        return self._checker

    def _result(
        self, right: int, total: int, faults: Sequence[Fault], counts: Mapping[str, int], against: str
    ) -> EvaluationResult:
        score = right / total if total else 1.0
        if faults:
            said = "; ".join(fault.why for fault in faults[:_SHOWN])
            label = faults[0].label
        else:
            said = f"{total} of {total} tool calls are right" if total else _NO_CALL
            label = "correct" if total else "no_call"
        details = {"against": against, "faults": [{"label": fault.label, "why": fault.why} for fault in faults]}
        return EvaluationResult(self.name, score, label, self.threshold, said, counts, details=details)


def _choice(given: Any) -> str | None:
    """Return what a request's choice of tools asks for: `none`, `required`, the name of a tool; None for nothing."""
    given = plain(given)
    if isinstance(given, Mapping):
        tool = plain(given.get("function")) or given
        name = tool.get("name") if isinstance(tool, Mapping) else None
        if isinstance(name, str):
            return name
        some = plain(given.get("allowed_tools")) or given  # OpenAI's choice among some tools
        given = some.get("mode") if given.get("type") == "allowed_tools" else given.get("type")
        if given not in _WORDS:  # a tool of the server's own
            return None
    if not isinstance(given, str) or given == "auto":
        return None
    return "required" if given in _ANY_CALL else given


def _unasked(call: ToolCall, choice: str | None) -> Fault | None:
    if choice == "none":
        return Fault("needless_call", f"{call.name} is called, although the request allows no call")
    if choice not in (None, "required", call.name):
        return Fault("wrong_tool", f"{call.name} is called, and the request asks for {choice}")
    return None


def _fault(call: ToolCall, violation: Violation) -> Fault:
    label = _LABELS.get(violation.keyword, "wrong_value")
    return Fault(label, f"{call.name}: {violation.path}: {violation.message}")


def _retyped(call: ToolCall, tools: Mapping[str, Tool]) -> ToolCall:
    return ToolCall(call.name, typed(call, tools.get(call.name)), call.problem)

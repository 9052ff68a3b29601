"""JSONValidation: is the answer JSON, whole, and what its schema asks for?"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import islice
from typing import Any, ClassVar

from traceai_vllm.evals.base import BaseEvaluator
from traceai_vllm.evals.errors import MissingInput
from traceai_vllm.evals.json_schema import SchemaChecker, Violation, json_path
from traceai_vllm.evals.json_text import MAX_CHARACTERS, MAX_DEPTH, read_json
from traceai_vllm.evals.result import EvaluationResult

_FENCE = re.compile(r"\s*```(?:json)?[ \t]*\r?\n(?P<body>.*?)(?:\r?\n?```\s*|\Z)", re.S | re.I)
_SHOWN = 5
_ENOUGH = 100
# In the words of chat completions, Anthropic's messages and the Responses API.
_AT_LIMIT = frozenset({"length", "max_tokens", "max_output_tokens"})
_JSON = frozenset({"json", "guided_json"})  # of vLLM's structured outputs
# Of a request to vLLM, of one to the Responses API, and of one for a chat completion.
_HOLDERS = frozenset({"structured_outputs", "text", "format", "response_format"})
# What may stand beside the schema there, and says nothing of the answer's form.
_OPTIONS = frozenset(
    """disable_any_whitespace disable_fallback disable_additional_properties whitespace_pattern
    guided_whitespace_pattern guided_decoding_backend verbosity _backend _backend_was_auto""".split()  # noqa: SIM905
)
_OF_KIND = frozenset({"type", "anyOf", "oneOf"})  # an optional integer is any of two


class JSONValidation(BaseEvaluator):
    """Score 1 if the answer is a JSON document that meets the schema, else 0.

    Labels: ``valid``; ``schema_invalid`` (JSON, but not what the schema asks for); ``truncated`` (right so far, but it
    stops short, and the model did not stop by itself); ``malformed`` (not JSON); ``duplicate_name`` (an object gives a
    name two different values, of which readers keep one: RFC 8259, section 4); ``refused`` (too large or too deep to
    look at).

    Args:
        schema: the schema to use where a call gives none: a mapping, a boolean, its text, or a pydantic model. Draft 4,
            6, 7, 2019-09 or 2020-12, as ``$schema`` says; 2020-12 where it does not. OpenAI's ``response_format`` and
            vLLM's ``structured_outputs`` are understood too.
        resources: schemas that ``$ref`` may name, by URI. Nothing is ever fetched.
        formats: whether ``format`` is checked; by default as the schema's draft has it.
        strict_integers: call ``12.0`` wrong where an integer is asked for. JSON Schema allows it, typed clients do not.
        unwrap_fences: take the document out of a Markdown fence; by default a fence is malformed, as a client sees it.
        max_characters: a longer answer is refused.
        max_depth: a more deeply nested answer is refused.
        threshold: the least score that passes.

    Raises:
        MissingExtra: jsonschema-rs is not installed.
    """

    name: ClassVar[str] = "JSONValidation"
    default_threshold: ClassVar[float] = 1.0

    def __init__(
        self,
        schema: Any = None,
        *,
        resources: Mapping[str, Any] | None = None,
        formats: bool | None = None,
        strict_integers: bool = False,
        unwrap_fences: bool = False,
        max_characters: int = MAX_CHARACTERS,
        max_depth: int = MAX_DEPTH,
        threshold: float | None = None,
    ) -> None:
        super().__init__(threshold=threshold)
        self._schema = schema
        # Without a schema of its own, only answers to requests for JSON are its business.
        self.needs = ("schema",) if schema is None else ()
        self._strict_integers = strict_integers
        self._unwrap_fences = unwrap_fences
        self._limits = {"max_characters": max_characters, "max_depth": max_depth}
        self._checker = SchemaChecker(resources, formats=formats)

    def evaluate(self, *, response: Any, schema: Any = None, finish_reason: str | None = None) -> EvaluationResult:
        """Check one answer.

        Args:
            response: the text of the answer; or a JSON value or pydantic object that has been parsed already.
            schema: the schema to meet; the constructor's where this is None; only well-formedness where both are.
            finish_reason: why generation ended; ``length`` (``max_tokens``, ``max_output_tokens``) or None lets a text
                that stops short count as truncated.

        Raises:
            MissingInput: there is no answer.
            SchemaError: the schema cannot be used; this says nothing about the answer.
            UnusableInput: the answer is neither text nor a JSON value, or a pattern of the schema takes too long.
        """
        if response is None:
            raise MissingInput(f"{self.name} needs the text of an answer")
        wanted = schema_of(self._schema if schema is None else schema)
        if not isinstance(response, str):
            return self._checked(_dumped(response), wanted)
        text = self._body(response)
        read = read_json(text, **self._limits)
        if read.repeated:
            paths = [json_path([*keys]) for keys in read.repeated]
            more = f", and {len(paths) - _SHOWN} more" if len(paths) > _SHOWN else ""
            said = f"two values for one name, of which the last is kept: {', '.join(paths[:_SHOWN])}{more}"
            return self._result(0.0, "duplicate_name", said, {"errors": len(paths)}, paths=paths)
        if read.problem is None:
            return self._checked(read.value, wanted)
        label, why = self._named(read.problem, text, finish_reason)
        return self._result(0.0, label, f"{why}: {read.message}", {"errors": 1}, position=read.position)

    def _body(self, text: str) -> str:
        fence = _FENCE.fullmatch(text) if self._unwrap_fences else None
        return fence["body"] if fence else text

    def _named(self, problem: str, text: str, finish_reason: str | None) -> tuple[str, str]:
        if problem == "refused":
            return problem, "the answer was not looked at"
        at_limit = finish_reason is not None and finish_reason.lower() in _AT_LIMIT
        if at_limit and not text.strip():
            return "truncated", "generation ended at the token limit before the JSON began"
        if problem == "truncated" and (at_limit or finish_reason is None):
            end = " at the token limit" if at_limit else ""
            return "truncated", f"the JSON stops short{end}"
        if problem == "truncated":
            return "malformed", f"the JSON stops short, although generation ended with {finish_reason!r}"
        fenced = "JSON in a Markdown fence is not JSON" if _FENCE.fullmatch(text) else "not JSON"
        return "malformed", fenced

    def _checked(self, value: Any, schema: Any) -> EvaluationResult:
        found: list[Violation] = []
        if schema is not None:
            found = list(islice(self._checker.violations(value, schema), _ENOUGH))
            if self._strict_integers:
                found += self._rounded(value, schema, found)
        if not found:
            said = "valid JSON" if schema is None else "valid JSON that meets its schema"
            return self._result(1.0, "valid", said, {"errors": 0})
        named = "; ".join(f"{v.path}: {v.message}" for v in found[:_SHOWN])
        more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        details = [{"path": v.path, "keyword": v.keyword, "message": v.message} for v in found]
        return self._result(0.0, "schema_invalid", named + more, {"errors": len(found)}, violations=details)

    def _rounded(self, value: Any, schema: Any, known: list[Violation]) -> list[Violation]:
        """What breaks the schema once 12.0 is no integer: shown to the checker as a little more, and a little less.

        Both, so that a bound which 12.0 just keeps does not count.
        """
        more, less = (self._broken_by_kind(_moved(value, towards), schema) for towards in (math.inf, -math.inf))
        paths = {violation.path for violation in known}
        return [
            Violation(path, keyword, "an integer is asked for, and this is written with a fraction")
            for path, keyword in more.items()
            if path in less and path not in paths
        ]

    def _broken_by_kind(self, value: Any, schema: Any) -> dict[str, str]:
        violations = islice(self._checker.violations(value, schema), _ENOUGH)
        return {violation.path: violation.keyword for violation in violations if violation.keyword in _OF_KIND}

    def _result(
        self, score: float, label: str, explanation: str, counts: dict[str, int], **details: Any
    ) -> EvaluationResult:
        return EvaluationResult(self.name, score, label, self.threshold, explanation, counts, details=details)


def schema_of(given: Any) -> Any:
    """Return the schema in OpenAI's ``response_format``, in vLLM's structured output or of a model, or what was given.

    ``{"type": "json_object"}``, vLLM's ``{"json_object": True}``, asks for any object.
    """
    if not isinstance(given, Mapping):
        return given.model_json_schema() if hasattr(given, "model_json_schema") else given
    said = {name: value for name, value in given.items() if value is not None and name not in _OPTIONS}
    if len(said) == 1:
        ((holder, inner),) = said.items()
        if holder in _JSON or (holder in _HOLDERS and isinstance(inner, Mapping)):
            return schema_of(inner)
        if holder == "json_object" and inner is True:
            return {"type": "object"}
    if given.get("type") == "json_object":
        return {"type": "object"}
    inner = given.get("json_schema")
    if given.get("type") == "json_schema":
        inner = given if inner is None else inner
        return inner.get("schema", True) if isinstance(inner, Mapping) else True
    return given


def _dumped(value: Any) -> Any:
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def _moved(value: Any, towards: float) -> Any:
    if isinstance(value, float):
        return math.nextafter(value, towards) if value.is_integer() else value
    if isinstance(value, list):
        return [_moved(item, towards) for item in value]
    if isinstance(value, dict):
        return {key: _moved(item, towards) for key, item in value.items()}
    return value

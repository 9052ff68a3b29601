"""Check values against JSON schemas, by jsonschema-rs: compiled once, never over the network."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.errors import UnusableInput, optional
from traceai_vllm.evals.json_steps import MAX_STEPS, Steps
from traceai_vllm.evals.json_text import MAX_CHARACTERS, read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_CACHED = 256
# Kinds of errors that say something of the search for a pattern, and nothing of the value.
_GIVEN_UP = frozenset({"BacktrackLimitExceeded", "RegexEngineFailure"})


class SchemaError(UnusableInput):
    """The schema itself cannot be used: not JSON, not a schema, too large, or it refers to what is not given."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One way in which a value breaks its schema.

    Attributes:
        path: where in the value, as a JSON path, e.g. ``$.items[0].price``.
        keyword: the keyword of the schema that it breaks, e.g. ``type``.
        message: what is wrong there.
    """

    path: str
    keyword: str
    message: str


class SchemaChecker:
    """Checks values against schemas, and keeps the last compiled ones.

    Args:
        resources: schemas that ``$ref`` may name, by URI. Nothing else is ever fetched.
        formats: whether ``format`` is checked; by default as the schema's draft has it.
    """

    def __init__(self, resources: Mapping[str, Any] | None = None, *, formats: bool | None = None) -> None:
        self._engine = optional("jsonschema_rs", "checking JSON schemas")
        self._resources = dict(resources or {})
        self._formats = formats
        self._compiled: OrderedDict[str, tuple[Any, Steps]] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        # Evaluators are sent to other processes, where the compiled schemas are made anew.
        return partial(SchemaChecker, formats=self._formats), (self._resources,)

    def violations(self, value: Any, schema: Any) -> Iterator[Violation]:
        """Yield each way in which the value breaks the schema.

        Args:
            value: a JSON value, as Python has it.
            schema: a mapping, ``True``, ``False``, or the text of a schema. Draft 4, 6, 7, 2019-09 or 2020-12, as its
                ``$schema`` says; 2020-12 where it does not.

        Raises:
            SchemaError: the schema cannot be used, or takes too many steps on this value.
            UnusableInput: the value is no JSON value, or a pattern of the schema takes too long.
        """
        validator, steps = self._validator(schema)
        if steps.too_many(value):
            raise SchemaError(f"the schema takes more than {MAX_STEPS:,} steps on this answer, and was not tried")
        try:
            for error in validator.iter_errors(value):
                if type(error.kind).__name__ in _GIVEN_UP:
                    raise UnusableInput(f"a pattern of the schema cannot be matched in time: {error.message}")
                keyword = str(error.schema_path[-1]) if error.schema_path else "false"
                yield Violation(json_path(error.instance_path), keyword, error.message)
        except UnicodeEncodeError as error:  # half a surrogate pair, which no UTF-8 text can hold
            yield Violation("$", "type", f"a string is not Unicode text: {error.reason}")
        except ValueError as error:
            raise UnusableInput(f"what is to be checked is no JSON value: {error}") from error

    def is_valid(self, value: Any, schema: Any) -> bool:
        """Return whether the value meets the schema; arguments and errors as :meth:`violations`."""
        return next(self.violations(value, schema), None) is None

    def _validator(self, schema: Any) -> tuple[Any, Steps]:
        text = _text_of(schema)
        with self._lock:
            found = self._compiled.get(text)
            if found is None:
                found = self._compile(text)
                self._compiled[text] = found
                if len(self._compiled) > _CACHED:
                    self._compiled.popitem(last=False)
            else:
                self._compiled.move_to_end(text)
        return found

    def _compile(self, text: str) -> tuple[Any, Steps]:
        read = read_json(text)
        if read.problem:
            raise SchemaError(f"the schema cannot be used: {read.message}")
        if not isinstance(read.value, (dict, bool)):
            raise SchemaError(f"a schema is an object or a boolean, not {type(read.value).__name__}")
        try:
            validator = self._engine.validator_for(read.value, retriever=self._retrieve, validate_formats=self._formats)
        except (self._engine.ValidationError, self._engine.ReferencingError, ValueError) as error:
            reason = getattr(error, "message", None) or str(error)
            raise SchemaError(f"the schema cannot be used: {reason}") from error
        return validator, Steps(read.value, self._resources, text.count("{") + text.count("true") + text.count("false"))

    def _retrieve(self, uri: str) -> Any:
        try:
            return self._resources[uri]
        except KeyError:
            raise LookupError(f"{uri} is not among the resources given, and nothing is fetched") from None


def json_path(keys: list[str | int]) -> str:
    """Return the path in the way that people write it, e.g. ``$.items[0].price``."""
    return "$" + "".join(
        f"[{key}]" if isinstance(key, int) else f".{key}" if key.isidentifier() else f"[{json.dumps(key)}]"
        for key in keys
    )


def _text_of(schema: Any) -> str:
    if isinstance(schema, str):
        return schema
    try:
        text = json.dumps(schema, sort_keys=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise SchemaError(f"the schema cannot be used: {error}") from error
    if len(text) > MAX_CHARACTERS:
        raise SchemaError(f"the schema has {len(text):,} characters, more than the limit of {MAX_CHARACTERS:,}")
    return text

"""Tool definitions as requests carry them, brought to one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traceai_vllm.evals.errors import UnusableInput
from traceai_vllm.evals.json_text import read_json
from traceai_vllm.evals.tool_calls import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

# What some collections of tools, BFCL's among them, write for JSON Schema's types.
_TYPES = {
    "dict": "object",
    "float": "number",
    "double": "number",
    "tuple": "array",
    "list": "array",
    "int": "integer",
    "long": "integer",
    "str": "string",
    "bool": "boolean",
    "any": None,
}

_COMPOSED = ("$ref", "allOf", "anyOf", "oneOf", "patternProperties")


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool: its name and the JSON schema of its arguments."""

    name: str
    schema: Mapping[str, Any]

    @property
    def properties(self) -> Mapping[str, Any]:
        """The arguments' schemas by name."""
        found = self.schema.get("properties")
        return found if isinstance(found, Mapping) else {}

    @property
    def required(self) -> Sequence[str]:
        """The names of the arguments that must be given."""
        found = self.schema.get("required")
        return found if isinstance(found, Sequence) and not isinstance(found, str) else ()

    @property
    def is_open(self) -> bool:
        """Whether arguments that the schema does not list are allowed: only where it says so itself."""
        if any(key in self.schema for key in _COMPOSED):
            return True
        return self.schema.get("additionalProperties", False) is not False

    def kind(self, argument: str) -> Any:
        """The type that the schema asks for, e.g. ``integer``, for an array that of its items; None if it says none."""
        found = self.properties.get(argument)
        if isinstance(found, Mapping) and found.get("type") == "array" and isinstance(found.get("items"), Mapping):
            found = found["items"]
        return found.get("type") if isinstance(found, Mapping) else None

    def is_default(self, argument: str, value: Any) -> bool:
        """Whether the value says no more than leaving the argument out: its default; null where the schema takes null.

        With OpenAI's ``strict``, all arguments are required, and null is how one is left out.
        """
        found = self.properties.get(argument)
        if not isinstance(found, Mapping):
            return False
        return bool(found["default"] == value) if "default" in found else value is None and _takes_null(found)


def read_tools(tools: Any) -> dict[str, Tool]:
    """Return the tools by name.

    Args:
        tools: a sequence of definitions (or one, or their JSON), as mappings or objects: OpenAI's (chat or responses),
            Anthropic's, or bare functions with ``name`` and ``parameters``. What has no name, such as a server's own
            web search, is left out.

    Raises:
        UnusableInput: it is something else.
    """
    found = {}
    for given in _definitions(tools):
        definition = plain(given["function"]) if given.get("function") else given
        if isinstance(definition, Mapping) and isinstance(definition.get("name"), str):
            schema = plain(definition.get("parameters") or definition.get("input_schema")) or {}
            found[definition["name"]] = Tool(definition["name"], json_schema(schema) if schema else {})
    return found


def _takes_null(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    kind = schema.get("type")
    several = [each for key in ("anyOf", "oneOf") if isinstance(found := schema.get(key), list) for each in found]
    return kind == "null" or (isinstance(kind, list) and "null" in kind) or any(map(_takes_null, several))


def _definitions(tools: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(tools, str):
        tools = read_json(tools).value or [tools]
    given = plain(tools)
    alone = isinstance(given, Mapping)
    for item in [given] if alone else given or ():
        definition = plain(item)
        if not isinstance(definition, Mapping) or (alone and not {"name", "function"} & definition.keys()):
            raise UnusableInput(f"tools are a list of definitions with a name, and {definition!r:.60} is none")
        yield definition


def json_schema(schema: Any) -> Any:
    """Return the schema with JSON Schema's own names of types; whatever has them already stays as it is."""
    if isinstance(schema, list):
        return [json_schema(item) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    result = {
        key: value if key in {"enum", "const", "default"} else json_schema(value) for key, value in schema.items()
    }
    kind = result.get("type")
    if isinstance(kind, str) and kind.lower() in _TYPES:
        known = _TYPES[kind.lower()]
        if known is None:
            del result["type"]
        else:
            result["type"] = known
    return result

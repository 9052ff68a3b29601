"""How many steps a schema takes on a value, counted before they are taken: two references a level make 2^30 of 30.

The library that checks cannot be stopped once it has begun, in a thread least of all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: More are not taken: some seconds at the worst.
MAX_STEPS = 200_000

_HERE = ("not", "if", "then", "else")
_HERE_LISTS = ("allOf", "anyOf", "oneOf")
_HERE_MAPS = ("dependentSchemas", "dependencies")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_EACH_MEMBER = ("additionalProperties", "unevaluatedProperties")
_EACH_ITEM = ("items", "additionalItems", "unevaluatedItems", "contains")


class Steps:
    """Counts the schemas that are applied to a value and to what is in it.

    What a pattern or an unevaluated keyword would leave out is counted all the same; what cannot be found counts once.

    Args:
        schema: the schema.
        resources: those that it may refer to, by URI.
        size: how many schemas are in it, at most.
    """

    def __init__(self, schema: Any, resources: Mapping[str, Any], size: int) -> None:
        self._schema = schema
        self._size = size
        self._named: dict[str, list[Any]] = {}
        self._refers = False
        for uri, document in ((None, schema), *resources.items()):
            self._index(document)
            if uri is not None:
                self._named.setdefault(uri.rstrip("#"), []).append(document)

    def too_many(self, value: Any, limit: int = MAX_STEPS) -> bool:
        """Return whether checking the value takes more steps than the limit."""
        if not self._refers and self._size * _nodes(value, limit) <= limit:
            return False  # without references no schema meets a part of the value twice
        waiting: list[tuple[Any, Any, Any, frozenset[int]]] = [(self._schema, value, self._schema, frozenset())]
        steps = 0
        while waiting:
            schema, part, root, followed = waiting.pop()
            steps += 1
            if steps + len(waiting) > limit:
                return True
            if not isinstance(schema, dict):
                continue
            if "$id" in schema:
                root = schema
            for keyword in _REFERENCES:
                for target, its_root in self._targets(schema.get(keyword), root):
                    if id(target) not in followed:  # else it goes in a circle, which the library breaks too
                        waiting.append((target, part, its_root, followed | {id(target)}))
            waiting.extend((each, part, root, followed) for each in _here(schema))
            waiting.extend((each, inner, root, frozenset()) for each, inner in _inside(schema, part))
        return False

    def _index(self, document: Any) -> None:
        waiting = [document]
        while waiting:
            each = waiting.pop()
            if isinstance(each, list):
                waiting.extend(each)
            elif isinstance(each, dict):
                self._refers = self._refers or any(keyword in each for keyword in _REFERENCES)
                for keyword in ("$anchor", "$dynamicAnchor", "$id", "id"):
                    name = each.get(keyword)
                    if isinstance(name, str):
                        anchor = f"#{name}" if keyword.endswith("nchor") else name
                        self._named.setdefault(anchor if anchor.startswith("#") else anchor.rstrip("#"), []).append(
                            each
                        )
                waiting.extend(each.values())

    def _targets(self, reference: Any, root: Any) -> list[tuple[Any, Any]]:
        """Return what a reference may mean, each with the document that it is in."""
        if not isinstance(reference, str):
            return []
        uri, _, fragment = reference.partition("#")
        roots = [root] if not uri else self._documents(uri)
        if fragment and not fragment.startswith("/"):
            return [(each, root) for each in self._named.get(f"#{unquote(fragment)}", ())]
        found = ((_pointed(each, fragment), each) for each in (*roots, self._schema))
        return list({id(target): (target, its_root) for target, its_root in found if target is not None}.values())

    def _documents(self, uri: str) -> list[Any]:
        if uri in self._named:
            return self._named[uri]
        last = uri.rsplit("/", 1)[-1]  # relative to an identifier further out
        return [each for name, several in self._named.items() if name.rsplit("/", 1)[-1] == last for each in several]


def _here(schema: dict[str, Any]) -> Iterator[Any]:
    """Yield the schemas that are applied to the same value."""
    for keyword in _HERE:
        if keyword in schema:
            yield schema[keyword]
    for keyword in _HERE_LISTS:
        several = schema.get(keyword)
        if isinstance(several, list):
            yield from several
    for keyword in _HERE_MAPS:
        several = schema.get(keyword)
        if isinstance(several, dict):
            yield from several.values()


def _inside(schema: dict[str, Any], value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield the schemas that are applied to what is in the value, with what that is."""
    if isinstance(value, dict):
        properties = schema.get("properties")
        if isinstance(properties, dict):
            yield from ((each, value[name]) for name, each in properties.items() if name in value)
        patterns = schema.get("patternProperties")
        each_member = [schema[keyword] for keyword in _EACH_MEMBER if keyword in schema]
        each_member += patterns.values() if isinstance(patterns, dict) else ()
        yield from ((each, inner) for each in each_member for inner in value.values())
        if "propertyNames" in schema:
            yield from ((schema["propertyNames"], name) for name in value)
    elif isinstance(value, list):
        for keyword in _EACH_ITEM:
            each = schema.get(keyword)
            if isinstance(each, list):
                yield from zip(each, value, strict=False)
            elif each is not None:
                yield from ((each, inner) for inner in value)
        first = schema.get("prefixItems")
        if isinstance(first, list):
            yield from zip(first, value, strict=False)


def _pointed(document: Any, pointer: str) -> Any:
    """Return what a JSON pointer means in a document; None for nothing."""
    for written in unquote(pointer).split("/")[1:]:
        key = written.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict):
            document = document.get(key)
        elif isinstance(document, list) and key.isdecimal() and int(key) < len(document):
            document = document[int(key)]
        else:
            return None
    return document


def _nodes(value: Any, limit: int) -> int:
    """Return how many values are in a value, itself included; more than the limit are not counted on."""
    waiting, count = [value], 0
    while waiting and count <= limit:
        each = waiting.pop()
        count += 1
        if isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
    return count

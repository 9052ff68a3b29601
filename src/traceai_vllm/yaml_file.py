"""Reads YAML files into pydantic models. Every error says the line and what to write there."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Sequence

    Location = tuple[str | int, ...]

Model = TypeVar("Model", bound=BaseModel)

# libyaml's is some ten times as fast, and a gateway reads its file while users wait.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# Python's names for what is a list in YAML.
_NO_LIST = frozenset({"list_type", "tuple_type", "set_type", "frozen_set_type"})


class YamlFileError(ValueError):
    """The file cannot be used; the message has a line for each problem, with its place and the fix."""


def load_yaml(
    path: str | os.PathLike[str],
    model: type[Model],
    known: Iterable[type[BaseModel]],
    unusable: type[YamlFileError],
) -> Model:
    """Return what a file says; the arguments and errors are those of :func:`parse_yaml`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise unusable(f"{path}: cannot be read ({error})") from None
    return parse_yaml(text, str(path), model, known, unusable)


def parse_yaml(
    text: str,
    name: str,
    model: type[Model],
    known: Iterable[type[BaseModel]],
    unusable: type[YamlFileError],
) -> Model:
    """Return what a text says.

    An error that a validator raises with a ``location`` (the path to the place that is to change) is shown there.

    Args:
        text: YAML.
        name: what errors call the file.
        model: what it has to be.
        known: the models whose fields may have been meant where an unknown one is written.
        unusable: the class of the error.

    Raises:
        YamlFileError: it is no YAML, or not what it has to be; as the class that ``unusable`` says.
    """
    try:
        root = yaml.compose(text, Loader=_Loader)
        content = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a date that there is not; too deeply nested
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        raise unusable(f"{name}{line}: this is no YAML: {getattr(error, 'problem', error)}") from None
    if (twice := _key_twice(root)) is not None:
        raise unusable(f"{name}:{twice.start_mark.line + 1}: {twice.value}: is there twice; keep one of the two")
    fields = sorted({field for each in known for field in each.model_fields})
    try:
        return model.model_validate({} if content is None else content)
    except ValidationError as error:
        problems = [_problem(name, root, detail, fields) for detail in error.errors()]
        raise unusable("\n".join(problems)) from None


def _problem(name: str, root: Any, detail: Any, fields: Sequence[str]) -> str:
    cause = detail.get("ctx", {}).get("error")
    location: Location = getattr(cause, "location", detail["loc"])
    where = ".".join(map(str, location)) or "the file"
    return f"{name}:{_line(root, location)}: {where}: {_fix(detail, location, cause, fields)}"


def _fix(detail: Any, location: Location, cause: object, fields: Sequence[str]) -> str:
    if cause is not None:
        return str(cause)
    if detail["type"] == "missing":
        return f"is missing; add `{location[-1]}: …`"
    if detail["type"] == "extra_forbidden":
        key = str(location[-1])
        near = difflib.get_close_matches(key, [field for field in fields if field != key], n=1)
        return "is not known here" + (f"; did you mean `{near[0]}`?" if near else "; remove it")
    if detail["type"] in ("model_type", "dict_type"):
        return "a table is needed here, `key: value` pairs"
    if detail["type"] in _NO_LIST:
        return "a list is needed here: `[one, two]`, or a line with `- ` for each"
    message = str(detail["msg"])
    # Secrets do not belong into these files, but should one be there, the error must not repeat it.
    return message[:1].lower() + message[1:]


def _key_twice(root: Any) -> Any | None:
    """Return the first key that its table has already: YAML forbids it, and PyYAML takes the last one silently."""
    nodes, visited = [root], set()
    while nodes:
        node = nodes.pop()
        if id(node) in visited or not isinstance(node, yaml.CollectionNode):
            continue
        visited.add(id(node))
        seen: set[str] = set()
        for key, value in node.value if isinstance(node, yaml.MappingNode) else ((None, each) for each in node.value):
            nodes.append(value)
            if isinstance(key, yaml.ScalarNode) and key.value != "<<":
                if key.value in seen:
                    return key
                seen.add(key.value)
    return None


def _line(root: Any, location: Sequence[str | int]) -> int:
    """Return the line of a place, or of the closest thing round it that is in the file, counted from 1."""
    node, line = root, 0
    for step in location:
        found = _child(node, step)
        if found is None:
            break
        key, node = found
        line = key.start_mark.line
    return line + 1


def _child(node: Any, step: str | int) -> tuple[Any, Any] | None:
    if isinstance(node, yaml.MappingNode):
        return next(((key, value) for key, value in node.value if key.value == str(step)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
        return node.value[step], node.value[step]
    return None

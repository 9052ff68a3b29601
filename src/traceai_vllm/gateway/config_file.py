"""Reads ``gateway.yaml``. Every error says the line and what to write there."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ValidationError

from traceai_vllm.gateway import config, options
from traceai_vllm.gateway.config import ConfigConflict, GatewayConfig

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    Location = tuple[str | int, ...]

_MODELS = [
    kind
    for kind in (*vars(config).values(), *vars(options).values())
    if isinstance(kind, type) and issubclass(kind, BaseModel)
]


class ConfigError(ValueError):
    """The file cannot be used; the message has a line for each problem, with its place and the fix."""


def load_config(path: str | os.PathLike[str]) -> GatewayConfig:
    """Read a configuration file.

    Raises:
        ConfigError: it cannot be read, is no YAML, or says what it may not say.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    return parse_config(text, str(path))


def parse_config(text: str, name: str = "gateway.yaml") -> GatewayConfig:
    """Return the configuration that a text says.

    Args:
        text: YAML.
        name: what errors call the file.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f":{mark.line + 1}"
        raise ConfigError(f"{name}{line}: this is no YAML: {getattr(error, 'problem', error)}") from None
    try:
        return GatewayConfig.model_validate({} if content is None else content)
    except ValidationError as error:
        problems = [_problem(name, root, detail) for detail in error.errors()]
        raise ConfigError("\n".join(problems)) from None


def _problem(name: str, root: Any, detail: Any) -> str:
    cause = detail.get("ctx", {}).get("error")
    location: Location = cause.location if isinstance(cause, ConfigConflict) else detail["loc"]
    where = ".".join(map(str, location)) or "the file"
    return f"{name}:{_line(root, location)}: {where}: {_fix(detail, location, cause)}"


def _fix(detail: Any, location: Location, cause: object) -> str:
    if cause is not None:
        return str(cause)
    if detail["type"] == "missing":
        return f"is missing; add `{location[-1]}: …`"
    if detail["type"] == "extra_forbidden":
        known = sorted({field for model in _MODELS for field in model.model_fields})
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        return "is not known here" + (f"; did you mean `{near[0]}`?" if near else "; remove it")
    message = str(detail["msg"])
    # Secrets do not belong into this file, but should one be there, the error must not repeat it.
    return message[:1].lower() + message[1:]


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

"""Writes docs/gateway-config.md from the models of the configuration: `python scripts/write_gateway_reference.py`."""

from __future__ import annotations

import inspect
import re
import types
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic_core import PydanticUndefined

from traceai_vllm.gateway import config, decision, options

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

TARGET = Path(__file__).parents[1] / "docs" / "gateway-config.md"

HEAD = """\
# Gateway: configuration and decision file

*Generated from `traceai_vllm/gateway/` by `python scripts/write_gateway_reference.py`; do not edit.*

How to use them is in [gateway.md](gateway.md). A key that is not in these tables is an error, with its line.
"""

SECTIONS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("gateway.yaml", config.GatewayConfig),
    ("servers", config.Server),
    ("servers.*.price", options.Price),
    ("routes", config.Route),
    ("routes[].match", config.Match),
    ("routes[].only", config.Restriction),
    ("routes[].only.slices", config.Slice),
    ("mirror", options.MirrorLimits),
    ("limits", options.Limits),
    ("guard", options.GuardLimits),
    ("feedback", options.FeedbackOptions),
    ("telemetry", options.Telemetry),
    ("slices", options.SliceOptions),
    ("The decision file", decision.Decision),
    ("routes of a decision", decision.RouteDecision),
    ("evidence of a decision", decision.Evidence),
)
ENUMS = (("Serving modes", config.Mode), ("Actions of a decision", decision.Action))


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, model in SECTIONS:
        parts.append(f"\n## {title}\n\n{_summary(model)}\n\n| key | type | default | meaning |\n|---|---|---|---|\n")
        told = _attributes(model)
        parts += [_row(name, field, told) for name, field in model.model_fields.items()]
    for title, enum in ENUMS:
        parts.append(f"\n## {title}\n\n| value | meaning |\n|---|---|\n")
        meanings = re.findall(r'= "(\w+)"\n    """(.*?)"""', inspect.getsource(enum), re.S)
        parts += [f"| `{value}` | {_markdown(meaning)} |\n" for value, meaning in meanings]
    return "".join(parts)


def _row(name: str, field: FieldInfo, told: dict[str, str]) -> str:
    return f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {_markdown(told[name])} |\n"


def _summary(model: type[BaseModel]) -> str:
    return _markdown((inspect.getdoc(model) or "").partition("Attributes:")[0].strip())


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """Return what the docstrings of a model and of those that it extends say of each field."""
    found: dict[str, str] = {}
    for kind in reversed(model.__mro__):
        text = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
        for name, meaning in re.findall(r"^    (\w+): (.*?)(?=^    \w+: |\Z)", text, re.S | re.M):
            found[name] = " ".join(meaning.split())
    return found


def _type(kind: Any) -> str:
    if hasattr(kind, "__metadata__"):
        return _type(get_args(kind)[0])
    origin, inside = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return _type(next(one for one in inside if one is not type(None)))
    if origin in (tuple, frozenset, dict):
        return f"{_type(inside[1])} by name" if origin is dict else f"list of {_type(inside[0])}"
    values = inside or (list(kind) if isinstance(kind, type) and issubclass(kind, Enum) else ())
    if values:
        return " ".join(f"`{one.value if isinstance(one, Enum) else one}`" for one in values)
    names = {"str": "text", "int": "number", "float": "number", "bool": "true or false", "AwareDatetime": "time"}
    links = {model: f"[{title}](#{_anchor(title)})" for title, model in SECTIONS}
    return links.get(kind) or names.get(kind.__name__, kind.__name__)


def _anchor(title: str) -> str:
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "**required**"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()  # type: ignore[misc, call-arg]
    if value is None or value in ((), {}, ""):
        return ""
    if isinstance(value, Enum):
        return f"`{value.value}`"
    if isinstance(value, tuple):
        return ", ".join(f"`{one}`" for one in value)
    if isinstance(value, options.Strict):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _markdown(text: str) -> str:
    text = re.sub(r":\w+:`~?[\w.]*?(\w+)`", r"`\1`", " ".join(text.split()))
    return text.replace("``", "`").replace("|", "\\|")


def main() -> None:
    TARGET.write_text(page())
    print(f"wrote {TARGET.name}")


if __name__ == "__main__":
    main()

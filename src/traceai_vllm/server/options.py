"""What a server takes from its callers: set by ``instrument(server=...)`` or by environment variables."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

_log = logging.getLogger("traceai_vllm")

DEFAULT_HEADERS: Mapping[str, str] = {name: "x-" + name.replace("_", "-") for name in semconv.NAMED_TAGS}
# Searched for in the URL by OpenTelemetry's instrumentation: what load balancers and scrapers ask for.
DEFAULT_EXCLUDED_URLS = "/health$,/ping$,/livez$,/readyz$,/metrics/?$,/load$,/version$"
MAX_VALUES = 100

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


@dataclass(frozen=True)
class ServerOptions:
    """What is believed of the callers of a server.

    Attributes:
        trust_callers: False: nothing that a caller sends is used, neither tags nor trace context; each request
            begins a trace of its own.
        headers: the request header for each of the tags ``route``, ``prompt_version``, ``traffic_cohort`` and
            ``agent_step``; a tag that is left out is not read from headers. Default: ``x-route`` and so on.
        allowed: for a tag, the only values that callers may give; others become ``other``. A tag without an entry
            may have any value.
        max_values: how many different values of a tag callers may bring into this process; later ones become ``other``.
        excluded_urls: comma-separated regular expressions; a request whose URL has a match gets no SERVER span.

    Raises:
        ValueError: a name that is none of the four tags, or a header that no request can have.
    """

    trust_callers: bool = True
    headers: Mapping[str, str] = field(default_factory=lambda: dict(DEFAULT_HEADERS))
    allowed: Mapping[str, Collection[str]] = field(default_factory=dict)
    max_values: int = MAX_VALUES
    excluded_urls: str = DEFAULT_EXCLUDED_URLS

    def __post_init__(self) -> None:
        unknown = {*self.headers, *self.allowed} - {*semconv.NAMED_TAGS}
        if unknown:
            raise ValueError(
                f"ServerOptions: {', '.join(sorted(map(repr, unknown)))} is no tag; use {', '.join(semconv.NAMED_TAGS)}"
            )
        for header in self.headers.values():
            if not header.isascii():
                raise ValueError(f"ServerOptions: {header!r} is no name of a header, which is of ASCII characters")

    @classmethod
    def from_environment(cls) -> ServerOptions:
        """Return the options that the environment gives; a variable that cannot be read is a warning.

        ``TRACEAI_VLLM_TRUST_CALLERS``, ``TRACEAI_VLLM_HEADERS`` (``route=x-my-route,agent_step=x-step``),
        ``TRACEAI_VLLM_ALLOWED_VALUES`` (``route=support|billing,traffic_cohort=a|b``), ``TRACEAI_VLLM_MAX_VALUES``,
        and OpenTelemetry's own ``OTEL_PYTHON_FASTAPI_EXCLUDED_URLS`` or ``OTEL_PYTHON_EXCLUDED_URLS``.
        """
        given = _pairs("TRACEAI_VLLM_ALLOWED_VALUES")
        return cls(
            trust_callers=flag("TRACEAI_VLLM_TRUST_CALLERS", True),
            headers={**DEFAULT_HEADERS, **_pairs("TRACEAI_VLLM_HEADERS", str.isascii)},
            allowed={name: frozenset(values.split("|")) for name, values in given.items()},
            max_values=_number("TRACEAI_VLLM_MAX_VALUES", MAX_VALUES),
            excluded_urls=_excluded_urls(),
        )


def flag(variable: str, default: bool) -> bool:
    """Return an environment variable that is true or false; the default, with a warning, when it is neither."""
    value = os.environ.get(variable, "").strip().lower()
    if value in _TRUE or value in _FALSE:
        return value in _TRUE
    if value:
        _warn(variable, "true or false", default)
    return default


def _number(variable: str, default: int) -> int:
    value = os.environ.get(variable, "").strip()
    if value.isdecimal():
        return int(value)
    if value:
        _warn(variable, "a whole number", default)
    return default


def _pairs(variable: str, takes: Callable[[str], bool] = bool) -> dict[str, str]:
    pairs = {}
    for part in filter(None, map(str.strip, os.environ.get(variable, "").split(","))):
        name, separator, value = (piece.strip() for piece in part.partition("="))
        if separator and value and takes(value) and name in semconv.NAMED_TAGS:
            pairs[name] = value
        else:
            _warn(variable, f"name=value,… with the names {', '.join(semconv.NAMED_TAGS)}", "without " + repr(part))
    return pairs


def _excluded_urls() -> str:
    for variable in ("OTEL_PYTHON_FASTAPI_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS"):
        if variable in os.environ:
            return os.environ[variable]
    return DEFAULT_EXCLUDED_URLS


def _warn(variable: str, wanted: str, used: object) -> None:
    _log.warning("%s=%s cannot be read: it takes %s. Used: %s.", variable, os.environ[variable], wanted, used)

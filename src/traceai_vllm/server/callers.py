"""From what a caller sent to the tags of its request, so that no caller can grow memory or fill the metrics.

Four names are read and no others. A value is cut, must be on the allow-list where there is one, and is counted as
``other`` once the callers of this process have brought too many different ones. Of several sources the header wins,
which a proxy can set or strip; then the body's ``metadata``; then W3C baggage. ``tags(...)`` in this process wins over
all of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from opentelemetry import baggage
from opentelemetry.metrics import CallbackOptions, Observation

from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.metrics import OTHER, CappedDimension, counts_of
from traceai_vllm.telemetry.tags import MAX_VALUE_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter

    from traceai_vllm.server.options import ServerOptions

    Headers = Iterable[tuple[bytes, bytes]]
_TOO_MANY, _NOT_ALLOWED = "too_many_values", "not_allowed"


class Callers:
    """Reads the tags of requests, and remembers how many values it has seen.

    Args:
        options: what is believed.
        shows_content: whether SERVER spans may have what a caller wrote: the query of their URL, and the messages of
            exceptions, which may quote it.
        counts: where values that became ``other`` are counted, by tag and reason; None: they are not.
    """

    def __init__(
        self, options: ServerOptions, *, shows_content: bool = False, counts: Counter[Any] | None = None
    ) -> None:
        self.options = options
        self.shows_content = shows_content
        self._hosts = CappedDimension(options.max_values)
        self._names = {header.lower().encode("ascii"): tag for tag, header in options.headers.items()}
        self._replaced: Counter[Any] = Counter() if counts is None else counts
        self._seen = {
            tag: CappedDimension(options.max_values, self._replaced, (tag, _TOO_MANY)) for tag in semconv.NAMED_TAGS
        }

    def from_headers(self, headers: Headers) -> dict[str, str]:
        """Return the tags in a request's headers; the first of several headers of a name counts."""
        tags: dict[str, str] = {}
        if self.options.trust_callers:
            for name, value in headers:
                tag = self._names.get(name)
                if tag is not None:
                    text = value[: 4 * MAX_VALUE_LENGTH].decode("utf-8", "replace")
                    self._add(tags, tag, text)
        return tags

    def from_baggage(self, ctx: Context) -> dict[str, str]:
        """Return the tags in W3C baggage."""
        tags: dict[str, str] = {}
        if self.options.trust_callers:
            for tag in semconv.NAMED_TAGS:
                self._add(tags, tag, baggage.get_baggage(tag, ctx))
        return tags

    def from_metadata(self, metadata: Any) -> dict[str, str]:
        """Return the tags in the ``metadata`` field of a request's body."""
        tags: dict[str, str] = {}
        if self.options.trust_callers and isinstance(metadata, dict):
            for tag in semconv.NAMED_TAGS:
                self._add(tags, tag, metadata.get(tag))
        return tags

    def _add(self, tags: dict[str, str], tag: str, value: object) -> None:
        if tag in tags or not isinstance(value, str):
            return
        text = value[:MAX_VALUE_LENGTH]
        if not text.isprintable():  # line breaks, control characters, half a surrogate pair: no exporter takes that one
            text = "".join(char if char.isprintable() else " " for char in text)
        text = text.strip()
        if text:
            tags[tag] = text

    def accepted(self, tag: str, value: str) -> str:
        """Return the value if callers may use it, else ``other``; a new one takes up a place."""
        allowed = self.options.allowed.get(tag)
        if allowed is None:
            return self._seen[tag](value)
        if value in allowed:
            return value
        self._replaced[tag, _NOT_ALLOWED] += 1
        return OTHER

    def knows_host(self, host: bytes) -> bool:
        """Return whether the value of a ``Host`` header is among the first that came; any client can make more up."""
        name = host.decode("latin-1")
        return self._hosts(name) == name


def observe_replaced(meter: Meter) -> Counter[Any]:
    """Report how many values were turned into ``other``, as a metric; return where to count them."""
    metric, counts = semconv.CALLER_VALUES_REPLACED, counts_of(meter)

    def replaced(options: CallbackOptions) -> Iterable[Observation]:
        for tag in semconv.NAMED_TAGS:
            for reason in (_TOO_MANY, _NOT_ALLOWED):
                yield Observation(counts[tag, reason], {"dimension": tag, "reason": reason})

    meter.create_observable_counter(metric.name, callbacks=[replaced], unit=metric.unit, description=metric.meaning)
    return counts


class CallerTags(Mapping[str, str]):
    """The tags of one request, as spans and metrics see them.

    A value is judged when it is first looked at, which nothing does for requests that never reach an engine: those of
    strangers without an API key, or for URLs that do not exist, take up no places.
    """

    __slots__ = ("_from_headers", "_judged", "_raw", "_reader")

    def __init__(
        self, reader: Callers, raw: dict[str, str] | None = None, from_headers: frozenset[str] = frozenset()
    ) -> None:
        self._reader = reader
        self._raw = {} if raw is None else raw
        self._from_headers = from_headers
        self._judged: dict[str, str] = {}

    def add_metadata(self, tags: dict[str, str]) -> None:
        """Add the tags of the body's ``metadata``: over baggage, under headers."""
        for tag, value in tags.items():
            if tag not in self._from_headers:
                self._raw[tag] = value
                self._judged.pop(tag, None)

    def __getitem__(self, tag: str) -> str:
        if tag not in self._judged:
            self._judged[tag] = self._reader.accepted(tag, self._raw[tag])
        return self._judged[tag]

    def __iter__(self) -> Iterator[str]:
        return iter(self._raw)

    def __len__(self) -> int:
        return len(self._raw)


_current: Callers | None = None


def current() -> Callers | None:
    """Return what reads callers' tags, or None when instrumentation (or its server part) is off."""
    return _current


def switch(callers: Callers | None) -> Callers | None:
    """Put another reader in force (None: off), and return the one before."""
    global _current
    before, _current = _current, callers
    return before

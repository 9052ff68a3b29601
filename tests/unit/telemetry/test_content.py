"""From content to the attributes of a span."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.records import finished_record
from traceai_vllm.content.content import Content, ContentReader
from traceai_vllm.content.messages import output_message
from traceai_vllm.content.options import ContentOptions
from traceai_vllm.telemetry.content import ContentExport


class Answer:
    """A call of a tool, with its arguments as the model wrote them."""

    def __init__(self, arguments: str) -> None:
        self._message = output_message(None, "stop", None, [(None, "pay", arguments)])

    def read(self) -> Content | None:
        """Return the content."""
        return ContentReader(ContentOptions()).read(lambda: Content(output_messages=[self._message]))


def arguments_on_span(written: str) -> Any:
    export = ContentExport(ContentOptions(), logger=None)  # type: ignore[arg-type]
    attributes = export.span_attributes(finished_record(content=Answer(written)))
    (message,) = json.loads(attributes["gen_ai.output.messages"], parse_constant=pytest.fail)
    return message["parts"][0]["arguments"]


def test_what_is_on_a_span_is_json_whatever_numbers_a_model_writes() -> None:
    """Python reads and writes NaN; a database that meets it refuses the whole query."""
    written = '{"price": NaN, "limits": [-Infinity, 1e999], "items": 3, "rate": 0.5}'
    assert arguments_on_span(written) == {"price": "NaN", "limits": ["-Infinity", "Infinity"], "items": 3, "rate": 0.5}


def test_arguments_as_deep_as_one_likes_cost_nothing_else() -> None:
    """They are cut below a depth that no tool has; the rest of the request's content stays."""
    depth = 800
    found = arguments_on_span('{"amount": 7, "notes": ' + "[" * depth + "]" * depth + "}")
    assert found["amount"] == 7

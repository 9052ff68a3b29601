"""Rollbacks as events, with the OpenTelemetry that is installed."""

from __future__ import annotations

import pytest
from opentelemetry import _logs

from traceai_vllm.gateway import events
from traceai_vllm.gateway.rollback import Rollback


def test_where_events_have_no_names_a_rollback_is_none_and_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before opentelemetry-api 1.35: a warning at the start says so, and the log line and the metric are left."""

    class OldLogRecord:
        def __init__(self, timestamp: int | None = None, observed_timestamp: int | None = None) -> None:
            raise AssertionError("it takes no name")

    for module in (_logs, events):
        monkeypatch.setattr(module, "LogRecord", OldLogRecord)

    events.RollbackEvents(None)(Rollback("support", 0.0, "errors", "10 errors", "decision", "promote"))

    [message] = caplog.messages
    assert message.startswith("Rollbacks are not sent as events: that needs opentelemetry-api 1.35")

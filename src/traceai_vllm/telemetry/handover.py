"""Hands the record of a request to the span processors that see its span end.

A span ends in the thread that ends it, and processors get no more than a copy of it; what a record holds beyond the
span (content that is only scored, for one) goes through here.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traceai_vllm.record import RequestRecord

ending: ContextVar[RequestRecord | None] = ContextVar("traceai_vllm_ending_request", default=None)
"""The request whose span is ending now, in this thread; None for spans of others."""

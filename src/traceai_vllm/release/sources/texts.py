"""Lists that a database keeps as text."""

from __future__ import annotations

from typing import Any


def items_of(text: Any) -> Any:
    """Return the texts in a JSON list, or between commas, of an Ibis text; an empty list where there is no text."""
    bare = text.re_replace(r'^\s*\[?\s*"?|"?\s*\]?\s*$', "").re_replace(r'"?\s*,\s*"?', ",")
    # An empty text and not null: a list cannot be null in ClickHouse.
    return bare.fill_null("").split(",").filter(lambda item: item != "")

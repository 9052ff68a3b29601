"""The gateway's attribute names."""

from __future__ import annotations

from traceai_vllm.gateway import names


def test_every_attribute_written_is_in_the_documented_table() -> None:
    """The table of docs/attributes.md leaves nothing out that a span of the gateway can carry."""
    constants = {value for name, value in vars(names).items() if name[0].isupper() and isinstance(value, str)}

    assert constants - {names.ROLLBACK_EVENT} == {attribute.key for attribute in names.ATTRIBUTES}

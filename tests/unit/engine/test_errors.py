"""What spans say of an exception: its class always, its message only where it cannot quote the user."""

from __future__ import annotations

import pytest

from traceai_vllm.engine.live import error_message


@pytest.mark.parametrize("kind", [ValueError, TypeError, KeyError, IndexError, OSError])
def test_a_message_that_may_quote_what_the_user_sent_is_left_out(kind: type[Exception]) -> None:
    assert error_message(kind("what a user wrote")) is None


def test_a_panic_in_rust_is_left_out_too() -> None:
    """Tokenizers make one of a slice of the text at a wrong place, and quote the text; it is no `Exception`."""

    class PanicException(BaseException): ...

    assert (
        error_message(PanicException("byte index 1 is not a char boundary; it is inside 'é' of `what a user`")) is None
    )


def test_the_message_of_a_broken_engine_is_kept() -> None:
    assert error_message(RuntimeError("the engine died")) == "the engine died"

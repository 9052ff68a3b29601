"""What is taken out of texts, what is not, and what happens when the user's function fails."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.content.messages import output_message
from traceai_vllm.content.options import ContentOptions
from traceai_vllm.content.redaction import FAILED, Redaction


def redacted(value: Any, **options: Any) -> Any:
    return Redaction(ContentOptions(**options))(value)[0]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to ann.lee+x@mail.example.org, please.", "Write to [email], please."),
        ("an jörg.müller@müller.de und info@example.中国 geschickt", "an [email] und [email] geschickt"),
        ("u\u0308@mu\u0308ller.de, संपर्क@डाटामेल.भारत", "[email], [email]"),  # accents and vowel signs of their own
        ("请写信给 ann@example.com谢谢", "请写信给 [email]谢谢"),
        ("Card 4111 1111 1111 1111 expires", "Card [payment_card] expires"),
        ("card=4111-1111-1111-1111", "card=[payment_card]"),
        ("4111 1111 1111 1111 12/26 123", "[payment_card] 12/26 123"),  # with its date and code
        ("4111111111111111 123", "[payment_card] 123"),
        ("3782 822463 10005 4111 1111 1111 1111", "[payment_card] [payment_card]"),
        ("2 x 2024-05-01 4111-1111-1111-1111", "2 x 2024-05-01 [payment_card]"),
        ("2026 4111 1111 1111 1111", "2026 [payment_card]"),
        ("4 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1, he said", "[payment_card], he said"),
        ("IBAN DE89 3704 0044 0532 0130 00.", "IBAN [iban]."),
        ("DE89 3704 0044 0532 0130 00 BIC COBADEFF", "[iban] BIC COBADEFF"),
        ("ES9121000418450200051332 EUR 500", "[iban] EUR 500"),
        ("SSN 219-09-9999", "SSN [us_ssn]"),
        ("Authorization: Bearer abcdefghijklmnop.qrst", "Authorization: Bearer [secret]"),
        ("key sk-proj-abcdefghijklmnop1234", "key [secret]"),
        ("token ghp_abcdefghijklmnopqrst1234", "token [secret]"),
        ("stripe=sk_" + "live_abcdefghijklmnop1234", "stripe=[secret]"),
        ("glpat" + "-abcdefghijklmnopqrst is GitLab's", "[secret] is GitLab's"),
        ("xapp" + "-1-A0123-4567-abcdef", "[secret]"),
        ("npm_" + "a1" * 18, "[secret]"),
        ("pypi" + "-AgEIcHlwaS5vcmcabcdef", "[secret]"),
        ("ya29" + ".a0AfH6SMBabcdefghijklmnop", "[secret]"),
        ("AKIAIOSFODNN7EXAMPLE is a key", "[secret] is a key"),
        ("ASIAIOSFODNN7EXAMPLE is a temporary one", "[secret] is a temporary one"),
        ("jwt=eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.", "jwt=[secret]"),
        ("access_token_eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIn0.c2ln", "access_token_[secret]"),
        (f"eyJ{'hbGci' * 2_000}.{'eyJzdWIi' * 2_000}.c2ln and more", "[secret] and more"),
        ("a\n-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nb", "a\n[secret]\nb"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nlQ\n-----END PGP PRIVATE KEY BLOCK----- b", "[secret] b"),
        ("cut off -----BEGIN PRIVATE KEY-----\nMII", "cut off [secret]"),
    ],
)
def test_the_default_patterns_find(text: str, expected: str) -> None:
    """One of each kind, in a sentence."""
    assert redacted(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "Order 4111 1111 1111 1112 is late",  # no card: its check digit is wrong
        # The check digits of these are right, as those of one number in ten are.
        '{"at": 1764000000000, "until": 1764000000000000000}',
        '{"lat": 13.52000659999996, "score": 0.5105105105105100}',
        "2024-01-15 2025-01-14",
        "41 11 11 11 11 11 11 11",
        "GB12 ABCD 1234 5678 9012 34",  # no account
        "000-12-3456 and 912-34-5678 and 123-00-4567 and 666-12-3456",  # numbers that are not issued
        "3 @ 4 euros, task-force, asks-for-more, pypi-server, disk_test_results, npm_config_cache",
        "on 2026-11-23 at 22:10:09, 1,234,567.89, v1.2.3",
        "The Bearer of bad news; github.com/ghost",
    ],
)
def test_the_default_patterns_leave(text: str) -> None:
    """What only looks like it stays readable."""
    assert redacted(text) == text


@pytest.mark.parametrize(
    "unit",
    [
        "eyJ-",
        "eyJaaaaaaaa.",
        "sk-",
        "Bearer ",
        "-----BEGIN ",
        "a@a.",
        "ü@ü.",
        "例@例.",
        "1 ",
        "4444 ",
        "AA00 ",
        "123-45-",
    ],
)
def test_no_text_takes_long(unit: str) -> None:
    """Its caller may choose it, and it is read in vLLM's frontend: time that grew with its square would be minutes."""
    assert redacted(unit * (200_000 // len(unit)))


def test_every_text_of_a_structure_is_redacted_and_counted() -> None:
    """In arguments of tools keys too, and members whose names the conventions also use."""
    mail = "a@b.org"
    value = [
        {
            "role": "user",
            "name": mail,
            "parts": [
                {"type": "text", "content": mail},
                {"type": "tool_call", "id": mail, "name": "f", "arguments": {mail: [mail], "type": mail, "role": mail}},
                {"type": "uri", "modality": "image", "uri": f"https://example.org/?{mail}"},
            ],
        }
    ]
    made, count = Redaction(ContentOptions())(value)
    assert mail not in str(made)
    assert count == 8
    assert made[0]["parts"][0] == {"type": "text", "content": "[email]"}


def test_a_role_of_the_callers_own_is_redacted() -> None:
    """vLLM takes any word for a role."""
    assert redacted([{"role": "a@b.org", "parts": []}]) == [{"role": "[email]", "parts": []}]
    assert redacted([{"role": "tool"}], redact=str.upper) == [{"role": "tool"}]


def test_a_number_is_redacted_like_its_text() -> None:
    """A model may write a card's number without quotes. Others stay numbers."""
    written = '{"card": 4111111111111111, "cards": [4111111111111111.0], "amount": 12.5, "items": 3, "gift": true}'
    call = [(None, "pay", written)]
    made, count = Redaction(ContentOptions())([output_message(None, "stop", None, call)])
    assert made[0]["parts"][0]["arguments"] == {
        "card": "[payment_card]",
        "cards": ["[payment_card].0"],
        "amount": 12.5,
        "items": 3,
        "gift": True,
    }
    assert count == 2


def test_keys_that_become_the_same_keep_their_values() -> None:
    arguments = {"a@b.org": 1, "[email] (2)": 2, "b@b.org": 3, "c@b.org": 4}
    made = redacted([{"type": "tool_call", "arguments": arguments}])
    assert made[0]["arguments"] == {"[email]": 1, "[email] (2)": 2, "[email] (3)": 3, "[email] (4)": 4}


def test_ones_own_patterns_and_function() -> None:
    """A compiled expression, names of patterns, and a function after them."""
    own = re.compile(r"case-\d+")
    text = "case-7 of a@b.org"
    assert redacted(text, patterns=(own,)) == "[redacted] of a@b.org"
    assert redacted(text, patterns=("email", own), redact=str.upper) == "[REDACTED] OF [EMAIL]"
    assert redacted(text, patterns=()) == text
    with pytest.raises(ValueError, match="no pattern is called 'e-mail'; there are email,"):
        ContentOptions(patterns=("e-mail",))


def test_a_function_that_changes_nothing_is_no_redaction() -> None:
    """A schema leaves the process only if nothing in it was redacted."""
    assert Redaction(ContentOptions(redact=lambda text: text))(["a", {"b": "c"}])[1] == 0


def test_true_false_and_null_are_no_texts() -> None:
    """A function that changes every text changes none of them."""
    assert redacted({"a": [True, False, None], "b": "c"}, redact=str.upper) == {"a": [True, False, None], "b": "C"}


def test_phone_numbers_need_their_library() -> None:
    """The extra `redaction`."""
    pytest.importorskip("phonenumbers")
    assert redacted("Call +44 20 7946 0958 or 112", patterns=("phone",)) == "Call [phone] or 112"


def boom(text: str) -> str:
    raise RuntimeError(f"cannot handle {text}")


@pytest.mark.parametrize("redact", [boom, lambda text: None])
def test_a_function_that_fails_lets_nothing_through(redact: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Its text is left out, it is logged once, and not even the log quotes the text."""
    apply = Redaction(ContentOptions(redact=redact))
    with caplog.at_level(logging.DEBUG):
        assert apply(["canary", {"role": "user", "parts": ["canary"]}])[0] == [
            FAILED,
            {"role": "user", "parts": [FAILED]},
        ]
    assert len(caplog.records) == 1
    assert "canary" not in caplog.text


@given(st.text(alphabet=st.sampled_from("aB1 -@._:=/"), max_size=60), st.text(max_size=20))
def test_nothing_else_is_changed(hard: str, any_text: str) -> None:
    """Redacting twice is redacting once, and texts without a sign of anything stay the same."""
    once = redacted(hard + any_text)
    assert redacted(once) == once
    if not re.search(r"[\d@_-]|earer|AKIA|AIza|eyJ", hard + any_text):
        assert once == hard + any_text

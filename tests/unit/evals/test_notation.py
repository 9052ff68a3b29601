"""Numbers and dates in every usual notation are read as the same; what differs stays different."""

import datetime
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traceai_vllm.evals import Groundedness
from traceai_vllm.evals.notation import ASCII_NUMBER, NUMBER, Date, dates, dates_in, ideographic, minus_before, readings
from traceai_vllm.evals.paired import PairedSettings, run_paired_checks

MARKS = {
    "en": (",", "."),
    "de": (".", ","),
    "fr": ("\u202f", ","),
    "si": ("\u00a0", "."),
    "ch": ("'", "."),
    "bare": ("", "."),
}
cents = st.integers(1_000_00, 999_999_99).filter(lambda value: value % 100)
days = st.dates(min_value=datetime.date(1990, 1, 1), max_value=datetime.date(2090, 12, 31))


def written(value, notation):
    group, point = MARKS[notation]
    return f"{value // 100:,}".replace(",", group) + f"{point}{value % 100:02}"


def ways(day):
    """Every notation of a day that has one reading."""
    suffix = "th" if 10 < day.day < 20 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    return [
        f"{day.day}.{day.month}.{day.year}",
        day.isoformat(),
        f"{day.year}/{day.month:02}/{day.day:02}",
        f"{day:%B} {day.day}, {day.year}",
        f"{day:%B} {day.day}{suffix}, {day.year}",
        f"{day.day} {day:%B} {day.year}",
        f"{day.day}{suffix} of {day:%B} {day.year}",
        f"{day.year}年{day.month}月{day.day}日",
    ]


def grounded(context, response):
    return Groundedness().evaluate(response=response, context=context).passed


def kept(baseline, candidate):
    found = run_paired_checks(baseline, candidate, PairedSettings())
    return next(each for each in found if each.name == "IdentifierAgreement").passed


@given(cents, cents, st.sampled_from([*MARKS]), st.sampled_from([*MARKS]))
def test_an_amount_in_another_notation_is_the_same(value, wrong, one, other):
    context = f"The annual fee of Plan B is {written(value, one)} euros."
    right = f"The annual fee of Plan B is {written(value, other)} euros."
    assert readings(written(value, one)) == readings(written(value, other))
    assert grounded(context, right)
    assert kept(context, right)
    if wrong != value:
        changed = f"The annual fee of Plan B is {written(wrong, other)} euros."
        assert not grounded(context, changed)
        assert not kept(context, changed)


@given(days, days, st.integers(0, 7), st.integers(0, 7))
def test_a_date_in_another_notation_is_the_same(day, wrong, one, other):
    context = f"The cover of Plan B starts on {ways(day)[one]}."
    right = f"The cover of Plan B starts on {ways(day)[other]}."
    assert [found[0] for *_, found in dates_in(context)] == [Date(day.year, day.month, day.day)]
    assert grounded(context, right)
    assert kept(context, right)
    if wrong != day:
        changed = f"The cover of Plan B starts on {ways(wrong)[other]}."
        assert not grounded(context, changed), (context, changed)
        assert not kept(context, changed)


@pytest.mark.parametrize("pattern", [ASCII_NUMBER, NUMBER])
@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1.250,50 or 1,250.50 or 1 250,50 or 1'250.50", ["1.250,50", "1,250.50", "1 250,50", "1'250.50"]),
        ("12.000, 12 000, 1.250.000", ["12.000", "12 000", "1.250.000"]),
        ("3.3.2024, 2024-03-03, version 1.2.3", ["3", "3", "2024", "2024", "03", "03", "1", "2", "3"]),
        ("call 555 123 4567 or 0800 283 284", ["555", "123", "4567", "0800", "283", "284"]),
        ("over 150 360-degree images, 1,2-diol, (1,2)", ["150", "360", "1", "2", "1", "2"]),
        ("in 2019, 200 people; 12,5 %", ["2019", "200", "12,5"]),
    ],
)
def test_numbers_are_found(pattern, text, numbers):
    assert re.findall(pattern, text) == numbers


def test_what_can_be_read_in_two_ways_has_two_readings():
    assert set(readings("12.000")) == {"12000", "12"}
    assert readings("0.125") == ("0.125",)
    assert readings("1,250") == ("1250",)
    assert dates("03", "/", "04", "2024") == (Date(2024, 3, 4), Date(2024, 4, 3))
    assert dates("13", "/", "04", "2024") == (Date(2024, 4, 13),)
    assert dates("4", "-", "4", "2") == ()


@pytest.mark.parametrize(
    ("signs", "value"),
    [("五", 5), ("十二", 12), ("三百五十", 350), ("五千", 5000), ("二〇二四", 2024), ("三万", 30_000)],
)
def test_numbers_in_chinese_signs(signs, value):
    assert ideographic(signs) == value


@pytest.mark.parametrize(
    ("text", "sign"), [("was -5", 1), ("was \u22125", 1), ("minus 5", 6), ("3-5", 0), ("Covid-19", 0), ("10 -20", 0)]
)
def test_a_minus_is_told_from_a_hyphen(text, sign):
    assert minus_before(text, re.search(r"\d+$", text).start()) == sign


def test_lakhs_and_crores_are_read_as_they_are_written_in_india():
    for text, value in (("1,25,000", "125000"), ("12,50,000.50", "1250000.5"), ("3,04,05,006", "30405006")):
        for pattern in (NUMBER, ASCII_NUMBER):
            assert re.findall(pattern, f"Rs {text}.") == [text]
        assert readings(text) == (value,)
    assert grounded("The fee of Plan B is Rs 1,25,000 a year.", "The fee of Plan B is Rs 125,000 a year.")
    assert not grounded("The fee of Plan B is Rs 1,25,000 a year.", "The fee of Plan B is Rs 1,52,000 a year.")


@pytest.mark.timeout(30)
def test_a_long_list_of_numbers_is_read_at_once():
    assert len(re.findall(NUMBER, "1," + "23," * 30_000)) > 10_000

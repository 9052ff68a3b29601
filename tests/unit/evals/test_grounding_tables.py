"""Tables and HTML in a context: what a cell says is what its row and its heading say of it."""

from __future__ import annotations

import pytest

from traceai_vllm.evals import Groundedness
from traceai_vllm.evals.grounding.claims import claims
from traceai_vllm.evals.grounding.markup import plain

MARKDOWN = """\
Results of the year:

| Metric (USD m) | FY2022 | FY2023 | FY2024 |
|---|---:|---:|---:|
| Revenue | 1,204 | 1,398 | 1,611 |
| Operating income | 118 | 161 | 203 |
| Net income | 84 | 117 | 149 |
"""
HTML = """\
<h2>Plans</h2><table class="x">
<tr><th>Plan</th><th>Price</th> <th>Storage</th></tr>
<tr>
  <td>Basic</td><td>&euro;9</td><td>100&nbsp;GB</td></tr>
<tr><td><b>Premium</b></td><td>&euro;19</td><td>500 GB</td></tr></table>
<p>Prices include&nbsp;tax.</p>"""


@pytest.mark.parametrize(
    ("context", "claim"),
    [
        (MARKDOWN, "Revenue in FY2023 was $1,398 million."),
        (MARKDOWN, "Revenue in FY2023 was 1,398."),
        (MARKDOWN, "Net income rose from 84 million in FY2022 to 149 million in FY2024."),
        (MARKDOWN, "In FY2024 operating income was $203m and net income $149m."),
        (HTML, "The Premium plan has a price of €19 and 500 GB of storage."),
        (HTML, "The price of Basic is 9 euros."),
        (HTML, "Basic has 100 GB of storage, and Premium 500 GB."),
    ],
)
def test_a_number_of_a_table_passes_where_it_belongs(context, claim):
    result = Groundedness().evaluate(response=claim, context=context)
    assert result.passed, result


@pytest.mark.parametrize(
    ("context", "claim", "wrong", "right"),
    [
        (MARKDOWN, "Revenue in FY2023 was $1,611 million.", "$1,611 million", "1,398"),
        (MARKDOWN, "Net income rose from 84 million in FY2022 to 203 million in FY2024.", "203 million", "149"),
        (MARKDOWN, "Operating income in FY2022 was $161m.", "$161m", "118"),
        (HTML, "The storage of the Basic plan is 500 GB.", "500", "100"),
        (HTML, "The price of Premium is 9 euros.", "9 euros", "€19"),
    ],
)
def test_a_number_of_another_cell_is_named(context, claim, wrong, right):
    result = Groundedness().evaluate(response=claim, context=context)
    assert not result.passed
    assert wrong in [claim[start:end] for start, end in result.unsupported]
    assert right in result.explanation


@pytest.mark.parametrize(
    "claim",
    [
        "Revenue in FY2023 was not $1,611 million.",
        "The plan for FY2023 was a revenue of $1,611 million.",  # which the text beside the table has
    ],
)
def test_a_number_that_stands_elsewhere_too_is_no_other_cell_s(claim):
    context = f"{MARKDOWN}\nThe plan for FY2023 was a revenue of $1,611 million."
    result = Groundedness().evaluate(response=claim, context=context)
    assert "the table" not in result.explanation


def test_markup_is_read_and_what_only_looks_like_it_stays():
    assert plain("<p>Fees &amp; <b>taxes</b></p><script>var x = 1;</script>")[0].split() == ["Fees", "&", "taxes"]
    for text in ("a List<String> && x < 3 | y", "if a <b and c> d", "AT&T; see | below", "| no table |"):
        assert plain(text) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        "|" * 50_000,
        "|a\n" + " " * 50_000,
        "<td" * 20_000,
        "|a\n|-|\n" + "|b" * 20_000,
        "<script>" * 5_000,
        "&" * 50_000,
    ],
)
@pytest.mark.timeout(30)
def test_no_text_takes_long_to_read(text):
    assert len(plain(text)[0]) <= 4 * len(text)
    assert len(claims(text)) <= len(text)

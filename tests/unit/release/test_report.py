"""The report: one file, the verdict first, hostile text as text, and content only where it is wanted."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.support.paired_spans import Draw, Request, requests, write_store
from traceai_vllm.release import Judgement, compare, decision_of, open_source, parse_policy, verdict_sentence
from traceai_vllm.release.report import report_html
from traceai_vllm.release.report.flips import marked

HOSTILE = "</p><script>alert('run')</script><img src=x onerror=alert(1)>"
POLICY = parse_policy(
    "{version: 1, name: '<b>bold</b> policy', measures: {latency.p50: {margin: 0.1}, Groundedness: {margin: 0.05}}}"
)


class Page(HTMLParser):
    """What is in a page: its elements, in order, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def messages(text: str) -> str:
    return json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": text}]}])


def make(draw: Draw) -> Request:
    fails = draw.fails(0.02, 0.3)
    return Request(
        route=f"support {HOSTILE}",
        fails=fails,
        seconds=draw.seconds(0.6),
        baseline={"gen_ai.output.messages": messages("Claims are paid after 180 days.")},
        candidate={
            "gen_ai.output.messages": messages(f"Claims are paid after 90 days. {HOSTILE}"),
            "gen_ai.input.messages": messages("When are my secret claims paid?"),
        },
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A report of a bad candidate, and the same without content."""
    source = open_source(write_store(tmp_path_factory.mktemp("report") / "spans", requests(150, make)))
    judgement = Judgement(compare(source, POLICY))
    decision = decision_of(judgement)
    command = "traceai-vllm report spans --policy policy.yaml"
    pages = [report_html(judgement, decision, source, command=command, content=content) for content in (True, False)]
    return judgement, decision, *pages


def test_a_verdict_without_a_score_is_shown_as_one(tmp_path: Path) -> None:
    """An evaluator may say that an answer fails and give no number."""
    alone = {"gen_ai.evaluation.Groundedness.score": None, "gen_ai.evaluation.Groundedness.passed": False}
    source = open_source(write_store(tmp_path / "spans", [Request(candidate=alone) for _ in range(20)]))
    judgement = Judgement(compare(source, POLICY))

    text = report_html(judgement, decision_of(judgement), source, command="")

    assert "Groundedness 0.90 → -" in " ".join(Page(text).text.split())


def test_the_verdict_comes_first_and_the_map_next(made: Any) -> None:
    """Who reads one line has read the verdict."""
    judgement, decision, text, _ = made
    page = Page(text)

    said = " ".join(page.text.split())
    verdict = " ".join(verdict_sentence(judgement).split())
    assert said.index(verdict) < said.index("part of the traffic") < said.index("The books")
    assert decision.id in said
    assert "traceai-vllm report spans --policy policy.yaml" in said


def test_hostile_text_is_shown_and_not_run(made: Any) -> None:
    """Routes, answers and policies are anybody's text; there is no script in the page, and none may run."""
    page = Page(made[2])

    assert not {"script", "img", "iframe", "object", "link", "b"} & set(page.elements)
    assert not any(name.startswith("on") for name, _ in page.attributes)
    assert HOSTILE in page.text
    assert "default-src 'none'" in made[2]


def test_a_name_does_not_turn_the_text_round_it(tmp_path: Path) -> None:
    """A route called evil, written backwards, would be shown as live; Arabic stays as it is."""
    given = [Request(route=route) for route in ("\u202eevil", "\u2067evil", "دعم") for _ in range(10)]
    source = open_source(write_store(tmp_path / "spans", given))
    judgement = Judgement(compare(source, POLICY))

    text = report_html(judgement, decision_of(judgement), source, command="")

    assert not re.search("[\u202a-\u202e\u2066-\u2069]", text)
    assert "route=<wbr>\ufffdevil" in text
    assert "route=<wbr>دعم" in text


def test_nothing_is_fetched(made: Any) -> None:
    """One file that needs no network."""
    page = Page(made[2])
    addresses = [value for name, value in page.attributes if name in ("src", "href", "xlink:href")]
    addresses += re.findall(r"url\(([^)]*)\)", " ".join(value or "" for _, value in page.attributes))
    addresses += re.findall(r"url\(([^)]*)\)", made[2].split("<style>")[1].split("</style>")[0])

    assert all((address or "").startswith("#") for address in addresses)


def test_flips_mark_the_words_that_differ(made: Any) -> None:
    """The baseline's 180 and the candidate's 90 are marked."""
    assert "<mark>180</mark>" in made[2]
    assert "<mark>90</mark>" in made[2]


def test_flips_stand_below_their_heading(made: Any) -> None:
    """How much differs is another matter, and comes after the last of them."""
    text = " ".join(Page(made[2]).text.split())

    last = text.rindex("Claims are paid after 90 days.")
    assert text.index("Flips: what passed") < last < text.index("How much differs")


def test_content_can_be_left_out(made: Any) -> None:
    """One switch."""
    assert "my secret claims" in made[2]
    assert "my secret claims" not in made[3]
    assert "180" not in Page(made[3]).text.split("Flips")[1].split("The books")[0]


def test_the_same_comparison_is_the_same_page(made: Any, tmp_path: Path) -> None:
    """A report can be made again."""
    source = open_source(write_store(tmp_path / "spans", requests(150, make)))
    judgement = Judgement(compare(source, POLICY))
    command = "traceai-vllm report spans --policy policy.yaml"

    assert report_html(judgement, decision_of(judgement), source, command=command) == made[2]


def test_what_regressed_most_is_the_first_column(made: Any) -> None:
    """A phone shows one column beside the names of the rows: that one has to be the news."""
    head = made[2].split("<thead>")[1].split("</thead>")[0]

    assert head.index("Groundedness") < head.index("latency")


def test_plots_say_what_their_axes_count(made: Any) -> None:
    """Numbers have units: points of a rate, milliseconds, pairs."""
    assert {"worse by, in points", "pairs that came in", "end-to-end latency, milliseconds", "p99"} <= {
        text.strip() for text in re.findall(r"<text[^>]*>([^<]*)<", made[2])
    }


def test_a_band_for_one_look_does_not_claim_to_hold_at_all(tmp_path: Path) -> None:
    """`mode: fixed` is for a number of pairs that was set before: whoever looks often is told so."""
    policy = POLICY.model_copy(update={"evidence": POLICY.evidence.model_copy(update={"mode": "fixed"})})
    source = open_source(write_store(tmp_path / "spans", requests(60, make)))
    judgement = Judgement(compare(source, policy))

    page = Page(report_html(judgement, decision_of(judgement), source, command=""))

    assert "whenever one looks" not in page.text
    assert "the band holds for one look alone" in page.text


def test_parts_of_routes_that_are_well_do_not_push_the_rest_down(tmp_path: Path) -> None:
    """What is worse within a route is in the map; the many parts that are not are there to be opened."""

    def hurt(draw: Draw) -> Request:
        route, slices = draw.one_of("faq", "support"), draw.one_of((), ("code",), ("regulated",))
        worse = route == "support" and slices == ("regulated",)
        return Request(route=route, slices=slices, fails=draw.fails(0.02, 0.5 if worse else 0.02))

    source = open_source(write_store(tmp_path / "spans", requests(600, hurt)))
    judgement = Judgement(compare(source, POLICY))

    text = report_html(judgement, decision_of(judgement), source, command="")

    first, opened = text.split("<details><summary>Within routes", 1)
    opened = opened.split("</details>")[0]
    for part, place in ((("support", "regulated"), first), (("support", "code"), opened), (("faq", "code"), opened)):
        row = "route=<wbr>{}, slice=<wbr>{}<".format(*part)
        assert row in place
        assert text.count(row) == 1


def test_a_report_of_no_pairs_says_so(tmp_path: Path) -> None:
    """Also nothing can be reported."""
    source = open_source(write_store(tmp_path / "spans", [Request(candidate=None)]))
    judgement = Judgement(compare(source, POLICY))

    text = report_html(judgement, decision_of(judgement), source, command="")

    assert "no data is never a pass" in text


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_times_that_no_clock_can_have_measured_are_not_drawn(tmp_path: Path, seconds: float) -> None:
    """A plot without a line has no legend, and says nothing on standard error (warnings are errors here)."""
    given = [Request(seconds=(seconds, seconds)) for _ in range(3)]
    source = open_source(write_store(tmp_path / "spans", given))
    judgement = Judgement(compare(source, POLICY))

    assert "end-to-end latency, milliseconds" not in report_html(judgement, decision_of(judgement), source, command="")


def test_words_are_marked_on_both_sides() -> None:
    """What only one text has is marked; together the pieces are the text."""
    one, other = marked("Plan B covers it.", "Plan C covers it not.")

    assert "".join(piece.text for piece in one) == "Plan B covers it."
    assert [piece.text for piece in one if piece.marked] == ["B"]
    assert [piece.text for piece in other if piece.marked] == ["C", " not"]

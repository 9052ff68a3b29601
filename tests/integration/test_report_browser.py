"""The report in a real browser: on a desk and on a phone, light and dark, it can be read; and it runs nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.browser import CHROMIUM, Seen, View, look
from tests.support.paired_spans import Draw, Request, requests, write_store
from traceai_vllm.release import Judgement, compare, decision_of, open_source, parse_policy, verdict_sentence
from traceai_vllm.release.report import report_html
from traceai_vllm.release.wording import printable

HOSTILE = "<script>alert(1);document.title='run'</script><img src=http://127.0.0.1:9/x onerror=\"alert(2)\">"
HOSTILE += "\u202eelbisivni\u202c" + "x" * 300
SECRET = "my secret claim"
DESK, PHONE = View(1200, 900), View(390, 844)
VIEWS = [DESK, View(1200, 900, dark=True), PHONE, View(390, 844, dark=True)]

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian: apt-get install chromium)")

# What is told to nobody who cannot see it well: texts with less contrast than WCAG 2.2 asks for (AA, 1.4.3: 4.5 to 1).
LOOK = """(() => {
  const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
  const over = (top, below) => {
    const alpha = top.length > 3 ? top[3] : 1;
    return below.map((value, place) => alpha * top[place] + (1 - alpha) * value);
  };
  const ground = element => element === null ? [255, 255, 255]
    : over(numbers(getComputedStyle(element).backgroundColor), ground(element.parentElement));
  const luminance = colour => {
    const [r, g, b] = colour.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = element => {
    const below = ground(element), ink = over(numbers(getComputedStyle(element).color), below);
    const [high, low] = [luminance(ink), luminance(below)].sort((a, b) => b - a);
    return (high + 0.05) / (low + 0.05);
  };
  const own = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  const texts = [...document.body.querySelectorAll('*')].filter(own).filter(each => each.checkVisibility());
  return {
    title: document.title,
    heading: document.querySelector('h1').textContent,
    text: document.body.textContent,
    elements: [...new Set([...document.querySelectorAll('*')].map(each => each.localName))],
    background: luminance(ground(document.body)),
    wider: document.documentElement.scrollWidth - innerWidth,
    pale: texts.filter(each => !each.closest('svg') && contrast(each) < 4.5).map(each => each.outerHTML.slice(0, 80)),
    plots: document.querySelectorAll('svg[role=img][aria-label]').length,
  };
})()"""


def make(draw: Draw) -> Request:
    text = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": f"{SECRET} \ud83d {HOSTILE}"}]}])
    hurt = draw.one_of(True, False)
    return Request(
        route=HOSTILE if hurt else "faq",
        slices=("regulated",) if hurt else (),
        fails=draw.fails(0.02, 0.4 if hurt else 0.02),
        seconds=draw.seconds(0.6),
        candidate={"gen_ai.output.messages": text},
    )


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A report full of hostile text, with and without content, and its verdict."""
    folder = tmp_path_factory.mktemp("report")
    source = open_source(write_store(folder / "spans", requests(400, make)))
    policy = parse_policy("{version: 1, measures: {Groundedness: {margin: 0.05}, latency.p50: {margin: 0.1}}}")
    judgement = Judgement(compare(source, policy))
    for name, content in (("with", True), ("without", False)):
        page = report_html(judgement, decision_of(judgement), source, command=f"x {HOSTILE}", content=content)
        (folder / f"{name}.html").write_text(page, encoding="utf-8")
    return {
        "with": folder / "with.html",
        "without": folder / "without.html",
        "verdict": verdict_sentence(judgement),
        "seen": look(folder / "with.html", DESK, LOOK),
    }


def test_the_verdict_is_the_heading_and_nothing_ran(reports: dict[str, Any]) -> None:
    """Routes, answers and command lines are anybody's text: shown, and neither run nor fetched."""
    seen: Seen = reports["seen"]

    assert seen.found["heading"] == printable(reports["verdict"])  # what turns the text round it is replaced
    assert seen.found["title"].startswith("restrict_route: ")
    assert not {"script", "img", "iframe"} & set(seen.found["elements"])
    assert printable(HOSTILE) in seen.found["text"]
    assert seen.addresses == [reports["with"].as_uri()]
    assert seen.dialogs == []
    assert seen.found["plots"] >= 3


def test_content_that_is_left_out_is_not_there(reports: dict[str, Any]) -> None:
    """--no-content: not on the page, not behind it."""
    assert SECRET in reports["seen"].found["text"]
    assert SECRET not in look(reports["without"], DESK, LOOK).found["text"]
    assert SECRET not in reports["without"].read_text(encoding="utf-8")


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: f"{view.width}-{'dark' if view.dark else 'light'}")
def test_it_can_be_read(reports: dict[str, Any], view: View) -> None:
    """Nothing is wider than the window, tables scroll by themselves; colours follow the scheme and have contrast."""
    seen = look(reports["with"], view, LOOK)

    assert seen.found["wider"] <= 0
    assert seen.found["pale"] == []
    assert (seen.found["background"] < 0.05) is view.dark
    assert seen.picture.startswith(b"\x89PNG")
    assert len(seen.picture) > 10_000

"""The report in a real browser: it shows the verdict, in both colour schemes and on a phone, and runs nothing."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.paired_spans import Draw, Request, requests, write_store
from traceai_vllm.release import Judgement, compare, decision_of, open_source, parse_policy, verdict_sentence
from traceai_vllm.release.report import report_html

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>document.title = 'run'</script><img src=x onerror=\"document.title='run'\">"

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian: apt-get install chromium)")


def browser(*options: str) -> str:
    """Run the browser without a window, and return what it prints."""
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A report full of hostile text, and its verdict."""
    folder = tmp_path_factory.mktemp("report")

    def make(draw: Draw) -> Request:
        text = f'[{{"role": "assistant", "parts": [{{"type": "text", "content": {HOSTILE!r}}}]}}]'
        return Request(route=HOSTILE, fails=draw.fails(0.02, 0.3), candidate={"gen_ai.output.messages": text})

    source = open_source(write_store(folder / "spans", requests(150, make)))
    policy = parse_policy("{version: 1, measures: {Groundedness: {margin: 0.05}}}")
    judgement = Judgement(compare(source, policy))
    page = folder / "report.html"
    page.write_text(report_html(judgement, decision_of(judgement), source, command=f"x {HOSTILE}"))
    return page, verdict_sentence(judgement)


def test_the_verdict_is_there_and_no_script_ran(report: tuple[Path, str]) -> None:
    """The page that the browser made of the file has the verdict as its heading, and its own title."""
    page, verdict = report

    dom = browser("--dump-dom", page.as_uri())

    assert "<title>fallback: policy</title>" in dom
    assert "<script" not in dom
    assert "<img" not in dom
    assert verdict.split("<")[0] in dom


@pytest.mark.parametrize("options", [["--window-size=1200,900"], ["--window-size=390,844", "--force-dark-mode"]])
def test_it_can_be_drawn(report: tuple[Path, str], tmp_path: Path, options: list[str]) -> None:
    """On a desk and on a phone, light and dark: there is a picture with something in it."""
    picture = tmp_path / "report.png"

    browser(*options, f"--screenshot={picture}", report[0].as_uri())

    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000

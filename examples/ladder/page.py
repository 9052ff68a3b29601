"""Writes docs/ladder.md and its pictures from what a run of the ladder found."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path
from typing import Any

from results import LadderError, guarded, rates

_WIDTH, _HEIGHT = 1080, 1350
_COLOURS = 64
_LARGEST = 300_000
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_MARKS = ("<!-- made by make ladder: from here -->", "<!-- to here -->")


def write(results: list[dict[str, Any]], docs: Path) -> None:
    """Put the table and the pictures of a run into the page.

    Args:
        results: what came of each rung.
        docs: the folder of the documentation.
    """
    page, pictures = docs / "ladder.md", docs / "ladder"
    pictures.mkdir(exist_ok=True)
    for result in results:
        take_picture(Path(result["report"]), pictures / f"{result['rung']}.png")
    before, _, rest = page.read_text(encoding="utf-8").partition(_MARKS[0])
    after = rest.partition(_MARKS[1])[2]
    page.write_text(f"{before}{_MARKS[0]}\n{made(results)}{_MARKS[1]}{after}", encoding="utf-8")


def made(results: list[dict[str, Any]]) -> str:
    """The part of the page that a run writes: the table, then each rung with its picture."""
    names = guarded(results)
    lines = ["", f"| rung | action | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    for result in results:
        cells = [rates(result["cells"][name]) for name in names]
        lines.append(f"| {result['rung']} | `{result['action']}` | {' | '.join(cells)} |")
    for result in results:
        lines += ["", f"### {result['rung']}: {result['served']}", "", f"> {result['verdict']}", ""]
        lines.append(f"![The report of {result['rung']}: {result['action']}](ladder/{result['rung']}.png)")
    return "\n".join([*lines, "", ""])


def take_picture(report: Path, picture: Path) -> None:
    """Draw the top of a report, in few colours.

    Raises:
        LadderError: there is no Chromium, or the picture is too large.
    """
    from PIL import Image

    browser = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        raise LadderError("the pictures need Chromium (Debian: apt-get install chromium)")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={_WIDTH},{_HEIGHT}"]
    subprocess.run(
        [browser, *options, f"--screenshot={picture}", report.as_uri()], check=True, capture_output=True, timeout=120
    )
    with Image.open(picture) as drawn:
        few = drawn.convert("RGB").quantize(_COLOURS)
    written = io.BytesIO()
    few.save(written, format="PNG", optimize=True)
    if written.tell() > _LARGEST:
        raise LadderError(f"{picture.name} has {written.tell()} bytes; at most {_LARGEST} are kept in docs/")
    picture.write_bytes(written.getvalue())

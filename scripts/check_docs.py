"""Check the documentation: links to files and headings lead somewhere, Python examples compile."""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.M | re.S)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+\s+(.*?)\s*$", re.M)


def main() -> int:
    """Check every page; return the process exit code."""
    pages = sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md"))
    problems = [problem for page in pages for problem in (*broken_links(page), *broken_examples(page))]
    for problem in problems:
        print(problem)
    print(f"{len(pages)} pages checked, {len(problems)} problems")
    return 1 if problems else 0


def broken_links(page: Path) -> list[str]:
    """Links of a page to files or headings that are not there."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    problems = []
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists():
            problems.append(f"{page.relative_to(ROOT)}: there is no {link}")
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            problems.append(f"{page.relative_to(ROOT)}: there is no heading #{anchor} in {target.name}")
    return problems


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(text)}


def broken_examples(page: Path) -> list[str]:
    """Python examples of a page that are not Python."""
    text = page.read_text(encoding="utf-8")
    problems = []
    for block in _FENCE.finditer(text):
        if block[2] not in {"python", "py"}:
            continue
        try:
            # Examples may await at the top level, as notebooks do.
            compile(textwrap.dedent(block[3]), page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            line = text.count("\n", 0, block.start()) + 1 + (error.lineno or 0)
            problems.append(f"{page.relative_to(ROOT)}:{line}: {error.msg}")
    return problems


if __name__ == "__main__":
    sys.exit(main())

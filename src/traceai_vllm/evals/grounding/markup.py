"""A retrieved document as it would be read: without the marks of HTML, and each cell of a table beside its heading."""

from __future__ import annotations

import html
import re
from itertools import zip_longest
from typing import NamedTuple

# Those that part what stands on either side of them, and those that stand within a line; `List<String>` has none.
_BLOCK = (
    "p|div|br|hr|ul|ol|li|dl|dt|dd|h[1-6]|table|thead|tbody|tfoot|caption|section|article|header|footer|main|nav|pre|"
    "blockquote|body|html|head|title|figure|figcaption"
)
_INLINE = "a|abbr|b|code|em|font|i|img|mark|small|span|strong|sub|sup|u|input|button|label|time"
_TAG = re.compile(rf"<(?:(/?(?:{_BLOCK}))|/?(?:{_INLINE}))(?:\s+[\w:-]+\s?=[^<>]{{0,500}})?\s*/?>", re.I)
_SCRIPT = re.compile(r"<(script|style)\b[^<>]*>.*?</\1\s*>|<!--.*?-->", re.I | re.S)
_LAST_HEADING = re.compile(r"</th\s*>\s*</tr\s*>", re.I)
_ROW = re.compile(r"\s*<tr(?:\s+[\w:-]+\s?=[^<>]{0,500})?>", re.I)
_CELL = re.compile(r"\s*<t[dh](?:\s+[\w:-]+\s?=[^<>]{0,500})?>\s*", re.I)
_CELL_END = re.compile(r"\s*</t[drh]\s*>", re.I)
_ENTITY = re.compile(r"&(?:[a-z]{2,8}|#\d{2,6}|#x[0-9a-f]{2,5});", re.I)
_TABLE = re.compile(
    r"^(?P<head>[^\n|]*\|[^\n]*)\n[ \t]*(?:\|[ \t]*)?:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*(?:\|[ \t]*)?(?:\n|\Z)"
    r"(?P<rows>(?:[^\n|]*\|[^\n]*(?:\n|\Z))+)",
    re.M,
)
_ESCAPED = re.compile(r"(?<!\\)\|")
_NUMBER = re.compile(r"[-+(\u2212]?\s?[$\u00a3\u20ac\u00a5]?\s?\d[\d.,]*\)?")
# What a heading says of all numbers below it.
_IN = re.compile(
    r"(?:\bin\s|\b(?:usd|eur|gbp|us)\s?|[$\u00a3\u20ac\u00a5]\s?)\$?\s?"
    r"(?:(?P<thousand>thousands?|k|000s?)|(?P<million>millions?|mn?|mm)|(?P<billion>billions?|bn?))\b",
    re.I,
)


class Cell(NamedTuple):
    """A cell of a table with what it is of: the first cell of its row, and its heading."""

    label: str
    heading: str
    said: str


def plain(text: str) -> tuple[str, list[Cell]]:
    """Return a document without HTML's marks, each row of a table with the headings of its cells; and these cells."""
    cells: list[Cell] = []
    if "<" in text:
        text = _without_tags(text)
    if "&" in text and _ENTITY.search(text):
        text = html.unescape(text)
    if "|" in text:
        text = _TABLE.sub(lambda table: _spelled_out(table["head"], table["rows"], cells), text)
    return text, cells


def _without_tags(text: str) -> str:
    if not (_TAG.search(text) or _CELL.search(text)):
        return text
    text = _SCRIPT.sub(" ", text)
    text = _LAST_HEADING.sub("\n|-|", text)
    text = _ROW.sub("\n", _CELL.sub("|", _CELL_END.sub("", text)))
    return _TAG.sub(lambda tag: "\n" if tag[1] else "", text)


def _spelled_out(head: str, rows: str, cells: list[Cell]) -> str:
    headings = _cells(head)
    scales = [_scale(heading) for heading in headings]
    of_all = scales[0] if len(scales) > 1 else None
    lines = []
    for row in rows.splitlines():
        label, *rest = _cells(row) or [""]
        said = [label] if label else []
        for cell, heading, own in zip_longest(rest, headings[1:], scales[1:], fillvalue=""):
            if not cell:
                continue
            scale = own or of_all
            number = f"{cell} ({cell} {scale})" if scale and _NUMBER.fullmatch(cell) else cell
            cells.append(Cell(label, heading or "", number))
            said.append(f"{heading} {number}" if heading else number)
        lines.append(" | ".join(said))
    return "\n".join((" | ".join(headings[:1]), *lines, ""))


def _cells(row: str) -> list[str]:
    cells = [cell.strip().strip("*_` ") for cell in _ESCAPED.split(row.strip())]
    if cells and not cells[0]:
        cells = cells[1:]
    return cells[:-1] if cells and not cells[-1] else cells


def _scale(heading: str) -> str | None:
    found = _IN.search(heading)
    return found.lastgroup if found else None

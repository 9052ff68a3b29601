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
# Spaces are read from the first of them on alone: there may be a hundred thousand.
_LAST_HEADING = re.compile(r"</th\s*>\s*</tr\s*>", re.I)
_ROW = re.compile(r"(?<!\s)\s*<tr(?:\s+[\w:-]+\s?=[^<>]{0,500})?>", re.I)
_CELL = re.compile(r"(?<!\s)\s*<t[dh](?:\s+[\w:-]+\s?=[^<>]{0,500})?>\s*", re.I)
_CELL_END = re.compile(r"(?<!\s)\s*</t[drh]\s*>", re.I)
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
    """A cell of a table: where the first cell of its row, its heading and itself are in the text, as start and end."""

    label: tuple[int, int]
    heading: tuple[int, int]
    said: tuple[int, int]


def plain(text: str) -> tuple[str, list[Cell]]:
    """Return a document without HTML's marks, each row of a table with the headings of its cells; and these cells."""
    if "<" in text:
        text = _without_tags(text)
    if "&" in text and _ENTITY.search(text):
        text = html.unescape(text)
    tables = list(_TABLE.finditer(text)) if "|" in text else []
    spelled = _Spelled()
    at = 0
    for table in tables:
        spelled.add(text[at : table.start()])
        spelled.add_table(table["head"], table["rows"])
        at = table.end()
    spelled.add(text[at:])
    return "".join(spelled.pieces), spelled.cells


def _without_tags(text: str) -> str:
    if not (_TAG.search(text) or _CELL.search(text)):
        return text
    text = _SCRIPT.sub(" ", text)
    text = _LAST_HEADING.sub("\n|-|", text)
    text = _ROW.sub("\n", _CELL.sub("|", _CELL_END.sub("", text)))
    return _TAG.sub(lambda tag: "\n" if tag[1] else "", text)


class _Spelled:
    """A text with its tables spelled out, as far as it is put together."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.cells: list[Cell] = []
        self._length = 0

    def add(self, piece: str) -> tuple[int, int]:
        """Append to the text, and return where."""
        start = self._length
        self.pieces.append(piece)
        self._length += len(piece)
        return start, self._length

    def add_table(self, head: str, rows: str) -> None:
        headings = _cells(head)
        scales = [_scale(heading) for heading in headings]
        of_all = scales[0] if len(scales) > 1 else None
        self.add(f"{headings[0] if headings else ''}\n")
        for row in rows.splitlines():
            label, *rest = _cells(row) or [""]
            where = self.add(label)
            for cell, heading, scale in zip_longest(rest, headings[1:], scales[1:], fillvalue=""):
                if cell:
                    self._add_cell(cell, heading or "", scale or of_all, where)
            self.add("\n")

    def _add_cell(self, cell: str, heading: str, scale: str | None, label: tuple[int, int]) -> None:
        self.add(" | ")
        start, end = self.add(f"{heading} " if heading else "")
        scaled = f"{cell} ({cell} {scale})" if scale and _NUMBER.fullmatch(cell) else cell
        # What a heading has in brackets is mostly a unit.
        self.cells.append(Cell(label, (start, min(end, start + _bracket(heading))), self.add(scaled)))


def _bracket(heading: str) -> int:
    at = heading.find("(")
    return at if at > 0 else len(heading)


def _cells(row: str) -> list[str]:
    cells = [cell.strip().strip("*_` ") for cell in _ESCAPED.split(row.strip())]
    if cells and not cells[0]:
        cells = cells[1:]
    return cells[:-1] if cells and not cells[-1] else cells


def _scale(heading: str) -> str | None:
    found = _IN.search(heading)
    return found.lastgroup if found else None

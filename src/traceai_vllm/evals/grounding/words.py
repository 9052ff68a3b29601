"""Words of a text with their stems, their weights, and vectors that say which words are near in meaning."""

from __future__ import annotations

import functools
import io
import math
import re
from dataclasses import dataclass
from importlib import resources
from typing import Any

from traceai_vllm.evals.errors import optional

TOKEN = re.compile(
    r"[^\W\d_]+(?:['\u2019][^\W\d_]+)*|\d+(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)?|[%$£€¥°]",
)
STOP = frozenset(
    """a an the this that these those there here it its it's he she they them his her hers their theirs him we us our
    you your yours i me my mine who whom whose which what where when why how and or but if then than so as of at by for
    with about into onto upon to from up down in out on off over under again further once is are was were be been being
    am has have had having do does did doing will would can could should shall may might must also such some any each
    other more most own same just very too s t d ll m re ve y am both while during before after above below between
    because until through own however therefore thus including include includes included according per via one
    """.split()  # noqa: SIM905 - a table of words reads better as words
)
NEGATIONS = frozenset(
    """no not never none nobody nothing neither nor without cannot can't don't doesn't didn't won't wouldn't isn't
    aren't wasn't weren't hasn't haven't hadn't shouldn't couldn't mustn't needn't unable lack lacks lacking fail
    fails failed refuse refuses refused deny denies denied except excluding excludes exclude""".split()  # noqa: SIM905
)
_FREQUENT = 200.0  # words up to about this rank carry little
_UNKNOWN = 1.1
_REMEMBERED = 50_000
_BREAKS = frozenset('.!?:\n"“')


@dataclass(slots=True)
class Words:
    """The words of a text, in parallel lists.

    Attributes:
        text: the text itself.
        lower: in lower case.
        stems: their stems.
        spans: where they stand, as (start, end).
        weights: how much each tells, from 0 (an article) to about 1 (a rare word).
        capitals: 0 for a word without a capital, 1 with one at its start, 2 with more or in a shape of its own.
        denials: the words that deny, by index.
    """

    text: str
    lower: list[str]
    stems: list[str]
    spans: list[tuple[int, int]]
    weights: list[float]
    capitals: list[int]
    denials: list[int]

    def named(self, index: int) -> bool:
        """Return whether a word is written like a name, in a place where an ordinary word is not."""
        if self.capitals[index] != 1:
            return self.capitals[index] == 2
        if index == 0:
            return False
        gap = self.text[self.spans[index - 1][1] : self.spans[index][0]]
        return gap == " " or _BREAKS.isdisjoint(gap)


class Lexicon:
    """Stems, weights and vectors of the words that the vector file knows. One for the process: :func:`lexicon`."""

    def __init__(self) -> None:
        self.numpy = optional("numpy", "Groundedness")
        self._stem = optional("Stemmer", "Groundedness").Stemmer("english")
        file = resources.files("traceai_vllm.evals") / "data" / "word_vectors.npz"
        loaded = self.numpy.load(io.BytesIO(file.read_bytes()), allow_pickle=False)
        known = str(loaded["words"]).split("\n")
        self._rank = {word: rank for rank, word in enumerate(known)}
        stems = self._stem.stemWords(known)
        self._row: dict[str, int] = {}
        for row, stem in enumerate(stems):
            self._row.setdefault(stem, row)
        vectors = loaded["vectors"].astype("float32")
        self._vectors = vectors / self.numpy.linalg.norm(vectors, axis=1, keepdims=True)
        self._seen: dict[str, tuple[str, str, float, int, bool]] = {}
        top = math.log1p(len(known) / _FREQUENT)
        self._weights = {
            word: 0.0 if word in STOP else max(0.15, math.log1p(rank / _FREQUENT) / top)
            for word, rank in self._rank.items()
        }

    def read(self, text: str) -> Words:
        """Return the words of a text."""
        seen, know = self._seen, self._know
        matches = list(TOKEN.finditer(text))
        if not matches:
            return Words(text, [], [], [], [], [], [])
        known = [seen.get(match[0]) or know(match[0]) for match in matches]
        lower, stems, weights, capitals, denies = map(list, zip(*known, strict=True))
        denials = [index for index, denying in enumerate(denies) if denying]
        return Words(text, lower, stems, [match.span() for match in matches], weights, capitals, denials)

    def _know(self, raw: str) -> tuple[str, str, float, int, bool]:
        """Lower case, stem, weight and capitals of a word, and whether it denies; kept for the next time."""
        lower = raw.lower().replace("\u2019", "'")
        bare = lower[:-2] if lower.endswith("'s") else lower
        weight = 0.0 if bare in STOP else self._weights.get(bare, _UNKNOWN)
        capitals = 0 if not raw[0].isupper() else 2 if len(raw) > 1 and not raw[1:].islower() else 1
        known = (lower, self._stem.stemWord(bare), weight, capitals, lower in NEGATIONS or lower.endswith("n't"))
        if len(self._seen) > _REMEMBERED:
            self._seen.clear()
        self._seen[raw] = known
        return known

    def vectors(self, stems: list[str]) -> Any:
        """Return a row for each stem; zeros where it has no vector."""
        rows = [self._row.get(stem, -1) for stem in stems]
        found = self._vectors[rows] if rows else self._vectors[:0]
        missing = [index for index, row in enumerate(rows) if row < 0]
        if missing:
            found[missing] = 0.0
        return found


@functools.cache
def lexicon() -> Lexicon:
    """Return the process's lexicon; loaded at the first call, in about a tenth of a second."""
    return Lexicon()

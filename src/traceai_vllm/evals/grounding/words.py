"""Words of a text with their stems, their weights, and vectors that say which words are near in meaning."""

from __future__ import annotations

import functools
import io
import itertools
import math
import operator
import re
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.evals.errors import optional
from traceai_vllm.evals.grounding.dates import Dates
from traceai_vllm.evals.notation import (
    ASCII_NUMBER,
    ENGLISH_MONTHS,
    IDEOGRAPHIC_NUMBER,
    MONTHS,
    NUMBER,
    UNSPACED,
    readings,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traceai_vllm.evals.grounding.dates import Dated

# In Chinese and Japanese each sign is a word, but for katakana, which write a foreign word together.
_TOKEN = re.compile(
    rf"({IDEOGRAPHIC_NUMBER}|[{UNSPACED}]"
    rf"|[^\W\d_{UNSPACED}]+(?:['\u2019][^\W\d_{UNSPACED}]+)*|{NUMBER}|[%$£€¥°])",
)
# The same for a text that is ASCII, in two thirds of the time.
_ASCII_TOKEN = re.compile(rf"([A-Za-z]+(?:'[A-Za-z]+)*|{ASCII_NUMBER}|[%$])")
_SIGN = re.compile(f"[{UNSPACED}]+")
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
#: In front of a name they are no part of it, and the point behind one ends no sentence.
TITLES = frozenset("dr drs mr mrs ms prof professor herr frau mme mlle".split())  # noqa: SIM905
_FREQUENT = 200.0  # words up to about this rank carry little
_UNKNOWN = 1.1
_IDEOGRAPH, _SYLLABLE = 0.5, 0.15  # about half a word; mostly grammar
_REMEMBERED = 50_000
_COLUMNS = [operator.itemgetter(column) for column in range(7)]
_BREAKS = frozenset('.!?:\n"“')


@dataclass(slots=True)
class Words:
    """The words of a text, in parallel lists.

    Attributes:
        text: the text itself.
        lower: in lower case.
        stems: their stems.
        starts: where each begins.
        ends: where each ends.
        gaps: what stands before each.
        weights: how much each tells, from 0 (an article) to about 1 (a rare word).
        capitals: 0 for a word without a capital, 1 with one at its start, 2 with more or in a shape of its own.
        rows: the row of each one's stem in the table of vectors; -1 for none.
        denials: the words that deny, by index.
        digits: the words that are a number in digits or Chinese signs, by index; their stem is its value, that of the
            month of a date its name.
        dates: what the numbers of dates say, by index: two things where the date can be read in two ways.
    """

    text: str
    lower: list[str]
    stems: list[str]
    starts: list[int]
    ends: list[int]
    gaps: list[str]
    weights: list[float]
    capitals: list[int]
    rows: list[int]
    denials: list[int]
    digits: list[int]
    dates: dict[int, tuple[Dated, ...]]

    def characters(self, first: int, last: int) -> tuple[int, int]:
        """Return where words ``[first, last]`` stand, as start and end."""
        return self.starts[first], self.ends[last]

    def named(self, index: int) -> bool:
        """Return whether a word is written like a name, in a place where an ordinary word is not."""
        if self.capitals[index] != 1:
            return self.capitals[index] == 2
        if index == 0:
            return False
        gap = self.gaps[index]
        return gap == " " or _BREAKS.isdisjoint(gap) or (gap == ". " and self.lower[index - 1] in TITLES)

    def named_like(self) -> Iterator[int]:
        """Return the telling words with a capital, by index."""
        weights = self.weights
        return (index for index in itertools.compress(range(len(weights)), self.capitals) if weights[index])


class _Known(NamedTuple):
    """What is known of a word as it is written: the columns of :class:`Words`, and whether it denies or is a number."""

    lower: str
    stem: str
    weight: float
    capital: int
    row: int
    denies: bool
    digits: bool


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
        vectors /= self.numpy.linalg.norm(vectors, axis=1, keepdims=True)
        # The last row, which -1 takes, is that of the words without a vector.
        self._vectors = self.numpy.concatenate((vectors, self.numpy.zeros_like(vectors[:1])))
        self._seen: dict[str, _Known] = {}
        top = math.log1p(len(known) / _FREQUENT)
        self._weights = {
            word: 0.0 if word in STOP else max(0.15, math.log1p(rank / _FREQUENT) / top)
            for word, rank in self._rank.items()
        }

    def read(self, text: str) -> Words:
        """Return the words of a text."""
        seen, know = self._seen, self._know
        pieces = (_ASCII_TOKEN if text.isascii() else _TOKEN).split(text)  # a gap, a word, a gap, ... and a gap
        if len(pieces) == 1:
            return Words(text, [], [], [], [], [], [], [], [], [], [], {})
        known = [seen.get(word) or know(word) for word in pieces[1::2]]
        columns = [[*map(column, known)] for column in _COLUMNS]
        dates = Dates(text, columns[0], pieces[::2], columns[-1])
        if dates.read_as:
            for index, word in dates.read_as.items():
                same = seen.get(word) or know(word)
                spelled = word if word.isdecimal() else known[index].lower
                known[index] = same._replace(lower=spelled, capital=0, digits=True)
            columns = [[*map(column, known)] for column in _COLUMNS]
        lower, stems, weights, capitals, rows, denies, digits = columns
        borders = list(itertools.accumulate(map(len, pieces)))
        places = range(len(known))
        return Words(
            text,
            lower,
            stems,
            borders[:-1:2],
            borders[1::2],
            pieces[:-1:2],
            weights,
            capitals,
            rows,
            denials=list(itertools.compress(places, denies)),
            digits=list(itertools.compress(places, digits)),
            dates=dates.numbers,
        )

    def _know(self, raw: str) -> _Known:
        """Find out about a word; kept for the next time."""
        lower = raw.lower().replace("\u2019", "'")
        number = lower[0].isdecimal()
        bare = readings(raw)[0] if number else lower[:-2] if lower.endswith("'s") else lower
        bare = ENGLISH_MONTHS[MONTHS.get(bare, 0)] or bare
        weight = 0.0 if bare in STOP else self._weights.get(bare, _UNKNOWN)
        if weight == _UNKNOWN and _SIGN.match(raw):
            weight = _SYLLABLE if raw <= "\u309f" else _IDEOGRAPH
        capitals = 0 if not raw[0].isupper() else 2 if len(raw) > 1 and not raw[1:].islower() else 1
        stem = self._stem.stemWord(bare)
        denies = lower in NEGATIONS or lower.endswith("n't")
        known = _Known(lower, stem, weight, capitals, self._row.get(stem, -1), denies, number)
        if len(self._seen) > _REMEMBERED:
            self._seen.clear()
        self._seen[raw] = known
        return known

    def vectors(self, rows: Sequence[int]) -> Any:
        """Return the vectors of some words, by :attr:`Words.rows`; zeros where there is none."""
        return self._vectors.take(self.numpy.asarray(rows, dtype=self.numpy.int64), axis=0)


@functools.cache
def lexicon() -> Lexicon:
    """Return the process's lexicon; loaded at the first call, in about a tenth of a second."""
    return Lexicon()

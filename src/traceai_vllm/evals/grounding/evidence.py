"""The context, read once: words, sentences, numbers, and how near each is to the words of the answer."""

from __future__ import annotations

import functools
import itertools
from bisect import bisect_left, bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.evals.grounding import tables
from traceai_vllm.evals.grounding.anchors import REACH, Surroundings
from traceai_vllm.evals.grounding.claims import sentences
from traceai_vllm.evals.grounding.dates import MONTH
from traceai_vllm.evals.grounding.directions import steps
from traceai_vllm.evals.grounding.names import Name, names
from traceai_vllm.evals.grounding.numbers import Figures, after
from traceai_vllm.evals.grounding.quantities import Quantity, quantities

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from traceai_vllm.evals.grounding.markup import Cell
    from traceai_vllm.evals.grounding.words import Lexicon, Words

_NEAR = 0.45  # below this cosine two words have nothing to do with each other
_SAME = 0.80  # from here on they say the same


class Nearness(NamedTuple):
    """How near the words of an answer are to the context, from 0 (nothing like it) to 1 (the word itself).

    Attributes:
        each: by telling stem of the context and stem of the answer; the last row, of no word, is zero.
        best: by stem, anywhere in the context.
        by_sentence: by stem and sentence, in the order of :attr:`Evidence.owned`.
        vectors: those of the stems.
    """

    each: Any
    best: Any
    by_sentence: Any
    vectors: Any


class Evidence:
    """The context as claims are laid against it.

    Args:
        context: the documents, joined.
        cells: those of its tables.
        lexicon: the process's lexicon.
    """

    def __init__(self, context: str, cells: Sequence[Cell], lexicon: Lexicon) -> None:
        self._cells = cells
        self.words: Words = lexicon.read(context)
        self.quantities: list[Quantity] = [q for q in quantities(self.words) if not q.label or q.unit == MONTH]
        self._lexicon = lexicon
        self.numpy = lexicon.numpy
        starts = self.words.starts
        firsts = sorted({bisect_left(starts, span.start) for span in sentences(context)} - {len(starts)})
        self.firsts: list[int] = firsts if firsts and firsts[0] == 0 else [0, *firsts]
        self._number = dict(zip(dict.fromkeys(self.words.stems), itertools.count()))
        self.ids: list[int] = list(map(self._number.__getitem__, self.words.stems))
        self._columns()

    def _columns(self) -> None:
        """The telling words of the context, each sentence's together; a sentence without any gets its first word."""
        np = self._lexicon.numpy
        weights, ids = np.array(self.words.weights), np.array(self.ids, dtype=np.int64)
        told = weights.nonzero()[0]
        stems = ids[told]
        unique = np.array(list(dict.fromkeys(stems.tolist())), dtype=np.int64)
        at = np.full(len(self._number) + 1, -1, dtype=np.int64)  # the last one is for a stem that is not here
        at[unique] = np.arange(len(unique))
        self._at, self._sequence = at, at[stems]
        row_of = np.zeros(len(self._number), dtype=np.int64)
        row_of[ids] = self.words.rows  # words of one stem have one row
        self._vectors = self._lexicon.vectors(row_of[unique])
        owners = np.searchsorted(self.firsts, told, side="right") - 1
        self._bounds = np.flatnonzero(np.diff(owners, prepend=-1))
        self.owned: list[int] = owners[self._bounds].tolist()
        self._meanings = self._sentence_meanings(weights[told].astype(np.float32))
        self._padded = np.full(len(ids) + 2 * REACH, -1, dtype=np.int64)
        self._padded[REACH:-REACH] = ids
        self._places = np.full(len(ids) + 2 * REACH, len(unique), dtype=np.int64)
        self._places[REACH + told] = self._sequence

    def numbered(self, stems: Iterable[str]) -> list[int]:
        """Return the number by which the context knows each stem; -2 where it has it not."""
        return [self._number.get(stem, -2) for stem in stems]

    @functools.cached_property
    def figures(self) -> Figures:
        """The numbers, in arrays."""
        return Figures(self.numpy, self.quantities)

    @functools.cached_property
    def steps(self) -> list[tuple[Quantity, Quantity]]:
        """The numbers that go from one to another."""
        return steps(self.words, self.quantities)

    @functools.cached_property
    def tables(self) -> tables.Figures:
        """The numbers in the cells of tables."""
        return tables.Figures(self.words, self.quantities, self._cells)

    @functools.cached_property
    def by_numbers(self) -> Surroundings:
        """What stands round the numbers."""
        return self._surroundings([(each.core, each.core - 1, after(self.words, each)) for each in self.quantities])

    @functools.cached_property
    def names(self) -> list[Name]:
        """The names."""
        return names(self.words, self.name_stems)

    @functools.cached_property
    def name_stems(self) -> set[str]:
        """The stems of which names are made, by how they are written where an ordinary word is not."""
        words = self.words
        return {words.stems[index] for index in words.named_like() if words.named(index)}

    @functools.cached_property
    def named(self) -> dict[int, list[int]]:
        """The names that have a stem, by the stem's number."""
        found: dict[int, list[int]] = {}
        for index, each in enumerate(self.names):
            for stem in set(self.ids[each.first : each.last + 1]):
                found.setdefault(stem, []).append(index)
        return found

    def sharing(self, stems: Iterable[int]) -> Counter[int]:
        """Return the names that share stems with these, by index, and how many."""
        return Counter(name for stem in stems for name in self.named.get(stem, ()))

    @functools.cached_property
    def by_names(self) -> Surroundings:
        """What stands round the names."""
        return self._surroundings([(each.last, each.first - 1, each.last + 1) for each in self.names])

    def best_sentence(self, coverage: Any) -> int:
        """Return the number of the sentence that covers most, of those in :attr:`owned`."""
        return self.owned[int(coverage.argmax())] if len(coverage) else 0

    def written(self, name: int) -> str:
        """Return a name as the context writes it."""
        return self.words.text[slice(*self.words.characters(*self.names[name]))]

    def _surroundings(self, places: Sequence[tuple[int, int, int]]) -> Surroundings:
        return Surroundings(self.numpy, self._padded, self._places, places, self.firsts)

    def nearness(self, stems: Mapping[str, int]) -> Nearness:
        """Lay the stems of an answer against the context.

        Args:
            stems: the stems with their rows in the table of vectors.
        """
        np = self._lexicon.numpy
        vectors = self._lexicon.vectors(list(stems.values()))
        near = np.zeros((len(self._vectors) + 1, len(stems)), dtype=np.float32)
        if len(self._vectors) and stems:
            cosine = vectors @ self._vectors.T
            cosine -= _NEAR
            cosine /= _SAME - _NEAR
            np.maximum(cosine, 0.0, out=cosine)
            np.minimum(cosine, 1.0, out=cosine)
            np.multiply(cosine.T, 0.9, out=near[:-1])
            there = self._at[[max(number, -1) for number in self.numbered(stems)]]
            known = (there >= 0).nonzero()[0]
            near[there[known], known] = 1.0
            by_sentence = np.maximum.reduceat(near.take(self._sequence, axis=0), self._bounds, axis=0)
        else:
            by_sentence = np.zeros((len(self.owned), len(stems)), dtype=np.float32)
        return Nearness(near, near.max(axis=0), by_sentence.T, vectors)

    def _sentence_meanings(self, weights: Any) -> Any:
        """Return a vector of length 1 for each sentence, and for each with the one after it."""
        np = self.numpy
        if not self.owned:
            return self._vectors
        each = np.add.reduceat(self._vectors.take(self._sequence, axis=0) * weights[:, None], self._bounds, axis=0)
        both = np.concatenate((each, each[:-1] + each[1:]))
        return both / np.maximum(np.sqrt(np.add.reduce(both * both, axis=1, keepdims=True)), 1e-6)

    def meaning(self, weights: Any, vectors: Any) -> Any:
        """Return for each claim the cosine of its words' mean vector with that of the nearest sentence or pair of them.

        The vectors without context, weighted by rarity: Arora et al. 2017, "A simple but tough-to-beat baseline".

        Args:
            weights: by claim and stem.
            vectors: of the stems.
        """
        np = self.numpy
        if not len(self._meanings) or not len(vectors):
            return np.zeros(len(weights))
        means = weights @ vectors
        return (means @ self._meanings.T).max(axis=1) / np.maximum(np.linalg.norm(means, axis=1), 1e-6)

    def sentence(self, position: int) -> tuple[int, int]:
        """Return the range of words of the sentence at a position of ``owned``."""
        number = self.owned[position]
        last = self.firsts[number + 1] if number + 1 < len(self.firsts) else len(self.words.lower)
        return self.firsts[number], last

    def sentence_of(self, index: int) -> int:
        """Return the number of the sentence in which a word of the context stands."""
        return bisect_right(self.firsts, index) - 1

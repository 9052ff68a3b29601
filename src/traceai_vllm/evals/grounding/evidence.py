"""The context, read once: words, sentences, numbers, and how near each is to the words of the answer."""

from __future__ import annotations

import functools
import itertools
from bisect import bisect_right
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.evals.grounding.anchors import Surroundings
from traceai_vllm.evals.grounding.claims import sentences
from traceai_vllm.evals.grounding.names import Name, names
from traceai_vllm.evals.grounding.numbers import Figures, after
from traceai_vllm.evals.grounding.quantities import Quantity, quantities

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traceai_vllm.evals.grounding.words import Lexicon, Words

_NEAR = 0.45  # below this cosine two words have nothing to do with each other
_SAME = 0.80  # from here on they say the same


class Nearness(NamedTuple):
    """How near the words of an answer are to the context, from 0 (nothing like it) to 1 (the word itself).

    Attributes:
        each: by stem of the answer and telling stem of the context; the last column is zero.
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
        lexicon: the process's lexicon.
    """

    def __init__(self, context: str, lexicon: Lexicon) -> None:
        self.words: Words = lexicon.read(context)
        self.quantities: list[Quantity] = [q for q in quantities(self.words) if not q.label]
        self._lexicon = lexicon
        self.numpy = lexicon.numpy
        starts = [start for start, _ in self.words.spans]
        firsts = sorted({bisect_right(starts, span.start - 1) for span in sentences(context)} - {len(starts)})
        self.firsts: list[int] = firsts if firsts and firsts[0] == 0 else [0, *firsts]
        self._told = [index for index, weight in enumerate(self.words.weights) if weight > 0]
        self._number: dict[str, int] = {}
        self.ids: list[int] = [self._number.setdefault(stem, len(self._number)) for stem in self.words.stems]
        self.pairs: set[tuple[int, int]] = set(itertools.pairwise(self.ids))
        self._columns()

    def _columns(self) -> None:
        """The telling words of the context, each sentence's together; a sentence without any gets its first word."""
        np = self._lexicon.numpy
        told = [self.words.stems[index] for index in self._told]
        unique = list(dict.fromkeys(told))
        at = {stem: column for column, stem in enumerate(unique)}
        self._unique = unique
        self._at = at
        self._sequence = np.array([at[stem] for stem in told], dtype=np.int64)
        owners = np.searchsorted(self.firsts, self._told, side="right") - 1
        owned, self._bounds = np.unique(owners, return_index=True)
        self.owned: list[int] = owned.tolist()
        self._vectors = self._lexicon.vectors(unique)
        self._meanings = self._sentence_meanings()
        columns = np.full(len(self.words.stems) + 1, len(unique), dtype=np.int64)  # the last one is for no word at all
        columns[self._told] = self._sequence
        self._places = columns

    def numbered(self, stems: Sequence[str]) -> list[int]:
        """Return the number by which the context knows each stem; -2 where it has it not."""
        return [self._number.get(stem, -2) for stem in stems]

    @functools.cached_property
    def figures(self) -> Figures:
        """The numbers, in arrays."""
        return Figures(self.numpy, self.quantities)

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
        return {
            words.stems[index]
            for index, capital in enumerate(words.capitals)
            if capital and words.weights[index] and words.named(index)
        }

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
        each, spans = self.names[name], self.words.spans
        return self.words.text[spans[each.first][0] : spans[each.last][1]]

    def _surroundings(self, places: Sequence[tuple[int, int, int]]) -> Surroundings:
        return Surroundings(self.numpy, self.ids, self._places, places, self.firsts)

    def nearness(self, stems: Sequence[str]) -> Nearness:
        """Lay the stems of an answer against the context."""
        np = self._lexicon.numpy
        vectors = self._lexicon.vectors(list(stems))
        near = np.zeros((len(stems), len(self._unique) + 1), dtype=np.float32)
        if self._unique and stems:
            cosine = vectors @ self._vectors.T
            near[:, :-1] = np.clip((cosine - _NEAR) / (_SAME - _NEAR), 0.0, 1.0) * 0.9
            for row, stem in enumerate(stems):
                column = self._at.get(stem)
                if column is not None:
                    near[row, column] = 1.0
            by_sentence = np.maximum.reduceat(near[:, self._sequence], self._bounds, axis=1)
        else:
            by_sentence = np.zeros((len(stems), len(self.owned)), dtype=np.float32)
        return Nearness(near, near.max(axis=1), by_sentence, vectors)

    def _sentence_meanings(self) -> Any:
        """Return a vector of length 1 for each sentence, and for each with the one after it."""
        np = self.numpy
        if not self.owned:
            return self._vectors
        weights = np.array([self.words.weights[index] for index in self._told], dtype=np.float32)
        each = np.add.reduceat(self._vectors[self._sequence] * weights[:, None], self._bounds, axis=0)
        both = np.concatenate((each, each[:-1] + each[1:]))
        return both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-6)

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

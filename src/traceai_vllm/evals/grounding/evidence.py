"""The context, read once: words, sentences, numbers, and how near each is to the words of the answer."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from traceai_vllm.evals.grounding.claims import sentences
from traceai_vllm.evals.grounding.quantities import Quantity, quantities

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traceai_vllm.evals.grounding.words import Lexicon, Words

_NEAR = 0.45  # below this cosine two words have nothing to do with each other
_SAME = 0.80  # from here on they say the same
_REACH = 12  # words round a number that say what it is about


class Nearness(NamedTuple):
    """How near the words of an answer are to the context, from 0 (nothing like it) to 1 (the word itself).

    Attributes:
        each: by stem of the answer and telling stem of the context; the last column is zero.
        best: by stem, anywhere in the context.
        by_sentence: by stem and sentence, in the order of :attr:`Evidence.owned`.
    """

    each: Any
    best: Any
    by_sentence: Any


class Evidence:
    """The context as claims are laid against it.

    Args:
        context: the documents, joined.
        lexicon: the process's lexicon.
    """

    def __init__(self, context: str, lexicon: Lexicon) -> None:
        self.words: Words = lexicon.read(context)
        self.quantities: list[Quantity] = [q for q in quantities(self.words) if not q.label]
        self.stems: set[str] = set(self.words.stems)
        self.pairs: set[tuple[str, str]] = _pairs(self.words.stems)
        self._lexicon = lexicon
        self.numpy = lexicon.numpy
        starts = [start for start, _ in self.words.spans]
        firsts = sorted({bisect_right(starts, span.start - 1) for span in sentences(context)} - {len(starts)})
        self.firsts: list[int] = firsts if firsts and firsts[0] == 0 else [0, *firsts]
        self._told = [index for index, weight in enumerate(self.words.weights) if weight > 0]
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
        owners = [bisect_right(self.firsts, index) - 1 for index in self._told]
        self.owned: list[int] = sorted(set(owners))
        self._bounds = np.searchsorted(np.array(owners), np.array(self.owned)) if owners else np.zeros(0, np.int64)
        self._vectors = self._lexicon.vectors(unique)
        self._meanings = self._sentence_meanings()
        columns = np.full(len(self.words.stems) + 1, len(unique), dtype=np.int64)  # the last one is for no word at all
        columns[self._told] = self._sequence
        offsets = np.arange(-_REACH, _REACH + 1)
        places = np.array([q.core for q in self.quantities], dtype=np.int64)[:, None] + offsets
        places[(places < 0) | (places >= len(self.words.stems))] = len(self.words.stems)
        self._windows = columns[places]
        self._fade = (1.0 / (1.0 + np.maximum(0, np.abs(offsets) - 2) / 8.0)).tolist()

    def nearness(self, stems: Sequence[str]) -> Nearness:
        """Lay the stems of an answer against the context."""
        np = self._lexicon.numpy
        near = np.zeros((len(stems), len(self._unique) + 1), dtype=np.float32)
        if self._unique and stems:
            cosine = self._lexicon.vectors(list(stems)) @ self._vectors.T
            near[:, :-1] = np.clip((cosine - _NEAR) / (_SAME - _NEAR), 0.0, 1.0) * 0.9
            for row, stem in enumerate(stems):
                column = self._at.get(stem)
                if column is not None:
                    near[row, column] = 1.0
            by_sentence = np.maximum.reduceat(near[:, self._sequence], self._bounds, axis=1)
        else:
            by_sentence = np.zeros((len(stems), 0))
        return Nearness(near, near.max(axis=1), by_sentence)

    def _sentence_meanings(self) -> Any:
        """Return a vector of length 1 for each sentence, and for each with the one after it."""
        np = self.numpy
        if not self.owned:
            return self._vectors
        weights = np.array([self.words.weights[index] for index in self._told], dtype=np.float32)
        each = np.add.reduceat(self._vectors[self._sequence] * weights[:, None], self._bounds, axis=0)
        both = np.concatenate((each, each[:-1] + each[1:]))
        return both / np.maximum(np.linalg.norm(both, axis=1, keepdims=True), 1e-6)

    def meaning(self, stems: list[str], weights: Any) -> float:
        """Return the cosine of these words' weighted mean vector with that of the sentence or pair that is nearest.

        The vectors without context, weighted by rarity: Arora et al. 2017, "A simple but tough-to-beat baseline".
        """
        if not stems or not len(self._meanings):
            return 0.0
        vector = weights @ self._lexicon.vectors(stems)
        return float((self._meanings @ vector).max() / max(float(vector @ vector) ** 0.5, 1e-6))

    def around_numbers(self, near: Any) -> Any:
        """Return how near each row's word comes to a word round each number of the context; less the further away."""
        np = self.numpy
        best = np.zeros((len(near), len(self._windows)), dtype=np.float32)
        for place, fade in enumerate(self._fade):  # one place at a time keeps the memory small
            np.maximum(best, near[:, self._windows[:, place]] * fade, out=best)
        return best

    def sentence(self, position: int) -> tuple[int, int]:
        """Return the range of words of the sentence at a position of ``owned``."""
        number = self.owned[position]
        last = self.firsts[number + 1] if number + 1 < len(self.firsts) else len(self.words.lower)
        return self.firsts[number], last

    def sentence_of(self, index: int) -> int:
        """Return the number of the sentence in which a word of the context stands."""
        return bisect_right(self.firsts, index) - 1


def _pairs(stems: list[str]) -> set[tuple[str, str]]:
    return set(itertools.pairwise(stems))

"""From pairs to units of evidence: one value for each cluster (session or agent task), in order of arrival.

Pairs of one session share a user, a document and a mood: fifty of them are not fifty independent observations. The mean
of a cluster is one observation, and every cluster counts the same however long it is, so that one long session cannot
decide a release.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import digamma

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

_DENSE = 8  # numbers of clusters up to so many times the number of pairs are looked up in a table


@dataclass(frozen=True)
class Clusters:
    """Which cluster each pair belongs to, with clusters numbered in order of arrival.

    Attributes:
        of_pair: the cluster of each pair, shape (pairs,).
        sizes: pairs in each cluster, shape (clusters,).
    """

    of_pair: NDArray[np.intp]
    sizes: NDArray[np.intp]

    @property
    def pairs(self) -> int:
        """How many pairs there are."""
        return len(self.of_pair)

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return len(self.sizes)

    @property
    def single(self) -> bool:
        """Whether every pair is a cluster of its own."""
        return len(self.sizes) == len(self.of_pair)

    def means(self, values: Floats) -> Floats:
        """Return the mean of each cluster, shape (clusters,), from one value for each pair, shape (pairs,)."""
        sums = np.bincount(self.of_pair, weights=values, minlength=len(self.sizes))
        return np.asarray(sums / self.sizes, dtype=np.float64)

    def shares(self, chosen: NDArray[np.bool_]) -> Floats:
        """Return the share of each cluster's pairs that are chosen: the mean of ones and zeros, from counts."""
        many = 2 * np.count_nonzero(chosen) > len(chosen)
        counts = np.bincount(self.of_pair[~chosen if many else chosen], minlength=len(self.sizes))
        return np.asarray((self.sizes - counts if many else counts) / self.sizes, dtype=np.float64)

    @cached_property
    def weights(self) -> Floats:
        """One over the size of its cluster, for each pair, so that each cluster counts the same; shape (pairs,)."""
        return np.asarray(1.0 / self.sizes[self.of_pair], dtype=np.float64)

    def effective(self, means: Floats, square: float, seen: int) -> float:
        """Return as how many pairs that stand alone the clusters count (Rao and Scott, Biometrics 48, 1992).

        Between the number of clusters, where pairs of one are all alike, and the number of pairs, where they are not
        alike at all. How alike they are is told by the pairs that say anything; one more that is like its whole cluster
        is added to them, so that none in ten does not mean that they stand alone.

        Args:
            means: of a value in each cluster, shape (clusters,).
            square: the mean square of the value, each cluster counting the same.
            seen: pairs that say how alike they are: those that disagree.
        """
        if self.single or self.count < 2:
            return float(self.count)
        variance = square - float(np.mean(means)) ** 2
        if variance <= 1e-12:
            return float(self.count)
        most = self.count**2 / float((1.0 / self.sizes).sum())
        largest = most / self.count
        inflation = min(max(float(np.var(means, ddof=1)) / variance * largest, 1.0), largest)
        return most * (seen + 1) / (seen * inflation + largest)

    def chances(self, effective: float) -> float:
        """Return how many pairs that stand alone would be as likely to miss what is rare.

        More than they count as for a mean: fifty pairs that are a little alike are one draw of the session's mood, and
        nearly fifty of a rare event. By the beta-binomial distribution, whose parameters follow from how alike they are
        (Griffiths, Biometrics 29, 1973).

        Args:
            effective: of :meth:`effective`.
        """
        size = 1 / float((1.0 / self.sizes).mean()) if self.count else 1.0
        inflation = self.count * size / effective if effective else 1.0
        if inflation <= 1 or inflation >= size:
            return effective
        apart = (size - inflation) / (inflation - 1)
        return self.count * apart * float(digamma(apart + size) - digamma(apart))

    def pairs_in(self, clusters: int) -> int:
        """Return how many pairs the first ``clusters`` clusters have."""
        return int(self.sizes[:clusters].sum())


@dataclass(frozen=True)
class Singles:
    """Clusters of one pair each, of which only the number is known."""

    pairs: int

    @property
    def count(self) -> int:
        """How many clusters there are."""
        return self.pairs

    def pairs_in(self, clusters: int) -> int:
        """Return how many pairs the first ``clusters`` clusters have."""
        return clusters


def clusters_of(pairs: int, ids: ArrayLike | Clusters | None = None, order: ArrayLike | None = None) -> Clusters:
    """Number the clusters in order of arrival.

    A cluster arrives with its last pair: until then its mean is not known. Leave out sessions that still go on.

    Args:
        pairs: how many pairs there are.
        ids: the cluster of each pair, any sortable values, shape (pairs,); None when each pair is its own. Clusters of
            an earlier call stay as they are.
        order: when each pair arrived, any sortable values, shape (pairs,); None when they stand in order of arrival.

    Raises:
        ValueError: ``ids`` or ``order`` has another length.
    """
    if isinstance(ids, Clusters):
        _same_length(ids.of_pair, pairs, "clusters")
        return ids
    position = np.arange(pairs) if order is None else _places(np.asarray(order), pairs, "order")
    if ids is None:
        return Clusters(position, np.ones(pairs, dtype=np.intp))
    inverse = _codes(np.asarray(ids), pairs, "clusters")
    last = np.full(inverse.max(initial=-1) + 1, -1, dtype=np.intp)  # -1: a number that no pair has
    if order is None:
        last[inverse] = position  # what is assigned last stays
    else:
        np.maximum.at(last, inverse, position)
    ends = np.zeros(pairs, dtype=np.bool_)  # where a cluster has its last pair
    ends[last[last >= 0]] = True
    number = np.cumsum(ends, dtype=np.intp) - 1
    of_pair = number[last][inverse]
    return Clusters(of_pair, np.bincount(of_pair))


def _places(order: NDArray[Any], pairs: int, name: str) -> NDArray[np.intp]:
    _same_length(order, pairs, name)
    places = np.empty(pairs, dtype=np.intp)
    places[np.argsort(order, kind="stable")] = np.arange(pairs)
    return places


def _codes(ids: NDArray[Any], pairs: int, name: str) -> NDArray[np.intp]:
    _same_length(ids, pairs, name)
    if ids.dtype.kind in "iu" and pairs and ids.min() >= 0 and ids.max() <= _DENSE * pairs:
        return ids.astype(np.intp, copy=False)  # they stand for themselves, without sorting millions
    return np.asarray(np.unique(ids, return_inverse=True)[1], dtype=np.intp)


def _same_length(array: NDArray[Any], pairs: int, name: str) -> None:
    if array.shape != (pairs,):
        raise ValueError(f"{name} has shape {array.shape}; it needs one value for each of the {pairs} pairs")


def paired(baseline: ArrayLike, candidate: ArrayLike) -> tuple[Floats, Floats]:
    """Return both arms as arrays of floats.

    Raises:
        ValueError: they differ in length, or a value is missing (NaN) or infinite: leave such pairs out, count them,
            and compare what is left with :func:`~traceai_vllm.release.statistics.unpaired_rates`.
    """
    first, second = np.asarray(baseline, dtype=np.float64), np.asarray(candidate, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"baseline {first.shape} and candidate {second.shape} must be two lists of the same length")
    # NaN is the least and the most of all, without an array of them.
    if len(first) and not np.isfinite([first.min(), first.max(), second.min(), second.max()]).all():
        raise ValueError("a value is missing (NaN) or infinite: leave such pairs out, and count them")
    return first, second

"""The columns of clean pairs that statistics need, as arrays, in order of arrival."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np

from traceai_vllm.release.statistics.clusters import clusters_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow
    from numpy.typing import NDArray

    from traceai_vllm.release.statistics.clusters import Clusters

    Scope = tuple[tuple[str, str], ...]
    Rows = NDArray[np.intp]

DIMENSIONS = ("route", "intent", "traffic_cohort", "prompt_version")
SLICE = "slice"
PROMPT_TOKENS = "prompt_tokens"
_UNITS_KEPT = 4
_LARGEST = 1e30
_numbering = Lock()  # threads that ask for the same clusters at once wait for one of them


def bucket_label(number: int, edges: Sequence[int]) -> str:
    """Return what a bucket of prompt lengths is called: its first and last token count."""
    low = edges[number - 1] + 1 if number else 0
    return f"{low}-{edges[number]}" if number < len(edges) else f"{low}+"


@dataclass
class Frame:
    """Pairs as arrays of the same length, in the order in which they and their scores became known.

    Attributes:
        arrived_ns: when each pair had both answers, nanoseconds since the epoch; not in order where scores came late.
        clusters: a number for the cluster of each pair; None when each is its own.
        codes: dimension to the number of each pair's value; -1 where it has none.
        names: dimension to its values, sorted; ``codes`` are places in it.
        slices: slice to the rows that are in it.
        values: ``b:NAME`` and ``c:NAME`` to values, NaN where there is none.
        served: where users saw answers of both arms, but not of the same questions: those answers, each with a value of
            its own arm alone, for what users say (:mod:`~traceai_vllm.release.feedback`); None where there are none.
    """

    arrived_ns: NDArray[np.int64]
    clusters: NDArray[np.int64] | None
    codes: dict[str, NDArray[np.int32]]
    names: dict[str, list[str]]
    slices: dict[str, Rows]
    values: dict[str, NDArray[np.float32]]
    served: Frame | None = None
    _found: dict[Scope, Rows] = field(default_factory=dict, init=False, repr=False, compare=False)
    _units: list[tuple[Rows, Clusters]] = field(default_factory=list, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.arrived_ns)

    @cached_property
    def everything(self) -> Rows:
        """All rows."""
        return np.arange(len(self), dtype=np.intp)

    def parts(self, dimension: str) -> list[str]:
        """Return the values of a dimension that occur, in order; of ``slice`` too."""
        return sorted(self.slices) if dimension == SLICE else self.names[dimension]

    def rows(self, scope: Scope) -> Rows:
        """Return the rows of a part of the traffic, in order."""
        found = self._found.get(scope)
        if found is None:
            found = self._found[scope] = self._rows_of(scope)
        return found

    def _rows_of(self, scope: Scope) -> Rows:
        rows = self.everything
        # Slices first: their rows are known, and the fewer there are the less is looked at.
        for dimension, value in sorted(scope, key=lambda part: part[0] != SLICE):
            everything = rows is self.everything
            if dimension == SLICE:
                inside = self.slices.get(value, rows[:0])
                rows = inside if everything else np.intersect1d(rows, inside, assume_unique=True)
                continue
            names, codes = self.names[dimension], self.codes[dimension]
            code = names.index(value) if value in names else -2
            rows = np.flatnonzero(codes == code) if everything else rows[codes[rows] == code]
        return rows

    def units(self, rows: Rows) -> Clusters | None:
        """Return the clusters of some rows; None when each pair is its own.

        The last ones are remembered, as most measures of a part of the traffic have values in the same pairs.
        """
        if self.clusters is None:
            return None
        with _numbering:
            for known, units in self._units:
                if known is rows or np.array_equal(known, rows):
                    return units
            units = clusters_of(len(rows), self.clusters if rows is self.everything else self.clusters[rows])
            self._units = [(rows, units), *self._units[: _UNITS_KEPT - 1]]
        return units

    def scopes(self, *dimensions: str) -> Iterable[Scope]:
        """Return the parts that the values of some dimensions make together; one part, all of it, for none."""
        for values in product(*(self.parts(dimension) for dimension in dimensions)):
            yield tuple(zip(dimensions, values, strict=True))


def rows_of(clean: Any, measured: Sequence[str]) -> pyarrow.Table:
    """Read pairs from the database.

    Args:
        clean: the Ibis table of clean pairs.
        measured: which measures are needed; each is read for both arms.
    """
    floats = {name: measurable(clean[name]).cast("float32").name(name) for name in _both_sides(measured)}
    fields = ("arrived_ns", "known_ns", "pair_id", "cluster", "slices", "bucket", *DIMENSIONS)
    return clean.select(*fields, **floats).to_pyarrow()


def _both_sides(measured: Sequence[str]) -> list[str]:
    return [side + name for name in measured for side in ("b:", "c:")]


def frame_of(table: pyarrow.Table, measured: Sequence[str], edges: Sequence[int]) -> Frame:
    """Return pairs as arrays.

    Args:
        table: the pairs, as :func:`rows_of` has read them.
        measured: the measures that it was asked for.
        edges: where buckets of prompt lengths end.
    """
    sides = _both_sides(measured)
    order = _in_order(table["known_ns"].fill_null(0).to_numpy(), table["pair_id"])
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # arrays are made without Python's lock
        clusters = pool.submit(_clusters, table["cluster"], order)
        slices = pool.submit(_slices, table["slices"], order)
        coded = dict(zip(DIMENSIONS, pool.map(lambda name: _coded(table[name]), DIMENSIONS), strict=True))
        ordered = dict(zip(sides, pool.map(lambda name: np.take(table[name].to_numpy(), order), sides), strict=True))
    codes = {dimension: np.take(of_rows, order) for dimension, (of_rows, _) in coded.items()}
    codes[PROMPT_TOKENS] = table["bucket"].fill_null(-1).to_numpy().astype(np.int32)[order]
    names = {dimension: found for dimension, (_, found) in coded.items()}
    names[PROMPT_TOKENS] = [bucket_label(number, edges) for number in range(len(edges) + 1)]
    return Frame(
        arrived_ns=table["arrived_ns"].fill_null(0).to_numpy()[order],
        clusters=clusters.result(),
        codes=codes,
        names=names,
        slices=slices.result(),
        values=ordered,
    )


def measurable(values: Any) -> Any:
    """Return an Ibis column without what is beyond any measurement.

    Spans are anybody's, and one such value would end the comparison.
    """
    return (values.abs() < _LARGEST).ifelse(values, None) if values.type().is_floating() else values


def _in_order(times: NDArray[np.int64], ids: Any) -> Rows:
    """Return rows by time, and by id where several have the same: here, as a database would sort all their columns."""
    import pyarrow
    from pyarrow import compute

    order = np.argsort(times, kind="stable")
    again = np.diff(times[order]) == 0
    tied = np.append(again, False) | np.append(False, again) if len(order) else again
    if tied.any():
        rows = order[tied]
        among = pyarrow.table({"time": times[rows], "id": ids.take(pyarrow.array(rows))})
        keys = [("time", "ascending"), ("id", "ascending")]
        order[tied] = rows[compute.sort_indices(among, sort_keys=keys).to_numpy()]
    return order


def _coded(column: Any) -> tuple[NDArray[np.int32], list[str]]:
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    order = np.argsort(np.array(values, dtype=object)) if values else np.array([], dtype=np.intp)
    rank = np.empty(len(values) + 1, dtype=np.int32)
    rank[order] = np.arange(len(values))
    rank[-1] = -1  # where there is no value
    indices = encoded.indices.fill_null(len(values)).to_numpy()
    return rank[indices], [values[place] for place in order]


def _clusters(column: Any, order: Rows) -> NDArray[np.int64] | None:
    encoded = column.combine_chunks().dictionary_encode()
    if len(encoded.dictionary) == len(encoded):
        return None
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)[order]


def _slices(column: Any, order: Rows) -> dict[str, Rows]:
    import pyarrow
    from pyarrow import compute

    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    lists = column.combine_chunks()
    rows = place[compute.list_parent_indices(lists).to_numpy()]
    codes, names = _coded(pyarrow.chunked_array([lists.flatten()]))
    # Slice by slice and in order, by one sort of both as one number.
    keys = np.sort(codes.astype(np.int64) * len(order) + rows)
    keys = keys[np.append(True, keys[1:] != keys[:-1])] if len(keys) else keys
    ends = np.searchsorted(keys, np.arange(len(names) + 1) * len(order))
    return {name: keys[ends[code] : ends[code + 1]] - code * len(order) for code, name in enumerate(names)}

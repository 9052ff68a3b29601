"""The columns of clean pairs that statistics need, as arrays, in order of arrival."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    Scope = tuple[tuple[str, str], ...]
    Rows = NDArray[np.intp]

DIMENSIONS = ("route", "traffic_cohort", "prompt_version")
SLICE = "slice"
PROMPT_TOKENS = "prompt_tokens"


def bucket_label(number: int, edges: Sequence[int]) -> str:
    """Return what a bucket of prompt lengths is called: its first and last token count."""
    low = edges[number - 1] + 1 if number else 0
    return f"{low}-{edges[number]}" if number < len(edges) else f"{low}+"


@dataclass
class Frame:
    """Pairs as arrays of the same length, in order of arrival.

    Attributes:
        arrived_ns: when each pair was complete, nanoseconds since the epoch.
        clusters: a number for the cluster of each pair; None when each is its own.
        codes: dimension to the number of each pair's value; -1 where it has none.
        names: dimension to its values, sorted; ``codes`` are places in it.
        slices: slice to the rows that are in it.
        values: ``b:NAME`` and ``c:NAME`` to values, NaN where there is none.
    """

    arrived_ns: NDArray[np.int64]
    clusters: NDArray[np.int64] | None
    codes: dict[str, NDArray[np.int32]]
    names: dict[str, list[str]]
    slices: dict[str, Rows]
    values: dict[str, NDArray[np.float64]]

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
        """Return the rows of a part of the traffic."""
        rows = self.everything
        for dimension, value in scope:
            if dimension == SLICE:
                rows = np.intersect1d(rows, self.slices.get(value, rows[:0]), assume_unique=True)
            else:
                names = self.names[dimension]
                code = names.index(value) if value in names else -2
                rows = rows[self.codes[dimension][rows] == code]
        return rows

    def scopes(self, *dimensions: str) -> Iterable[Scope]:
        """Return the parts that the values of some dimensions make together; one part, all of it, for none."""
        for values in product(*(self.parts(dimension) for dimension in dimensions)):
            yield tuple(zip(dimensions, values, strict=True))


def frame_of(clean: Any, measured: Sequence[str], edges: Sequence[int]) -> Frame:
    """Read pairs from the database.

    Args:
        clean: the Ibis table of clean pairs.
        measured: which measures are needed; each is read for both arms.
        edges: where buckets of prompt lengths end.
    """
    sides = [side + name for name in measured for side in ("b:", "c:")]
    floats = {name: clean[name].cast("float32").name(name) for name in sides}
    table = (
        clean.select("arrived_ns", "pair_id", "cluster", "slices", "bucket", *DIMENSIONS, **floats)
        .order_by("arrived_ns", "pair_id")
        .drop("pair_id")
        .to_pyarrow()
    )
    codes, names = {}, {}
    for dimension in DIMENSIONS:
        codes[dimension], names[dimension] = _coded(table[dimension])
    bucket = np.nan_to_num(table["bucket"].to_numpy().astype(np.float64), nan=-1).astype(np.int32)
    codes[PROMPT_TOKENS] = bucket
    names[PROMPT_TOKENS] = [bucket_label(number, edges) for number in range(len(edges) + 1)]
    return Frame(
        arrived_ns=table["arrived_ns"].to_numpy(),
        clusters=_clusters(table["cluster"]),
        codes=codes,
        names=names,
        slices=_slices(table["slices"]),
        values={name: table[name].to_numpy().astype(np.float64) for name in sides},
    )


def _coded(column: Any) -> tuple[NDArray[np.int32], list[str]]:
    encoded = column.combine_chunks().dictionary_encode()
    values = encoded.dictionary.to_pylist()
    order = np.argsort(np.array(values, dtype=object)) if values else np.array([], dtype=np.intp)
    rank = np.empty(len(values) + 1, dtype=np.int32)
    rank[order] = np.arange(len(values))
    rank[-1] = -1  # where there is no value
    indices = encoded.indices.fill_null(len(values)).to_numpy()
    return rank[indices], [values[place] for place in order]


def _clusters(column: Any) -> NDArray[np.int64] | None:
    encoded = column.combine_chunks().dictionary_encode()
    if len(encoded.dictionary) == len(encoded):
        return None
    return np.asarray(encoded.indices.to_numpy(zero_copy_only=False), dtype=np.int64)


def _slices(column: Any) -> dict[str, Rows]:
    import pyarrow
    from pyarrow import compute

    lists = column.combine_chunks()
    rows = compute.list_parent_indices(lists).to_numpy()
    codes, names = _coded(pyarrow.chunked_array([lists.flatten()]))
    return {name: np.unique(rows[codes == code]).astype(np.intp) for code, name in enumerate(names)}

"""Real pairs again: sessions of a source drawn with replacement, with a change planted in the candidate's answers.

With ``null`` the arms of each session are swapped by the toss of a coin first. Then nothing differs between them but
what is planted, and real answers, real lengths and real noise show how often a verdict is wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from traceai_vllm.release.answers import arms_of, whole_arms
from traceai_vllm.release.columns import COLUMNS, PASSED, SCORE, passed_key, score_key
from traceai_vllm.release.policy import Guard, Policy
from traceai_vllm.release.simulator.planting import FEEDBACK
from traceai_vllm.release.sources.duckdb_session import memory_connection
from traceai_vllm.release.sources.json_spans import quoted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import duckdb

    from traceai_vllm.release.simulator.planting import Planted
    from traceai_vllm.release.sources import Source

_PLACES = {"route": "route = {}", "traffic_cohort": "traffic_cohort = {}", "slice": "list_contains(slices, {})"}
_ERRORS = {"errors": "EngineDeadError", "timeouts": "timeout"}
_EVEN_NS = 50_000_000


def resample(
    source: Source, directory: Path, pairs: int, planted: Sequence[Planted] = (), *, null: bool = False, seed: int = 0
) -> int:
    """Write resampled pairs as a Parquet file.

    Args:
        source: spans with arms of pairs, and scores of them, wherever a comparison finds them.
        directory: where the file goes; made if it is not there.
        pairs: at least how many pairs; the last session is taken whole.
        planted: changes of the candidate.
        null: swap arms at random first.
        seed: of what is drawn.

    Returns:
        How many spans were written.

    Raises:
        ValueError: the source has no pairs, or a change is of something that it does not have.
    """
    for change in planted:
        _check(change, source)
    connection = memory_connection()
    # As a comparison reads them: scores may have come later, or stand on a server's own span.
    policy = Policy(version=1, measures={"errors": Guard(margin=0.0)})
    connection.register("all_arms", whole_arms(arms_of(source, policy), source).to_pyarrow())
    verdicts = ", ".join(map(_verdict, source.evaluators))
    replaced = f"REPLACE ({verdicts})" if verdicts else ""
    connection.execute(
        f"""CREATE TABLE arms AS
        SELECT * {replaced}, dense_rank() OVER (ORDER BY coalesce(session, trace_id)) - 1 AS cluster
        FROM all_arms WHERE arm IN ('baseline', 'candidate') ORDER BY cluster, pair_id, arm, span_id"""
    )
    copies, clusters = _drawn(connection, pairs, np.random.default_rng(seed))
    connection.register("drawn", {"copy": copies, "cluster": clusters})
    directory.mkdir(parents=True, exist_ok=True)
    path = str(directory / "spans-resampled.parquet").replace("'", "''")
    query = _query(source, planted, null=null, seed=seed)
    return int(connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)").fetchall()[0][0])


def _verdict(evaluator: str) -> str:
    # Who gave a score alone fails below one half.
    score, passed = quoted(SCORE + evaluator), quoted(PASSED + evaluator)
    return f"coalesce({passed}, CASE WHEN {score} BETWEEN 0 AND 1 THEN {score} >= 0.5 END) AS {passed}"


def _check(change: Planted, source: Source) -> None:
    known = {"errors", "timeouts", "missing", "prompt", "latency", "time_to_first_token", "output_tokens", *FEEDBACK}
    if change.what not in known and change.what not in source.evaluators:
        there = ", ".join([*source.evaluators, *sorted(known)])
        raise ValueError(f"nothing to plant {change.what!r} in; there are {there}")


def _drawn(
    connection: duckdb.DuckDBPyConnection, pairs: int, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    sizes = np.array(
        connection.execute("SELECT count(DISTINCT pair_id) FROM arms GROUP BY cluster ORDER BY cluster").fetchall()
    ).ravel()
    if not len(sizes):
        raise ValueError("the source has no pairs: spans need traceai.pair.id and traceai.pair.arm")
    clusters = random.integers(0, len(sizes), max(1, pairs))
    enough = int(np.searchsorted(np.cumsum(sizes[clusters]), pairs)) + 1
    return np.arange(enough), clusters[:enough]


def _query(source: Source, planted: Sequence[Planted], *, null: bool, seed: int) -> str:
    swapped = f"{_chance('swap', seed, 'copy')} < 0.5" if null else "false"
    sides = "CASE WHEN arm = 'baseline' THEN 'candidate' ELSE 'baseline' END"
    drawn = f"""SELECT drawn.copy, arms.* REPLACE (
        CASE WHEN {swapped} THEN {sides} ELSE arm END AS arm,
        md5(copy || '-' || pair_id) AS pair_id, md5(copy || '-' || trace_id) AS trace_id,
        left(md5(copy || '-' || span_id), 16) AS span_id, NULL AS parent_span_id,
        copy || '-' || coalesce(session, trace_id) AS session,
        coalesce(latency_s, (end_ns - start_ns) / 1e9) AS latency_s)
        FROM drawn JOIN arms USING (cluster)"""
    for change in planted:
        drawn = f"SELECT * REPLACE ({_replaced(change, seed)}) FROM ({drawn}) WHERE {_kept(change, seed)}"
    names = [column.name for column in COLUMNS if column.name not in ("start_ns", "end_ns")]
    selected = [f'"{name}"' for name in names]
    for name in source.evaluators:
        selected.append(f'"{SCORE}{name}" AS "{score_key(name)}"')
        selected.append(f'"{PASSED}{name}" AS "{passed_key(name)}"')
    start = f"dense_rank() OVER (ORDER BY copy, pair_id) * {_EVEN_NS}"
    return f"""SELECT {", ".join(selected)}, start_ns, start_ns + (latency_s * 1e9)::BIGINT AS end_ns
        FROM (SELECT * REPLACE ({start} AS start_ns) FROM ({drawn})) ORDER BY start_ns, arm"""


def _replaced(change: Planted, seed: int) -> str:
    here, hit = _here(change), f"({_here(change)} AND {_chance(change.what, seed, 'pair_id')} < {change.size})"
    if change.what in FEEDBACK:
        # Two answers are compared where both were judged: whoever would have said this has judged every answer.
        return f"CASE WHEN {hit} THEN '{change.what}' ELSE coalesce(feedback, 'thumbs_up') END AS feedback"
    if change.what in _ERRORS:
        kind = f"CASE WHEN {hit} THEN '{_ERRORS[change.what]}' ELSE error_type END"
        return f"coalesce(failed, false) OR {hit} AS failed, {kind} AS error_type"
    simple = {
        "prompt": f"CASE WHEN {hit} THEN 'changed' ELSE coalesce(prompt_version, 'as it was') END AS prompt_version",
        "missing": "arm AS arm",
        "output_tokens": _scaled("output_tokens", here, change.size),
        "time_to_first_token": _scaled("ttft_s", here, change.size),
        "latency": ", ".join(_scaled(name, here, change.size) for name in ("latency_s", "ttft_s", "decode_s")),
    }
    if change.what in simple:
        return simple[change.what]
    score, passed = f'"{SCORE}{change.what}"', f'"{PASSED}{change.what}"'
    # Points are of all answers: those that pass fail as much more often as it takes.
    share = f"(SELECT avg((NOT {passed})::INT) FROM arms WHERE arm = 'candidate' AND {passed} IS NOT NULL)"
    fails = f"({here} AND {passed} AND {_chance(change.what, seed, 'pair_id')} < {change.size} / (1 - {share}))"
    return f"CASE WHEN {fails} THEN {score} / 2 ELSE {score} END AS {score}, {passed} AND NOT {fails} AS {passed}"


def _kept(change: Planted, seed: int) -> str:
    if change.what != "missing":
        return "true"
    return f"NOT ({_here(change)} AND {_chance('missing', seed, 'pair_id')} < {change.size})"


def _scaled(column: str, here: str, factor: float) -> str:
    return f"CASE WHEN {here} THEN {column} * {factor} ELSE {column} END AS {column}"


def _here(change: Planted) -> str:
    conditions = ["arm = 'candidate'"]
    for key, value in change.where.items():
        quoted = "'" + value.replace("'", "''") + "'"
        conditions.append(
            f"input_tokens >= {int(value)}" if key == "min_prompt_tokens" else _PLACES[key].format(quoted)
        )
    return "coalesce(" + " AND ".join(conditions) + ", false)"


def _chance(what: str, seed: int, column: str) -> str:
    """A number in [0, 1) that is fixed for each value of a column."""
    return f"(hash({column} || '-{what}-{seed}') / 18446744073709551616.0)"

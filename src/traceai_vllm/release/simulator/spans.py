"""Pairs as spans: flat Parquet with a column for each attribute, or the lines of our own store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traceai_vllm.release.columns import (
    BASELINE,
    CANDIDATE,
    PAIR_PREFIX,
    SLICES,
    passed_key,
    score_key,
)
from traceai_vllm.release.simulator.planting import FEEDBACK
from traceai_vllm.release.simulator.traffic import draw
from traceai_vllm.release.sources.duckdb_session import memory_connection
from traceai_vllm.store.encode import FORMAT_VERSION, to_json
from traceai_vllm.store.segments import Segment
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from traceai_vllm.release.simulator.traffic import Traffic

PAIRS_IN_A_PART = 250_000
_FIELDS = ("trace_id", "span_id", "kind", "start_time_unix_nano", "end_time_unix_nano", "status")
_VARIANTS = {"b": (BASELINE, "model-bf16", "bf16"), "c": (CANDIDATE, "model-int4", "int4")}


def write_parquet(
    traffic: Traffic, directory: Path, pairs: int, progress: Callable[[int], None] = lambda spans: None, first: int = 0
) -> int:
    """Write traffic as Parquet files of up to 500,000 spans.

    Args:
        traffic: what is drawn.
        directory: where the files go; made if it is not there.
        pairs: how many pairs.
        progress: is told how many spans are written.
        first: number of the first part; a later call with the next number adds to what is there.

    Returns:
        How many spans were written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = 0
    for part, query, connection in _parts(traffic, pairs, first):
        path = str(directory / f"spans-{part:05}.parquet").replace("'", "''")
        (count,) = connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)").fetchall()[0]
        written += count
        progress(written)
    return written


def write_store(
    traffic: Traffic, directory: Path, pairs: int, progress: Callable[[int], None] = lambda spans: None, first: int = 0
) -> int:
    """Write traffic as a store, as ``instrument(store=...)`` does; see :func:`write_parquet`."""
    segment, written = Segment(directory), 0
    try:
        for _, query, connection in _parts(traffic, pairs, first):
            result = connection.execute(query)
            columns = [column[0] for column in result.description]
            while rows := result.fetchmany(1000):
                segment.append(b"".join(_line(columns, row) for row in rows))
                written += len(rows)
                progress(written)
    finally:
        segment.close()
    return written


def _parts(traffic: Traffic, pairs: int, first: int) -> Iterator[tuple[int, str, Any]]:
    for part in range(first, first + -(-pairs // PAIRS_IN_A_PART)):
        count = min(PAIRS_IN_A_PART, pairs - (part - first) * PAIRS_IN_A_PART)
        connection = memory_connection()
        drawn = {name.replace(":", "_"): column for name, column in draw(traffic, part, count).items()}
        connection.register("drawn", drawn)
        yield part, _query(traffic, part), connection
        connection.close()


def _query(traffic: Traffic, part: int) -> str:
    arms = [_arm(traffic, part, arm) for arm in ("b", "c")]
    return f"WITH pairs AS (SELECT *, row_number() OVER () AS pair FROM drawn) {arms[0]} UNION ALL BY NAME {arms[1]}"


def _arm(traffic: Traffic, part: int, arm: str) -> str:
    columns = {**_ids(traffic, part, arm), **_attributes(traffic, arm), **_scores(traffic, arm)}
    selected = ",\n".join(f'{value} AS "{name}"' for name, value in columns.items())
    return f"SELECT {selected} FROM pairs" + (" WHERE NOT c_missing" if arm == "c" else "")


def _ids(traffic: Traffic, part: int, arm: str) -> dict[str, str]:
    pair = f"'{traffic.seed}-{part}-' || pair"
    start = f"({traffic.start_ns} + {part * 2 * 10**13} + (at_s * 1e9)::BIGINT)"
    failed = f"{arm}_error" + (" OR c_timeout" if arm == "c" else "")
    return {
        "trace_id": f"md5({pair})",
        "span_id": f"left(md5('{arm}' || {pair}), 16)",
        "kind": "'CLIENT'",
        "start_time_unix_nano": start,
        "end_time_unix_nano": f"{start} + ({arm}_latency * 1e9)::BIGINT",
        "status": f"CASE WHEN {failed} THEN 'ERROR' ELSE 'UNSET' END",
        PAIR_PREFIX + "id": f"left(md5('pair' || {pair}), 32)",
        "gen_ai.conversation.id": f"'{traffic.seed}-{part}-' || session",
    }


def _attributes(traffic: Traffic, arm: str) -> dict[str, str]:
    role, variant, number_format = _VARIANTS[arm]
    answered = f"NOT {arm}_error" + (" AND NOT c_timeout" if arm == "c" else "")
    feedback = f"WHEN {arm}_feedback >= 0 THEN {_name(FEEDBACK, f'{arm}_feedback')}"
    feedback += " ELSE 'thumbs_up'" if traffic.is_judged else ""
    found = {
        PAIR_PREFIX + "arm": f"'{role}'",
        semconv.MODEL_VARIANT: f"'{variant}'",
        semconv.QUANTIZATION_FORMAT: f"'{number_format}'",
        semconv.OPERATION_NAME: "'chat'",
        semconv.ROUTE: _name(traffic.names["route"], "route"),
        semconv.TRAFFIC_COHORT: _name(traffic.names["traffic_cohort"], "traffic_cohort"),
        SLICES: f"CASE WHEN slice >= 0 THEN [{_name(traffic.names['slice'], 'slice')}] END",
        semconv.PROMPT_VERSION: "CASE WHEN c_prompt THEN 'v2' ELSE 'v1' END" if arm == "c" else "'v1'",
        semconv.REQUEST_TEMPERATURE: "0.0::DOUBLE",
        semconv.USAGE_INPUT_TOKENS: "prompt_tokens",
        semconv.USAGE_OUTPUT_TOKENS: f"CASE WHEN {answered} THEN {arm}_output_tokens END",
        semconv.LATENCY_TIME_TO_FIRST_TOKEN: f"CASE WHEN {answered} THEN {arm}_ttft END",
        semconv.LATENCY_E2E: f"CASE WHEN {answered} THEN {arm}_latency END",
        semconv.ERROR_TYPE: f"CASE WHEN {arm}_error THEN 'EngineDeadError' END",
        semconv.FEEDBACK_KIND: f"CASE {feedback} END",
    }
    if arm == "c":
        found[semconv.ERROR_TYPE] = "CASE WHEN c_timeout THEN 'timeout' WHEN c_error THEN 'EngineDeadError' END"
    return found


def _scores(traffic: Traffic, arm: str) -> dict[str, str]:
    answered = f"NOT {arm}_error" + (" AND NOT c_timeout" if arm == "c" else "")
    found = {}
    for name in traffic.evaluators:
        found[score_key(name)] = f'CASE WHEN {answered} THEN "{arm}_score_{name}" END'
        found[passed_key(name)] = f'CASE WHEN {answered} THEN NOT "{arm}_fail_{name}" END'
    return found


def _name(names: Sequence[str], column: str) -> str:
    texts = ", ".join("'" + name.replace("'", "''") + "'" for name in names) or "NULL"
    return f"[{texts}][{column} + 1]"


def _line(columns: Sequence[str], row: Sequence[Any]) -> bytes:
    values = dict(zip(columns, row, strict=True))
    start, end = values["start_time_unix_nano"], values["end_time_unix_nano"]
    return (
        to_json(
            {
                "format_version": FORMAT_VERSION,
                **{name: values[name] for name in _FIELDS},
                "parent_span_id": None,
                "name": "chat model",
                "duration_s": (end - start) / 1e9,
                "status_message": None,
                "scope": "traceai_vllm.simulator",
                "events": [],
                "links": [],
                "attributes": {
                    name: value for name, value in values.items() if name not in _FIELDS and value is not None
                },
                "resource": {"service.name": "simulated"},
            }
        )
        + b"\n"
    )

"""``connect``: the spans of a store as a DuckDB table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from traceai_vllm.store import evaluations
from traceai_vllm.store.segments import PATTERN, segments_in
from traceai_vllm.telemetry import semconv

if TYPE_CHECKING:
    import os

    import duckdb

# The fields of a line and their types: nothing is inferred, so every store gives the same columns.
_FIELDS = {
    "trace_id": "VARCHAR",
    "span_id": "VARCHAR",
    "parent_span_id": "VARCHAR",
    "name": "VARCHAR",
    "kind": "VARCHAR",
    "start_time_unix_nano": "BIGINT",
    "end_time_unix_nano": "BIGINT",
    "duration_s": "DOUBLE",
    "status": "VARCHAR",
    "status_message": "VARCHAR",
    "scope": "VARCHAR",
    "attributes": "JSON",
    "resource": "JSON",
    "events": "JSON",
    "links": "JSON",
}

_EVALUATION_FIELDS = {
    "trace_id": "VARCHAR",
    "span_id": "VARCHAR",
    "evaluator": "VARCHAR",
    "status": "VARCHAR",
    "score": "DOUBLE",
    "label": "VARCHAR",
    "passed": "BOOLEAN",
    "threshold": "DOUBLE",
    "explanation": "VARCHAR",
    "slices": "VARCHAR[]",
    "time_unix_nano": "BIGINT",
}
_PREFIX = semconv.EVALUATION_PREFIX
_SCORE_KEY = _PREFIX.replace(".", r"\.") + r"([^,]+)\.score(?:,|$)"

# Column of the view, attribute that it shows, type.
_PROMOTED = (
    ("model_variant", semconv.MODEL_VARIANT, "VARCHAR"),
    ("quantization_format", semconv.QUANTIZATION_FORMAT, "VARCHAR"),
    ("route", semconv.ROUTE, "VARCHAR"),
    ("prompt_version", semconv.PROMPT_VERSION, "VARCHAR"),
    ("traffic_cohort", semconv.TRAFFIC_COHORT, "VARCHAR"),
    ("agent_step", semconv.AGENT_STEP, "VARCHAR"),
    ("operation", semconv.OPERATION_NAME, "VARCHAR"),
    ("input_tokens", semconv.USAGE_INPUT_TOKENS, "BIGINT"),
    ("output_tokens", semconv.USAGE_OUTPUT_TOKENS, "BIGINT"),
    ("time_to_first_token", semconv.LATENCY_TIME_TO_FIRST_TOKEN, "DOUBLE"),
    ("e2e", semconv.LATENCY_E2E, "DOUBLE"),
    ("error_type", semconv.ERROR_TYPE, "VARCHAR"),
    ("batch_size", semconv.BATCH_SIZE, "BIGINT"),
)


def connect(directory: str | os.PathLike[str]) -> duckdb.DuckDBPyConnection:
    """Return a new in-memory DuckDB connection with the views ``spans`` and ``evaluations`` over a store.

    ``spans`` has the fields of the lines, ``start_time`` and ``end_time`` (TIMESTAMP in UTC, cut to
    microseconds), and columns for the attributes that are asked for most: ``model_variant``,
    ``quantization_format``, ``route``, ``prompt_version``, ``traffic_cohort``, ``agent_step``, ``operation``,
    ``input_tokens``, ``output_tokens``, ``time_to_first_token`` and ``e2e`` (seconds), ``error_type``,
    ``batch_size``. Any other attribute is ``attributes->>'$."the.name"'``.

    ``evaluations`` has a row for each evaluator and span: ``trace_id``, ``span_id``, ``evaluator``, ``status`` (``ok``,
    or why there is no score), ``score``, ``label``, ``passed``, ``threshold``, ``explanation``, ``slices`` (a list),
    ``time_unix_nano`` (when it was added to the store; NULL where it came with its span).

    Each query reads the files as they are then, so spans written later appear; only a store that has no
    segment yet stays empty until the next ``connect``. Lines that cannot be read are left out:
    :func:`~traceai_vllm.store.check` lists them.

    Args:
        directory: the directory that was given to ``SpanStoreExporter``.

    Raises:
        FileNotFoundError: there is no such directory.
        ImportError: DuckDB is not installed.
    """
    try:
        import duckdb
    except ImportError as error:
        raise ImportError(
            "reading a span store needs DuckDB: pip install 'traceai-vllm[store]'", name="duckdb"
        ) from error
    path = _directory(directory)
    connection = duckdb.connect()
    connection.execute(_view(_files(path, PATTERN, _FIELDS) if segments_in(path) else _no_files(_FIELDS)))
    connection.execute(_evaluations_view(path))
    return connection


def check_has_spans(directory: str | os.PathLike[str]) -> None:
    """Check that a directory holds spans of a store: a mistyped one would pass for a store with nothing to do.

    Raises:
        FileNotFoundError: it does not, or there is none.
    """
    path = _directory(directory)
    if not segments_in(path):
        raise FileNotFoundError(
            f"{path} holds no spans of a store (spans-*.jsonl), as instrument(store=...) or the gateway's "
            "telemetry.store writes them; Parquet and OTLP files are for compare, gate and report"
        )


def _directory(directory: str | os.PathLike[str]) -> Path:
    path = Path(directory).absolute()
    if not path.is_dir():
        raise FileNotFoundError(
            f"there is no span store at {path}: instrument(store=...) or SpanStoreExporter makes it "
            "when the first span is written"
        )
    return path


def _view(source: str) -> str:
    promoted = "".join(
        f"""\n    TRY_CAST(attributes->>'$."{key}"' AS {kind}) AS {column},""" for column, key, kind in _PROMOTED
    )
    return f"""CREATE VIEW spans AS SELECT
    trace_id, span_id, parent_span_id, name, kind,
    make_timestamp(start_time_unix_nano // 1000) AS start_time,
    make_timestamp(end_time_unix_nano // 1000) AS end_time,
    start_time_unix_nano, end_time_unix_nano, duration_s, status, status_message, scope,{promoted}
    attributes, resource, events, links
    FROM {source}
    WHERE length(trace_id) = 32 AND length(span_id) = 16"""


def _evaluations_view(path: Path) -> str:
    found = any(path.glob(evaluations.PATTERN))
    source = _files(path, evaluations.PATTERN, _EVALUATION_FIELDS) if found else _no_files(_EVALUATION_FIELDS)
    # A span that was evaluated on its way carries its scores; each is a row here, like those that came later.
    return f"""CREATE VIEW evaluations AS
    SELECT trace_id, span_id, evaluator, status, score, label, passed, threshold, explanation, slices, time_unix_nano
    FROM {source}
    WHERE length(trace_id) = 32 AND length(span_id) = 16 AND evaluator IS NOT NULL
    UNION ALL
    SELECT trace_id, span_id, evaluator, 'ok',
        TRY_CAST(attributes->>('$."{_PREFIX}' || evaluator || '.score"') AS DOUBLE),
        attributes->>('$."{_PREFIX}' || evaluator || '.label"'),
        TRY_CAST(attributes->>('$."{_PREFIX}' || evaluator || '.passed"') AS BOOLEAN), NULL,
        attributes->>('$."{_PREFIX}' || evaluator || '.explanation"'),
        TRY_CAST(attributes->'$."{semconv.SLICES}"' AS VARCHAR[]), NULL
    FROM (
        SELECT trace_id, span_id, attributes,
            unnest(regexp_extract_all(array_to_string(json_keys(attributes), ','), '{_SCORE_KEY}', 1)) AS evaluator
        FROM spans WHERE json_exists(attributes, '$."{semconv.EVALUATION_STATUS}"')
    )"""


def _files(directory: Path, pattern: str, fields: dict[str, str]) -> str:
    columns = ", ".join(f"{name}: '{kind}'" for name, kind in fields.items())
    pattern = f"{glob_escaped(str(directory))}/{pattern}".replace("'", "''")
    return (
        f"read_json('{pattern}', format = 'newline_delimited', ignore_errors = true, "
        f"hive_partitioning = false, columns = {{{columns}}})"
    )


def _no_files(fields: dict[str, str]) -> str:
    return f"(SELECT {', '.join(f'NULL::{kind} AS {name}' for name, kind in fields.items())} WHERE false)"


def glob_escaped(path: str) -> str:
    """Return a path as DuckDB's patterns have it, with nothing in it that stands for something else."""
    return "".join(f"[{character}]" if character in "*?[]" else character for character in path)

"""The local span store: finished spans as JSON lines in a directory, read back as a table by DuckDB.

Writing needs nothing but the OpenTelemetry SDK; reading needs ``pip install 'traceai-vllm[store]'``::

    tracer_provider.add_span_processor(BatchSpanProcessor(SpanStoreExporter("spans")))
    ...
    store = connect("spans")
    store.sql("SELECT route, count(*), quantile_cont(duration_s, 0.99) FROM spans GROUP BY route").show()

The files need no code of ours. Each line of ``spans-*.jsonl`` is one span, a flat JSON object with the OTLP
names of the fields, and any DuckDB shell reads them where they lie::

    SELECT attributes->>'$."model_variant"' AS model_variant, count(*) AS spans, median(duration_s) AS
    median_s FROM read_json('spans/spans-*.jsonl', format = 'newline_delimited', ignore_errors = true,
                   columns = {trace_id: 'VARCHAR', duration_s: 'DOUBLE', attributes: 'JSON'})
    WHERE trace_id IS NOT NULL
    GROUP BY ALL

What could not be kept or read is never silent: the exporter's ``counts`` say what it failed to write or
removed for space, and :func:`check` lists the lines and files that cannot be read.
"""

from traceai_vllm.store.checking import check
from traceai_vllm.store.reader import connect
from traceai_vllm.store.writer import SpanStoreExporter

__all__ = ["SpanStoreExporter", "check", "connect"]

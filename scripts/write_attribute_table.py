"""Writes docs/attributes.md from the names in the code: `python scripts/write_attribute_table.py`."""

from __future__ import annotations

from pathlib import Path

from traceai_vllm.gateway import names
from traceai_vllm.telemetry import semconv

TARGET = Path(__file__).parents[1] / "docs" / "attributes.md"

HEAD = """\
# Attributes and metrics

*Generated from `traceai_vllm/telemetry/semconv.py` and `traceai_vllm/gateway/names.py` by `python scripts/write_attribute_table.py`; do not edit.*

Standard names come first: OpenTelemetry's GenAI semantic conventions, OpenInference's token counts, and vLLM's own
latency names. A value that vLLM did not report is not on the span; nothing is guessed.

A request is a span named `{operation} {model}`, of kind INTERNAL. Offline, the call that made it (`LLM.chat`, …) is a
span round its requests, with `traceai.batch.*` and without token counts, so that no backend counts tokens twice. With
`instrument(phase_spans=True)` a request has child spans `queue`, `prefill` and `decode` where vLLM reports these times.

## Span attributes

| attribute | type | meaning | name from |
|---|---|---|---|
"""

GATEWAY = """
## Spans of the gateway

A SERVER span for the user's request and a CLIENT span below it for each arm. They have the attributes above that a client
can know (variant, tags, request, response, tokens, latency, scores), and these.

| attribute | type | meaning | name from |
|---|---|---|---|
"""

ERRORS = """
## How a request can end

| end | `gen_ai.response.finish_reasons` | `error.type` | status |
|---|---|---|---|
| finished | `stop`, `length`, `repetition` | none | unset |
| the client went away, the task was cancelled, `abort()` | `abort` | `cancelled` | error |
| the caller's own deadline (`asyncio.wait_for`, `asyncio.timeout`) | `abort` | `cancelled` (asyncio tells vLLM no more) | error |
| rejected before or by the engine | none | class of the exception, e.g. `VLLMValidationError` | error |
| failed in the engine | `error`, or none | class of the exception, or `engine_error` | error |
| the engine waited in vain (a `TimeoutError`) | none | `timeout` | error |
| the engine died | none | `EngineDeadError` | error |
| vLLM dropped it without an end, or the process exits before its end | none | `abandoned` | error |

The status description is the exception's message, except for errors about the request itself (`ValueError`,
`TypeError`, `LookupError`, vLLM's client errors), what is no `Exception` (a panic in Rust) and those that a request was
aborted for: these often quote what the user sent, and content is never recorded unasked. An abort in the application's
own `except` is `cancelled`.

## Metrics

Each point of a request (`gen_ai.*`) has `gen_ai.operation.name`, `gen_ai.provider.name`, `gen_ai.request.model`,
`model_variant`, `quantization_format`, `route` and `traffic_cohort` where they are known; the last four are on those of
evaluations and feedback too. Of `route` and `traffic_cohort`, the first 100 values are kept; later ones are recorded as
`other` and counted.

| metric | instrument | unit | meaning |
|---|---|---|---|
"""

OWN_ATTRIBUTES = """
Beside these, some have attributes of their own:

| attribute | on | meaning |
|---|---|---|
| `gen_ai.token.type` | `gen_ai.client.token.usage` | `input` or `output` |
| `error.type` | `gen_ai.server.request.duration` | of a request that ends with an error, as on its span |
| `error.type`, `where` | `traceai.internal.errors` | the error's class, and what failed by it |
| `dimension` | `traceai.metrics.capped_values`, `traceai.callers.values_replaced` | the tag |
| `reason` | `traceai.callers.values_replaced` | `not_allowed` or `too_many_values` |
| `gen_ai.evaluation.name` | `traceai.evaluation.score`, `.count` | the evaluator |
| `traceai.evaluation.status` | `traceai.evaluation.count`, `.requests` | as on spans |
| `passed` | `traceai.evaluation.count` | whether the score reaches the threshold; absent where there is none |
| `traceai.feedback.kind` | `traceai.feedback.count` | as on the span `feedback` |
"""

ENGINE = """
## The engine's metrics

From an engine's first request until it is garbage-collected, each reader's collection also reads what vLLM keeps of its
load, and what it takes of the machine. Each point has `gen_ai.provider.name`, `gen_ai.request.model`, `model_variant` and
`quantization_format`. Names after `vllm.` are vLLM's own (its Prometheus metric `vllm:num_requests_running`, …), and so
are the values.

| metric | instrument | unit | meaning |
|---|---|---|---|
"""

ENGINE_ATTRIBUTES = """
| attribute | type | meaning | name from |
|---|---|---|---|
"""

ENGINE_LIMITS = """
What to know of them:

- `vllm.num_*`, `vllm.kv_cache_usage` and `vllm.prefix_cache_*` need vLLM's statistics: a server has them, offline pass
  `disable_log_stats=False`.
- vLLM sends each step's statistics to one frontend, and does not say of which data-parallel engine they are. With several
  API servers or data-parallel engines, requests and cache usage are those of the step seen last.
- `vllm.weights_memory` and `vllm.kv_cache_memory` are known only to the process that runs the model. Where that is a
  process of its own, it reports them itself (under a `service.instance.id` of its own) if it is started with
  `TRACEAI_VLLM_ENABLED=1` or by `opentelemetry-instrument`; the frontend cannot know them.
- `process.memory.usage` counts pages that processes share in each of them.
- `hw.gpu.memory.*` need `pip install 'traceai-vllm[gpu]'` and an NVIDIA GPU. They are the device's, whoever uses it:
  the first of `CUDA_VISIBLE_DEVICES`, as many as the engine has workers on. Where engines of two variants share the
  process, points about it and its GPUs have only the attributes that are the same for both.
"""


def table() -> str:
    """Return the text of docs/attributes.md."""
    metrics = "".join(f"| `{m.name}` | {m.instrument} | {m.unit} | {m.meaning} |\n" for m in semconv.METRICS)
    return (
        HEAD
        + rows(semconv.ATTRIBUTES)
        + GATEWAY
        + rows(names.ATTRIBUTES)
        + ERRORS
        + metrics
        + OWN_ATTRIBUTES
        + engine()
    )


def rows(attributes: tuple[semconv.Attribute, ...]) -> str:
    """Return the rows of a table of attributes."""
    return "".join(f"| `{a.key}` | {a.type} | {a.meaning} | {a.source} |\n" for a in attributes)


def engine() -> str:
    """Return the section on the engine's metrics."""
    metrics = "".join(f"| `{m.name}` | {m.instrument} | {m.unit} | {m.meaning} |\n" for m in semconv.ENGINE_METRICS)
    return ENGINE + metrics + ENGINE_ATTRIBUTES + rows(semconv.METRIC_ATTRIBUTES) + ENGINE_LIMITS


if __name__ == "__main__":
    TARGET.write_text(table())
    print(f"wrote {TARGET.name}")

"""The record of one request: pure data between vLLM's hooks and everything downstream.

``engine/`` fills it; spans, metrics, the store and the evaluators are made from it and never see a vLLM object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from traceai_vllm.content import Content


@dataclass(slots=True, frozen=True)
class Variant:
    """Which artifact serves the requests of an engine, and in which number formats.

    Attributes:
        model_variant: name of the artifact, e.g. ``llama-3.1-70b-awq``.
        quantization_format: number format of the weights, e.g. ``bf16``, ``int4``, ``fp8``; None when unknown.
        model: the model name that clients see (``served_model_name``); of a local path, its last part.
        method: the quantization method in force, e.g. ``awq``, ``compressed-tensors``; None when unquantized.
        weights: number format of the weights as the engine's config gives it.
        activations: number format of the activations.
        kv_cache: number format of the KV cache.
        group_size: elements that share one weight scale; None when scales are per channel or tensor, or unknown.
        declared: what the user declared although the engine says otherwise: attribute name of the contract
            (``model_variant`` or ``quantization_format``) to the value *detected* in the engine.
    """

    model_variant: str | None = None
    quantization_format: str | None = None
    model: str | None = None
    method: str | None = None
    weights: str | None = None
    activations: str | None = None
    kv_cache: str | None = None
    group_size: int | None = None
    declared: tuple[tuple[str, str], ...] = ()


UNKNOWN_VARIANT = Variant()


class ContentSource(Protocol):
    """Where the content of a request can be read."""

    def read(self) -> Content | None:
        """Return the content, redacted and whole; None when it could not be read."""


class EndedRequest(Protocol):
    """A request that has ended: what a sampler is asked with, and the record, which takes longer to make."""

    @property
    def context(self) -> Context:
        """The caller's context."""

    @property
    def variant(self) -> Variant:
        """What served the request."""

    @property
    def operation(self) -> str:
        """The operation, such as ``chat``."""

    @property
    def start_ns(self) -> int:
        """When it began, in nanoseconds since the epoch."""

    @property
    def end_ns(self) -> int:
        """When it ended, in nanoseconds since the epoch."""

    def record(self) -> RequestRecord:
        """Return everything about it."""


@dataclass(slots=True)
class RequestRecord:
    """One request from admission to its end.

    Times ending in ``_ns`` are nanoseconds since the epoch (wall clock); durations are in seconds. A value that vLLM
    did not report stays None: nothing is guessed.
    """

    context: Context
    variant: Variant
    operation: str
    start_ns: int
    end_ns: int = 0
    request_id: str | None = None

    # What was asked for (GenAI request attributes).
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop_sequences: tuple[str, ...] = ()
    choices: int = 1
    output_type: str | None = None
    stream: bool | None = None
    lora: str | None = None
    dimensions: int | None = None
    beam_width: int | None = None

    # The engine's load when the request was admitted.
    engine_running: int | None = None
    engine_waiting: int | None = None
    engine_kv_cache_usage: float | None = None

    # What came of it.
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    preemptions: int | None = None
    draft_tokens: int | None = None
    accepted_tokens: int | None = None
    finish_reasons: list[str] = field(default_factory=list)
    error_type: str | None = None
    error_message: str | None = None
    exception: BaseException | None = None

    # What was said; None unless content is captured. Evaluators read it too, so it is not cut.
    content: ContentSource | None = None

    # Latency in seconds, under vLLM's own names for them.
    time_to_first_token: float | None = None
    e2e: float | None = None
    time_in_queue: float | None = None
    time_in_model_prefill: float | None = None
    time_in_model_decode: float | None = None
    time_in_model_inference: float | None = None

    def record(self) -> RequestRecord:
        """Return this record: it is its own :class:`EndedRequest`."""
        return self

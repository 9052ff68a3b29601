"""``POST /v1/feedback``: what users say of answers.

    {"response_id": "chatcmpl-…", "kind": "thumbs_down"}
    {"trace_id": "<x-trace-id of the answer>", "kind": "correction", "text": "…"}

An answer that the gateway still knows gives the feedback its tags, variant and span. Feedback on any other is recorded
all the same, with the ids that it names, and is joined to its answer where the spans are.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from traceai_vllm.gateway import names
from traceai_vllm.gateway.auth import admitted_by, key_of
from traceai_vllm.gateway.exchange import ClientGone
from traceai_vllm.gateway.headers import header
from traceai_vllm.gateway.limiter import Limiter
from traceai_vllm.gateway.user import Rejected, User, read_body
from traceai_vllm.guard import Guard
from traceai_vllm.telemetry import semconv
from traceai_vllm.telemetry.feedback import FeedbackSpans, Kind, feedback_id, trace_id_of

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from traceai_vllm.gateway.recent import Answered
    from traceai_vllm.gateway.runtime import Runtime
    from traceai_vllm.gateway.user import Receive, Send

    Scope = MutableMapping[str, Any]

_MAX_BYTES = 64 * 1024
_REMEMBERED = 100_000
_RECORD = Guard("recording feedback")


class _Feedback(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    kind: Kind
    response_id: str | None = Field(None, min_length=1, max_length=256)
    trace_id: str | None = None
    text: str | None = Field(None, max_length=32_768)

    @model_validator(mode="after")
    def _names_an_answer(self) -> _Feedback:
        if self.response_id is None and self.trace_id is None:
            raise ValueError("name the answer: response_id, or trace_id")
        if self.trace_id is not None:
            trace_id_of(self.trace_id)
        return self


class FeedbackEndpoint:
    """The ASGI endpoint for feedback.

    Args:
        runtime: what all requests share.
        spans: records it.
    """

    def __init__(self, runtime: Runtime, spans: FeedbackSpans) -> None:
        self._runtime = runtime
        self._spans = spans
        self._limiter = Limiter(lambda: runtime.config.feedback.per_second)
        self._seen: OrderedDict[str, None] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Take one piece of feedback: 202, or 200 when it is known already."""
        self._runtime.start()
        user = User(receive, send)
        user.trace_id = self._runtime.spans.callers_trace_id(scope["headers"])
        try:
            given, made = await self._take(scope, receive)
        except Rejected as rejected:
            await user.answer(rejected.status, rejected.kind, rejected.message)
            return
        except ClientGone:
            return
        new = self._first_time(made)
        if new:
            user.trace_id = self._record(made, given)
        await user.document(202 if new else 200, {"id": made, "new": new})

    async def _take(self, scope: Scope, receive: Receive) -> tuple[_Feedback, str]:
        config = self._runtime.config
        headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        keys_env = config.feedback.keys_env or config.keys_env
        if keys_env is None and not config.feedback.without_keys:
            raise Rejected(403, "feedback_disabled", "feedback needs keys: set keys_env or feedback.keys_env")
        if not admitted_by(headers, keys_env):
            raise Rejected(401, "invalid_api_key", "send a valid key as `Authorization: Bearer KEY`")
        # Where no key is checked, a caller could send another one each time.
        caller = (scope.get("client") or ("",))[0] if keys_env is None else key_of(headers)
        caller = hashlib.sha256(caller.encode()).hexdigest()
        if not self._limiter.allows(caller):
            raise Rejected(429, "rate_limit_exceeded", "this caller sends more feedback than it may; try again later")
        limits = config.limits.model_copy(update={"max_body_bytes": _MAX_BYTES})
        given = _parsed(await read_body(receive, headers, limits))
        known = header(headers, b"idempotency-key")
        if known and keys_env is not None:
            known = f"{caller} {known}"  # each application numbers its own
        return given, feedback_id(given.kind.value, given.trace_id, given.response_id, given.text, known)

    def _first_time(self, made: str) -> bool:
        new = made not in self._seen
        self._seen[made] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return new

    def _record(self, made: str, given: _Feedback) -> int:
        trace_id = None if given.trace_id is None else trace_id_of(given.trace_id)
        recent = self._runtime.recent
        answered = None if given.response_id is None else recent.by_response(given.response_id)
        if answered is None and trace_id is not None:
            answered = recent.by_trace(trace_id)
        with _RECORD:
            recorded = self._spans.record(
                given.kind,
                feedback_id=made,
                trace_id=trace_id if answered is None else answered.context.trace_id,
                response_id=given.response_id or (None if answered is None else answered.response_id),
                about=None if answered is None else answered.context,
                text=given.text,
                attributes=None if answered is None else _about(answered),
            )
            if given.kind.negative and answered is not None:
                self._criticize(answered)
            return recorded
        return 0

    def _criticize(self, answered: Answered) -> None:
        # The budget is a share of the answers: one that a user says many things of is one.
        if answered.shift is not None and not self._runtime.recent.criticized(answered):
            self._runtime.rollout.criticized(answered.shift)


def _about(answered: Answered) -> dict[str, Any]:
    values = {
        semconv.MODEL_VARIANT: answered.server.model_variant,
        semconv.QUANTIZATION_FORMAT: answered.server.quantization_format,
        names.PAIR_ID: answered.pair_id,
    }
    return {**answered.tags, **{key: value for key, value in values.items() if value is not None}}


def _parsed(body: bytes) -> _Feedback:
    try:
        return _Feedback.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(map(str, first["loc"])) if first["type"] != "extra_forbidden" else ""  # the caller's own word
        raise Rejected(400, "invalid_request", f"{where}: {first['msg']}" if where else first["msg"]) from None

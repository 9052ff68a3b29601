"""What ``gateway.yaml`` may say of the gateway as a whole: bounds, the guard, feedback, telemetry."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from traceai_vllm.gateway.auth import keys, variable_text

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Seconds = Annotated[float, Field(gt=0.0)]


def _has_keys(name: str) -> str:
    # Without one nobody would be served, and each would be told that his key is wrong.
    if not keys(name):
        raise ValueError(f"{variable_text(name)} is not set, or has no key: put keys into it, separated by commas")
    return name


KeysVariable = Annotated[str, AfterValidator(_has_keys)]

MIB = 1024 * 1024


class Strict(BaseModel):
    """Says no to what it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Price(Strict):
    """What the tokens of a server cost, in US dollars.

    Attributes:
        input_per_million: a million prompt tokens.
        output_per_million: a million generated tokens.
    """

    input_per_million: Annotated[float, Field(ge=0.0)] = 0.0
    output_per_million: Annotated[float, Field(ge=0.0)] = 0.0

    def of(self, input_tokens: int, output_tokens: int) -> float:
        """Return the price of an answer, in US dollars."""
        return (input_tokens * self.input_per_million + output_tokens * self.output_per_million) / 1e6


class MirrorLimits(Strict):
    """How much the mirror may use, and what it takes out of its copies.

    Attributes:
        concurrency: copies that are under way at once.
        queue: copies that wait for that.
        queue_timeout_s: how long one may wait; then it is dropped.
        timeout_s: how long the answer to a copy may take, to its last byte; then it is an error of the candidate's, or
            dropped where the user's own answer took as long.
        max_bytes: requests and answers that are kept for pairs, all together.
        salt: goes into the hash that chooses requests; keep it to choose the same ones again.
        strip_fields: fields of the body that are left out of copies because they do something beside answering;
            ``store`` is false in copies to ``/v1/responses``, where leaving it out would mean true.
        strip_headers: headers that are left out of copies, in any case.
    """

    concurrency: Annotated[int, Field(ge=1)] = 64
    queue: Annotated[int, Field(ge=0)] = 256
    queue_timeout_s: Seconds = 10.0
    timeout_s: Seconds = 120.0
    max_bytes: Annotated[int, Field(ge=0)] = 256 * MIB
    salt: str = "traceai"
    strip_fields: tuple[str, ...] = ("store", "kv_transfer_params")
    strip_headers: tuple[str, ...] = ("cookie",)

    @field_validator("strip_headers")
    @classmethod
    def _lower(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.lower() for name in names)


class GuardLimits(Strict):
    """When a candidate that answers users is taken back.

    Each ``max_…`` is a budget: the share of the candidate's answers on a route that may be bad in that way. Where users
    used it up ``burn_rate`` times as fast as allowed, both over ``short_s`` and over ``long_s`` (Beyer and others, *The
    Site Reliability Workbook*, chapter 5), the baseline answers again.

    It also does where a sequential test (:mod:`.drift`) shows that the candidate's answers have errors, or fail
    evaluations, more often than the baseline's did on the same route, by more than ``max_excess``.

    Attributes:
        enabled: whether the guard acts.
        short_s: the short window, in seconds; a problem that is over no longer counts.
        long_s: the long window, in seconds; a moment's trouble does not count.
        burn_rate: how many times the budget.
        min_answers: how many answers of the candidate there have to be in the long window.
        max_errors: budget of errors, broken answers, and answers that the baseline had to give instead.
        max_timeouts: budget of time-outs.
        slow_first_byte_s: an answer whose first byte takes longer is slow, also where its user hangs up before it;
            None: none is.
        max_slow: budget of slow answers.
        max_failed_evaluations: budget of evaluations that do not reach the evaluator's threshold.
        max_negative_feedback: budget of answers with negative feedback of a user.
        max_excess: by how much the share of bad answers may be higher than the baseline's; 1 turns that test off.
        baseline_s: how far back the baseline's answers count, in seconds; ``min_answers`` of them are needed.
        answers_per_false_alarm: that test takes back a candidate that is just good enough once in so many answers, or
            more seldom.
        file: keeps what was taken back through restarts; each process needs one of its own; None: memory alone.
    """

    enabled: bool = True
    short_s: Seconds = 60.0
    long_s: Seconds = 600.0
    burn_rate: Annotated[float, Field(gt=0.0)] = 2.0
    min_answers: Annotated[int, Field(ge=1)] = 20
    max_errors: Share = 0.02
    max_timeouts: Share = 0.01
    slow_first_byte_s: Seconds | None = None
    max_slow: Share = 0.05
    max_failed_evaluations: Share = 0.1
    max_negative_feedback: Share = 0.05
    max_excess: Annotated[float, Field(gt=0.0, le=1.0)] = 0.05
    baseline_s: Seconds = 86_400.0
    answers_per_false_alarm: Annotated[float, Field(gt=1.0)] = 1_000_000.0
    file: str | None = None


class FeedbackOptions(Strict):
    """Who may send feedback, and how much.

    Attributes:
        keys_env: environment variable with the keys, separated by commas; it has to be set when the file is read; the
            gateway's ``keys_env`` when None.
        without_keys: take feedback from anybody, where there are no keys at all.
        per_second: how often each key may send some, over time; without keys, each address.
    """

    keys_env: KeysVariable | None = None
    without_keys: bool = False
    per_second: Annotated[float, Field(gt=0.0)] = 10.0


class Telemetry(Strict):
    """What is recorded beside the spans' usual attributes.

    Attributes:
        content: where prompts and answers go, redacted: ``SPAN_ONLY``, ``SCORE_ONLY`` (to evaluators alone) or
            ``NO_CONTENT``; as the environment says when None.
        evaluators: names of evaluators that score the answers of both arms; without ``content`` they see them alone.
        evaluated_share: the share of traces that is scored.
        store: directory that spans are also kept in, for ``traceai-vllm compare``.
    """

    content: Literal["NO_CONTENT", "SPAN_ONLY", "SCORE_ONLY"] | None = None
    evaluators: tuple[str, ...] = ()
    evaluated_share: Share = 1.0
    store: str | None = None


class SliceOptions(Strict):
    """What puts a request into a cohort slice; to be the same as where spans are scored.

    Attributes:
        long_context_tokens: a prompt of so many tokens is in ``long_context``.
        languages: the languages that the application mostly gets, as ISO 639-1 codes; any other is ``multilingual``.
        regulated_words: words and phrases that put a request into ``regulated``.
        regulated_routes: routes on which every request is in it; without these and words it cannot be told.
    """

    long_context_tokens: Annotated[int, Field(ge=1)] = 4_000
    languages: tuple[str, ...] = ("en",)
    regulated_words: tuple[str, ...] = ()
    regulated_routes: tuple[str, ...] = ()


class Limits(Strict):
    """What a caller may ask of the gateway.

    Attributes:
        max_body_bytes: the longest body; a longer one is answered with 413.
        body_timeout_s: how long a body may take to arrive; a slower one is answered with 408. What is left of the body
            of a refused request may take as long again; then the connection ends.
        max_header_bytes: how long all headers may be together; longer ones are answered with 431.
        header_timeout_s: how long headers may take to arrive, from the opening of the connection on.
        keep_alive_s: how long an idle connection is kept for the next request; longer than what stands in front of the
            gateway keeps its own, or it sends requests into connections that are just being closed, and users get 502.
        write_timeout_s: how long a user may read nothing of an answer while there is more; then the connection ends.
        max_connections: how many connections of users there may be at once; more are answered with 503.
    """

    max_body_bytes: Annotated[int, Field(ge=1)] = 16 * MIB
    body_timeout_s: Seconds = 30.0
    max_header_bytes: Annotated[int, Field(ge=1024)] = 64 * 1024
    header_timeout_s: Seconds = 10.0
    keep_alive_s: Annotated[int, Field(ge=1)] = 75
    write_timeout_s: Seconds = 60.0
    max_connections: Annotated[int, Field(ge=1)] = 10_000

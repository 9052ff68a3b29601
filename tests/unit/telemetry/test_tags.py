"""``tags(...)``: what is inside the scope is tagged, wherever its context goes; what is outside is not."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import baggage, context, propagate

import traceai_vllm
from traceai_vllm import tags
from traceai_vllm.telemetry import tags as tags_module
from traceai_vllm.telemetry.tags import given_in, tags_in


def here() -> Mapping[str, object]:
    return tags_in(context.get_current())


def test_tags_hold_inside_the_scope_only() -> None:
    """A tag is there inside the `with` block, and gone behind it, also when the block raises."""
    with pytest.raises(ZeroDivisionError), tags(route="support", prompt_version="v3"):
        assert here() == {"route": "support", "prompt_version": "v3"}
        1 / 0  # noqa: B018

    assert here() == {}


def test_tags_nest_and_inner_values_win() -> None:
    """An inner scope adds to the outer one and overrides it; the outer one is back afterwards."""
    with tags(route="support", traffic_cohort="mirrored"):
        with tags(route="billing", agent_step="plan"):
            assert here() == {"route": "billing", "traffic_cohort": "mirrored", "agent_step": "plan"}
        assert here() == {"route": "support", "traffic_cohort": "mirrored"}


def test_an_unknown_tag_names_the_allowed_ones() -> None:
    """A misspelt keyword is an error that says which tags there are and where free ones go."""
    with pytest.raises(TypeError, match=r"'rout'.*route, prompt_version, traffic_cohort, agent_step.*extra="):
        tags(rout="support")


@pytest.mark.parametrize("value", [3, 1.5, b"x", ["a"], object()])
def test_a_named_tag_must_be_a_string(value: object) -> None:
    """A value of another type is refused where it is given, not somewhere in an exporter."""
    with pytest.raises(TypeError, match=r"tags\(route=\.\.\.\) takes a string"):
        tags(route=value)  # type: ignore[arg-type]


def test_a_decorated_function_runs_inside_the_tags() -> None:
    """As a decorator, the tags hold during each call, also when calls nest or run in several threads."""

    @tags(route="support")
    def ask(depth: int) -> list[Mapping[str, object]]:
        return [here(), *(ask(depth - 1) if depth else [])]

    assert ask(2) == [{"route": "support"}] * 3
    assert here() == {}
    assert ask.__name__ == "ask"


def test_a_decorated_coroutine_keeps_its_tags_across_await() -> None:
    """Two coroutines that run at the same time each see their own tags only."""

    async def ask(mine: asyncio.Event, other: asyncio.Event) -> tuple[object, object]:
        before = here().get("route")
        mine.set()
        await other.wait()
        return before, here().get("route")

    async def main() -> list[tuple[object, object]]:
        a, b = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(tags(route="a")(ask)(a, b), tags(route="b")(ask)(b, a))

    assert asyncio.run(main()) == [("a", "a"), ("b", "b")]


def test_tags_follow_tasks_and_copied_contexts_into_threads() -> None:
    """A task started inside the scope is tagged; a thread is when it runs in a copied context, and only then."""
    seen: dict[str, Mapping[str, object]] = {}

    async def in_task() -> None:
        seen["task"] = here()

    async def main() -> None:
        with tags(route="support"):
            task = asyncio.create_task(in_task())
            copied = contextvars.copy_context()
        await task
        for name, target in (
            ("copied", lambda: copied.run(remember, "copied")),
            ("bare", lambda: remember("bare")),
        ):
            thread = threading.Thread(target=target, name=name)
            thread.start()
            thread.join()

    def remember(name: str) -> None:
        seen[name] = here()

    asyncio.run(main())

    assert seen == {"task": {"route": "support"}, "copied": {"route": "support"}, "bare": {}}


def test_generators_cannot_be_decorated() -> None:
    """A generator's body runs in its consumer's context, so decorating one is refused with what to do instead."""

    def produce() -> object:
        yield 1

    async def aproduce() -> object:
        yield 1

    for function in (produce, aproduce):
        with pytest.raises(TypeError, match="where it is consumed"):
            tags(route="support")(function)


def test_a_scope_cannot_be_entered_twice_at_once() -> None:
    """Sharing one scope between overlapping blocks would restore the wrong context, so it is an error."""
    scope = tags(route="support")
    with scope, pytest.raises(RuntimeError, match="already entered"), scope:
        pass

    assert here() == {}


def test_a_generator_that_is_closed_elsewhere_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """As the one of a streamed response whose client has left: the event loop closes it in another context."""

    def stream() -> Iterator[str]:
        with tags(route="support"):
            yield "first"

    chunks = stream()
    contextvars.copy_context().run(next, chunks)
    contextvars.copy_context().run(chunks.close)
    assert caplog.records == []
    assert here() == {}


def test_what_is_given_to_evaluators_nests_and_is_no_tag() -> None:
    """Inner values win one by one; none of it becomes an attribute or baggage."""
    with tags(context="a", schema={"type": "object"}), tags(expected=[], context=["b"], propagate=True):
        given = dict(given_in(context.get_current()))
        assert given == {"context": ["b"], "schema": {"type": "object"}, "expected": []}
        assert here() == {}
        assert baggage.get_all() == {}
    assert given_in(context.get_current()) == {}


@pytest.mark.parametrize("given", [{"schema": 3}, {"schema": ["object"]}, {"expected": "get_weather"}])
def test_what_no_evaluator_could_read_is_refused(given: dict[str, object]) -> None:
    """Where it is given, by its name."""
    with pytest.raises(TypeError, match=rf"tags\({next(iter(given))}=\.\.\.\) takes a"):
        tags(**given)  # type: ignore[arg-type]


def test_extra_tags_are_namespaced_and_keep_their_type() -> None:
    """Free tags cannot collide with the contract's names, and numbers stay numbers."""
    with tags(route="a", extra={"route": "mine", "tries": 2, "share": 0.5, "vip": True}):
        assert here() == {
            "route": "a",
            "traceai.tag.route": "mine",
            "traceai.tag.tries": 2,
            "traceai.tag.share": 0.5,
            "traceai.tag.vip": True,
        }


def test_half_a_surrogate_pair_breaks_neither_the_call_nor_the_export() -> None:
    """JSON may bring one. Baggage raises for it where a client's call is made, and no exporter encodes it."""
    carrier: dict[str, str] = {}
    with tags(route="a\ud800b", extra={"n\ud800": "\ud800"}, propagate=True):
        assert here() == {"route": "a?b", "traceai.tag.n?": "?"}
        propagate.inject(carrier)
    assert carrier["baggage"] == "route=a%3Fb"


def test_what_is_as_long_as_it_may_be_is_not_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is counted, and nothing is logged."""
    monkeypatch.setattr(tags_module, "_capped", Counter())
    with tags(route="r" * 256, extra={"n" * 64: "v" * 256}):
        assert here() == {"route": "r" * 256, "traceai.tag." + "n" * 64: "v" * 256}
    assert tags_module.capped_tags() == {}


def test_extra_tags_are_capped_in_number_and_length(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What exceeds the caps is left out or cut, counted, and logged once per reason."""
    monkeypatch.setattr(tags_module, "_capped", type(tags_module._capped)())
    extra: dict[str, str | bool | int | float] = {f"k{i}": i for i in range(20)}
    caplog.set_level(logging.WARNING, "traceai_vllm")

    with tags(extra=extra), tags(extra={"n" * 65: 1}), tags(route="r" * 1000):
        found = here()

    assert len([key for key in found if key.startswith("traceai.tag.")]) == 16
    assert found["route"] == "r" * 256
    assert tags_module.capped_tags() == {"too_many": 4, "name_too_long": 1, "value_too_long": 1}
    assert len(caplog.records) == 3


@given(st.dictionaries(st.sampled_from(["route", "prompt_version", "traffic_cohort", "agent_step"]), st.text()))
def test_any_strings_are_taken_and_given_back(named: dict[str, str]) -> None:
    """Whatever text a tag is, it comes back unchanged up to its longest length, and the scope leaves no trace."""
    with tags(**named):  # type: ignore[arg-type]
        assert here() == {key: value[:256] for key, value in named.items()}
    assert here() == {}


def test_baggage_is_set_on_request_only_and_with_the_named_tags_alone() -> None:
    """Tags leave the process only with `propagate=True`, and free tags never do."""
    with tags(route="support"):
        assert dict(baggage.get_all()) == {}
    with tags(route="support", extra={"customer": "42"}, propagate=True):
        assert dict(baggage.get_all()) == {"route": "support"}
    assert dict(baggage.get_all()) == {}


def test_a_value_that_no_longer_holds_is_not_sent() -> None:
    """An inner tag that stays here takes the place of an outer one that was sent; others' baggage stays."""
    with tags(route="a", agent_step="plan", propagate=True), tags(route="b"):
        assert dict(baggage.get_all()) == {"agent_step": "plan"}
        with tags(prompt_version="v3", propagate=True):
            assert dict(baggage.get_all()) == {"agent_step": "plan", "prompt_version": "v3"}
        with tags(route="c", propagate=True):
            assert baggage.get_baggage("route") == "c"
    token = context.attach(baggage.set_baggage("route", "theirs"))
    with tags(route="a"), tags(route="b"):
        assert baggage.get_baggage("route") == "theirs"
    context.detach(token)


def test_the_value_of_an_enum_is_the_tag_wherever_it_goes() -> None:
    """`class Route(str, Enum)`: on spans, in metrics (which take text) and in baggage, and as a free tag."""

    class Route(str, Enum):
        SUPPORT = "support"

    carrier: dict[str, str] = {}
    with tags(route=Route.SUPPORT, extra={"tenant": Route.SUPPORT}, propagate=True):
        propagate.inject(carrier)
        assert {key: str(value) for key, value in here().items()} == {
            "route": "support",
            "traceai.tag.tenant": "support",
        }
    assert carrier["baggage"] == "route=support"


def test_tags_are_part_of_the_public_face() -> None:
    """Users reach them as `traceai_vllm.tags`."""
    assert traceai_vllm.tags is tags

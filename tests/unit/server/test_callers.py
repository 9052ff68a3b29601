"""What callers say becomes tags, within bounds that no caller can move."""

from __future__ import annotations

import logging
import tracemalloc

import pytest
from opentelemetry import baggage
from starlette.testclient import TestClient

from traceai_vllm import instrument, uninstrument
from traceai_vllm.server import ServerOptions, callers
from traceai_vllm.server.callers import Callers, CallerTags
from traceai_vllm.testing import Capture, capture


def tags(client: TestClient, **headers: str) -> dict[str, str]:
    return client.get("/tags", headers={name.replace("_", "-"): value for name, value in headers.items()}).json()


def test_headers_win_over_baggage(captured, client) -> None:
    found = tags(client, x_route="support", baggage="route=other,agent_step=plan,unknown=x,prompt_version=v3")
    assert found == {"route": "support", "agent_step": "plan", "prompt_version": "v3", "operation": None}


def test_the_first_of_several_headers_counts() -> None:
    """A proxy that adds its own puts it before what a caller sent, or strips that."""
    headers = [(b"x-route", b"proxy"), (b"x-route", b"caller")]
    assert Callers(ServerOptions()).from_headers(headers) == {"route": "proxy"}


def test_of_a_caller_that_is_not_trusted_nothing_is_taken() -> None:
    """Not from the body either, which no proxy strips."""
    reader = Callers(ServerOptions(trust_callers=False))
    assert reader.from_headers([(b"x-route", b"a")]) == {}
    assert reader.from_metadata({"route": "a"}) == {}
    assert reader.from_baggage(baggage.set_baggage("route", "a")) == {}


def test_a_value_may_have_as_many_characters_in_any_script() -> None:
    """A character has up to four bytes."""
    value = "\N{GRINNING FACE}" * 256
    assert Callers(ServerOptions()).from_headers([(b"x-route", value.encode())]) == {"route": value}


def test_metadata_wins_over_baggage_that_was_looked_at_before() -> None:
    """A log line of the application may show the tags before vLLM has read the body."""
    tags = CallerTags(Callers(ServerOptions()), {"route": "from baggage"})
    assert tags["route"] == "from baggage"
    tags.add_metadata({"route": "from the body"})
    assert tags["route"] == "from the body"


def test_metadata_of_the_body_stands_between_headers_and_baggage() -> None:
    callers = Callers(ServerOptions())
    found = CallerTags(callers, {"route": "header", "agent_step": "baggage"}, frozenset({"route"}))
    body = {"route": "body", "agent_step": "body", "user": "x", "traffic_cohort": 3}
    found.add_metadata(callers.from_metadata(body))
    assert dict(found) == {"route": "header", "agent_step": "body"}


@pytest.mark.parametrize("metadata", [None, "text", ["route"], 3, {"route": None}, {"route": {"a": 1}}, {"route": " "}])
def test_metadata_that_makes_no_sense_is_passed_over(metadata) -> None:
    assert Callers(ServerOptions()).from_metadata(metadata) == {}


def test_the_names_of_headers_can_be_chosen(app) -> None:
    options = ServerOptions(headers={"route": "X-Feature"})
    with capture(server=options), TestClient(app) as client:
        assert tags(client, x_feature="a", x_route="b", x_agent_step="c") == {"route": "a", "operation": None}


def test_only_allowed_values_get_through(app) -> None:
    options = ServerOptions(allowed={"route": {"support"}})
    with capture(server=options) as captured, TestClient(app) as client:
        assert tags(client, x_route="support", x_agent_step="any")["route"] == "support"
        assert tags(client, x_route="made-up")["route"] == "other"
        points = captured.metrics()["traceai.callers.values_replaced"]
    assert {"dimension": "route", "reason": "not_allowed"} in [p["attributes"] for p in points if p["value"] == 1]


def test_values_are_cut_and_may_be_any_bytes(captured, client) -> None:
    assert len(tags(client, x_route="r" * 5000)["route"]) == 256
    found = Callers(ServerOptions()).from_headers([(b"x-route", b"\xff\xfe caf\xc3\xa9 ")])
    assert found == {"route": "\ufffd\ufffd café"}


@pytest.mark.parametrize("odd", ["a\nb", "a\x00b", "a\x1bb", "a\u2028b", "a\ud800b"])
def test_line_breaks_and_half_characters_become_blanks(odd) -> None:
    """JSON and baggage can bring any of them; no exporter takes half a surrogate pair."""
    assert Callers(ServerOptions()).from_metadata({"route": odd}) == {"route": "a b"}


def test_a_hostile_client_grows_neither_memory_nor_metrics(app) -> None:
    """10,000 different routes and 16 KB headers: 100 values are kept, the rest is `other`, and counted."""
    with capture() as captured, TestClient(app) as client:
        seen = {tags(client, x_route=f"warm-{n}")["route"] for n in range(200)}
        assert len(seen) == 101
        tracemalloc.start()
        reader = Callers(ServerOptions())
        for number in range(10_000):
            found = dict(CallerTags(reader, reader.from_headers([(b"x-route", b"%d-" % number + b"x" * 16_000)])))
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        points = captured.metrics()["traceai.callers.values_replaced"]
    assert found == {"route": "other"}
    assert grown < 200_000
    assert [p["value"] for p in points if p["attributes"] == {"dimension": "route", "reason": "too_many_values"}] == [
        100
    ]


def test_the_environment_sets_the_options(monkeypatch, caplog) -> None:
    for name, value in {
        "TRACEAI_VLLM_TRUST_CALLERS": "no",
        "TRACEAI_VLLM_HEADERS": "route = x-feature, nonsense, prompt_version=x-\N{EURO SIGN}",
        "TRACEAI_VLLM_ALLOWED_VALUES": "route=support|billing",
        "TRACEAI_VLLM_MAX_VALUES": "many",
        "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "/quiet",
    }.items():
        monkeypatch.setenv(name, value)
    with caplog.at_level(logging.WARNING):
        options = ServerOptions.from_environment()
    assert not options.trust_callers
    assert options.headers["route"] == "x-feature"
    assert options.headers["agent_step"] == "x-agent-step"
    assert options.allowed == {"route": {"support", "billing"}}
    assert (options.max_values, options.excluded_urls) == (100, "/quiet")
    assert options.headers["prompt_version"] == "x-prompt-version"
    said = ["'nonsense'", "\N{EURO SIGN}", "many"]
    assert [word in message for word, message in zip(said, caplog.messages, strict=True)] == [True] * 3


def test_a_header_that_no_request_has_is_an_error() -> None:
    with pytest.raises(ValueError, match="is no name of a header"):
        ServerOptions(headers={"route": "x-\N{EURO SIGN}"})


def test_a_tag_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="'rout' is no tag; use route, prompt_version"):
        ServerOptions(headers={"rout": "x-route"})


def test_requests_that_reach_no_engine_take_up_no_places(app) -> None:
    """Whoever has no API key, or asks for what does not exist, cannot crowd real routes out."""
    with capture() as captured, TestClient(app) as client:
        for number in range(150):
            client.get("/nowhere", headers={"x-route": f"made-up-{number}"})
        assert tags(client, x_route="support")["route"] == "support"
        points = captured.metrics()["traceai.callers.values_replaced"]
    assert sum(point["value"] for point in points) == 0


def test_replaced_values_are_still_counted_after_a_second_instrument(app) -> None:
    """With the same provider, the SDK goes on with the callback that it knows; with another, it begins anew."""
    here, there = Capture(), Capture()
    counted = []
    for captured, allowed in ((here, "a"), (here, "b"), (there, "c"), (here, "d")):
        instrument(
            tracer_provider=captured.tracer_provider,
            meter_provider=captured.meter_provider,
            server=ServerOptions(allowed={"route": {allowed}}),
        )
        found = CallerTags(callers.current(), {"route": "x"})
        assert found["route"] == "other"
        uninstrument()
        points = captured.metrics()["traceai.callers.values_replaced"]
        counted.append(sum(point["value"] for point in points))
    assert counted == [1, 2, 1, 3]

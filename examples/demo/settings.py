"""The gateway's configuration for the demo, as a file that can be read and copied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import yaml
from receiver import free_ports

from traceai_vllm.evals import registry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from processes import Server, Variant

RISKS = {"support": "high", "tool_calling": "high"}
NOISE_FLOOR = 0.1
# Users and copies wait as long: two busy cores take minutes for ten prompts with tools.
ANSWER_SECONDS = 300


@dataclass(frozen=True)
class Place:
    """Where a run keeps its files.

    Attributes:
        folder: everything below is in here.
    """

    folder: Path

    @property
    def store(self) -> Path:
        """The gateway's spans: both arms, with their scores."""
        return self.folder / "store"

    @property
    def engines(self) -> Path:
        """The engines' spans."""
        return self.folder / "engines"

    @property
    def decision(self) -> Path:
        """What the gateway obeys."""
        return self.folder / "decision.json"

    @property
    def report(self) -> Path:
        """The page that says go or no-go."""
        return self.folder / "report.html"


def write_config(
    place: Place, servers: Mapping[str, tuple[Variant, Server]], routes: Iterable[str]
) -> tuple[Path, str, str]:
    """Write ``gateway.yaml``; return its path, the users' URL and the operators' URL."""
    users, operators = (f"127.0.0.1:{port}" for port in free_ports(2))
    config = {
        "listen": users,
        "admin": operators,
        "decision_file": str(place.decision),
        "books": str(place.folder / "books"),
        "servers": {
            arm: {
                "url": server.url,
                "model": variant.model.name,
                "model_variant": variant.model.name,
                "quantization_format": variant.number_format,
            }
            for arm, (variant, server) in servers.items()
        },
        "routes": [
            {
                "name": route,
                "match": {"header": {"x-route": route}},
                "baseline": "baseline",
                "candidate": "candidate",
                "risk": RISKS.get(route, "medium"),
                "noise_floor": NOISE_FLOOR,
            }
            for route in routes
        ],
        "mirror": {"timeout_s": ANSWER_SECONDS},
        "telemetry": {"content": "SPAN_ONLY", "evaluators": registry.names(), "store": str(place.store)},
        "feedback": {"without_keys": True},
    }
    path = place.folder / "gateway.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path, f"http://{users}", f"http://{operators}"

"""Reads ``gateway.yaml``. Every error says the line and what to write there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from traceai_vllm.gateway import config, options
from traceai_vllm.gateway.config import GatewayConfig
from traceai_vllm.gateway.watched_file import read_watched_file
from traceai_vllm.yaml_file import YamlFileError, load_yaml, parse_yaml

if TYPE_CHECKING:
    import os

_MODELS = [
    kind
    for kind in (*vars(config).values(), *vars(options).values())
    if isinstance(kind, type) and issubclass(kind, BaseModel)
]


class ConfigError(YamlFileError):
    """The file cannot be used; the message has a line for each problem, with its place and the fix."""


def load_config(path: str | os.PathLike[str]) -> GatewayConfig:
    """Read a configuration file.

    Raises:
        ConfigError: it cannot be read, is no YAML, or says what it may not say.
    """
    return load_yaml(path, GatewayConfig, _MODELS, ConfigError)


def reload_config(path: str | os.PathLike[str]) -> GatewayConfig:
    """Read a configuration file again, in a gateway that runs.

    Raises:
        ConfigError: as :func:`load_config`; also where it is a pipe or a device, or has more than 4 MiB: that would
            hold users up.
    """
    try:
        text = read_watched_file(Path(path)).decode("utf-8")
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    return parse_config(text, str(path))


def parse_config(text: str, name: str = "gateway.yaml") -> GatewayConfig:
    """Return the configuration that a text says.

    Args:
        text: YAML.
        name: what errors call the file.

    Raises:
        ConfigError: as :func:`load_config`.
    """
    return parse_yaml(text, name, GatewayConfig, _MODELS, ConfigError)

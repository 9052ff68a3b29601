"""An OpenAI-compatible gateway that also sends real traffic to a candidate, which users never notice.

    traceai-vllm gateway --config gateway.yaml

    from traceai_vllm.gateway import create_app
    app = create_app("gateway.yaml")  # ASGI

A request enters at :mod:`.proxy`, which finds its route, asks the baseline through :mod:`.exchange`, passes the answer
on to the :mod:`.user`, and offers a copy to the :mod:`.mirror`; :mod:`.books` says what became of every copy, and
:mod:`.spans` makes one trace of it all.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traceai_vllm.gateway.app import create_admin_app, create_app
    from traceai_vllm.gateway.books import BooksError
    from traceai_vllm.gateway.config import GatewayConfig
    from traceai_vllm.gateway.config_file import ConfigError, load_config
    from traceai_vllm.gateway.decision import Decision

__all__ = ["BooksError", "ConfigError", "Decision", "GatewayConfig", "create_admin_app", "create_app", "load_config"]

_HOMES = {
    "BooksError": "books",
    "ConfigError": "config_file",
    "Decision": "decision",
    "GatewayConfig": "config",
    "create_admin_app": "app",
    "create_app": "app",
    "load_config": "config_file",
}


def __getattr__(name: str) -> Any:
    # Imported when first used: the decision file's format needs none of the gateway's libraries but pydantic.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("traceai_vllm"):
            raise
        message = f"the gateway needs {error.name}, which is not installed: pip install 'traceai-vllm[gateway]'"
        raise ImportError(message, name=error.name) from error
    globals()[name] = value
    return value

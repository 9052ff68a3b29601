"""An OpenAI-compatible gateway that also sends real traffic to a candidate, which users never notice.

    traceai-vllm gateway --config gateway.yaml

    from traceai_vllm.gateway import create_app
    app = create_app("gateway.yaml")  # ASGI

A request enters at :mod:`.proxy`, which finds its route, asks the baseline through :mod:`.exchange`, passes the answer
on to the :mod:`.user`, and offers a copy to the :mod:`.mirror`; :mod:`.books` says what became of every copy, and
:mod:`.spans` makes one trace of it all.
"""

try:
    from traceai_vllm.gateway.app import create_admin_app, create_app
    from traceai_vllm.gateway.books import BooksError
    from traceai_vllm.gateway.config import GatewayConfig
    from traceai_vllm.gateway.config_file import ConfigError, load_config
except ModuleNotFoundError as error:
    if (error.name or "").startswith("traceai_vllm"):
        raise
    message = f"the gateway needs {error.name}, which is not installed: pip install 'traceai-vllm[gateway]'"
    raise ImportError(message, name=error.name) from error

__all__ = ["BooksError", "ConfigError", "GatewayConfig", "create_admin_app", "create_app", "load_config"]

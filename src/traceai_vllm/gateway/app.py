"""The gateway as ASGI applications: one for users, one for operators."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from traceai_vllm.gateway.answers import DIALECTS
from traceai_vllm.gateway.call import PREFLIGHT
from traceai_vllm.gateway.config import GatewayConfig
from traceai_vllm.gateway.config_file import load_config
from traceai_vllm.gateway.feedback import FeedbackEndpoint
from traceai_vllm.gateway.measures import prometheus
from traceai_vllm.gateway.proxy import Proxy
from traceai_vllm.gateway.rollback import when
from traceai_vllm.gateway.runtime import Runtime
from traceai_vllm.gateway.scoring import attach
from traceai_vllm.gateway.user import error_document, trace_header
from traceai_vllm.telemetry.feedback import FeedbackSpans
from traceai_vllm.telemetry.providers import configure

if TYPE_CHECKING:
    import os
    from collections.abc import AsyncIterator

    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from starlette.requests import Request

_PLAIN_PATHS = ("/v1/models", "/health")


def create_app(
    config: GatewayConfig | str | os.PathLike[str],
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    logger_provider: LoggerProvider | None = None,
) -> Starlette:
    """Return the gateway as an ASGI application, to serve or to mount: all that ``traceai-vllm gateway`` has but ports.

    It starts with the first request. Run its lifespan, or call ``await app.state.runtime.close()``, to end it; mounted
    applications get no lifespan of their own from Starlette.

    Args:
        config: the configuration, or the path of its file, which is then watched.
        tracer_provider: where spans go. None: the global providers, which are set up from the ``OTEL_*`` variables
            where the application has not set its own; so set yours first. With a provider of the application's own,
            scores reach the store and the guard, but not its exporters, which stand in it already.
        meter_provider: where metrics go; the global provider when None.
        logger_provider: where events go; the global provider when None.

    Raises:
        ConfigError: the file cannot be used.
        BooksError: the file of the books cannot be used.
        ValueError: an evaluator is not known; the message lists those that are.
        ImportError: an evaluator or the store needs a package that is not installed.
    """
    if tracer_provider is None:
        tracer_provider = configure(service_name_fallback="traceai-vllm-gateway").tracer_provider
    path = None if isinstance(config, GatewayConfig) else config
    loaded = config if isinstance(config, GatewayConfig) else load_config(config)
    runtime = Runtime(
        loaded,
        path,
        tracer_provider=tracer_provider,
        meter_provider=meter_provider,
        logger_provider=logger_provider,
    )
    attach(runtime, loaded.telemetry, tracer_provider)
    flush = getattr(tracer_provider, "force_flush", None)
    if flush is not None:
        runtime.closing.append(flush)
    proxy = Proxy(runtime)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        runtime.start()
        yield
        await runtime.close()

    routes = [Route(path, proxy, methods=["POST"]) for path in DIALECTS]
    feedback = FeedbackEndpoint(runtime, FeedbackSpans(tracer_provider, meter_provider, runtime.content))
    routes.append(Route("/v1/feedback", feedback, methods=["POST"]))
    routes += [Route(path, proxy, methods=["GET"]) for path in _PLAIN_PATHS]
    routes += [Route(path, proxy, methods=[PREFLIGHT]) for path in (*DIALECTS, *_PLAIN_PATHS)]
    handlers: Any = dict.fromkeys((HTTPException, Exception), _refused)
    app = Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers)
    app.router.redirect_slashes = False  # nothing is served but these paths
    app.state.runtime = runtime
    return app


async def _refused(request: Request, error: Exception) -> JSONResponse:
    """Answer what no endpoint has answered: an unknown path or method, or an error of the gateway's own."""
    status, kind, message, headers = 500, "internal_error", "it failed; its log says why", None
    if isinstance(error, HTTPException):
        status, headers = error.status_code, error.headers
        kind, message = "not_found", "it serves nothing at this path for this method"
    answer = JSONResponse(error_document(status, kind, message), status, headers)
    answer.raw_headers.append(trace_header(request.app.state.runtime.spans.callers_trace_id(request.headers.raw)))
    return answer


def create_admin_app(runtime: Runtime) -> Starlette:
    """Return the operators' application (``/healthz``, ``/status``, ``/books``, ``/metrics``), for a port of its own.

    Args:
        runtime: the gateway's: ``app.state.runtime``.
    """

    async def healthz(request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok\n")

    async def status(request: Request) -> JSONResponse:
        return JSONResponse(_status(runtime))

    async def books(request: Request) -> JSONResponse:
        return JSONResponse(_books(runtime))

    async def metrics(request: Request) -> PlainTextResponse:
        return PlainTextResponse(prometheus(runtime), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/status", status),
            Route("/books", books),
            Route("/metrics", metrics),
        ]
    )


def _status(runtime: Runtime) -> dict[str, Any]:
    return {
        "config_error": runtime.config_error,
        "decision": None if runtime.decision is None else runtime.decision.model_dump(mode="json", exclude_none=True),
        "decision_error": runtime.decision_error,
        "routes": {route.name: runtime.serving(route).mode.value for route in runtime.config.routes},
        "rollbacks": [{**rollback._asdict(), "at": when(rollback)} for rollback in runtime.rollout.rollbacks.values()],
        "mirror": {
            "running": runtime.mirror.running if runtime.started else 0,
            "queued": runtime.mirror.queued if runtime.started else 0,
            "held_bytes": runtime.budget.used,
        },
        "store": None if runtime.stored is None else runtime.stored(),
    }


def _books(runtime: Runtime) -> list[dict[str, Any]]:
    return [
        {"route": route, "target": target, **asdict(balance), "difference": balance.difference}
        for (route, target), balance in runtime.books.balances().items()
    ]

"""``traceai-vllm gateway``: serves users, and operators on a port of their own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import resource
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

from traceai_vllm.cli.main import CANNOT
from traceai_vllm.cli.refusal import reason

if TYPE_CHECKING:
    import argparse

_log = logging.getLogger("traceai_vllm.gateway")

_STOP_AFTER_S = 30
_BACKLOG = 2048
_OTHER_FILES = 256
# A name may have addresses that this machine has not: in a container without IPv6, localhost is ::1 all the same.
_ABSENT = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
_SWITCH_INTERVAL_S = 0.0005
_OBJECTS_BETWEEN_COLLECTIONS = 50_000

_DESCRIPTION = """\
Serve an OpenAI-compatible API: users are answered by the baseline, a share of their requests is sent to the candidate
too, and both answers are recorded. It obeys the decision that `traceai-vllm gate` writes.
"""

_EXAMPLES = """\
examples:
  traceai-vllm gateway --config gateway.yaml --check    can this file be used? if not: line and fix
  traceai-vllm gateway --config gateway.yaml            serve; a change of the file is obeyed at once
  traceai-vllm gateway --decision-schema                the JSON schema of the decision file

a gateway.yaml:
  servers:
    bf16: {url: "http://127.0.0.1:8000"}
    int4: {url: "http://127.0.0.1:8001", model: llama-int4}   # its name for the model
  routes:
    - {name: support, baseline: bf16, candidate: int4, sampling_rate: 0.1}

exit code:
  0  it was ended by a signal; or --check finds nothing
  2  the file, its books, a port or a library cannot be used
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.description = _DESCRIPTION
    parser.epilog = _EXAMPLES
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--config", metavar="FILE", help="gateway.yaml; a change is obeyed at once")
    wanted.add_argument("--decision-schema", action="store_true", help="print the JSON schema of the decision file")
    parser.add_argument("--check", action="store_true", help="only say whether the file can be used")


def run(arguments: argparse.Namespace) -> int:
    """Serve until a signal ends it; 2 when it cannot start."""
    try:
        if arguments.decision_schema:
            from traceai_vllm.gateway.decision import decision_schema

            print(decision_schema(), end="")
            return 0
        from traceai_vllm.gateway import BooksError, ConfigError, create_app, load_config
    except ImportError as error:
        return _refuse(error)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        config = load_config(arguments.config)
        from traceai_vllm.gateway.scoring import evaluators_of

        evaluators_of(config.telemetry)
        if arguments.check:
            print(f"{arguments.config} can be used")
            return 0
        from traceai_vllm.telemetry.providers import configure as configure_telemetry

        listening = [_listening(place) for place in (config.listen, config.admin) if place is not None]
        providers = configure_telemetry(service_name_fallback="traceai-vllm-gateway")
        app = create_app(arguments.config)
    except (ConfigError, BooksError, ImportError, ValueError) as error:
        return _refuse(error)
    operators = "" if config.admin is None else f", operators at http://{config.admin}"
    _allow_files(config)
    _log.info("%s is in force: users are answered at http://%s%s", arguments.config, config.listen, operators)
    _serve(app, config, listening)
    providers.shutdown()
    return 0


def _refuse(error: Exception) -> int:
    # Errors of the file begin with its name and line, which editors and people look for.
    print(reason(error, "gateway"), file=sys.stderr)
    return CANNOT


def _listening(place: str) -> list[socket.socket]:
    # uvicorn would end the process when it cannot, at whatever it is, with a traceback where there are two ports.
    from traceai_vllm.gateway.config import address

    host, port = address(place)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listening: list[socket.socket] = []
        absent: OSError | None = None
        for family, *_, where in found:
            try:
                listening.append(socket.create_server(where, family=family, backlog=_BACKLOG))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = error
        if not listening and absent is not None:
            raise absent
        return listening
    except OSError as error:
        raise ValueError(f"nobody can be served at {place}: {error.strerror}") from None


def _allow_files(config: Any) -> None:
    """Allow this process as many open files as its bounds are of use with; vLLM's server does so too.

    Each user has a connection here and one to a server, each copy one. Many systems begin with 1024; whoever connects
    when there are no more is turned away without a word.
    """
    users = 2 * config.limits.max_connections
    wanted = users + config.mirror.concurrency + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    infinite = resource.RLIM_INFINITY
    if soft == infinite or soft >= wanted:
        return
    allowed = wanted if hard == infinite else min(wanted, hard)
    with contextlib.suppress(OSError, ValueError):  # where the kernel's own bound is lower
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft = allowed
    if soft < users:
        _log.warning(
            "This process may have %s open files, too few for limits.max_connections: raise `ulimit -Hn` to %s, or "
            "connections of users are closed when there are no more",
            soft,
            wanted,
        )


def _serve(app: Any, config: Any, listening: list[list[socket.socket]]) -> None:
    import uvloop

    # The thread that exports spans may keep the interpreter for 5 ms at a time, and users would wait for it.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    # What is there now stays: the garbage collector need not look through it again and again.
    gc.collect()
    gc.freeze()
    # A request leaves no cycles behind. To look for some after every 700 new objects, spans that wait for their export
    # among them, stops users for milliseconds each time, and finds nothing.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    uvloop.run(_serve_both(app, config, *listening))


async def _serve_both(app: Any, config: Any, for_users: list[Any], for_operators: list[Any] | None = None) -> None:
    from traceai_vllm.gateway import create_admin_app

    users = _server(app, config.limits)
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, users.handle_exit, number, None)
    # Unhandled, it would end the process at once, and with it the answers that users are getting.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, app.state.runtime.reload)
    if for_operators is None:
        await users.serve(for_users)
        return
    admin = _server(create_admin_app(app.state.runtime), config.limits)
    serving = asyncio.create_task(admin.serve(for_operators))
    await users.serve(for_users)
    admin.should_exit = True
    await serving


def _is_no_cancellation(record: logging.LogRecord) -> bool:
    # uvicorn says in one line how many answers it ends at last, and then logs a traceback for each.
    return record.exc_info is None or not isinstance(record.exc_info[1], asyncio.CancelledError)


def _server(app: Any, limits: Any) -> Any:
    import uvicorn

    from traceai_vllm.gateway.protocol import uvicorn_config

    config = uvicorn_config(app, limits, log_level="warning", timeout_graceful_shutdown=_STOP_AFTER_S)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cancellation)
    server = uvicorn.Server(config)
    # uvicorn would end the process with the signal once more, before telemetry is flushed.
    server.capture_signals = contextlib.nullcontext  # type: ignore[method-assign, assignment]
    return server

"""What became of the first attempt to send a span, read off from what OTLP exporters send through."""

from __future__ import annotations

import contextlib
import threading
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import wrapt

if TYPE_CHECKING:
    from collections.abc import Callable

DELIVERED = "delivered"
REFUSED = "refused"
TIMEOUT = "timeout"
UNKNOWN_HOST = "unknown_host"
NO_URL = "no_url"
TLS = "tls"
CLOSED = "closed"
UNAUTHORIZED = "unauthorized"
WRONG_PATH = "wrong_path"
REJECTED = "rejected"
SERVER_ERROR = "server_error"
FAILED = "failed"


class Delivery:
    """The fate of one span; the first answer counts.

    Attributes:
        outcome: one of the constants of this module; None while there is no answer.
        reason: the answer, for a person.
        details: the same for programs.
        server_time_s: the receiver's clock, in seconds since the epoch, if it told.
        answered_s: this machine's clock then.
    """

    def __init__(self) -> None:
        self.outcome: str | None = None
        self.reason = ""
        self.details: dict[str, Any] = {}
        self.server_time_s: float | None = None
        self.answered_s = 0.0
        self._known = threading.Event()

    def wait(self, timeout_s: float) -> bool:
        """Return whether there was an answer within ``timeout_s`` seconds."""
        return self._known.wait(timeout_s)

    def settle(self, outcome: str, reason: str = "", **details: Any) -> None:
        """Take the answer, unless there is one."""
        if self.outcome is None:
            self.outcome, self.reason, self.details = outcome, reason, details
            self._known.set()

    def ended(self, success: bool) -> None:
        """Take what the exporter says in the end, where no answer could be watched."""
        self.settle(DELIVERED if success else FAILED)

    def failed(self, error: Exception) -> None:
        """Take the error with which sending failed."""
        self.settle(_outcome_of_error(error), _short(error), error=type(error).__name__)

    def answered(self, response: Any) -> None:
        """Take an HTTP response (``requests.Response``)."""
        self.answered_s = time.time()
        with contextlib.suppress(KeyError, TypeError, ValueError):
            self.server_time_s = parsedate_to_datetime(response.headers["Date"]).timestamp()
        status = response.status_code
        if 200 <= status < 300:
            rejected = _rejected_spans(response.content)
            self.settle(REJECTED if rejected else DELIVERED, rejected, http_status=status)
        else:
            self.settle(
                _outcome_of_status(status), f"HTTP {status} {response.reason or ''}".strip(), http_status=status
            )

    def answered_grpc(self, error: Any = None) -> None:
        """Take the end of a gRPC call: None for success, else its ``grpc.RpcError``."""
        if error is None:
            self.settle(DELIVERED)
        else:
            code, text = error.code().name, error.details() or ""
            self.settle(_outcome_of_code(code, text.lower()), f"{code}: {text[:200]}", grpc_status=code)


def watch(exporter: Any, delivery: Delivery) -> Callable[[], None]:
    """Let ``delivery`` see what an exporter of any kind gets for an answer; return what ends the watching."""
    stub = getattr(exporter, "_client", None)
    if hasattr(stub, "Export"):
        exporter._client = _WatchedStub(stub, delivery)
        return lambda: None
    return _watch_requests(delivery)


def _watch_requests(delivery: Delivery) -> Callable[[], None]:
    try:
        import requests
    except ImportError:
        return lambda: None

    def send(wrapped: Any, session: Any, args: Any, kwargs: Any) -> Any:
        try:
            response = wrapped(*args, **kwargs)
        except Exception as error:
            delivery.failed(error)
            raise
        delivery.answered(response)
        return response

    original = requests.Session.send
    requests.Session.send = wrapt.FunctionWrapper(original, send)  # type: ignore[method-assign]

    def stop() -> None:
        requests.Session.send = original  # type: ignore[method-assign]

    return stop


class _WatchedStub:
    def __init__(self, stub: Any, delivery: Delivery) -> None:
        self._stub = stub
        self._delivery = delivery

    def Export(self, *args: Any, **kwargs: Any) -> Any:
        import grpc

        try:
            result = self._stub.Export(*args, **kwargs)
        except grpc.RpcError as error:
            self._delivery.answered_grpc(error)
            raise
        self._delivery.answered_grpc()
        return result


def _rejected_spans(body: bytes) -> str:
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except DecodeError:
        return ""
    return (partial.error_message or "no reason given") if partial.rejected_spans else ""


def _outcome_of_status(status: int) -> str:
    if status in (401, 403, 407):
        return UNAUTHORIZED
    if status in (404, 405) or 300 <= status < 400:
        return WRONG_PATH
    return SERVER_ERROR if status >= 500 or status == 429 else REJECTED


def _outcome_of_code(code: str, text: str) -> str:
    if code == "UNAVAILABLE":
        if "refused" in text:
            return REFUSED
        if "dns" in text or "name resolution" in text:
            return UNKNOWN_HOST
        return TLS if "ssl" in text or "tls" in text or "handshake" in text else CLOSED
    return {
        "DEADLINE_EXCEEDED": TIMEOUT,
        "UNAUTHENTICATED": UNAUTHORIZED,
        "PERMISSION_DENIED": UNAUTHORIZED,
        "UNIMPLEMENTED": WRONG_PATH,
        "INVALID_ARGUMENT": REJECTED,
        "INTERNAL": SERVER_ERROR,
        "RESOURCE_EXHAUSTED": SERVER_ERROR,
        "UNKNOWN": SERVER_ERROR,
    }.get(code, FAILED)


def _outcome_of_error(error: BaseException) -> str:
    # requests hides the cause in urllib3's errors, as their cause, context, argument or `reason`.
    chain = _chain(error)
    names = {kind.__name__ for cause in chain for kind in type(cause).__mro__}
    for name, outcome in (
        # First, because some urllib3's error for them is a kind of time-out.
        ("ConnectionRefusedError", REFUSED),
        ("gaierror", UNKNOWN_HOST),
        ("InvalidSchema", NO_URL),
        ("MissingSchema", NO_URL),
        ("InvalidURL", NO_URL),
        ("SSLError", TLS),
        ("Timeout", TIMEOUT),
        ("TimeoutError", TIMEOUT),
        ("ConnectionError", CLOSED),
    ):
        if name in names:
            return outcome
    return FAILED


def _chain(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and all(cause is not other for other in found):
            found.append(cause)
            waiting += [cause.__cause__, cause.__context__, getattr(cause, "reason", None), *cause.args]
    return found


def _short(error: BaseException) -> str:
    # The innermost cause says it in the fewest words.
    causes = _chain(error)
    innermost = next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    return str(innermost.strerror if innermost is not None else type(error).__name__)

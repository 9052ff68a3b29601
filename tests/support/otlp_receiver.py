"""A real OTLP receiver for tests, in this process.

It listens on HTTP and gRPC and decodes the protobuf messages with OpenTelemetry's own schema, so values and
types can be compared exactly. ``rotel_receiver`` has a collector written by others with the same interface.

    with OtlpReceiver() as receiver:
        export_to(receiver.http_endpoint)
        [span] = receiver.spans(at_least=1)
"""

from __future__ import annotations

import gzip
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb2
from opentelemetry.proto.trace.v1 import trace_pb2 as span_pb2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

POLL_S = 0.01
TIMEOUT_S = 30.0


@dataclass
class ReceivedPoint:
    """A data point of a metric: its attributes, and its value or (of a histogram) its count."""

    attributes: dict[str, Any]
    value: int | float


@dataclass
class ReceivedSpan:
    """A span as a receiver saw it; ids in hex, attribute values with the Python type of their OTLP type."""

    name: str
    trace_id: str
    span_id: str
    parent_span_id: str | None
    kind: str = "INTERNAL"
    status: str = "UNSET"
    status_message: str = ""
    start_time_unix_nano: int = 0
    end_time_unix_nano: int = 0
    scope: str = ""
    attributes: dict[str, Any] = field(default_factory=dict)
    resource: dict[str, Any] = field(default_factory=dict)


class OtlpReceiver:
    """Receives OTLP over HTTP (``http_endpoint``) and gRPC (``grpc_endpoint``) on free ports of 127.0.0.1.

    The gRPC server is started when its endpoint is first asked for.

    Args:
        prefix: what stands before ``/v1/traces`` in the path of HTTP requests.
    """

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._received = threading.Condition()
        self._traces: list[trace_pb2.ExportTraceServiceRequest] = []
        self._metrics: list[metrics_pb2.ExportMetricsServiceRequest] = []
        self._logs: list[logs_pb2.ExportLogsServiceRequest] = []
        self._grpc: Any = None
        self._grpc_port = 0

    def __enter__(self) -> OtlpReceiver:
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self._take, self._prefix))
        self._http_thread = threading.Thread(target=self._http.serve_forever, args=(POLL_S,))
        self._http_thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._http_thread.join()
        if self._grpc is not None:
            self._grpc.stop(None).wait()

    @property
    def http_endpoint(self) -> str:
        """Base URL for ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def grpc_endpoint(self) -> str:
        """URL for ``OTEL_EXPORTER_OTLP_ENDPOINT`` with the protocol ``grpc``."""
        if self._grpc is None:
            self._start_grpc()
        return f"http://127.0.0.1:{self._grpc_port}"

    def spans(self, at_least: int = 0, timeout_s: float = TIMEOUT_S) -> list[ReceivedSpan]:
        """Return the spans received so far, after waiting for ``at_least`` of them."""
        return self._wait_for(lambda: list(_spans_of(self._traces)), at_least, timeout_s)

    def metric_names(self, at_least: int = 0, timeout_s: float = TIMEOUT_S) -> set[str]:
        """Return the names of the metrics received so far, after waiting for ``at_least`` of them."""
        return set(self._wait_for(lambda: sorted(_metric_names_of(self._metrics)), at_least, timeout_s))

    def points(self, metric: str) -> list[tuple[dict[str, Any], ReceivedPoint]]:
        """Return each data point of a metric that was received so far, in order, with its resource."""
        with self._received:
            return list(_points_of(self._metrics, metric))

    def log_bodies(self, at_least: int = 0, timeout_s: float = TIMEOUT_S) -> list[Any]:
        """Return the bodies of the log records received so far, after waiting for ``at_least`` of them."""
        return self._wait_for(lambda: list(_log_bodies_of(self._logs)), at_least, timeout_s)

    def _wait_for(self, read: Callable[[], list[Any]], at_least: int, timeout_s: float) -> list[Any]:
        with self._received:
            arrived = self._received.wait_for(lambda: len(read()) >= at_least, timeout_s)
            found = read()
        assert arrived, f"{len(found)} of {at_least} arrived within {timeout_s} s: {found}"
        return found

    def _take(self, request: Any) -> None:
        kept: list[Any] = {
            trace_pb2.ExportTraceServiceRequest: self._traces,
            metrics_pb2.ExportMetricsServiceRequest: self._metrics,
            logs_pb2.ExportLogsServiceRequest: self._logs,
        }[type(request)]
        with self._received:
            kept.append(request)
            self._received.notify_all()

    def _start_grpc(self) -> None:
        import grpc
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc
        from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc
        from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc

        take = self._take

        class Service:
            def __init__(self, response: Any) -> None:
                self._response = response

            def Export(self, request: Any, context: Any) -> Any:
                take(request)
                return self._response()

        self._grpc = grpc.server(ThreadPoolExecutor(2))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(
            Service(trace_pb2.ExportTraceServiceResponse), self._grpc
        )
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(
            Service(metrics_pb2.ExportMetricsServiceResponse), self._grpc
        )
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(Service(logs_pb2.ExportLogsServiceResponse), self._grpc)
        self._grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
        self._grpc.start()


_PATHS = {
    "/v1/traces": (trace_pb2.ExportTraceServiceRequest, trace_pb2.ExportTraceServiceResponse),
    "/v1/metrics": (metrics_pb2.ExportMetricsServiceRequest, metrics_pb2.ExportMetricsServiceResponse),
    "/v1/logs": (logs_pb2.ExportLogsServiceRequest, logs_pb2.ExportLogsServiceResponse),
}


def _handler(take: Callable[[Any], None], prefix: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            path = self.path.removeprefix(prefix)
            if path not in _PATHS:
                self.send_error(404)
                return
            request, response = _PATHS[path]
            take(request.FromString(body))
            answer = response().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


def _spans_of(requests: Iterable[trace_pb2.ExportTraceServiceRequest]) -> Iterator[ReceivedSpan]:
    for request in requests:
        for resource_spans in request.resource_spans:
            resource = _attributes(resource_spans.resource.attributes)
            for scope_spans in resource_spans.scope_spans:
                for span in scope_spans.spans:
                    yield _span(span, resource, scope_spans.scope.name)


def _span(span: span_pb2.Span, resource: dict[str, Any], scope: str) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_span_id=span.parent_span_id.hex() or None,
        kind=span_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        status=span_pb2.Status.StatusCode.Name(span.status.code).removeprefix("STATUS_CODE_"),
        status_message=span.status.message,
        start_time_unix_nano=span.start_time_unix_nano,
        end_time_unix_nano=span.end_time_unix_nano,
        scope=scope,
        attributes=_attributes(span.attributes),
        resource=resource,
    )


def _metric_names_of(requests: Iterable[metrics_pb2.ExportMetricsServiceRequest]) -> set[str]:
    return {
        metric.name
        for request in requests
        for resource_metrics in request.resource_metrics
        for scope_metrics in resource_metrics.scope_metrics
        for metric in scope_metrics.metrics
    }


def _points_of(
    requests: Iterable[metrics_pb2.ExportMetricsServiceRequest], name: str
) -> Iterator[tuple[dict[str, Any], ReceivedPoint]]:
    for request in requests:
        for resource_metrics in request.resource_metrics:
            resource = _attributes(resource_metrics.resource.attributes)
            for scope_metrics in resource_metrics.scope_metrics:
                for metric in scope_metrics.metrics:
                    if metric.name == name:
                        data = getattr(metric, metric.WhichOneof("data"))
                        for point in data.data_points:
                            yield resource, _point(point)


def _point(point: Any) -> ReceivedPoint:
    count = getattr(point, "count", None)
    value = getattr(point, point.WhichOneof("value")) if count is None else count
    return ReceivedPoint(_attributes(point.attributes), value)


def _log_bodies_of(requests: Iterable[logs_pb2.ExportLogsServiceRequest]) -> Iterator[Any]:
    for request in requests:
        for resource_logs in request.resource_logs:
            for scope_logs in resource_logs.scope_logs:
                yield from (_value(record.body) for record in scope_logs.log_records)


def _attributes(pairs: Iterable[KeyValue]) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    if kind == "kvlist_value":
        return _attributes(value.kvlist_value.values)
    return getattr(value, kind)

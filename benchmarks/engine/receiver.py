"""A process that takes what is exported over OTLP/gRPC and forgets it: exporting then has somewhere to go.

It answers each line on its standard input with the number of spans that have come so far.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

_COLLECTOR = "opentelemetry.proto.collector."


class Spans:
    """Counts spans and forgets them."""

    def __init__(self) -> None:
        self.count = 0

    def take(self, request: bytes, context: Any) -> bytes:
        """Take an ``ExportTraceServiceRequest``."""
        resources = ExportTraceServiceRequest.FromString(request).resource_spans
        self.count += sum(len(scope.spans) for resource in resources for scope in resource.scope_spans)
        return b""


def _service(name: str, take: Any) -> Any:
    handler = grpc.unary_unary_rpc_method_handler(take)
    return grpc.method_handlers_generic_handler(_COLLECTOR + name, {"Export": handler})


def main() -> None:
    spans = Spans()
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    metrics = _service("metrics.v1.MetricsService", lambda request, context: b"")
    server.add_generic_rpc_handlers([_service("trace.v1.TraceService", spans.take), metrics])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    for _ in sys.stdin:  # until the parent is gone
        print(spans.count, flush=True)


if __name__ == "__main__":
    main()

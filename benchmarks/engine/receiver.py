"""A process that takes OTLP/gRPC spans and forgets them, so that exporting has somewhere to go at a cost of its own."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

_SERVICE = "opentelemetry.proto.collector.trace.v1.TraceService"


def main() -> None:
    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
    server = grpc.server(ThreadPoolExecutor(max_workers=1))
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(_SERVICE, {"Export": handler})])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    sys.stdin.read()  # until the parent is gone


if __name__ == "__main__":
    main()

"""rotel-agent, a collector written in Rust by others, as an OTLP receiver for tests.

A check that our understanding of OTLP is not only our own. Its log is made for people (a text with a line
break cannot be told from the next line), so it serves for plain values; see ``otlp_receiver`` for exact
comparisons.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.support.otlp_receiver import POLL_S, TIMEOUT_S, ReceivedSpan

if TYPE_CHECKING:
    from collections.abc import Callable


class RotelReceiver:
    """Runs rotel-agent on free ports of 127.0.0.1 and reads the spans in its debug log. Traces only."""

    def __enter__(self) -> RotelReceiver:
        self._directory = tempfile.TemporaryDirectory()
        self._log = Path(self._directory.name) / "rotel.log"
        self._http_port, self._grpc_port = _free_ports(2)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command(), stdout=log, stderr=subprocess.STDOUT)
        try:
            for port in (self._http_port, self._grpc_port):
                self._wait_until_open(port)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *args: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._directory.cleanup()

    @property
    def http_endpoint(self) -> str:
        """Base URL for ``OTEL_EXPORTER_OTLP_ENDPOINT``."""
        return f"http://127.0.0.1:{self._http_port}"

    @property
    def grpc_endpoint(self) -> str:
        """URL for ``OTEL_EXPORTER_OTLP_ENDPOINT`` with the protocol ``grpc``."""
        return f"http://127.0.0.1:{self._grpc_port}"

    def spans(self, at_least: int = 0, timeout_s: float = TIMEOUT_S) -> list[ReceivedSpan]:
        """Return the spans in the log so far, after waiting for ``at_least`` of them."""
        deadline = time.monotonic() + timeout_s
        while True:
            text = self._log.read_text(encoding="utf-8", errors="replace")
            found = parse_rotel_log(text)
            if len(found) >= at_least:
                return found
            assert time.monotonic() < deadline, f"{len(found)} of {at_least} spans within {timeout_s} s:\n{text}"
            time.sleep(POLL_S)

    def _command(self) -> list[str]:
        spec = importlib.util.find_spec("rotel")
        assert spec is not None
        assert spec.origin is not None, "pip install rotel"
        agent = str(Path(spec.origin).parent / "rotel-agent")
        ports = [f"--otlp-{kind}-endpoint=127.0.0.1:{port}" for kind, port in self._ports().items()]
        debug = ["--debug-log=traces", "--debug-log-verbosity=detailed"]
        return [agent, "start", "--exporter=blackhole", *debug, *ports]

    def _ports(self) -> dict[str, int]:
        return {"http": self._http_port, "grpc": self._grpc_port}

    def _wait_until_open(self, port: int) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while True:
            assert self._process.poll() is None, f"rotel-agent ended: {self._log.read_text()}"
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, f"rotel-agent does not listen: {self._log.read_text()}"
                time.sleep(POLL_S)
            else:
                return


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


_FIELD = re.compile(r"^ *(Trace ID|Parent ID|ID|Name|Kind|Status code|Status message|Start time|End time) *: (.*)$")
_ATTRIBUTE = re.compile(r"^ {5}-> (.+?): (Str|Int|Double|Bool|Slice|Bytes|Map)\((.*)\)$")
_FIELDS = {
    "Trace ID": "trace_id",
    "Parent ID": "parent_span_id",
    "ID": "span_id",
    "Name": "name",
    "Kind": "kind",
    "Status code": "status",
    "Status message": "status_message",
    "Start time": "start_time_unix_nano",
    "End time": "end_time_unix_nano",
}


def parse_rotel_log(text: str) -> list[ReceivedSpan]:
    """Return the spans in rotel's detailed debug log, whose values hold no line breaks."""
    spans: list[ReceivedSpan] = []
    resource: dict[str, Any] = {}
    attributes: dict[str, Any] | None = None
    scope = ""
    for line in text.splitlines():
        if line.startswith("ResourceSpans #"):
            resource = attributes = {}
        elif line.startswith("InstrumentationScope "):
            scope = line.split(" ")[1]
        elif re.match(r"^Span #\d+$", line):
            attributes = {}
            spans.append(ReceivedSpan("", "", "", None, scope=scope, attributes=attributes, resource=resource))
        elif line in ("Events:", "Links:"):
            attributes = None
        elif (found := _ATTRIBUTE.match(line)) and attributes is not None:
            attributes[found[1]] = _rotel_value(found[2], found[3])
        elif (found := _FIELD.match(line)) and spans:
            setattr(spans[-1], _FIELDS[found[1]], _rotel_field(found[1], found[2]))
    return spans


def _rotel_field(name: str, text: str) -> Any:
    if name in ("Start time", "End time"):
        return int(text)
    if name == "Parent ID":
        return text or None
    return text.removeprefix("SPAN_KIND_").removeprefix("STATUS_CODE_")


def _rotel_value(kind: str, text: str) -> Any:
    if kind == "Slice":
        return [_rotel_value(k, v) for k, v in re.findall(r"(Str|Int|Double|Bool)\(([^)]*)\)", text)]
    readers: dict[str, Callable[[str], Any]] = {
        "Str": str,
        "Int": int,
        "Double": float,
        "Bool": lambda value: value == "true",
        "Bytes": lambda value: bytes(ast.literal_eval(value)),
    }
    return readers.get(kind, str)(text)

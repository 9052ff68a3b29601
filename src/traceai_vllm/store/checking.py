"""``check``: what of a span store can be read, and what not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traceai_vllm.store.encode import FORMAT_VERSION
from traceai_vllm.store.evaluations import PATTERN as EVALUATIONS
from traceai_vllm.store.segments import LEDGER, removed_spans, segments_in

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

_DUCKDB_LINE_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """Something in a store that the table ``spans`` does not show.

    Attributes:
        file: name of the file.
        line: number of the line, from 1; None when it is about the whole file.
        reason: what is wrong, for a person.
    """

    file: str
    line: int | None
    reason: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.reason}" if self.line else f"{self.file}: {self.reason}"


@dataclass(frozen=True, slots=True)
class StoreCheck:
    """What a store holds.

    Attributes:
        segments: number of files with spans.
        spans: number of spans that can be read.
        removed_spans: spans that were removed over time to stay within ``max_total_bytes``.
        problems: everything that cannot be read.
    """

    segments: int
    spans: int
    removed_spans: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether everything in the store can be read."""
        return not self.problems


def check(directory: str | os.PathLike[str]) -> StoreCheck:
    """Read every line of a store and say which ones, and which files, the table ``spans`` leaves out.

    Needs no DuckDB. While a process is writing, its last line may be seen half written; a second look tells.

    Args:
        directory: the directory that was given to ``SpanStoreExporter``.

    Raises:
        FileNotFoundError: there is no such directory.
    """
    path = Path(directory).absolute()
    if not path.is_dir():
        raise FileNotFoundError(f"there is no span store at {path}")
    segments = segments_in(path)
    problems = [*strangers(path)]
    spans = 0
    for segment in segments:
        readable, found = _check_segment(segment)
        spans += readable
        problems += found
    return StoreCheck(len(segments), spans, removed_spans(path), tuple(problems))


def strangers(directory: Path) -> Iterator[Problem]:
    """Yield what is in the directory of a store and is no part of it."""
    known = {*segments_in(directory), *directory.glob(EVALUATIONS), directory / LEDGER}
    for entry in sorted(directory.iterdir()):
        if entry not in known:
            yield Problem(entry.name, None, "not a segment of the store, so it is not read")


def _check_segment(segment: Path) -> tuple[int, list[Problem]]:
    spans = 0
    problems: list[Problem] = []
    try:
        with segment.open("rb") as file:
            for number, line in enumerate(file, start=1):
                reason = _problem_of(line)
                if reason is None:
                    spans += 1
                else:
                    problems.append(Problem(segment.name, number, reason))
    except OSError as error:
        problems.append(Problem(segment.name, None, f"cannot be read: {error}"))
    return spans, problems


def _problem_of(line: bytes) -> str | None:
    if len(line) > _DUCKDB_LINE_BYTES:
        return f"{len(line)} bytes long; DuckDB refuses every query over it: move the file out of the store"
    try:
        text = line.decode()
        span = json.loads(text, parse_constant=_refuse)
        if "\\ud" in text:  # perhaps an escaped lone surrogate, which Python takes and DuckDB does not
            json.dumps(span, ensure_ascii=False).encode()
    except UnicodeError:
        return "not valid UTF-8"
    except (ValueError, RecursionError):
        cut_off = not line.endswith(b"\n")
        return "cut off: its writer was killed, or is still writing" if cut_off else "not a JSON object"
    return _problem_of_span(span)


def _problem_of_span(span: Any) -> str | None:
    if not isinstance(span, dict):
        return "not a JSON object"
    for name, length in (("trace_id", 32), ("span_id", 16)):
        if not isinstance(span.get(name), str) or len(span[name]) != length:
            return f"no {name} of {length} characters"
    version = span.get("format_version")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        return f"format_version {version!r} is not one that this release knows (1 to {FORMAT_VERSION})"
    return None


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")

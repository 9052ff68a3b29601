"""Writing: bounds, failures, and processes that fork, race or are killed."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import re
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from traceai_vllm.store import SpanStoreExporter, check, connect

if TYPE_CHECKING:
    from pathlib import Path

# A program that writes spans: the common beginning of the scripts below. argv[1] is the store.
PROGRAM = """
import os, sys
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from traceai_vllm.store import SpanStoreExporter

def spans(count, text="x" * 200):
    memory = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(memory))
    tracer = provider.get_tracer("test")
    for number in range(count):
        tracer.start_span("chat", attributes={"pid": os.getpid(), "number": number, "text": text}).end()
    return memory.get_finished_spans()
"""


def start(directory: Path, script: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        # Python 3.12 and later warn of any fork beside threads, which is just what is tested here.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + script, str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(directory: Path, script: str) -> str:
    """Run a script to its end and return what it printed."""
    with start(directory, script) as process:
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    return output


def query(directory: Path, sql: str) -> list[tuple]:
    with connect(directory) as store:
        return store.sql(sql).fetchall()


def size_of(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.glob("spans-*"))


def test_a_batch_is_one_write(make_spans, tmp_path, monkeypatch) -> None:
    """Spans reach the file a whole batch at a time, so a killed process leaves whole batches."""
    writes = []
    real = os.write

    def counting(fd, data) -> int:
        writes.append(bytes(data))
        return real(fd, data)

    monkeypatch.setattr(os, "write", counting)
    exporter = SpanStoreExporter(tmp_path)
    assert exporter.export(make_spans(512)) is SpanExportResult.SUCCESS
    monkeypatch.undo()
    assert len(writes) == 1
    assert writes[0].count(b"\n") == 512
    exporter.shutdown()


def test_nothing_is_made_before_the_first_span(make_spans, tmp_path) -> None:
    """A process that traces nothing leaves no directory and no file behind."""
    exporter = SpanStoreExporter(tmp_path / "deep" / "store")
    exporter.export([])
    assert list(tmp_path.iterdir()) == []
    exporter.export(make_spans(1))
    exporter.shutdown()
    assert check(tmp_path / "deep" / "store").spans == 1


def test_segments_are_rotated_by_size(make_spans, tmp_path) -> None:
    """No segment grows past its bound, and each holds whole spans."""
    exporter = SpanStoreExporter(tmp_path, max_segment_bytes=20_000)
    for _ in range(20):
        exporter.export(make_spans(10, {"text": "x" * 300}))
    exporter.shutdown()
    sizes = [path.stat().st_size for path in tmp_path.glob("spans-*")]
    assert len(sizes) > 3
    assert max(sizes) <= 20_000
    report = check(tmp_path)
    assert (report.spans, report.ok) == (200, True)


def test_the_oldest_segments_make_room_and_nothing_is_lost_in_silence(make_spans, tmp_path, caplog) -> None:
    """The total stays within its bound; removed spans are counted, written down, and logged once."""
    exporter = SpanStoreExporter(tmp_path, max_segment_bytes=20_000, max_total_bytes=100_000)
    first = make_spans(10, {"text": "x" * 300})
    exporter.export(first)
    for _ in range(60):
        exporter.export(make_spans(10, {"text": "x" * 300}))
        assert size_of(tmp_path) <= 100_000
    exporter.shutdown()

    counts = exporter.counts
    report = check(tmp_path)
    assert counts.written == 610
    assert counts.removed > 0
    assert report.spans == counts.written - counts.removed
    assert report.removed_spans == counts.removed
    assert report.ok
    oldest = f"{first[0].context.span_id:016x}"
    assert query(tmp_path, f"SELECT * FROM spans WHERE span_id = '{oldest}'") == []
    messages = [record.getMessage() for record in caplog.records if "bound" in record.getMessage()]
    assert len(messages) == 1
    assert re.search(r"its oldest \d+ spans were removed", messages[0])


@pytest.mark.parametrize("when", ["before it is locked", "while it would be locked"])
def test_a_new_segment_that_another_process_removes_is_begun_anew(make_spans, tmp_path, monkeypatch, when) -> None:
    """Whoever makes room sees a file that nobody has locked yet; what is written must not go with it."""
    own_open, removed = os.open, []

    def open_and_lose(path: object, *args: int) -> int:
        descriptor = own_open(path, *args)
        if not removed:
            removed.append(own_open(path, os.O_RDONLY))
            fcntl.flock(removed[0], fcntl.LOCK_EX)
            if when == "before it is locked":
                os.unlink(path)
                os.close(removed[0])
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    exporter = SpanStoreExporter(tmp_path)
    assert exporter.export(make_spans(2)) is SpanExportResult.SUCCESS
    if when == "while it would be locked":
        next(path for path in tmp_path.iterdir() if path.stat().st_size == 0).unlink()
        os.close(removed[0])

    assert check(tmp_path).spans == 2


def test_a_segment_that_is_still_open_is_never_removed(make_spans, tmp_path) -> None:
    """Making room spares the file that another writer has open, however old it is."""
    other = SpanStoreExporter(tmp_path)
    other.export(make_spans(10, {"text": "x" * 300}))
    [kept] = tmp_path.glob("spans-*")
    exporter = SpanStoreExporter(tmp_path, max_total_bytes=8_000)
    for _ in range(5):
        exporter.export(make_spans(5, {"text": "x" * 300}))
    assert kept.exists()
    other.shutdown()
    exporter.export(make_spans(5, {"text": "x" * 300}))
    exporter.shutdown()
    assert not kept.exists()


@pytest.mark.parametrize("bounds", [{"max_segment_bytes": 0}, {"max_total_bytes": -1}])
def test_a_bound_must_be_positive(tmp_path, bounds) -> None:
    """A bound that can hold nothing is an error where it is given, not a store that stays empty."""
    with pytest.raises(ValueError, match="must be positive"):
        SpanStoreExporter(tmp_path, **bounds)


def test_a_full_disk_leaves_no_half_line_and_is_survived(make_spans, tmp_path, monkeypatch, caplog) -> None:
    """A write that fails half way is taken back, counted and logged once; later batches are written."""
    exporter = SpanStoreExporter(tmp_path)
    exporter.export(make_spans(3))
    real = os.write

    def full(fd, data) -> int:
        if len(data) < 100:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(fd, data[: len(data) - 50])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for _ in range(3):
            assert exporter.export(make_spans(4)) is SpanExportResult.FAILURE
    assert exporter.export(make_spans(2)) is SpanExportResult.SUCCESS
    exporter.shutdown()

    assert (exporter.counts.written, exporter.counts.failed) == (5, 12)
    report = check(tmp_path)
    assert (report.segments, report.spans, report.problems) == (1, 5, ())
    messages = [record.getMessage() for record in caplog.records if "could not write" in record.getMessage()]
    assert len(messages) == 1
    assert "No space left on device" in messages[0]
    assert "Your program is not affected" in messages[0]


def test_when_even_the_roll_back_fails_the_next_batch_goes_to_a_new_file(make_spans, tmp_path, monkeypatch) -> None:
    """Nothing is ever appended to a half line."""
    exporter = SpanStoreExporter(tmp_path)
    real = os.write

    def broken(*args: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    def half(fd, data) -> int:
        monkeypatch.setattr(os, "write", broken)
        return real(fd, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half)
    monkeypatch.setattr(os, "ftruncate", broken)
    assert exporter.export(make_spans(1)) is SpanExportResult.FAILURE
    monkeypatch.undo()
    assert exporter.export(make_spans(2)) is SpanExportResult.SUCCESS
    exporter.shutdown()
    report = check(tmp_path)
    assert (report.segments, report.spans, len(report.problems)) == (2, 2, 1)


def test_a_real_limit_on_file_size_leaves_no_half_line(tmp_path) -> None:
    """The kernel's own partial write (RLIMIT_FSIZE) is rolled back to whole lines."""
    printed = run(
        tmp_path,
        """
import logging, resource
logging.disable()
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
exporter = SpanStoreExporter(sys.argv[1])
batch = spans(10)
print([exporter.export(batch).name for _ in range(5)], exporter.counts.written)
""",
    )
    written = int(printed.split()[-1])
    assert "FAILURE" in printed
    assert written > 0
    report = check(tmp_path)
    assert (report.spans, report.problems) == (written, ())


def test_a_store_that_cannot_be_made_only_fails_the_export(make_spans, tmp_path, caplog) -> None:
    """Where no directory can be made, the exporter says so once, counts, and raises nothing."""
    (tmp_path / "file").write_text("in the way")
    exporter = SpanStoreExporter(tmp_path / "file" / "store")
    for _ in range(3):
        assert exporter.export(make_spans(2)) is SpanExportResult.FAILURE
    assert exporter.counts.failed == 6
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    (tmp_path / "file").unlink()
    assert exporter.export(make_spans(2)) is SpanExportResult.SUCCESS
    exporter.shutdown()


def test_a_file_that_somebody_deletes_is_begun_anew(make_spans, tmp_path) -> None:
    """Spans written after the files were removed by hand go to a new file, not to a deleted one."""
    exporter = SpanStoreExporter(tmp_path)
    exporter.export(make_spans(1))
    next(tmp_path.glob("spans-*")).unlink()
    exporter.export(make_spans(2))
    exporter.shutdown()
    assert check(tmp_path).spans == 2


def test_a_descriptor_that_now_belongs_to_another_file_is_left_alone(make_spans, tmp_path) -> None:
    """A program that closes every descriptor never finds spans in its own files afterwards."""
    store = tmp_path / "store"
    exporter = SpanStoreExporter(store)
    exporter.export(make_spans(1))
    [descriptor] = [
        int(entry)
        for entry in os.listdir("/proc/self/fd")
        if os.path.realpath(f"/proc/self/fd/{entry}").startswith(str(store))
    ]
    with (tmp_path / "precious").open("wb") as precious:
        os.dup2(precious.fileno(), descriptor)
        exporter.export(make_spans(2))
        exporter.shutdown()
        os.close(descriptor)
    assert (tmp_path / "precious").read_bytes() == b""
    assert check(store).spans == 3


@pytest.mark.internal_errors_expected
def test_a_span_that_cannot_be_encoded_costs_only_itself(make_spans, tmp_path) -> None:
    """The other spans of its batch are written, and the export says that one is missing."""
    exporter = SpanStoreExporter(tmp_path)
    batch = [*make_spans(1), ReadableSpan("no context"), *make_spans(1)]
    assert exporter.export(batch) is SpanExportResult.FAILURE
    exporter.shutdown()
    assert (exporter.counts.written, exporter.counts.failed) == (2, 1)
    assert check(tmp_path).spans == 2


def test_after_shutdown_spans_are_refused_and_counted(make_spans, tmp_path) -> None:
    """Shutdown is final, may be repeated, and what comes later is counted as failed."""
    exporter = SpanStoreExporter(tmp_path)
    exporter.export(make_spans(1))
    assert exporter.force_flush()
    exporter.shutdown()
    exporter.shutdown()
    assert exporter.export(make_spans(1)) is SpanExportResult.FAILURE
    assert (exporter.counts.written, exporter.counts.failed) == (1, 1)


def test_many_threads_write_one_file(make_spans, tmp_path) -> None:
    """Exports from several threads at once never mix their lines."""
    exporter = SpanStoreExporter(tmp_path)
    batches = [make_spans(50, {"text": "x" * 500}) for _ in range(8)]
    threads = [threading.Thread(target=exporter.export, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    exporter.shutdown()
    report = check(tmp_path)
    assert (report.segments, report.spans, report.ok) == (1, 400, True)


def test_a_forked_child_writes_a_file_of_its_own(tmp_path) -> None:
    """Parent and child go on after a fork, each in its own segment, even if a thread held the lock."""
    run(
        tmp_path,
        """
exporter = SpanStoreExporter(sys.argv[1])
exporter.export(spans(3))
with exporter._lock:  # as if another thread were exporting at this very moment
    child = os.fork()
    if child == 0:
        exporter.export(spans(4))
        exporter.shutdown()
        os._exit(0)
assert os.waitpid(child, 0)[1] == 0
exporter.export(spans(5))
exporter.shutdown()
""",
    )
    by_process = "SELECT attributes->>'$.pid' AS pid, count(*) AS n FROM spans GROUP BY pid ORDER BY n"
    rows = query(tmp_path, by_process)
    assert [count for _, count in rows] == [4, 8]
    assert {path.name.split("-")[2] for path in tmp_path.glob("spans-*")} == {pid for pid, _ in rows}


def test_a_forked_worker_of_the_batch_processor_writes_too(tmp_path) -> None:
    """With the SDK's batch processor in front, spans of parent and child are all there, each once."""
    run(
        tmp_path,
        """
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(BatchSpanProcessor(SpanStoreExporter(sys.argv[1])))
tracer = provider.get_tracer("test")
tracer.start_span("parent").end()
provider.force_flush()
child = os.fork()
tracer.start_span("parent" if child else "child").end()
provider.shutdown()
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
""",
    )
    assert query(tmp_path, "SELECT name, count(*) FROM spans GROUP BY name ORDER BY name") == [
        ("child", 1),
        ("parent", 2),
    ]


def test_two_processes_share_a_store(tmp_path) -> None:
    """Two processes that write and rotate at the same time lose nothing and share no file."""
    script = """
exporter = SpanStoreExporter(sys.argv[1], max_segment_bytes=50_000)
batch = spans(100)
for _ in range(20):
    assert exporter.export(batch).name == "SUCCESS"
exporter.shutdown()
"""
    processes = [start(tmp_path, script) for _ in range(2)]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
    report = check(tmp_path)
    assert (report.spans, report.problems) == (4000, ())
    pids = {str(process.pid) for process in processes}
    for path in tmp_path.glob("spans-*"):
        writers = {json.loads(line)["attributes"]["pid"] for line in path.read_bytes().splitlines()}
        assert {str(pid) for pid in writers} == {path.name.split("-")[2]}
        assert path.name.split("-")[2] in pids


def test_a_killed_process_leaves_readable_files(tmp_path) -> None:
    """After SIGKILL in the midst of writing, every line but perhaps the last is a whole span."""
    with start(
        tmp_path,
        """
exporter = SpanStoreExporter(sys.argv[1], max_segment_bytes=2_000_000)
batch = spans(50, "x" * 2000)
while True:
    exporter.export(batch)
""",
    ) as process:
        deadline = time.monotonic() + 60
        while size_of(tmp_path) < 5_000_000:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
        process.kill()
        process.wait()
    report = check(tmp_path)
    lines = sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("spans-*"))
    assert report.segments > 1
    assert report.spans > 1000
    assert lines == report.spans  # what ends in a newline is whole
    assert len(report.problems) <= 1
    assert query(tmp_path, "SELECT count(*) FROM spans") == [(report.spans,)]

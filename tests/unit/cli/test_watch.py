"""watch: one snapshot per change in a log, a live screen in a terminal, and a clean end."""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.paired_spans import START_NS, Draw, Request, requests, write_store
from traceai_vllm.cli import comparing, watch
from traceai_vllm.cli.main import main
from traceai_vllm.release import Judgement

POLICY = "version: 1\nname: p\nmeasures:\n  Groundedness: {margin: 0.1}\n"
_DEADLINE_S = 60


def make(worse: float, route: str = "support") -> Callable[[Draw], Request]:
    def request(draw: Draw) -> Request:
        return Request(route=route, fails=draw.fails(0.02, worse))

    return request


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a store holds first and later, and a policy; made once."""
    root = tmp_path_factory.mktemp("watch")
    (root / "policy.yaml").write_text(POLICY)
    write_store(root / "few", requests(20, make(0.02)))
    write_store(root / "bad", requests(150, make(0.5)))
    write_store(root / "hostile", requests(20, make(0.02, route="a\x1b[2Jb[red]c")))
    return root


@pytest.fixture
def place(stores: Path, tmp_path: Path) -> Path:
    """A store with a few pairs, and a policy."""
    shutil.copytree(stores / "few", tmp_path / "spans")
    shutil.copy(stores / "policy.yaml", tmp_path)
    return tmp_path


def arguments(place: Path, *more: str, store: str = "spans") -> list[str]:
    return ["watch", str(place / store), "--policy", str(place / "policy.yaml"), *more]


def become(place: Path, other: Path) -> None:
    """Let the store hold what another one does."""
    for file in other.iterdir():
        shutil.copyfile(file, place / "spans" / file.name)


def looks(monkeypatch: pytest.MonkeyPatch, *steps: Callable[[], object]) -> None:
    """Between looks, one of these happens after the other; then somebody presses Ctrl-C."""
    left = iter(steps)

    def sleep(seconds: float) -> None:
        step = next(left, None)
        if step is None:
            os.kill(os.getpid(), signal.SIGINT)
        else:
            step()

    monkeypatch.setattr(watch.time, "sleep", sleep)


def test_a_log_has_one_snapshot_per_change(
    place: Path, stores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look at the same spans prints nothing; new pairs do; Ctrl-C is no error."""
    looks(monkeypatch, lambda: None, lambda: None, lambda: become(place, stores / "bad"), lambda: None)

    code = main(arguments(place))

    out = capsys.readouterr().out
    assert code == 0
    assert out.count("part of the traffic") == 2
    first, later = out.split("part of the traffic")[0], out.split("books: ")[1]
    assert "No go yet: " in first
    assert "more" in out.split("books: ")[0]
    assert "No go: Groundedness fails on all traffic rose" in later
    assert out.index("No go yet: ") < out.index("20 clean pairs") < out.index("WORSE") < out.index("150 clean pairs")
    assert "\x1b" not in out


def test_pairs_that_came_while_the_first_ones_were_read_are_seen(
    place: Path, stores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading millions of spans takes its time: what is written then, and nothing after it, must not be missed."""
    judge = watch.judge

    def slow(given: argparse.Namespace) -> Judgement:
        judgement = judge(given)
        become(place, stores / "bad")
        return judgement

    monkeypatch.setattr(watch, "judge", slow)
    looks(monkeypatch, lambda: None)

    assert main(arguments(place)) == 0

    first, later = capsys.readouterr().out.split("part of the traffic")[1:]
    assert "20 clean pairs" in first
    assert "150 clean pairs" in later


def test_evidence_grows_old_while_nothing_comes_in(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A mirror that has stopped: the books say so when `max_age_days` is over, and nothing is read for that."""
    (place / "policy.yaml").write_text(POLICY + "evidence: {max_age_days: 1}\n")
    newest = datetime.fromtimestamp(START_NS / 1e9, timezone.utc)
    clock = SimpleNamespace(now=lambda zone: newest + timedelta(hours=hours[0]))
    hours = [1]
    monkeypatch.setattr(comparing, "datetime", clock)
    monkeypatch.setattr(watch, "read", None)
    looks(monkeypatch, lambda: None, lambda: hours.__setitem__(0, 49))

    assert main(arguments(place)) == 0

    young, old, _ = capsys.readouterr().out.split("Fail rates in points.")
    assert "days old" not in young
    assert "over the limit: the newest pair is 2.0 days old (limit 1)" in old
    assert "could not be read" not in old


def test_where_the_time_is_given_nothing_is_read_again(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same spans at the same time say the same: a look at them costs nothing."""
    monkeypatch.setattr(watch, "read", None)
    looks(monkeypatch, lambda: None)

    assert main(arguments(place, "--as-of", "2026-11-23T12:00:00Z")) == 0
    assert "could not be read" not in capsys.readouterr().out


def test_what_cannot_be_read_later_is_said_and_tried_again(
    place: Path, stores: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy that is being edited must not end it: the last figures stay."""
    policy = place / "policy.yaml"
    looks(
        monkeypatch,
        lambda: policy.write_text(POLICY + "limts: {}\n"),
        lambda: policy.write_text(POLICY + "limits: {}\n"),
    )

    assert main(arguments(place)) == 0

    first, broken, mended = capsys.readouterr().out.split("part of the traffic")[1:]
    assert "could not be read" not in first + mended
    assert "20 clean pairs" in broken
    assert "could not be read: " in broken
    assert "did you mean `limits`?" in broken


def test_what_cannot_be_used_from_the_beginning_is_an_error(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong path is told at once, with the exit code of the other commands."""
    assert main(arguments(place, store="nowhere")) == 2
    assert "traceai-vllm watch: there is nothing at" in capsys.readouterr().err


def test_once_prints_it_as_it_is_now(stores: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For a person who only wants to look; nothing in a route's name reaches the terminal as a command."""
    assert main(arguments(stores, "--once", store="hostile")) == 0

    out = capsys.readouterr().out
    assert "20 clean pairs" in out
    assert "route=a�[2Jb[red]c" in out
    assert "\x1b" not in out


def test_in_a_narrow_window_no_name_is_cut(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A policy of eight measures in 80 columns: they take several tables, as in compare."""
    measures = ("Groundedness", "HallucinationScore", "JSONValidation", "ToolSelectionAccuracy", "errors", "timeouts")
    policy = tmp_path / "policy.yaml"
    policy.write_text(
        "version: 1\nmeasures:\n"
        + "".join(f"  {name}: {{margin: 0.02}}\n" for name in measures)
        + "  time_to_first_token.p99: {margin: 0.1, guard: [all]}\n  latency.p99: {margin: 0.1, guard: [all]}\n"
    )
    monkeypatch.setattr(watch, "_LOG_WIDTH", 80)

    assert main(["watch", str(stores / "few"), "--policy", str(policy), "--once"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    headings = [line.split() for line in lines if line.startswith("part of the traffic")]
    assert len(headings) > 1
    shown = [name for heading in headings for name in heading[5:]]
    assert shown == [*measures, "time_to_first_token.p99", "latency.p99"]


class Terminal:
    """A program in a terminal of 100 columns and 30 lines."""

    def __init__(self, command: list[str]) -> None:
        self._screen, inside = pty.openpty()
        fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self._process = subprocess.Popen(
            command,
            stdin=inside,
            stdout=inside,
            stderr=inside,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it  # noqa: PLW1509
            env={**os.environ, "TERM": "xterm-256color"},
        )
        os.close(inside)
        self.shown = ""

    def wait_for(self, text: str) -> None:
        """Read what it shows until a text is there."""
        end = time.monotonic() + _DEADLINE_S
        while text not in self.shown and self._read(end - time.monotonic()):
            pass
        assert text in self.shown, self.shown[-3000:]

    def press(self, key: bytes) -> int:
        """Press a key, read to the end, and return the exit code."""
        os.write(self._screen, key)
        end = time.monotonic() + _DEADLINE_S
        while self._read(end - time.monotonic()):
            pass
        return self._process.wait(_DEADLINE_S)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._screen], [], [], max(0.0, seconds))[0]:
            return False
        try:
            data = os.read(self._screen, 65536)
        except OSError:  # the program has ended
            return False
        self.shown += data.decode(errors="replace")
        return bool(data)


@pytest.fixture
def terminal(place: Path) -> Iterator[Terminal]:
    """watch in a terminal."""
    program = Terminal([sys.executable, "-m", "traceai_vllm.cli", *arguments(place, "--every", "0.1")])
    yield program
    program.close()


def test_in_a_terminal_it_is_live_and_ctrl_c_ends_it_cleanly(terminal: Terminal, place: Path, stores: Path) -> None:
    """New pairs show up by themselves; afterwards the terminal is as before, with the verdict in it."""
    terminal.wait_for("20 clean pairs")
    terminal.wait_for("Ctrl-C ends")
    become(place, stores / "bad")
    terminal.wait_for("150 clean pairs")

    assert terminal.press(b"\x03") == 0

    assert "\x1b[?1049h" in terminal.shown  # a screen of its own
    after = terminal.shown.rpartition("\x1b[?1049l")[2]  # left again
    assert "No go: Groundedness fails on all traffic rose" in " ".join(after.split())
    assert "\x1b[?25h" in terminal.shown.rpartition("\x1b[?25l")[2]  # the cursor is back
    assert "Traceback" not in terminal.shown

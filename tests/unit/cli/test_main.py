"""The command line as a whole: it answers at once, and in the documented exit codes."""

from __future__ import annotations

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.gateway import wait_until
from traceai_vllm.cli.main import COMMANDS, _parser, main

RUN = [sys.executable, "-m", "traceai_vllm.cli"]


def test_help_imports_nothing_heavy() -> None:
    """`--help` is there in some 60 ms because neither OpenTelemetry nor vLLM nor a command's code is imported."""
    program = (
        "import sys\nfrom traceai_vllm.cli.main import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    print([name for name in sys.modules if name.startswith(('opentelemetry', 'vllm', 'torch', 'wrapt'))])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
    assert "examples:" in done.stdout
    assert all(command.name in done.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_command_has_help_with_examples(command: object, capsys: pytest.CaptureFixture[str]) -> None:
    """What it does, options, exit codes and examples are in the help of each command."""
    with pytest.raises(SystemExit) as exit_:
        main([command.name, "--help"])  # type: ignore[attr-defined]

    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert not re.match(r"(positional arguments|options):", text.split("\n\n")[1])  # but what the command does
    assert "examples:" in text
    assert "exit code:" in text


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_text_of_the_help_fits_the_terminal(
    command: object, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is to be read is not broken once by us and once by the terminal; lists keep their lines."""
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([command.name, "--help"])  # type: ignore[attr-defined]
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith(" ")) <= 80
    assert "examples:" in lines


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_each_example_in_the_help_is_a_command_line_that_is_taken(
    command: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever copies one is not told of a missing option."""
    with pytest.raises(SystemExit):
        main([command.name, "--help"])  # type: ignore[attr-defined]
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.startswith("  traceai-vllm ")]
    assert lines
    for line in lines:
        words = shlex.split(re.split(r"\s{3,}|[|>]", line)[0])  # what follows explains it, or is the shell's
        _parser(words[1:]).parse_args(words[1:])


@pytest.mark.parametrize("argv", [[], ["nonsense"], ["doctor", "--timeout", "soon"], ["doctor", "--timeout", "0"]])
def test_a_wrong_command_line_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Usage errors are told apart from problems that were found."""
    with pytest.raises(SystemExit) as exit_:
        main(argv)

    assert exit_.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    """`traceai-vllm --version`."""
    with pytest.raises(SystemExit):
        main(["--version"])

    assert capsys.readouterr().out.startswith("traceai-vllm ")


def test_json_is_one_document_on_standard_output() -> None:
    """Progress goes to standard error, so that a pipe gets nothing but JSON."""
    done = subprocess.run(
        [*RUN, "doctor", "--json", "--skip-hooks", "--skip-export"], capture_output=True, text=True, check=False
    )

    report = json.loads(done.stdout)
    assert report["healthy"] is (done.returncode == 0)
    assert {"check", "status", "message", "fix", "details"} == set(report["findings"][0])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
def test_output_that_cannot_be_written_is_one_line_of_error() -> None:
    """A full disk below a redirected table is said in a line, and the exit code is that of other failures."""
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [*RUN, "gateway", "--decision-schema"], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )

    assert done.returncode == 2
    assert done.stderr.startswith("traceai-vllm: ")
    assert "No space left" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_ctrl_c_ends_a_command_without_a_traceback(tmp_path: Path) -> None:
    """Also while DuckDB works, which makes an error of its own of it."""
    # A shell's background job ignores Ctrl-C, and so would what it starts.
    program = (
        "import signal, sys\nfrom traceai_vllm.cli.main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\nsys.exit(main())"
    )
    command = [sys.executable, "-c", program, "simulate", str(tmp_path / "spans"), "--pairs", "5000000"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: any(tmp_path.rglob("*.parquet")), "the first file is being written")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()

    assert process.returncode == 130
    assert said.strip().endswith("traceai-vllm: interrupted")
    assert "Traceback" not in said

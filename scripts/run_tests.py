"""Run all tests: the unit tests in one process, then each file of integration tests in a process of its own.

    python scripts/run_tests.py

vLLM keeps global state for an engine in the process: when one is dropped, it takes that of the others with it. So files
that load engines of their own must not share a process. The exit status is 0 when every process's is.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Run the groups one after the other; return 1 if any of them failed."""
    groups = [ROOT / "tests" / "unit", *sorted((ROOT / "tests" / "integration").glob("test_*.py"))]
    failed = []
    for number, group in enumerate(groups, start=1):
        name = str(group.relative_to(ROOT))
        started = time.monotonic()
        print(f"\n--- {number}/{len(groups)} {name}", flush=True)
        code = subprocess.run([sys.executable, "-m", "pytest", "-q", str(group)], cwd=ROOT, check=False).returncode
        print(f"--- {name}: {'ok' if code == 0 else 'FAILED'} after {time.monotonic() - started:.0f} s", flush=True)
        if code != 0:
            failed.append(name)
    print(f"\n{len(groups) - len(failed)} passed, {len(failed)} failed" + "".join(f"\n  {name}" for name in failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""The Python files of a version of vLLM: its wheel is downloaded, the few that are needed are kept, it is deleted.

A wheel is 10 to 340 MB, what is kept half a megabyte.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from compat.stubs import REAL

if TYPE_CHECKING:
    from compat.versions import Release


def _is_kept(name: str) -> bool:
    if name.endswith(".dist-info/METADATA"):
        return True
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    return name.endswith(".py") and module in REAL


# Names folders by what is in them, so that wheels are looked at again when more of them is run.
_WHAT = hashlib.sha256(" ".join(sorted(REAL)).encode()).hexdigest()[:8]
_PLATFORMS = ("manylinux_2_17_x86_64", "manylinux_2_28_x86_64", "manylinux_2_35_x86_64")


class WheelError(Exception):
    """A wheel could not be had; the message is pip's."""


def sources(release: Release, cache: Path) -> Path:
    """Return the folder that holds ``vllm/`` of this release; downloaded once.

    Args:
        release: the version.
        cache: where folders of sources are kept.

    Raises:
        WheelError: pip did not find or download the wheel.
    """
    folder = cache / f"{release.distribution}-{release.version}-{_WHAT}"
    if folder.exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache, prefix=".downloading-") as temporary:
        wheel = download(release, Path(temporary))
        extract(wheel, Path(temporary) / "sources")
        shutil.move(Path(temporary) / "sources", folder)
    return folder


def download(release: Release, folder: Path) -> Path:
    """Download the release's wheel for x86-64 Linux and Python 3.12, whatever this machine is."""
    platforms = [argument for name in _PLATFORMS for argument in ("--platform", name)]
    abis = [argument for name in ("cp312", "abi3", "none") for argument in ("--abi", name)]
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--no-cache-dir",
        "--disable-pip-version-check", "--implementation", "cp", "--python-version", "3.12", *platforms, *abis,
        "--dest", str(folder), f"{release.distribution}=={release.version}",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = list(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise WheelError(result.stderr.strip()[-1000:] or f"pip downloaded {len(wheels)} wheels")
    return wheels[0]


def extract(wheel: Path, folder: Path) -> None:
    """Unpack the modules that are run, and the metadata."""
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if _is_kept(name):
                archive.extract(name, folder)

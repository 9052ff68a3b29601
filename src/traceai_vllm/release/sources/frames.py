"""What a collector's file exporter writes with ``compression: zstd``: each message a frame, its length before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_LENGTH: Final = 4
_MAGIC: Final = b"\x28\xb5\x2f\xfd"
# Frames of zstd with one raw block of one or two bytes (RFC 8878). A file of frames is read as one text.
_LINE_END: Final = _MAGIC + b"\x20\x01\x09\x00\x00\n"
_NO_LINE: Final = _MAGIC + b"\x20\x02\x11\x00\x00?\n"


def has_lengths(file: Path) -> bool:
    """Return whether a file has frames with their lengths before them."""
    with file.open("rb") as opened:
        return opened.read(_LENGTH + len(_MAGIC))[_LENGTH:] == _MAGIC


def write_lines(file: Path, target: Path) -> None:
    """Write the messages of a file with lengths as lines; what is left of one that was cut off is none."""
    with file.open("rb") as opened, target.open("wb") as written:
        while len(length := opened.read(_LENGTH)) == _LENGTH:
            size = int.from_bytes(length, "big")
            frame = opened.read(size)
            written.write(frame + _LINE_END if len(frame) == size else _NO_LINE)

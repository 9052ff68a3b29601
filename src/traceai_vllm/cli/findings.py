"""What a check found: is it well, and if not, what to do."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

OK = "ok"
NOTE = "note"
WARNING = "warning"
PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One finding.

    Attributes:
        check: what was looked at, e.g. ``export``.
        status: ``ok``; ``note``: worth knowing; ``warning``: something will be missing; ``problem``: it does not work.
        message: what was found, in one sentence.
        fix: what to do; a command or a setting where there is one. None when nothing is to be done.
        details: the same for programs.
    """

    check: str
    status: str
    message: str
    fix: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the finding as plain data, for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """Return the finding as lines for a terminal."""
        lines = [f"{self.status:>8}  {self.check}: {self.message}"]
        if self.fix:
            lines += [f"{'':>8}  fix: {self.fix}"]
        return "\n".join(lines)

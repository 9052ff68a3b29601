"""Where a source is, as it may be shown."""

from __future__ import annotations

import re

_PASSWORD_IN_QUERY = re.compile(r"(?<=[?&]password=)[^&]*")
_HIDDEN = "***"


def without_password(location: str) -> str:
    """Return the address of a source with ``***`` in place of a password; a path as it is."""
    scheme, separator, rest = location.partition("://")
    if not separator:
        return location
    # The last @ ends the password, which may have others in it.
    user_info, at, where = _PASSWORD_IN_QUERY.sub(_HIDDEN, rest).rpartition("@")
    user, colon, _ = user_info.partition(":")
    return f"{scheme}://{user}{colon}{_HIDDEN if colon else ''}{at}{where}"

"""Chooses requests by a hash of their id: the same id, salt and share give the same choice, on every replica."""

from __future__ import annotations

from hashlib import blake2b

_RANGE = 1 << 64
_LONGEST_KEY = 64  # of blake2b


def fraction(key: str, salt: str) -> float:
    """Return where a key stands between 0 (included) and 1 (excluded), evenly over all keys."""
    hash_key = salt.encode()
    if len(hash_key) > _LONGEST_KEY:  # cut, two salts with one beginning would choose alike
        hash_key = blake2b(hash_key).digest()
    digest = blake2b(key.encode(), digest_size=8, key=hash_key).digest()
    # The 53 upper bits: what a float holds exactly, so that the result never rounds up to 1.
    return (int.from_bytes(digest, "big") >> 11) / (_RANGE >> 11)


def chosen(key: str, share: float, salt: str) -> bool:
    """Return whether a key is among the given share of keys. Who is chosen stays chosen when the share grows."""
    return share > 0 and (share >= 1 or fraction(key, salt) < share)

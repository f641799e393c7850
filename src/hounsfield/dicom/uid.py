"""Unique identifiers as requests and files spell them (retrieve.md §2, store.md §3.3; looser than PS3.5 §9.1)."""

import re

MAX_LENGTH = 64
"""Characters of a UID, PS3.5 §9.1."""

_PADDING = " \0"
_SHAPE = re.compile(r"[0-9.]*[0-9]")


def normalise(value: str) -> str:
    """``value`` without trailing spaces and nulls: two UIDs name the same thing when these are equal (store.md §6)."""
    return value.rstrip(_PADDING)


def is_valid(value: str) -> bool:
    """Whether ``value`` passes as a UID in a path or as a core attribute: once trailing spaces are gone, 1 to 64 digits
    and dots, the last one a digit.

    Leading zeros and empty components pass. A trailing null does not: who tolerates it removes it first
    (store.md §3.3, lenient).
    """
    text = value.rstrip(" ")
    return len(text) <= MAX_LENGTH and _SHAPE.fullmatch(text) is not None

"""Wild card matching (PS3.4 §C.2.2.2.4): ``*`` stands for any characters or none, ``?`` for one.

A pattern becomes what an index of keys (dicom.person_name) is asked: a prefix, which is a range, and a pattern of SQL's
LIKE for the rest.
"""

import re
from collections.abc import Callable

_TOKENS = re.compile(r"\*+|\?|[^*?]+")
_LIKE_SPECIAL = re.compile(r"[%_!]")


def count(value: str) -> int:
    """How many wild cards ``value`` has, a run of asterisks counted once."""
    return sum(token[0] in "*?" for token in _TOKENS.findall(value))


def is_universal(value: str) -> bool:
    """Whether ``value`` is nothing but asterisks and so matches everything, missing values included."""
    return bool(value) and not value.strip("*")


def prefix_and_pattern(value: str, fold: Callable[[str], str]) -> tuple[str, str | None]:
    """What keys matching ``value`` begin with, and their LIKE pattern (escaped by ``!``).

    There is no pattern where the prefix says it all.
    ``fold`` makes a piece of a key from a piece of text. Spaces at the end do not count, as in a key.

    >>> prefix_and_pattern("Sm?th*", str.lower)
    ('sm', 'sm_th%')
    >>> prefix_and_pattern("Smith*", str.lower)
    ('smith', None)
    """
    tokens = _TOKENS.findall(value.rstrip(" "))
    pieces = [{"*": "%", "?": "_"}.get(token[0]) or fold(token) for token in tokens]
    literal = [token[0] not in "*?" for token in tokens]
    prefix = pieces[0] if literal and literal[0] else ""
    if pieces[1:] == ["%"] and prefix:
        return prefix, None
    return prefix, "".join(
        _LIKE_SPECIAL.sub(r"!\g<0>", piece) if is_literal else piece
        for piece, is_literal in zip(pieces, literal, strict=True)
    )

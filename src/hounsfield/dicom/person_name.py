"""Person names (PS3.5 §6.2.1) and the search keys the index makes of names and other text (query.md §4).

A key is what a search compares: equal keys mean equal values, and in Unicode code point order (SQLite ``BINARY``,
PostgreSQL ``COLLATE "C"``) a prefix of a key is a range of keys. Keys hold no NUL, which PostgreSQL cannot store.
"""

import re
import unicodedata
from dataclasses import dataclass

from hounsfield.errors import BadRequest

_SEPARATORS = str.maketrans("^=", "  ")
_NEVER_TEXT = {0: None, 0x10FFFF: None}  # NUL, and the last code point, without which every prefix has a successor
_REGEX_SPECIAL = re.compile(r"[][\\.^$*+?(){}|]")
_SURROGATES = range(0xD800, 0xE000)


class InvalidNameQuery(BadRequest):
    """A value that cannot be searched for among person names."""


@dataclass(frozen=True, slots=True)
class NameComponents:
    """The five components of one group of a person name; an absent one is empty."""

    family: str = ""
    given: str = ""
    middle: str = ""
    prefix: str = ""
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class PersonName:
    """The three groups of a person name: in Latin letters or at least syllables, in ideographs, and as spoken."""

    alphabetic: NameComponents
    ideographic: NameComponents
    phonetic: NameComponents


def parse(value: str) -> PersonName:
    """The groups (parted by ``=``) and components (parted by ``^``) of one name, spaces around each removed.

    Groups after the third and components after the fifth, which the standard does not know, are left out.
    """
    groups = [
        NameComponents(*(component.strip(" \0") for component in group.split("^")[:5]))
        for group in value.split("=")[:3]
    ]
    groups += [NameComponents()] * (3 - len(groups))
    return PersonName(*groups)


def text_key(value: str) -> str:
    """The key of an AE, AS, CS, LO, SH or UI value: without trailing spaces and nulls, case folded, accents kept.

    Canonically equivalent spellings (one code point or letter and combining accent) have one key.
    """
    return fold_text(value).rstrip(" ")


def fold_text(value: str) -> str:
    """A piece of a text as it is in keys."""
    text = value.translate(_NEVER_TEXT)
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFD", text).casefold()
    return unicodedata.normalize("NFC", folded)


def match_key(name: str) -> str:
    """The key of a whole person name, ``^`` and ``=`` included: regardless of case, accents and width.

    Letters that Unicode does not decompose (ø, ł, đ) stay themselves.
    """
    return fold_name(name).rstrip(" ")


def words(name: str) -> list[str]:
    """The folded words of a name; ``^`` and ``=`` part words as spaces do."""
    return fold_name(name).translate(_SEPARATORS).split()


def suffixes(name: str) -> list[str]:
    """For every word of ``name``, that word and all that follow it, joined by one space each.

    An index stores these: the words asked for are prefixes of consecutive words of the name exactly if some suffix
    matches ``fuzzy_pattern``.
    """
    parts = words(name)
    return [" ".join(parts[start:]) for start in range(len(parts))]


def group_keys(name: str) -> tuple[str, str, str]:
    """The keys of the three groups of ``name``, empty where there is none (PS3.5 §6.2.1.2).

    Spaces around components and components missing at the end do not count.
    """
    folded = [_group_key(group) for group in fold_name(name).split("=")[:3]]
    first, second, third = folded + [""] * (3 - len(folded))
    return first, second, third


def _group_key(folded: str) -> str:
    return "^".join(component.strip(" ") for component in folded.split("^")).rstrip("^")


def fuzzy_pattern(asked: str) -> tuple[str, str, str]:
    """What to look for among ``suffixes`` when ``fuzzymatching=true`` asks for the name ``asked``.

    Returns ``(low, high, regex)``: a suffix matches when ``low <= suffix < high`` in code point order and ``regex``
    (the same for Python's ``re.search`` and PostgreSQL's ``~``) is found in it. For one asked word the range says it
    all. Raises ``InvalidNameQuery`` for a double quote, or when no word is left to look for.
    """
    refuse_quote(asked)
    parts = words(asked)
    if not parts:
        raise InvalidNameQuery("The value holds no word to look for.")
    prefixes = (_REGEX_SPECIAL.sub(r"\\\g<0>", part) for part in parts)
    return parts[0], first_after_prefix(parts[0]), "^" + "[^ ]* ".join(prefixes)


def refuse_quote(asked: str) -> None:
    """Raise InvalidNameQuery for a double quote, which a name asked for with ``fuzzymatching=true`` cannot hold."""
    if '"' in asked:
        raise InvalidNameQuery("A name searched for with fuzzymatching cannot hold a double quote.")


def fold_name(name: str) -> str:
    """A name or a piece of one as it is in keys."""
    text = name.translate(_NEVER_TEXT)
    if text.isascii():
        return text.lower()
    letters = (char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
    # NFC puts Hangul syllables together again: half a syllable is no prefix of it
    return unicodedata.normalize("NFC", "".join(letters).casefold())


def first_after_prefix(prefix: str) -> str:
    """The smallest string that sorts after everything beginning with ``prefix`` (not empty, a key or part of one)."""
    successor = ord(prefix[-1]) + 1
    if successor in _SURROGATES:
        successor = _SURROGATES.stop
    return prefix[:-1] + chr(successor)

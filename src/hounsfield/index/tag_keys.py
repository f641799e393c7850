"""What the index keeps of a value of an extended query tag, and what a search compares with it (query.md §4).

Keys are text whatever the VR: equal keys mean equal values, and code point order is the order of the values, so that a
range of values is a range of the index. Times are microseconds, integers are shifted to be positive, and of a binary
floating point number the bits are taken, which sort as numbers once the sign is turned.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from math import isfinite
from struct import pack, unpack
from typing import Any, TypeVar

from hounsfield.dicom import dates, person_name
from hounsfield.errors import BadRequest

TEXT_VRS = frozenset({"AE", "AS", "CS", "LO", "SH", "UI"})
INTEGER_VRS = frozenset({"IS", "SL", "SS", "UL", "US"})
FLOAT_VRS = frozenset({"FD", "FL"})
RANGE_VRS = frozenset({"DA", "DT", "TM"})
NAME_VR = "PN"
SUPPORTED_VRS = TEXT_VRS | INTEGER_VRS | FLOAT_VRS | RANGE_VRS | {NAME_VR}
"""Of attributes that can be made extended query tags (extended-query-tags.md §3)."""

T = TypeVar("T", date, int)

_LEAST, _MOST = -(2**31), 2**32 - 1  # of all VRs together
_INTEGER = re.compile(r"[+-]?[0-9]{1,400}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})(?:[eE][+-]?[0-9]{1,9})?")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


@dataclass(frozen=True, slots=True)
class Indexed:
    """A value in the index: ``key`` is what is compared, ``text`` what an answer is made of (:func:`shown`)."""

    key: str
    text: str


def indexed(vr: str, value: Any) -> Indexed | None:
    """The index's form of a value in DICOM JSON of that VR; None where it is empty or no value of its VR."""
    if vr == NAME_VR:
        return _name(value)
    if vr in INTEGER_VRS:
        return Indexed(_integer_key(value), str(value)) if isinstance(value, int) else None
    if vr in FLOAT_VRS:
        if not isinstance(value, int | float) or not isfinite(value):
            return None
        return Indexed(_float_key(vr, float(value)), repr(float(value)))
    # PostgreSQL's text type holds no null characters; they are padding where they occur.
    text = value.replace("\0", "").rstrip(" ") if isinstance(value, str) else ""
    if not text.strip(" "):
        return None
    if vr in TEXT_VRS:
        return Indexed(person_name.text_key(text), text)
    key = _range_key(vr, text)
    return None if key is None else Indexed(key, text)


def shown(vr: str, text: str) -> Any:
    """The value in DICOM JSON that :func:`indexed` made ``text`` of."""
    if vr == NAME_VR:
        return {name: group for name, group in zip(_GROUPS, text.split("="), strict=False) if group}
    if vr in INTEGER_VRS:
        return int(text)
    return float(text) if vr in FLOAT_VRS else text


def asked(vr: str, value: str) -> tuple[str | None, str | None]:
    """The first and last key of what a search for ``value`` matches; None leaves an end open.

    Both are the same unless a range of dates or times is asked for. Raises BadRequest.
    """
    if vr == "DA":
        return _ends(dates.date_interval(value), _date_key)
    if vr == "DT":
        return _ends(dates.datetime_interval(value), _moment_key)
    if vr == "TM":
        return _ends(dates.time_interval(value), _time_key)
    key = _asked_key(vr, value)
    return key, key


def _asked_key(vr: str, value: str) -> str:
    if vr in TEXT_VRS:
        return person_name.text_key(value)
    if vr == NAME_VR:
        return person_name.match_key(value)
    text = value.strip(" \0")
    if vr in INTEGER_VRS:
        if _INTEGER.fullmatch(text) is None:
            raise BadRequest("The value is not an integer.")
        return _integer_key(int(text))
    number = float(text) if _NUMBER.fullmatch(text) else float("nan")
    if not isfinite(number):
        raise BadRequest("The value is not a number.")
    return _float_key(vr, number)


def _name(value: Any) -> Indexed | None:
    if not isinstance(value, dict):
        return None
    text = "=".join(value.get(group, "") for group in _GROUPS).replace("\0", "").rstrip("= ")
    return Indexed(person_name.match_key(text), text) if text else None


def _integer_key(number: int) -> str:
    # No VR holds more: what lies beyond is asked for in vain.
    return f"{min(max(number, _LEAST - 1), _MOST + 1) - _LEAST + 1:010d}"


def _float_key(vr: str, number: float) -> str:
    if vr == "FL":
        # As a file can hold it: a client asks for 0.1 and means the nearest single precision number.
        try:
            (number,) = unpack(">f", pack(">f", number))
        except OverflowError:
            number = float("inf") if number > 0 else float("-inf")
    (bits,) = unpack(">Q", pack(">d", number + 0.0))  # which makes one zero of two
    negative = bits >> 63
    return f"{bits ^ (2**64 - 1 if negative else 2**63):016x}"


def _range_key(vr: str, text: str) -> str | None:
    if vr == "DA":
        return _unless_none(dates.parse_date(text), _date_key)
    if vr == "DT":
        return _unless_none(dates.parse_datetime(text), _moment_key)
    return _unless_none(dates.parse_time(text), _time_key)


def _date_key(day: date) -> str:
    return f"{day.year:04d}{day.month:02d}{day.day:02d}"


def _moment_key(microseconds: int) -> str:
    return f"{microseconds:018d}"


def _time_key(microseconds: int) -> str:
    return f"{microseconds:011d}"


def _unless_none(value: T | None, key: Callable[[T], str]) -> str | None:
    return None if value is None else key(value)


def _ends(interval: dates.Interval[T], key: Callable[[T], str]) -> tuple[str | None, str | None]:
    return _unless_none(interval.low, key), _unless_none(interval.high, key)

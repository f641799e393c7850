"""Dates and times: stored DA, DT and TM values, what a search asks of them (query.md §4), and the pieces FHIR wants
(dicom-cast.md §6).

An index column holds a DA as ``date``, a DT as microseconds since 0001-01-01T00:00, a TM as microseconds since
midnight: plain 64-bit integers that sort and compare alike in every database. A value that is not what its VR promises
reads as ``None`` and is not indexed. Error texts name the rule and never the value: a birth date is patient data.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Generic, TypeVar

from hounsfield.errors import BadRequest

_DAY = 86_400_000_000  # microseconds

_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_PARTIAL_DATE = re.compile(r"([0-9]{4})(?:([0-9]{2})([0-9]{2})?)?")
_TIME = re.compile(r"([0-9]{2})(?:([0-9]{2})(?:([0-9]{2})(?:\.([0-9]{1,6}))?)?)?")
_DATE_TIME = re.compile(
    r"([0-9]{4})(?:([0-9]{2})(?:([0-9]{2})(?:([0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)?))?)?)?"
)
_STORED_OFFSET = re.compile(r"[+-][0-9]{4}$")
_UTC_OFFSET = re.compile(r"([+-])([0-9]{1,2}):?([0-9]{2})")
_MAX_UTC_OFFSET = 14 * 60  # minutes; no place on earth is further off, and FHIR allows no more


class InvalidDateQuery(BadRequest):
    """A search value for a DA, DT or TM attribute that is neither one value nor a range of two."""


T = TypeVar("T", date, int)


@dataclass(frozen=True, slots=True)
class Interval(Generic[T]):
    """What a search asks for: ``low <= value <= high``; ``None`` leaves that end open, never both."""

    low: T | None
    high: T | None

    @property
    def is_exact(self) -> bool:
        """Whether exactly one value is asked for."""
        return self.low == self.high


# --- stored values -----------------------------------------------------------------------------------------------


def parse_date(value: str) -> date | None:
    """The day a DA value names; ``None`` unless it is exactly ``yyyyMMdd`` and a real date (store.md §3.3)."""
    match = _DATE.fullmatch(value.rstrip(" "))
    return None if match is None else _calendar_day(*match.groups())


def parse_time(value: str) -> int | None:
    """The microseconds since midnight of a TM value, ``HH[mm[ss[.F{1,6}]]]``; missing parts count as 0.

    A leap second (``ss`` = 60, PS3.5 §6.2) counts as the first of the next minute, so the largest answer is one day.
    """
    match = _TIME.fullmatch(value.rstrip(" "))
    if match is None:
        return None
    hour, minute, second = (int(part or 0) for part in match.groups()[:3])
    if hour > 23 or minute > 59 or second > 60:
        return None
    return ((hour * 60 + minute) * 60 + second) * 1_000_000 + int((match[4] or "").ljust(6, "0"))


def parse_datetime(value: str) -> int | None:
    """The microseconds from 0001-01-01T00:00 to a DT value, ``yyyy[MM[dd[HH[mm[ss[.F{1,6}]]]]]][±ZZXX]``.

    Missing parts count as their minimum. The UTC offset is ignored: searches compare the written date and time.
    """
    return _datetime(_STORED_OFFSET.sub("", value.rstrip(" ")))


def _datetime(text: str) -> int | None:
    match = _DATE_TIME.fullmatch(text)
    if match is None:
        return None
    day = _calendar_day(match[1], match[2] or "01", match[3] or "01")
    time = parse_time(match[4]) if match[4] else 0
    if day is None or time is None:
        return None
    return (day.toordinal() - 1) * _DAY + time


def _calendar_day(year: str, month: str, day: str) -> date | None:
    try:
        return date(int(year), int(month), int(day))
    except ValueError:
        return None


# --- search values -----------------------------------------------------------------------------------------------


def date_interval(value: str) -> Interval[date]:
    """The days asked for by a DA search value: one ``yyyyMMdd``, or ``a-b``, ``a-``, ``-b``, ends included.

    Raises ``InvalidDateQuery``.
    """
    return _interval(value, parse_date, "yyyyMMdd")


def datetime_interval(value: str) -> Interval[int]:
    """The moments (as ``parse_datetime``) asked for by a DT search value, one or a range; a UTC offset is refused.

    ``2020-2021`` ends at the first moment of 2021, because missing parts count as their minimum on both ends.
    Raises ``InvalidDateQuery``.
    """
    return _interval(value, _datetime, "yyyy[MM[dd[HH[mm[ss[.F{1,6}]]]]]] without a UTC offset")


def time_interval(value: str) -> Interval[int]:
    """The times of day (as ``parse_time``) asked for by a TM search value, one or a range.

    Raises ``InvalidDateQuery``.
    """
    return _interval(value, parse_time, "HH[mm[ss[.F{1,6}]]]")


def time_ends(value: str) -> Interval[int]:
    """As ``time_interval``, but the end may lie before the start: it does where each belongs to a day of its own."""
    return _interval(value, parse_time, "HH[mm[ss[.F{1,6}]]]", ordered=False)


def _interval(value: str, parse: Callable[[str], T | None], form: str, *, ordered: bool = True) -> Interval[T]:
    def one(text: str) -> T:
        parsed = parse(text)
        if parsed is None:
            raise InvalidDateQuery(f"The value is not an existing date or time of the form {form}.")
        return parsed

    parts = [part.strip() for part in value.rstrip(" \0").split("-")]
    if len(parts) == 1:
        exact = one(parts[0])
        return Interval(exact, exact)
    if len(parts) > 2:
        raise InvalidDateQuery("A range has only one '-'.")
    low = one(parts[0]) if parts[0] else None
    high = one(parts[1]) if parts[1] else None
    if low is None and high is None:
        raise InvalidDateQuery("A range needs a value before or after its '-'.")
    if ordered and low is not None and high is not None and low > high:
        raise InvalidDateQuery("The start of the range lies after its end.")
    return Interval(low, high)


# --- pieces for FHIR ---------------------------------------------------------------------------------------------


def partial_date(value: str) -> str | None:
    """A DA value as a FHIR date, ``YYYY-MM-DD``; ``YYYYMM`` and ``YYYY``, which PS3.5 does not allow but files hold, as
    ``YYYY-MM`` and ``YYYY``. ``None`` for anything else."""
    match = _PARTIAL_DATE.fullmatch(value.rstrip(" "))
    if match is None or _calendar_day(match[1], match[2] or "01", match[3] or "01") is None:
        return None
    return "-".join(part for part in match.groups() if part)


def time_of_day(value: str) -> str | None:
    """A TM value as ``HH:MM:SS[.fff]``: missing parts are 0, the fraction is cut to milliseconds, and left out if 0.

    ``None`` for anything else, and for a leap second, which FHIR servers refuse.
    """
    text = value.rstrip(" ")
    if parse_time(text) is None or text[4:6] == "60":
        return None
    clock, _, fraction = text.partition(".")
    clock = clock.ljust(6, "0")
    milliseconds = fraction[:3].ljust(3, "0")
    return f"{clock[:2]}:{clock[2:4]}:{clock[4:]}" + (f".{milliseconds}" if int(milliseconds) else "")


def utc_offset(value: str) -> str | None:
    """A TimezoneOffsetFromUTC value (``±HHMM``; a colon and one-digit hours pass) as FHIR's ``±HH:MM``.

    ``None`` when it is none, has 60 minutes or more, or lies beyond 14 hours. Zero is ``+00:00``, whatever its sign.
    """
    match = _UTC_OFFSET.fullmatch(value.strip(" "))
    if match is None:
        return None
    sign, hours, minutes = match[1], int(match[2]), int(match[3])
    total = hours * 60 + minutes
    if minutes > 59 or total > _MAX_UTC_OFFSET:
        return None
    return f"{sign if total else '+'}{hours:02}:{minutes:02}"

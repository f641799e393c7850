"""FHIR dates as the periods they stand for, and what the prefixes of date searches mean (R4 §3.1.1.4.7).

A period runs from ``low`` up to, not including, ``high``, in microseconds since 1970 UTC. Times without a zone count as
UTC.
"""

import re
from datetime import date
from typing import NamedTuple

_DAY = 86_400_000_000
_EPOCH_DAY = date(1970, 1, 1).toordinal()
FOREVER = 2**62
"""Stands for the open end of a Period, in both directions; every real date lies between."""

_FORM = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]+))?)?"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)?)?)?"
)


class Period(NamedTuple):
    """``low <= moment < high``."""

    low: int
    high: int


def parse_period(text: str) -> Period | None:
    """The period that a date, dateTime or instant, whole or partial, stands for; None if it is none of these."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    part = match.groupdict()
    try:
        year, month, day = int(part["year"]), int(part["month"] or 1), int(part["day"] or 1)
        start = (date(year, month, day).toordinal() - _EPOCH_DAY) * _DAY
    except ValueError:
        return None
    if part["month"] is None:
        return Period(start, start + (date(year, 12, 31).timetuple().tm_yday) * _DAY)
    if part["day"] is None:
        following = date(year, month + 1, 1) if month < 12 else None
        days = (following - date(year, month, 1)).days if following else 31
        return Period(start, start + days * _DAY)
    if part["hour"] is None:
        return Period(start, start + _DAY)
    return _moment(start, part)


def _moment(start: int, part: dict[str, str | None]) -> Period | None:
    hour, minute, second = int(part["hour"] or 0), int(part["minute"] or 0), int(part["second"] or 0)
    # 60 is a leap second (R4 dateTime), which like every clock we count as the one before.
    if hour > 23 or minute > 59 or second > 60:
        return None
    offset = _offset(part["zone"] or "Z")
    if offset is None:
        return None
    low = start + ((hour * 60 + minute - offset) * 60 + min(second, 59)) * 1_000_000
    if part["second"] is None:
        return Period(low, low + 60_000_000)
    fraction = part["fraction"] or ""
    return Period(low + int(fraction[:6].ljust(6, "0")), low + int(fraction[:6].ljust(6, "0")) + _step(len(fraction)))


def _step(digits: int) -> int:
    return int(10 ** max(6 - digits, 0))


def _offset(zone: str) -> int | None:
    """Minutes east of Greenwich, at most 14 hours."""
    if zone == "Z":
        return 0
    hours, minutes = int(zone[1:3]), int(zone[4:6])
    if minutes > 59 or hours * 60 + minutes > 14 * 60:
        return None
    return (hours * 60 + minutes) * (-1 if zone[0] == "-" else 1)


PREFIXES = ("eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap")
APPROXIMATION = 0.1
"""``ap`` widens the searched period by this part of its distance from now (R4's own suggestion)."""


def date_condition(prefix: str, searched: Period, now: int, low: str, high: str) -> tuple[str, tuple[int, ...]]:
    """SQL and its values: whether the period in the columns ``low`` and ``high`` matches ``prefix`` + ``searched``."""
    # No period is empty, so low < high; conditions that follow from that are added where they narrow an index range.
    if prefix == "eq":
        return f"({low} >= ? AND {low} < ? AND {high} <= ?)", (searched.low, searched.high, searched.high)
    if prefix == "ne":
        return f"({low} < ? OR {high} > ?)", searched
    if prefix == "gt":
        return f"{high} > ?", (searched.high,)
    if prefix == "lt":
        return f"{low} < ?", (searched.low,)
    if prefix == "ge":
        return f"({high} > ? AND ({high} > ? OR {low} >= ?))", (searched.low, searched.high, searched.low)
    if prefix == "le":
        return f"({low} < ? AND ({low} < ? OR {high} <= ?))", (searched.high, searched.low, searched.high)
    if prefix == "sa":
        return f"{low} >= ?", (searched.high,)
    if prefix == "eb":
        return f"{high} <= ?", (searched.low,)
    margin = int(abs(now - searched.low) * APPROXIMATION)
    return f"({low} < ? AND {high} > ?)", (searched.high + margin, searched.low - margin)

"""From a filter's value to conditions on the index: matching by the attribute's kind (query.md §4, PS3.4 §C.2.2.2)."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date

from hounsfield.dicom import dates, person_name, uid, wildcards
from hounsfield.dicom.person_name import first_after_prefix, fold_name, fold_text
from hounsfield.errors import BadRequest
from hounsfield.index import tag_keys
from hounsfield.index.attributes import Attribute, Matching, Values
from hounsfield.index.conditions import Between, Condition, Empty, Like, Moments, OneOf, Words, equal

MAX_LISTED = 200
"""Values of a list: as many as a page of results has."""
MAX_WILDCARDS = 10
"""Wild cards of a value: each is a loop over what is compared."""

_LIST = re.compile(r"[,\\]")
_AROUND_COMPONENTS = re.compile(r" *\^ *")
_INTEGER = re.compile(r"[+-]?[0-9]{1,12}")
_EMPTY = '""'

_PAIRS = {"00080020": "00080030", "00400244": "00400245"}
"""Dates and the times that make a moment with them."""


@dataclass(frozen=True, slots=True)
class How:
    """Parameters that change how values are matched (PS3.18 §§8.3.4.2, 8.3.4.5, 8.3.4.6)."""

    fuzzy: bool = False
    empty: bool = False
    multiple: bool = False


@dataclass(frozen=True, slots=True)
class Filter:
    """An attribute and the value it is to match, as the client wrote them."""

    name: str
    attribute: Attribute
    value: str


def conditions(filters: Sequence[Filter], how: How) -> tuple[Condition, ...]:
    """What all ``filters`` ask together. Raises BadRequest naming the one that is wrong."""
    pending = {one.attribute.tag: one for one in filters}
    found: list[Condition] = []
    for day, time in _PAIRS.items():
        # A time that is an extended query tag is matched as the reference does: for itself.
        if day in pending and time in pending and pending[time].attribute.values == pending[day].attribute.values:
            moments = _moments(pending[day], pending[time])
            if moments is not None:
                found.append(moments)
                del pending[day], pending[time]
    for one in pending.values():
        with _naming(one):
            found += _match(one, how)
    return _same_item(found)


@contextmanager
def _naming(one: Filter) -> Iterator[None]:
    try:
        yield
    except BadRequest as error:
        raise BadRequest(f"The query parameter '{one.name}' is invalid. {error.message}") from error


def _match(one: Filter, how: How) -> list[Condition]:
    attribute, value = one.attribute, one.value
    if how.empty and value in ("", _EMPTY):
        if not attribute.values.own:
            raise BadRequest("Whether it is empty cannot be searched.")
        return [Condition(attribute.values, (Empty(attribute.key),))]
    if wildcards.is_universal(value):
        return []
    return list(_MATCHERS[attribute.matching](attribute, value, how))


def _same_item(found: list[Condition]) -> tuple[Condition, ...]:
    """Conditions on attributes of one sequence must be met by one item (PS3.4 §C.2.2.2.6)."""
    merged: dict[Values, Condition] = {}
    others: list[Condition] = []
    for condition in found:
        before = merged.get(condition.values)
        if condition.values.table != "request_attribute":
            others.append(condition)
        elif before is None:
            merged[condition.values] = condition
        else:
            merged[condition.values] = replace(before, comparisons=before.comparisons + condition.comparisons)
    return (*others, *merged.values())


# --- kinds of attributes ---


def _uid(attribute: Attribute, value: str, how: How) -> Iterable[Condition]:
    # No UID holds a null, and PostgreSQL takes none.
    keys = [uid.normalise(one.strip()).replace("\0", "") for one in _listed(value, _LIST)]
    yield equal(attribute, *dict.fromkeys(keys))


def _listed(value: str, separator: re.Pattern[str]) -> list[str]:
    parts = separator.split(value)
    if len(parts) > MAX_LISTED:
        raise BadRequest(f"A list has at most {MAX_LISTED} values; ask more than once.")
    if len(parts) > 1 and not all(part.strip() for part in parts):
        raise BadRequest("A value of the list is empty.")
    return parts


_BACKSLASH = re.compile(r"\\")


def _text(attribute: Attribute, value: str, how: How) -> Iterable[Condition]:
    yield _texts(attribute, _listed(value, _BACKSLASH) if how.multiple else [value])


def _codes(attribute: Attribute, value: str, how: How) -> Iterable[Condition]:
    yield _texts(attribute, _listed(value, _LIST))


def _texts(attribute: Attribute, values: Sequence[str]) -> Condition:
    if any(map(_wild, values)):
        if len(values) > 1:
            raise BadRequest("The values of a list have no wild cards.")
        return _like(attribute.values, attribute.key, values[0], fold_text)
    return equal(attribute, *dict.fromkeys(person_name.text_key(value.strip()) for value in values))


def _wild(value: str) -> bool:
    found = wildcards.count(value)
    if found > MAX_WILDCARDS:
        raise BadRequest(f"A value has at most {MAX_WILDCARDS} wild cards.")
    return bool(found)


def _like(values: Values, column: str, value: str, fold: Callable[[str], str]) -> Condition:
    prefix, pattern = wildcards.prefix_and_pattern(value, fold)
    after = first_after_prefix(prefix) if prefix else ""
    return Condition(values, (Like(column, prefix, after, pattern),))


def _name(attribute: Attribute, value: str, how: How) -> Iterable[Condition]:
    if how.fuzzy:
        person_name.refuse_quote(value)
    if not _wild(value) and not value.startswith("="):
        if how.fuzzy and attribute.words is not None:
            yield _words(attribute.words, value)
        else:
            yield equal(attribute, person_name.match_key(value))
        return
    groups = _AROUND_COMPONENTS.sub("^", value).split("=")
    if attribute.groups is None:
        yield _like(attribute.values, attribute.key, value, fold_name)
        return
    *others, (column, numbers) = attribute.groups.fixed
    if len(groups) > len(numbers):
        raise BadRequest("A name has at most three groups, parted by '='.")
    if not any(groups):
        raise BadRequest("The name has no group to look for.")
    for group, number in zip(groups, numbers, strict=False):
        if not group.strip() or wildcards.is_universal(group.strip()):
            continue
        # One group alone may be any of them; where its place is given, it is that.
        asked = numbers if len(groups) == 1 else (number,)
        rows = replace(attribute.groups, fixed=(*others, (column, asked)))
        if _wild(group):
            yield _like(rows, "suffix", group.strip(), fold_name)
        else:
            yield Condition(rows, (OneOf("suffix", (person_name.group_keys(group)[0],)),), identifies=True)


def _words(values: Values, value: str) -> Condition:
    low, high, pattern = person_name.fuzzy_pattern(value)
    # Of a single word the range says it all.
    return Condition(values, (Words("suffix", low, high, pattern if " " in pattern else None),))


def _date(attribute: Attribute, value: str, how: How) -> Iterable[Condition]:
    asked = dates.date_interval(value)
    yield _range(attribute, *(None if day is None else _day(day) for day in (asked.low, asked.high)))


def _day(day: date) -> str:
    return day.strftime("%Y%m%d").zfill(8)


def _time(attribute: Attribute, value: str, how: How) -> Iterable[Condition]:
    asked = dates.time_interval(value)
    yield _range(attribute, asked.low, asked.high)


def _range(attribute: Attribute, low: str | int | None, high: str | int | None) -> Condition:
    if low == high:
        return equal(attribute, low)
    return Condition(attribute.values, (Between(attribute.key, low, high),))


def _integer(attribute: Attribute, value: str, how: How) -> Iterable[Condition]:
    if _INTEGER.fullmatch(value) is None:
        raise BadRequest("It is compared with whole numbers of at most 12 digits.")
    yield equal(attribute, int(value))


def _tag_key(attribute: Attribute, value: str, how: How) -> Iterable[Condition]:
    yield _range(attribute, *tag_keys.asked(attribute.vr, value))


def _moments(day: Filter, time: Filter) -> Condition | None:
    """A range of dates and one of times of the same form are one range of moments; None for anything else."""
    if "-" not in day.value or "-" not in time.value:
        return None
    with _naming(day):
        days = dates.date_interval(day.value)
    with _naming(time):
        times = dates.time_ends(time.value)
    if (days.low is None, days.high is None) != (times.low is None, times.high is None):
        return None
    low = None if days.low is None or times.low is None else (_day(days.low), times.low)
    high = None if days.high is None or times.high is None else (_day(days.high), times.high)
    if low is not None and high is not None and low > high:
        with _naming(time):
            raise BadRequest("With the dates, the start of the range lies after its end.")
    attribute = day.attribute
    return Condition(attribute.values, (Moments(attribute.key, time.attribute.key, low, high),))


_MATCHERS: dict[Matching, Callable[[Attribute, str, How], Iterable[Condition]]] = {
    Matching.UID: _uid,
    Matching.TEXT: _text,
    Matching.CODES: _codes,
    Matching.DATE: _date,
    Matching.TIME: _time,
    Matching.NAME: _name,
    Matching.INTEGER: _integer,
    Matching.TAG_KEY: _tag_key,
}

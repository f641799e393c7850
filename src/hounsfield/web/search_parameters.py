"""The parameters of a search, read from the query string (query.md §2, PS3.18 §8.3.4)."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field

from starlette.requests import Request

from hounsfield.archive.search import SearchRequest
from hounsfield.dicom import dictionary
from hounsfield.errors import BadRequest
from hounsfield.index.attributes import SEARCHABLE, Attribute
from hounsfield.index.instances import Level
from hounsfield.web import search_cursor
from hounsfield.web.api_route import partition_of
from hounsfield.web.attribute_ids import tag_number
from hounsfield.web.search_matching import Filter, How, conditions
from hounsfield.web.uids import uid_parameter
from hounsfield.web.versions import api_version, service_root

MAX_LIMIT = 200
DEFAULT_LIMIT = 100
MAX_OFFSET = 2**63 - 1
MAX_PATH = 8
"""Attributes of a dotted path: the standard has no sequence as deep in what is searched, and each is a loop."""

_ONCE = (
    "limit",
    "offset",
    "cursor",
    "count",
    "fuzzymatching",
    "emptyvaluematching",
    "multiplevaluematching",
)


@dataclass(frozen=True, slots=True)
class Parameters:
    """What a request asks for: a search, and how the answer is to be paged."""

    search: SearchRequest
    with_count: bool
    """Whether the number of all matches is wanted."""
    with_cursor: bool
    """Whether the answer is to say how to go on."""
    fingerprint: str
    """The same for all pages of a query."""


@dataclass(slots=True)
class _Read:
    """The query string, sorted."""

    known: dict[str, str] = field(default_factory=dict)
    include: set[str] = field(default_factory=set)
    include_all: bool = False
    filters: dict[str, Filter] = field(default_factory=dict)


def parse(request: Request, level: Level, attributes: Sequence[Attribute] = SEARCHABLE) -> Parameters:
    """The search a request asks for. Raises BadRequest naming the parameter that is wrong."""
    study, series = uid_parameter(request, "study"), uid_parameter(request, "series")
    searchable = _searchable(attributes, level, study, series)
    read = _Read()
    for name, value in request.query_params.multi_items():
        _take(read, name.strip(), value, searchable)
    how = How(*(_boolean(read, name) for name in ("fuzzymatching", "emptyvaluematching", "multiplevaluematching")))
    for one in read.filters.values():
        if not one.value and not how.empty:
            raise _invalid(one.name, "It has no value.")
    filters = list(read.filters.values())
    asked = sorted([one.attribute.tag, one.value] for one in filters)
    fingerprint = json.dumps([level.value, partition_of(request).key, study, series, *asdict(how).values(), *asked])
    offset = _integer(read, "offset", 0, 0, MAX_OFFSET)
    search = SearchRequest(
        level=level,
        api_version=api_version(request).major,
        partition_key=partition_of(request).key,
        study_uid=study,
        series_uid=series,
        conditions=conditions(filters, how),
        filtered=frozenset(one.attribute.tag for one in filters),
        include=frozenset(read.include),
        include_all=read.include_all,
        limit=_integer(read, "limit", DEFAULT_LIMIT, 1, MAX_LIMIT),
        offset=offset,
        before=_position(read, fingerprint),
        service_root=service_root(request),
    )
    return Parameters(search, _boolean(read, "count"), "cursor" in read.known, fingerprint)


def _take(read: _Read, name: str, value: str, searchable: Sequence[Attribute]) -> None:
    lower = name.lower()
    if lower in _ONCE:
        if lower in read.known:
            raise _invalid(name, "It is given more than once.")
        read.known[lower] = value.strip()
    elif lower == "includefield":
        for identifier in value.split(","):
            if identifier.strip().lower() == "all":
                read.include_all = True
            else:
                read.include.add(path_of(identifier.strip(), name))
    else:
        attribute = _attribute(name, searchable)
        if attribute.tag in read.filters:
            raise _invalid(name, "The attribute is given more than once.")
        read.filters[attribute.tag] = Filter(name, attribute, value.strip())


def _position(read: _Read, fingerprint: str) -> int | None:
    cursor = read.known.get("cursor", search_cursor.FIRST)
    if "cursor" in read.known and "offset" in read.known:
        raise _invalid("offset", "A cursor says where to begin; leave one of the two out.")
    return None if cursor == search_cursor.FIRST else search_cursor.read(cursor, fingerprint)


def _searchable(
    attributes: Iterable[Attribute], level: Level, study: str | None, series: str | None
) -> list[Attribute]:
    """What can be searched at a route: attributes of its level and those above, but not the UIDs of the path."""
    taken = {"0020000D": study, "0020000E": series}
    return [
        attribute
        for attribute in attributes
        if attribute.level.value <= level.value and taken.get(attribute.tag) is None
    ]


def _attribute(name: str, searchable: Sequence[Attribute]) -> Attribute:
    try:
        tag = path_of(name, name)
    except BadRequest as error:
        raise BadRequest(f"{error.message} These can be searched here: {_names(searchable)}.") from error
    for attribute in searchable:
        if attribute.tag == tag:
            return attribute
    raise _invalid(name, f"It cannot be searched here; these can: {_names(searchable)}.")


def _names(searchable: Sequence[Attribute]) -> str:
    return ", ".join(attribute.keyword for attribute in searchable)


def path_of(identifier: str, parameter: str) -> str:
    """The tag an identifier names, or the tags of a path through sequences, joined by dots. Raises BadRequest."""
    parts = identifier.split(".")
    if len(parts) > MAX_PATH:
        raise _invalid(parameter, f"A path has at most {MAX_PATH} attributes.")
    numbers = [_number(part, parameter) for part in parts]
    for number in numbers[:-1]:
        known = dictionary.attribute(number)
        if known is not None and known.vr != "SQ":
            raise _invalid(parameter, "Of the attributes in a path all but the last are sequences.")
    return ".".join(f"{number:08X}" for number in numbers)


def _number(identifier: str, parameter: str) -> int:
    """The tag of a keyword or of eight hexadecimal digits; any private tag passes."""
    number = tag_number(identifier)
    if number is None:
        raise _invalid(parameter, "It names no known attribute; use a keyword or eight hexadecimal digits.")
    return number


def _integer(read: _Read, name: str, default: int, low: int, high: int) -> int:
    text = read.known.get(name, str(default))
    if re.fullmatch(r"[+-]?[0-9]{1,19}", text) is None or not low <= int(text) <= high:
        raise _invalid(name, f"It must be an integer from {low} to {high}.")
    return int(text)


def _boolean(read: _Read, name: str) -> bool:
    text = read.known.get(name, "false").lower()
    if text not in ("true", "false"):
        raise _invalid(name, "It must be true or false.")
    return text == "true"


def _invalid(name: str, reason: str) -> BadRequest:
    return BadRequest(f"The query parameter '{name}' is invalid. {reason}")

"""QIDO-RS: the six search routes (query.md)."""

import re
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.archive.archive import Archive
from hounsfield.archive.search import SearchRequest, find
from hounsfield.dicom import dates, dictionary, person_name, uid
from hounsfield.errors import BadRequest
from hounsfield.index.attributes import BY_TAG, Attribute, Matching
from hounsfield.index.instances import Level
from hounsfield.index.search import Condition, DateBetween, Equal, NameLike
from hounsfield.security.roles import DataAction
from hounsfield.web import content_coding
from hounsfield.web.api_route import ApiRoute, partition_of
from hounsfield.web.negotiation import DICOM_JSON, require_dicom_json
from hounsfield.web.uids import uid_parameter
from hounsfield.web.versions import api_version

MAX_LIMIT = 200
DEFAULT_LIMIT = 100
MAX_OFFSET = 2**63 - 1

_HEX = re.compile(r"[0-9A-Fa-f]{8}")


def search_routes(archive: Archive) -> list[ApiRoute]:
    """Routes of all studies, series and instances, and of those below a study or series."""

    def route(path: str, level: Level) -> ApiRoute:
        async def handle(request: Request) -> Response:
            return await _search(archive, request, level)

        return ApiRoute(path, handle, "GET", f"search {path}", data_action=DataAction.READ, audit_action="query")

    return [
        route("/studies", Level.STUDY),
        route("/series", Level.SERIES),
        route("/instances", Level.INSTANCE),
        route("/studies/{study}/series", Level.SERIES),
        route("/studies/{study}/instances", Level.INSTANCE),
        route("/studies/{study}/series/{series}/instances", Level.INSTANCE),
    ]


async def _search(archive: Archive, request: Request, level: Level) -> Response:
    parsed = parse(request, level)
    require_dicom_json(request.headers.getlist("accept"))
    datasets = await find(archive, parsed)
    if not datasets:
        return Response(status_code=204)
    body, headers = content_coding.whole(request.headers.getlist("accept-encoding"), msgspec.json.encode(datasets))
    return Response(body, media_type=DICOM_JSON, headers=headers)


def parse(request: Request, level: Level) -> SearchRequest:
    """The search a request asks for. Raises BadRequest naming the parameter that is wrong."""
    study, series = uid_parameter(request, "study"), uid_parameter(request, "series")
    known: dict[str, str] = {}
    include: set[str] = set()
    include_all = False
    filters: dict[str, tuple[Attribute, str]] = {}
    for name, value in request.query_params.multi_items():
        lower = name.strip().lower()
        if lower in ("limit", "offset", "fuzzymatching"):
            if lower in known:
                raise _invalid(name, "It is given more than once.")
            known[lower] = value.strip()
        elif lower == "includefield":
            for field in value.split(","):
                if field.strip().lower() == "all":
                    include_all = True
                else:
                    include.add(_tag(field.strip(), name))
        else:
            attribute = _attribute(name.strip(), level, study, series)
            if not value.strip():
                raise _invalid(name, "It has no value.")
            if attribute.tag in filters:
                raise _invalid(name, "The attribute is given more than once.")
            filters[attribute.tag] = (attribute, value.strip())
    fuzzy = _boolean("fuzzymatching", known.get("fuzzymatching", "false"))
    return SearchRequest(
        level=level,
        api_version=api_version(request).major,
        partition_key=partition_of(request).key,
        study_uid=study,
        series_uid=series,
        conditions=tuple(_condition(attribute, value, fuzzy) for attribute, value in filters.values()),
        include=frozenset(include),
        include_all=include_all,
        limit=_integer("limit", known.get("limit", str(DEFAULT_LIMIT)), 1, MAX_LIMIT),
        offset=_integer("offset", known.get("offset", "0"), 0, MAX_OFFSET),
    )


def _invalid(name: str, reason: str) -> BadRequest:
    return BadRequest(f"The query parameter '{name}' is invalid. {reason}")


def _tag(identifier: str, parameter: str) -> str:
    """The tag of a keyword or of eight hexadecimal digits; any private tag passes."""
    number = int(identifier, 16) if _HEX.fullmatch(identifier) else dictionary.tag_of(identifier)
    if number is None or not (dictionary.attribute(number) or dictionary.is_private(number)):
        raise _invalid(parameter, "It names no known attribute; use a keyword or eight hexadecimal digits.")
    return f"{number:08X}"


def _attribute(name: str, level: Level, study: str | None, series: str | None) -> Attribute:
    attribute = BY_TAG.get(_tag(name, name))
    taken = {"0020000D": study, "0020000E": series}
    searchable = [
        candidate
        for candidate in BY_TAG.values()
        if candidate.level.value <= level.value and taken.get(candidate.tag) is None
    ]
    if attribute not in searchable:
        names = ", ".join(candidate.keyword for candidate in searchable)
        raise _invalid(name, f"It cannot be searched here; these can: {names}.")
    assert attribute is not None
    return attribute


def _condition(attribute: Attribute, value: str, fuzzy: bool) -> Condition:
    try:
        return _MATCHERS[attribute.matching](attribute, value, fuzzy)
    except BadRequest as error:
        raise _invalid(attribute.keyword, error.message) from error


def _text(attribute: Attribute, value: str, fuzzy: bool) -> Condition:
    return Equal(attribute, person_name.text_key(value))


def _uid(attribute: Attribute, value: str, fuzzy: bool) -> Condition:
    # No UID holds a null, and PostgreSQL takes none.
    return Equal(attribute, uid.normalise(value).replace("\0", ""))


def _date(attribute: Attribute, value: str, fuzzy: bool) -> Condition:
    asked = dates.date_interval(value)
    first, last = (None if day is None else day.strftime("%Y%m%d").zfill(8) for day in (asked.low, asked.high))
    return DateBetween(attribute, first, last)


def _name(attribute: Attribute, value: str, fuzzy: bool) -> Condition:
    if not fuzzy:
        return Equal(attribute, person_name.match_key(value))
    lower, upper, pattern = person_name.fuzzy_pattern(value)
    return NameLike(attribute, lower, upper, pattern)


_MATCHERS: dict[Matching, Callable[[Attribute, str, bool], Condition]] = {
    Matching.UID: _uid,
    Matching.TEXT: _text,
    Matching.MODALITIES: _text,
    Matching.DATE: _date,
    Matching.NAME: _name,
}


def _integer(name: str, text: str, low: int, high: int) -> int:
    if re.fullmatch(r"[+-]?\d{1,19}", text) is None or not low <= int(text) <= high:
        raise _invalid(name, f"It must be an integer from {low} to {high}.")
    return int(text)


def _boolean(name: str, text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise _invalid(name, "It must be true or false.")
    return text.lower() == "true"

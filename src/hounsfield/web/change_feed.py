"""GET changefeed and changefeed/latest (change-feed.md)."""

import re
from datetime import UTC, datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest
from hounsfield.index import feed
from hounsfield.security.roles import DataAction
from hounsfield.web.api_route import ApiRoute, Handler
from hounsfield.web.paging import integer, parameters_of
from hounsfield.web.versions import api_version

MAX_OFFSET = 2**63 - 1
MEDIA_TYPE = "application/json; charset=utf-8"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS = 10
"""Of 100 ns in a microsecond: as fine as a request may be. Stored times are microseconds."""
_EARLIEST = -621_355_968_000_000_000
"""0001-01-01T00:00:00Z in ticks."""
_LATEST = 2_534_023_007_999_999_999
"""9999-12-31T23:59:59.9999999Z in ticks."""
_ISO = re.compile(
    r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2})(?::(\d{2})(?:\.(\d{1,7}))?)?"
    r"(?:(?P<utc>[Zz])|(?P<sign>[+-])(?P<hours>\d{1,2})(?::?(?P<minutes>\d{2}))?)",
    re.ASCII,
)


def change_feed_routes(database: Database) -> list[ApiRoute]:
    """The two routes; v1 pages by sequence, v2 by time."""

    async def page(request: Request) -> Response:
        parameters = parameters_of(request)
        include_metadata = _boolean(parameters)
        offset = integer(parameters, "offset", 0, 0, MAX_OFFSET)
        if api_version(request).major == 1:
            limit = integer(parameters, "limit", 10, 1, 100)
            found = await feed.after(database, offset, limit, include_metadata=include_metadata)
        else:
            limit = integer(parameters, "limit", 100, 1, 200)
            start = _time(parameters, "starttime", _EARLIEST)
            end = _time(parameters, "endtime", _LATEST)
            if end <= start:
                raise BadRequest("The query parameter 'endTime' is invalid. It must be after startTime.")
            bounds = _microseconds(start), _microseconds(end)
            found = await feed.window(database, *bounds, offset, limit, include_metadata=include_metadata)
        return _json([_entry(entry) for entry in found])

    async def latest(request: Request) -> Response:
        newest = await feed.latest(database, include_metadata=_boolean(parameters_of(request)))
        return Response(status_code=204) if newest is None else _json(_entry(newest))

    def route(path: str, handle: Handler, name: str) -> ApiRoute:
        return ApiRoute(
            path,
            handle,
            "GET",
            name,
            data_action=DataAction.READ,
            audit_action="change-feed",
            partitioned=False,
        )

    return [route("/changefeed", page, "change feed"), route("/changefeed/latest", latest, "change feed latest")]


def timestamp(microseconds: int) -> str:
    """A feed time as the API spells it: UTC as ``+00:00``, no trailing zeros in the fraction."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    fraction = f".{moment.microsecond:06}".rstrip("0") if moment.microsecond else ""
    return f"{moment.replace(microsecond=0, tzinfo=None).isoformat()}{fraction}+00:00"


def parse_time(text: str) -> int:
    """Ticks of 100 ns since 1970 of an ISO 8601 time with a zone or an RFC 1123 date. Raises ValueError."""
    found = _ISO.fullmatch(text)
    if found is None:
        moment = parsedate_to_datetime(text) if text.endswith("GMT") else None
        if moment is None or moment.tzinfo is None:
            raise ValueError("no time")
        return (moment - _EPOCH) // timedelta(microseconds=1) * _TICKS
    year, month, day, hour, minute = (int(found[group]) for group in range(1, 6))
    ticks = int((found[7] or "").ljust(7, "0"))
    zone = UTC
    if found["sign"]:
        offset = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"] or 0))
        if int(found["minutes"] or 0) > 59 or offset > timedelta(hours=14):
            raise ValueError("no zone")
        zone = timezone(offset if found["sign"] == "+" else -offset)
    local = datetime(year, month, day, hour, minute, int(found[6] or 0))
    naive = (local - datetime(1970, 1, 1)) // timedelta(microseconds=1)
    return (naive - zone.utcoffset(None) // timedelta(microseconds=1)) * _TICKS + ticks


def _microseconds(ticks: int) -> int:
    """Rounded up: a bound between two stored times selects the same entries as the later one."""
    return -(-ticks // _TICKS)


def _entry(entry: feed.Entry) -> dict[str, Any]:
    content: dict[str, Any] = {
        "sequence": entry.sequence,
        "partitionName": entry.partition_name,
        "studyInstanceUid": entry.study_uid,
        "seriesInstanceUid": entry.series_uid,
        "sopInstanceUid": entry.sop_uid,
        "action": entry.action.name.capitalize(),
        "timestamp": timestamp(entry.timestamp),
        "state": entry.state.value,
    }
    if entry.metadata is not None:
        content["metadata"] = msgspec.Raw(entry.metadata)
    return content


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), headers={"content-type": MEDIA_TYPE})


def _boolean(parameters: dict[str, str]) -> bool:
    text = parameters.get("includemetadata", "true").lower()
    if text not in ("true", "false"):
        raise BadRequest("The query parameter 'includeMetadata' is invalid. It must be true or false.")
    return text == "true"


def _time(parameters: dict[str, str], name: str, default: int) -> int:
    text = parameters.get(name)
    if not text:
        return default
    spelled = {"starttime": "startTime", "endtime": "endTime"}[name]
    try:
        return parse_time(text)
    except ValueError as error:
        raise BadRequest(
            f"The query parameter '{spelled}' is invalid. It must be a date and time with a time zone, "
            "such as 2023-05-10T16:00:00Z."
        ) from error

"""QIDO-RS: the six search routes (query.md, PS3.18 §10.6)."""

import asyncio
from urllib.parse import quote, urlencode

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.archive.archive import Archive
from hounsfield.archive.search import find, total
from hounsfield.errors import BadRequest, TookTooLong
from hounsfield.index.instances import Level
from hounsfield.security.roles import DataAction
from hounsfield.web import content_coding, search_cursor
from hounsfield.web.api_route import ApiRoute
from hounsfield.web.negotiation import DICOM_JSON, require_dicom_json
from hounsfield.web.search_parameters import Parameters, parse
from hounsfield.web.tag_filters import ERRONEOUS, tag_filters
from hounsfield.web.versions import service_root

COUNTS = 2
"""Counts of one process at a time, so that there is always somebody left who searches."""
COUNT_SECONDS = 10.0
"""How long a count may take: a million matches of several conditions take a tenth of that."""


def search_routes(archive: Archive) -> list[ApiRoute]:
    """Routes of all studies, series and instances, and of those below a study or series."""
    counting = asyncio.Semaphore(COUNTS)

    def route(path: str, level: Level) -> ApiRoute:
        async def handle(request: Request) -> Response:
            return await _search(archive, request, level, counting)

        return ApiRoute(path, handle, "GET", f"search {path}", data_action=DataAction.READ, audit_action="query")

    return [
        route("/studies", Level.STUDY),
        route("/series", Level.SERIES),
        route("/instances", Level.INSTANCE),
        route("/studies/{study}/series", Level.SERIES),
        route("/studies/{study}/instances", Level.INSTANCE),
        route("/studies/{study}/series/{series}/instances", Level.INSTANCE),
    ]


async def _search(archive: Archive, request: Request, level: Level, counting: asyncio.Semaphore) -> Response:
    filters = await tag_filters(archive.database, request, level)
    parameters = parse(request, level, filters.attributes)
    require_dicom_json(request.headers.getlist("accept"))
    page = await find(archive, parameters.search, filters.tags)
    headers: dict[str, str] = {}
    if filters.erroneous:
        headers[ERRONEOUS] = ",".join(filters.erroneous)
    if parameters.with_count:
        async with counting:
            headers["X-Total-Count"] = str(await _total(archive, parameters))
    if parameters.with_cursor and page.next is not None:
        headers["Link"] = f'<{_next(request, search_cursor.make(page.next, parameters.fingerprint))}>; rel="next"'
    if headers:
        # A page of another origin sees only what is named.
        headers["Access-Control-Expose-Headers"] = ", ".join(headers)
    if not page.datasets:
        return Response(status_code=204, headers=headers)
    accept = request.headers.getlist("accept-encoding")
    body, more = content_coding.whole(accept, msgspec.json.encode(page.datasets))
    return Response(body, media_type=DICOM_JSON, headers={**headers, **more})


async def _total(archive: Archive, parameters: Parameters) -> int:
    try:
        return await total(archive, parameters.search, COUNT_SECONDS)
    except TookTooLong as error:
        raise BadRequest(
            f"The query parameter 'count' is invalid. Counting these matches takes longer than {COUNT_SECONDS:g} "
            "seconds: ask for less, or leave it out."
        ) from error


def _next(request: Request, cursor: str) -> str:
    """The address of the next page: this one's with another cursor."""
    kept = [(name, value) for name, value in request.query_params.multi_items() if name.strip().lower() != "cursor"]
    return f"{service_root(request)}{request.scope['path']}?{urlencode([*kept, ('cursor', cursor)], quote_via=quote)}"

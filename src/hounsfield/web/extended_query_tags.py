"""Extended query tags: add, list, look at, enable, delete, and their errors (extended-query-tags.md)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest, Conflict, NotFound
from hounsfield.index import query_tags, tag_errors
from hounsfield.index.query_tags import QueryTag
from hounsfield.index.tag_errors import IndexingError
from hounsfield.operations import reindex
from hounsfield.operations.engine import AlreadyRunning
from hounsfield.operations.job import Operation
from hounsfield.security.roles import DataAction
from hounsfield.web.api_route import ApiRoute, Handler
from hounsfield.web.attribute_ids import tag_number
from hounsfield.web.json_body import json_body, members, require_json
from hounsfield.web.new_tags import bound, new_tags
from hounsfield.web.operations import Kind, OperationsDisabled, operation_reference, operation_url
from hounsfield.web.paging import integer, parameters_of
from hounsfield.web.versions import version_root

MEDIA_TYPE = "application/json; charset=utf-8"
MAX_OFFSET = 2**63 - 1

_EPOCH = datetime(1970, 1, 1)
_QUERY_STATUSES = {"enabled": True, "disabled": False}


@dataclass(frozen=True, slots=True)
class TagOptions:
    """``maximum``: of tags in all (ExtendedQueryTag:MaxAllowedCount). ``disabled``: none may be added
    (Features:DisableOperations)."""

    maximum: int = 128
    disabled: bool = False


class ReindexRunning(Conflict):
    """Tags cannot be added while others are being."""

    def __init__(self, operation_id: str, url: str) -> None:
        super().__init__(
            f"There is already an active re-index operation with ID '{operation_id}'. Wait until it has ended."
        )
        self._url = url

    @property
    def headers(self) -> Mapping[str, str]:
        """Where to look how far it is."""
        return {"Location": self._url}


def extended_query_tag_routes(database: Database, options: TagOptions) -> list[ApiRoute]:
    """The six routes; never below a partition. Their names are those of the audit log (server.md §10)."""

    async def add(request: Request) -> Response:
        entries = bound(await json_body(request))
        if options.disabled:
            raise OperationsDisabled
        try:
            await reindex.refuse_beside(database)
            operation_id = await reindex.add_tags(database, new_tags(entries), options.maximum)
        except AlreadyRunning as error:
            url = operation_url(request, error.operation_id)
            raise ReindexRunning(error.operation_id, url) from error
        reference = operation_reference(request, operation_id)
        return _json(reference, 202, {"location": reference["href"]})

    async def every(request: Request) -> Response:
        found = await query_tags.page(database, *_window(request))
        return _json([_entry(request, tag) for tag in found])

    async def one(request: Request) -> Response:
        return _json(_entry(request, await _found(database, request)))

    async def change(request: Request) -> Response:
        enabled = _query_status(await json_body(request))
        tag = await query_tags.set_enabled(database, _path(request), enabled)
        if tag is None:
            raise _not_found()
        return _json(_entry(request, tag))

    async def delete(request: Request) -> Response:
        if not await reindex.delete_tag(database, _path(request)):
            raise _not_found()
        return Response(status_code=204)

    async def errors(request: Request) -> Response:
        limit, offset = _window(request)
        tag = await _found(database, request)
        return _json([_error(error) for error in await tag_errors.page(database, tag.id, limit, offset)])

    def route(method: str, path: str, handle: Handler, name: str, *, body: bool = False) -> ApiRoute:
        reads = method == "GET"
        return ApiRoute(
            f"/extendedquerytags{path}",
            handle,
            method,
            name,
            data_action=DataAction.READ if reads else DataAction.MANAGE_EXTENDED_QUERY_TAGS,
            audit_action=name,
            partitioned=False,
            check_content=require_json if body else None,
        )

    return [
        route("POST", "", add, "add-extended-query-tag", body=True),
        route("GET", "", every, "get-all-extended-query-tag"),
        route("GET", "/{tagPath}", one, "get-extended-query-tag"),
        route("PATCH", "/{tagPath}", change, "update-extended-query-tag", body=True),
        route("DELETE", "/{tagPath}", delete, "remove-extended-query-tag"),
        route("GET", "/{tagPath}/errors", errors, "get-extended-query-tag-errors"),
    ]


def reindex_kind(database: Database) -> Kind:
    """How re-index operations are shown."""

    async def resources(operation: Operation, root: str) -> list[str]:
        return [f"{root}/extendedquerytags/{tag.path}" for tag in await reindex.tags_of(database, operation)]

    return Kind(reindex.KIND, DataAction.MANAGE_EXTENDED_QUERY_TAGS, resources=resources)


def _window(request: Request) -> tuple[int, int]:
    parameters = parameters_of(request)
    return integer(parameters, "limit", 100, 1, 200), integer(parameters, "offset", 0, 0, MAX_OFFSET)


def _path(request: Request) -> str:
    """The tag the request's path names, as eight hexadecimal digits. Raises BadRequest."""
    text = request.path_params["tagPath"]
    number = tag_number(text)
    if number is None:
        raise BadRequest("The tag path is invalid: it must be an attribute's keyword, or eight hexadecimal digits.")
    return f"{number:08X}"


async def _found(database: Database, request: Request) -> QueryTag:
    tag = await query_tags.find(database, _path(request))
    if tag is None:
        raise _not_found()
    return tag


def _not_found() -> NotFound:
    return NotFound("The specified extended query tag cannot be found.")


def _query_status(body: Any) -> bool:
    """What a PATCH asks for. Raises BadRequest."""
    if not isinstance(body, dict):
        raise BadRequest("The field '$' in request body is invalid: an object with queryStatus is required.")
    given = members(body)
    for name in body:
        if name.lower() != "querystatus":
            raise BadRequest("The request body is invalid: it may have no property but queryStatus.")
    value = given.get("querystatus")
    if not isinstance(value, str) or value.lower() not in _QUERY_STATUSES:
        raise BadRequest(
            "The field 'QueryStatus' in request body is invalid: Expected one of the following values: "
            "'Enabled', 'Disabled'."
        )
    return _QUERY_STATUSES[value.lower()]


def _entry(request: Request, tag: QueryTag) -> dict[str, Any]:
    content: dict[str, Any] = {"path": tag.path, "vr": tag.vr}
    if tag.private_creator is not None:
        content["privateCreator"] = tag.private_creator
    content["level"] = tag.level.name.lower()
    content["status"] = tag.status.name.lower()
    content["queryStatus"] = "enabled" if tag.enabled else "disabled"
    if tag.error_count:
        href = f"{version_root(request)}/extendedquerytags/{tag.path}/errors"
        content["errors"] = {"count": tag.error_count, "href": href}
    if tag.operation_id is not None:
        content["operation"] = operation_reference(request, tag.operation_id)
    return content


def _error(error: IndexingError) -> dict[str, Any]:
    return {
        "partitionName": error.partition_name,
        "studyInstanceUid": error.study_uid,
        "seriesInstanceUid": error.series_uid,
        "sopInstanceUid": error.sop_uid,
        "createdTime": (_EPOCH + timedelta(microseconds=error.created)).isoformat(timespec="microseconds"),
        "errorMessage": error.message,
    }


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(content), status_code=status, headers={"content-type": MEDIA_TYPE, **(headers or {})}
    )

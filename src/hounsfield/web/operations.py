"""Long-running operations: look at one, list all, have one cancelled (operations.md §1; the last two are ours)."""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest, NotFound
from hounsfield.operations import engine, records
from hounsfield.operations.job import Json, Operation, Status
from hounsfield.security.roles import ALL_ACTIONS, DataAction
from hounsfield.web.access import caller_of
from hounsfield.web.api_route import ApiRoute, Handler
from hounsfield.web.paging import integer, parameters_of
from hounsfield.web.versions import api_version, version_root

MEDIA_TYPE = "application/json; charset=utf-8"
MAX_OFFSET = 2**31 - 1

_GUID = re.compile(r"[0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Kind:
    """How operations of one kind are shown, and who may cancel them."""

    name: str
    """The job's, and the ``type`` of the resource."""
    data_action: DataAction
    """What starting one takes; cancelling it takes the same."""
    has_percent: bool = True
    resources: Callable[[Operation, str], Awaitable[list[str]]] | None = None
    """The URLs of what it is about, given the URL of the service with the request's version."""
    results: Callable[[Operation], Json] | None = None
    """What came of it so far."""


class OperationsDisabled(BadRequest):
    """DicomServer:Features:DisableOperations: no operation can be started (server.md §3)."""

    def __init__(self) -> None:
        super().__init__("Asynchronous operations are temporarily disabled. Please try again later.")


def operation_routes(database: Database, kinds: Iterable[Kind]) -> list[ApiRoute]:
    """The three routes; never below a partition."""
    known = {kind.name: kind for kind in kinds}

    async def one(request: Request) -> Response:
        operation = await _asked_for(database, request)
        content = await _resource(request, operation, known.get(operation.kind))
        if parameters_of(request).get("details", "").lower() == "true":
            content |= _details(operation)
        if operation.status.is_active:
            return _json(content, 202, {"location": operation_url(request, operation.id)})
        return _json(content)

    async def every(request: Request) -> Response:
        parameters = parameters_of(request)
        limit = integer(parameters, "limit", 100, 1, 200)
        offset = integer(parameters, "offset", 0, 0, MAX_OFFSET)
        found = await records.page(database, limit, offset)
        return _json(
            [await _resource(request, each, known.get(each.kind)) | _details(each) for each in found],
        )

    async def cancel(request: Request) -> Response:
        operation = await _asked_for(database, request)
        kind = known.get(operation.kind)
        # What a kind we do not know takes, we do not know either.
        caller_of(request).require(*(ALL_ACTIONS if kind is None else [kind.data_action]))
        await engine.request_cancel(database, operation.id)
        reference = operation_reference(request, operation.id)
        return _json(reference, 202, {"location": reference["href"]})

    def route(path: str, handle: Handler, name: str, method: str = "GET") -> ApiRoute:
        return ApiRoute(
            path,
            handle,
            method,
            name,
            data_action=DataAction.READ,
            audit_action="operation" if method == "GET" else "cancel-operation",
            partitioned=False,
        )

    return [
        route("/operations", every, "operations"),
        route("/operations/{operationId}", one, "operation"),
        route("/operations/{operationId}/cancelrequest", cancel, "cancel operation", "POST"),
    ]


def operation_url(request: Request, operation_id: str) -> str:
    """Absolute URL of an operation, with the version of the request and without its partition."""
    return f"{version_root(request)}/operations/{operation_id}"


def operation_reference(request: Request, operation_id: str) -> dict[str, str]:
    """What an answer says of an operation that it started."""
    return {"id": operation_id, "href": operation_url(request, operation_id)}


async def _asked_for(database: Database, request: Request) -> Operation:
    """Raises NotFound."""
    identifier = parse_id(request.path_params["operationId"])
    found = None if identifier is None else await records.find(database, identifier)
    if found is None:
        raise NotFound("There is no such operation.")
    return found


def parse_id(text: str) -> str | None:
    """A GUID in a usual form (32 digits, dashed, in braces or parentheses, any case) as 32 lower-case digits, or None.

    >>> parse_id("{0F8FAD5B-D9CB-469F-A165-70867728950E}")
    '0f8fad5bd9cb469fa16570867728950e'
    """
    inner = text.strip()
    if inner[:1] + inner[-1:] in ("{}", "()"):
        inner = inner[1:-1]
    return inner.replace("-", "").lower() if _GUID.fullmatch(inner) else None


async def _resource(request: Request, operation: Operation, kind: Kind | None) -> dict[str, Any]:
    status = operation.status.value
    if operation.status is Status.SUCCEEDED and api_version(request).major == 1:
        status = "completed"
    content: dict[str, Any] = {
        "operationId": operation.id,
        "type": operation.kind,
        "createdTime": _time(operation.created),
        "lastUpdatedTime": _time(operation.updated),
        "status": status,
    }
    if kind is None or kind.has_percent:
        content["percentComplete"] = operation.percent
    if kind is not None and kind.resources is not None:
        content["resources"] = await kind.resources(operation, version_root(request))
    if kind is not None and kind.results is not None:
        content["results"] = kind.results(operation)
    return content


def _details(operation: Operation) -> dict[str, Any]:
    """What the reference's resource does not tell."""
    cancelled = operation.stop is Status.CANCELED or operation.status is Status.CANCELED
    return {"cancelRequested": cancelled} | ({} if operation.error is None else {"error": operation.error})


def _time(microseconds: int) -> str:
    """RFC 3339, UTC."""
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(content), status_code=status, headers={"content-type": MEDIA_TYPE, **(headers or {})}
    )

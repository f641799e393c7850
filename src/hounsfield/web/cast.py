"""DICOM Cast for people: status, error tables, trying again what failed, rebuilding all (dicom-cast.md §5.1)."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hounsfield.cast import error_tables, rebuild_operation
from hounsfield.cast.error_tables import RETRYABLE, Choice, InvalidToken, StoredError
from hounsfield.cast.failure import Table
from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest, Conflict
from hounsfield.operations.engine import AlreadyRunning
from hounsfield.security.roles import DataAction
from hounsfield.web.access import ProtectedRoute
from hounsfield.web.cast_status import CastReport, date
from hounsfield.web.operations import Kind
from hounsfield.web.versions import server_root

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100

_TABLES = {table.value: table for table in Table}
_RETRYABLE = {table.value: table for table in RETRYABLE}
_UID = re.compile(r"[0-9.]{1,64}")
_MICROSECONDS = 1_000_000


def cast_routes(database: Database, report: CastReport, *, enabled: bool, has_table_store: bool = False) -> list[Route]:
    """The routes, without a version. ``has_table_store``: error rows are copied to Azure tables."""

    async def status(request: Request) -> Response:
        return _json(await report.content())

    async def errors(request: Request) -> Response:
        parameters = request.query_params
        table = _table(parameters, _TABLES)
        choice = Choice(_study(parameters) or None, _since(parameters))
        token = parameters.get("continuationToken") or None
        try:
            rows, following = await error_tables.page(database, table, _limit(parameters), token, choice)
        except InvalidToken as error:
            raise BadRequest(
                "The query parameter 'continuationToken' is invalid. It must come from an earlier answer."
            ) from error
        return _json(
            {"table": table.value, "entries": [_error(row) for row in rows], "continuationToken": following},
        )

    async def empty(request: Request) -> Response:
        table = _table(request.query_params, _TABLES)
        await error_tables.empty(database, table, copied_elsewhere=has_table_store)
        return Response(status_code=204)

    async def retry(request: Request) -> Response:
        parameters = request.query_params
        tables = [_table(parameters, _RETRYABLE)] if "table" in parameters else list(RETRYABLE)
        number = await error_tables.request_retry(database, tables, _study(parameters))
        return _json({"tables": [table.value for table in tables], "entries": number}, 202)

    async def rebuild(request: Request) -> Response:
        from_sequence = _from_sequence(request.query_params)
        if not enabled:
            raise Conflict("DICOM Cast is switched off here (DicomCast:Enabled, --no-cast): nobody would do it.")
        try:
            operation_id = await rebuild_operation.start(database, from_sequence)
        except AlreadyRunning as error:
            raise RebuildRunning(error.operation_id, _operation_url(request, error.operation_id)) from error
        url = _operation_url(request, operation_id)
        return _json({"id": operation_id, "href": url}, 202, {"location": url})

    return [
        ProtectedRoute("/cast/status", status, methods=["GET"], name="cast status", audit_action="cast-status"),
        ProtectedRoute("/cast/errors", errors, methods=["GET"], name="cast errors", audit_action="cast-errors"),
        ProtectedRoute(
            "/cast/errors",
            empty,
            methods=["DELETE"],
            name="empty cast errors",
            audit_action="empty-cast-errors",
            data_action=DataAction.WRITE,
        ),
        ProtectedRoute(
            "/cast/retry",
            retry,
            methods=["POST"],
            name="cast retry",
            audit_action="cast-retry",
            data_action=DataAction.WRITE,
        ),
        ProtectedRoute(
            "/cast/rebuild",
            rebuild,
            methods=["POST"],
            name="cast rebuild",
            audit_action="cast-rebuild",
            data_action=DataAction.WRITE,
        ),
    ]


class RebuildRunning(Conflict):
    """One rebuild at a time."""

    def __init__(self, operation_id: str, url: str) -> None:
        super().__init__(f"There is already an active rebuild with ID '{operation_id}'. Wait until it has ended.")
        self._url = url

    @property
    def headers(self) -> Mapping[str, str]:
        """Where to look how far it is."""
        return {"Location": self._url}


def rebuild_kind() -> Kind:
    """How rebuilds are shown."""
    return Kind(rebuild_operation.KIND, DataAction.WRITE, results=lambda operation: operation.results or {})


def _operation_url(request: Request, operation_id: str) -> str:
    return f"{server_root(request)}/v2/operations/{operation_id}"


def _from_sequence(parameters: Mapping[str, str]) -> int:
    text = parameters.get("fromSequence", "0")
    if re.fullmatch(r"[0-9]{1,18}", text) is None:
        raise BadRequest("The query parameter 'fromSequence' is invalid. It must be the sequence of a feed entry.")
    return int(text)


def _error(row: StoredError) -> dict[str, Any]:
    content: dict[str, Any] = {
        "partitionKey": row.partition_key,
        "rowKey": row.row_key,
        "timestamp": date(row.timestamp),
        "studyUid": row.study_uid,
        "seriesUid": row.series_uid,
        "instanceUid": row.instance_uid,
        "changeFeedSequence": row.sequence,
        "exception": row.exception,
    }
    if row.retry_number is not None:
        content["retryNumber"] = row.retry_number
    return content


def _table(parameters: Mapping[str, str], known: Mapping[str, Table]) -> Table:
    table = known.get(parameters.get("table", ""))
    if table is None:
        raise BadRequest(f"The query parameter 'table' is invalid. It must be one of {', '.join(known)}.")
    return table


def _study(parameters: Mapping[str, str]) -> str:
    """The Study Instance UID that is asked for; empty for all."""
    text = parameters.get("study")
    if text is None:
        return ""
    if _UID.fullmatch(text) is None:
        raise BadRequest("The query parameter 'study' is invalid. It must be a Study Instance UID.")
    return text


def _since(parameters: Mapping[str, str]) -> int | None:
    """Microseconds since 1970 UTC."""
    text = parameters.get("since")
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * _MICROSECONDS)
    except (ValueError, OverflowError) as error:
        raise BadRequest(
            "The query parameter 'since' is invalid. It must be a date, or a time such as 2024-02-29T16:00:00Z."
        ) from error


def _limit(parameters: Mapping[str, str]) -> int:
    text = parameters.get("limit", str(DEFAULT_LIMIT))
    if re.fullmatch(r"[0-9]{1,4}", text) is None or not 1 <= int(text) <= MAX_LIMIT:
        raise BadRequest(f"The query parameter 'limit' is invalid. It must be an integer from 1 to {MAX_LIMIT}.")
    return int(text)


def _json(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(content), status_code=status, media_type="application/json", headers=dict(headers or {})
    )

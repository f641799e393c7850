"""GET /cast/status and /cast/errors: what DICOM Cast does, and what it could not do (dicom-cast.md §5.1)."""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hounsfield.cast.failure import Table
from hounsfield.cast.state import Activity, Attempt, CastState, InvalidToken, LastError, Status, StoredError
from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest
from hounsfield.web.access import ProtectedRoute
from hounsfield.web.dependencies import STARTING_SECONDS
from hounsfield.web.health import Check, Health

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
STOPPED = "stopped"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TABLES = {table.value: table for table in Table}

Latest = Callable[[], Awaitable[int]]
"""Sequence of the newest change feed entry; 0 while there is none."""


def cast_routes(database: Database, latest: Latest, *, enabled: bool) -> list[Route]:
    """The two routes, without a version."""
    state = CastState(database)

    async def status(request: Request) -> Response:
        return _json(_status(await state.status(), await latest(), enabled=enabled))

    async def errors(request: Request) -> Response:
        table = _table(request.query_params)
        limit = _limit(request.query_params)
        token = request.query_params.get("continuationToken") or None
        try:
            rows, following = await state.errors(table, limit, token)
        except InvalidToken as error:
            raise BadRequest(
                "The query parameter 'continuationToken' is invalid. It must come from an earlier answer."
            ) from error
        return _json(
            {"table": table.value, "entries": [_error(row) for row in rows], "continuationToken": following},
        )

    return [
        ProtectedRoute("/cast/status", status, methods=["GET"], name="cast status", audit_action="cast-status"),
        ProtectedRoute("/cast/errors", errors, methods=["GET"], name="cast errors", audit_action="cast-errors"),
    ]


def cast_check(database: Database, latest: Latest, *, enabled: bool) -> Check:
    """The ``DicomCast`` entry of the health check: at worst ``Degraded``, as DICOM goes on without FHIR (§7.3)."""
    state = CastState(database)
    begun = time.monotonic()

    async def check() -> Health:
        found = _status(await state.status(), await latest(), enabled=enabled)
        data = {"state": found["state"], "lag": found["lag"]}
        if not enabled:
            return Health("Healthy", "Casting is switched off.", data)
        if found["state"] in ("idle", "running"):
            return Health("Healthy", "The FHIR server is kept up to date.", data)
        if found["state"] == STOPPED and time.monotonic() - begun < STARTING_SECONDS:
            return Health("Healthy", "DICOM Cast is starting.", data)
        return Health("Degraded", "The FHIR server is not being kept up to date; see /cast/status.", data)

    return check


def _status(status: Status, latest: int, *, enabled: bool) -> dict[str, Any]:
    said = status.activity or Activity(STOPPED, "", "")
    is_alive = enabled and status.is_alive
    return {
        "enabled": enabled,
        "state": said.state if is_alive else STOPPED,
        "fhirEndpoint": said.fhir_endpoint or None,
        "dicomWebEndpoint": said.dicom_web_endpoint or None,
        "syncedSequence": status.synced_sequence,
        "latestSequence": latest,
        "lag": max(latest - status.synced_sequence, 0),
        "syncedDate": _date(status.synced_date),
        "current": _current(said.current) if is_alive else None,
        "lastError": _last_error(said.last_error),
        "errorCounts": {table.value: count for table, count in status.error_counts.items()},
    }


def _current(attempt: Attempt | None) -> dict[str, Any] | None:
    if attempt is None:
        return None
    return {
        "sequence": attempt.sequence,
        "studyInstanceUid": attempt.study_uid,
        "seriesInstanceUid": attempt.series_uid,
        "sopInstanceUid": attempt.sop_uid,
        "attempt": attempt.number,
        "nextAttemptDate": _date(attempt.next_date),
    }


def _last_error(error: LastError | None) -> dict[str, Any] | None:
    return None if error is None else {"type": error.type, "message": error.message, "date": _date(error.date)}


def _error(row: StoredError) -> dict[str, Any]:
    content: dict[str, Any] = {
        "partitionKey": row.partition_key,
        "rowKey": row.row_key,
        "timestamp": _date(row.timestamp),
        "studyUid": row.study_uid,
        "seriesUid": row.series_uid,
        "instanceUid": row.instance_uid,
        "changeFeedSequence": row.sequence,
        "exception": row.exception,
    }
    if row.retry_number is not None:
        content["retryNumber"] = row.retry_number
    return content


def _table(parameters: Mapping[str, str]) -> Table:
    table = _TABLES.get(parameters.get("table", ""))
    if table is None:
        raise BadRequest(f"The query parameter 'table' is invalid. It must be one of {', '.join(_TABLES)}.")
    return table


def _limit(parameters: Mapping[str, str]) -> int:
    text = parameters.get("limit", str(DEFAULT_LIMIT))
    if re.fullmatch(r"[0-9]{1,4}", text) is None or not 1 <= int(text) <= MAX_LIMIT:
        raise BadRequest(f"The query parameter 'limit' is invalid. It must be an integer from 1 to {MAX_LIMIT}.")
    return int(text)


def _date(microseconds: int | None) -> str | None:
    """RFC 3339, UTC."""
    if microseconds is None:
        return None
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")

"""What DICOM Cast is doing, as /cast/status, /metrics and the health check tell it (dicom-cast.md §5.1)."""

import time
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from hounsfield.cast.advice import advice
from hounsfield.cast.state import Activity, Attempt, CastState, LastError, Status
from hounsfield.database.engine import Database
from hounsfield.index import feed
from hounsfield.web.dependencies import STARTING_SECONDS
from hounsfield.web.health import Check, Health
from hounsfield.worklist import changes

STOPPED = "stopped"
STATES = ("idle", "running", "retrying", "faulted", STOPPED)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Latest = Callable[[], Awaitable[int]]
"""Sequence of the newest change feed entry; 0 while there is none."""


class CastReport:
    """Reads the status. ``has_table_store``: error rows are copied to Azure tables.

    ``workitem_partitions``: where workitems are cast, None where they are not.
    """

    def __init__(
        self,
        database: Database,
        latest: Latest,
        *,
        enabled: bool,
        has_table_store: bool = False,
        workitem_partitions: Collection[str] | None = None,
    ) -> None:
        self._database = database
        self._state = CastState(database, has_table_store=has_table_store)
        self._latest = latest
        self._enabled = enabled
        self._has_table_store = has_table_store
        self._workitem_partitions = workitem_partitions

    async def content(self) -> dict[str, Any]:
        """The fields of ``GET /cast/status``."""
        found = await self._state.status()
        latest = await self._latest()
        lag = max(latest - found.synced_sequence, 0)
        said = found.activity or Activity(STOPPED, "", "")
        is_alive = self._enabled and found.is_alive
        return {
            "enabled": self._enabled,
            "state": said.state if is_alive else STOPPED,
            "fhirEndpoint": said.fhir_endpoint or None,
            "dicomWebEndpoint": said.dicom_web_endpoint or None,
            "syncedSequence": found.synced_sequence,
            "latestSequence": latest,
            "lag": lag,
            "lagSeconds": await self._lag_seconds(found.synced_sequence) if lag else 0.0,
            "rate": round(said.rate, 3) if is_alive else 0.0,
            "syncedDate": date(found.synced_date),
            "current": _current(said.current) if is_alive else None,
            "lastError": _last_error(said.last_error),
            "errorCounts": {table.value: count for table, count in found.error_counts.items()},
            "failures": {reason.value: count for reason, count in found.standstills.items()},
            "retries": [
                {"table": each.table.value, "studyUid": each.study_uid or None, "date": date(each.created)}
                for each in found.retries
            ],
            "tableStore": self._table_store(found, said),
            "workitems": await self._workitems(said),
        }

    async def _lag_seconds(self, position: int) -> float | None:
        """How long the oldest entry that is not dealt with has been there; None where the feed is elsewhere."""
        begun = await feed.waiting_since(self._database, position)
        return None if begun is None else round(max(time.time() - begun / 1_000_000, 0.0), 3)

    def _table_store(self, found: Status, said: Activity) -> dict[str, Any] | None:
        if not self._has_table_store:
            return None
        return {"waiting": found.uncopied, "lastError": _last_error(said.table_store_error)}

    async def _workitems(self, said: Activity) -> dict[str, Any] | None:
        if self._workitem_partitions is None:
            return None
        lag, since = await changes.backlog(self._database, self._workitem_partitions)
        seconds = 0.0 if since is None else round(max(time.time() - since / 1_000_000, 0.0), 3)
        return {"lag": lag, "lagSeconds": seconds, "lastError": _last_error(said.workitem_error)}


def cast_check(database: Database, latest: Latest, *, enabled: bool) -> Check:
    """The ``DicomCast`` entry of the health check: at worst ``Degraded``, as DICOM goes on without FHIR (§7.3)."""
    report = CastReport(database, latest, enabled=enabled)
    begun = time.monotonic()

    async def check() -> Health:
        found = await report.content()
        data = {"state": found["state"], "lag": found["lag"]}
        if not enabled:
            return Health("Healthy", "Casting is switched off.", data)
        if found["state"] in ("idle", "running"):
            return Health("Healthy", "The FHIR server is kept up to date.", data)
        if found["state"] == STOPPED and time.monotonic() - begun < STARTING_SECONDS:
            return Health("Healthy", "DICOM Cast is starting.", data)
        return Health("Degraded", "The FHIR server is not being kept up to date; see /cast/status.", data)

    return check


def _current(attempt: Attempt | None) -> dict[str, Any] | None:
    if attempt is None:
        return None
    return {
        "sequence": attempt.sequence,
        "studyInstanceUid": attempt.study_uid,
        "seriesInstanceUid": attempt.series_uid,
        "sopInstanceUid": attempt.sop_uid,
        "attempt": attempt.number,
        "nextAttemptDate": date(attempt.next_date),
    }


def _last_error(error: LastError | None) -> dict[str, Any] | None:
    """With what to do about it."""
    if error is None:
        return None
    return {
        "type": error.type,
        "message": error.message,
        "advice": advice(error.type),
        "date": date(error.date),
    }


def date(microseconds: int | None) -> str | None:
    """RFC 3339, UTC."""
    if microseconds is None:
        return None
    return (_EPOCH + timedelta(microseconds=microseconds)).isoformat(timespec="microseconds").replace("+00:00", "Z")

"""GET /metrics: figures for Prometheus (server.md §12; the other figures are our own).

All of them are read from the index database when asked for, so every process of a server, and every server on one
database, gives the same answer. None names a patient or an instance.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from hounsfield.database.engine import Database
from hounsfield.index import deleted_files, feed, statistics
from hounsfield.index.deleted_files import Backlog
from hounsfield.index.statistics import Statistics
from hounsfield.operations import records
from hounsfield.web.access import ProtectedRoute
from hounsfield.web.cast_status import STATES, CastReport

if TYPE_CHECKING:
    from prometheus_client import Metric

T = TypeVar("T")

CACHE_SECONDS = 1.0
"""How long figures are good for, so that asking is cheap."""
COUNT_SECONDS = 60.0
"""The same for what is counted over all instances."""
SHARE = 100
"""Nor is anything read again before so many times as long as reading it took: at most 1 % of the time is spent here,
however large the archive."""

Labelled = tuple[str, Mapping[str, float]]
"""The name of a label, and a value for each of the label's values."""
Figure = tuple[str, str, float | Labelled]
"""Name, explanation, value. Names that end with ``_total`` are counters, all others gauges."""


def metrics_route(database: Database, max_retries: int, cast: CastReport) -> ProtectedRoute:
    """The route, without a version. ``max_retries`` is that of the cleanup."""
    held = _Cached(lambda: statistics.count(database), COUNT_SECONDS)
    waiting = _Cached(lambda: deleted_files.backlog(database, max_retries), CACHE_SECONDS)
    newest = _Cached(lambda: feed.latest_sequence(database), CACHE_SECONDS)
    operations = _Cached(lambda: records.counts(database), CACHE_SECONDS)
    casting = _Cached(cast.content, CACHE_SECONDS)

    async def handle(request: Request) -> Response:
        figures: list[Figure] = [
            *_of_archive(await held.get()),
            *_of_cleanup(await waiting.get(), time.time()),
            ("change_feed_sequence", "Sequence of the newest change feed entry.", await newest.get()),
            ("operations", "Long-running operations on record, by status.", ("status", await operations.get())),
            *_of_cast(await casting.get()),
        ]
        return _exposition(figures)

    return ProtectedRoute("/metrics", handle, methods=["GET"], name="metrics", audit_action="metrics")


def cast_metrics_route(cast: CastReport) -> ProtectedRoute:
    """The route of a DICOM Cast that runs alone: the figures that are its own."""
    casting = _Cached(cast.content, CACHE_SECONDS)

    async def handle(request: Request) -> Response:
        return _exposition(_of_cast(await casting.get()))

    return ProtectedRoute("/metrics", handle, methods=["GET"], name="metrics", audit_action="metrics")


class _Cached(Generic[T]):
    """A value that is read anew once it is old."""

    def __init__(self, read: Callable[[], Awaitable[T]], seconds: float) -> None:
        self._read = read
        self._seconds = seconds
        self._until = float("-inf")
        self._values: list[T] = []
        self._lock = asyncio.Lock()

    async def get(self) -> T:
        async with self._lock:
            began = time.monotonic()
            if began >= self._until:
                self._values = [await self._read()]
                ended = time.monotonic()
                self._until = ended + max(self._seconds, SHARE * (ended - began))
            return self._values[0]


def _of_archive(held: Statistics) -> list[Figure]:
    return [
        ("studies", "Studies in the archive.", held.studies),
        ("series", "Series in the archive.", held.series),
        ("instances", "Instances in the archive.", held.instances),
        ("stored_bytes", "Bytes of the files of all instances.", held.bytes),
        ("received_bytes", "Bytes these files had when they were received.", held.received_bytes),
        ("original_bytes", "Bytes of files kept beside recompressed and updated ones.", held.original_bytes),
        ("recompressed_instances", "Instances whose file was recompressed.", held.recompressed),
        ("updated_instances", "Instances that a bulk update changed.", held.updated),
    ]


def _of_cleanup(waiting: Backlog, now: float) -> list[Figure]:
    age = 0.0 if waiting.oldest is None else max(0.0, now - waiting.oldest / 1_000_000)
    return [
        ("pending_deletions", "Files of deleted instances that are not removed yet.", waiting.pending),
        ("pending_deletion_oldest_age_seconds", "Seconds since the oldest of them was deleted; 0 without any.", age),
        (
            "exhausted_deletions",
            "Files of deleted instances whose removal failed too often to be tried again.",
            waiting.exhausted,
        ),
    ]


def _of_cast(found: Mapping[str, Any]) -> list[Figure]:
    figures: list[Figure] = [
        ("cast_synced_sequence", "Sequence up to which the feed has been cast to FHIR.", found["syncedSequence"]),
        ("cast_lag_entries", "Change feed entries that are not dealt with.", found["lag"]),
        ("cast_entries_per_second", "Entries dealt with per second, over the last minute.", found["rate"]),
        (
            "cast_state",
            "1 for what DICOM Cast is doing, 0 for what it is not.",
            ("state", {state: float(state == found["state"]) for state in STATES}),
        ),
        ("cast_errors", "Rows of the error tables of DICOM Cast.", ("table", found["errorCounts"])),
        (
            "cast_failures_total",
            "How often DICOM Cast came to a standstill, by the names of the reference's counters.",
            ("reason", found["failures"]),
        ),
        ("cast_retries", "Requests to try failed entries again that are not worked off.", len(found["retries"])),
    ]
    if found["lagSeconds"] is not None:
        figures.append(
            ("cast_lag_seconds", "How long the oldest entry not dealt with has waited.", found["lagSeconds"])
        )
    if found["tableStore"] is not None:
        waiting = found["tableStore"]["waiting"]
        figures.append(("cast_table_store_waiting", "Error rows that are not in the Azure tables yet.", waiting))
    if found["workitems"] is not None:
        lag, seconds = found["workitems"]["lag"], found["workitems"]["lagSeconds"]
        figures += [
            ("cast_workitem_lag", "Workitems whose last change is not dealt with.", lag),
            ("cast_workitem_lag_seconds", "How long the oldest of them has waited; 0 without any.", seconds),
        ]
    return figures


def _exposition(figures: Sequence[Figure]) -> Response:
    # Late: it costs 0.2 s to load, which only those pay who ask.
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
    from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

    class Gauges:
        def collect(self) -> "Iterable[Metric]":
            return [_metric(name, text, value) for name, text, value in figures]

    def _metric(name: str, text: str, value: float | Labelled) -> "Metric":
        kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
        if not isinstance(value, tuple):
            return kind(f"hounsfield_{name}", text, value=value)
        label, values = value
        family = kind(f"hounsfield_{name}", text, labels=[label])
        for each, number in values.items():
            family.add_metric([each], number)
        return family

    return Response(generate_latest(Gauges()), media_type=CONTENT_TYPE_PLAIN_0_0_4)

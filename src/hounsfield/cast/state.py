"""What cast remembers: its position, error rows, and what the worker is doing, for other processes to read (§5)."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hounsfield.cast import error_tables
from hounsfield.cast.error_tables import Choice, ErrorRow, RetryRequest, StoredError, now
from hounsfield.cast.failure import Standstill, Table
from hounsfield.cast.study_values import InstanceValues
from hounsfield.database.engine import Database, Row, Transaction
from hounsfield.worklist import changes

STALE_SECONDS = 20.0
"""A worker that has not said anything for so long is gone; it speaks every few seconds, whatever it waits for."""
_COUNT_UNCOPIED = "SELECT count(*) FROM cast_error WHERE copied = 0 UNION ALL SELECT count(*) FROM cast_error_removed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """The entry being worked on. ``next_date`` (microseconds) is set while it waits to be tried again."""

    sequence: int
    study_uid: str
    series_uid: str
    sop_uid: str
    number: int = 1
    next_date: int | None = None


@dataclass(frozen=True, slots=True)
class LastError:
    """The newest failure, without tag values."""

    type: str
    message: str
    date: int


@dataclass(frozen=True, slots=True)
class Activity:
    """What a worker is doing: state, endpoints, current entry, newest failure.

    ``rate`` is how many entries a second it has dealt with lately, ``table_store_error`` why rows cannot be copied to
    the Azure tables, ``workitem_error`` why workitems cannot be cast.
    """

    state: str
    fhir_endpoint: str
    dicom_web_endpoint: str
    current: Attempt | None = None
    last_error: LastError | None = None
    rate: float = 0.0
    table_store_error: LastError | None = None
    workitem_error: LastError | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run leaves behind besides FHIR: error rows and known study values, with those there were before.

    ``tried_again`` are entries that were skipped once and had another try, for ``request``. ``has_study``: FHIR holds
    the study ``study_uid``, where that is given.
    """

    errors: Sequence[ErrorRow] = ()
    study_uid: str = ""
    updated: Mapping[str, InstanceValues] = field(default_factory=dict)
    updated_before: Mapping[str, InstanceValues] = field(default_factory=dict)
    tried_again: Sequence[int] = ()
    request: RetryRequest | None = None
    has_study: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """Every entry up to ``position`` is dealt with, and of those after it the ``finished`` ones."""

    position: int = 0
    finished: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Status:
    """All of it in one snapshot; ``activity`` is None if no worker ever ran."""

    activity: Activity | None
    is_alive: bool
    synced_sequence: int
    synced_date: int | None
    error_counts: dict[Table, int]
    standstills: dict[Standstill, int]
    """How often each has begun since the database was made."""
    retries: list[RetryRequest]
    uncopied: int
    """Rows, and removals of rows, that have not reached the Azure tables; 0 without these."""


class CastState:
    """The tables of cast in one database. Every method raises StoreUnavailable.

    ``has_table_store``: error rows are copied to Azure tables, so what is removed here has to be removed there.
    """

    def __init__(self, database: Database, *, has_table_store: bool = False) -> None:
        self._database = database
        self._has_table_store = has_table_store

    async def progress(self) -> Progress:
        """What is dealt with; position 0 only if nothing was ever saved (D15)."""
        row = await self._database.fetch_one(
            "SELECT synced_sequence, finished FROM cast_state WHERE id = 1", quick=True
        )
        return Progress() if row is None else Progress(int(row[0]), _expand(row[1]))

    async def position(self) -> int:
        """Sequence up to which every entry is dealt with."""
        return (await self.progress()).position

    async def updated_instances(self, study_uid: str) -> dict[str, InstanceValues]:
        """What is known of the study values of a study's instances, by SOP Instance UID; usually nothing."""
        rows = await self._database.fetch(
            "SELECT sop_uid, accession_number, study_description FROM cast_updated_instance WHERE study_uid = ?",
            study_uid,
            quick=True,
        )
        return {sop_uid: InstanceValues(accession, description) for sop_uid, accession, description in rows}

    async def save(self, progress: Progress, outcomes: Sequence[Outcome], activity: Activity) -> None:
        """Record finished runs, how far the feed is dealt with, and what comes next, in one transaction."""
        moment = now()

        async def unit(tx: Transaction) -> None:
            for outcome in outcomes:
                await error_tables.remove_tried_again(tx, outcome.tried_again, copied_elsewhere=self._has_table_store)
                # Another machine's clock may be ahead; a row that is filed anew must not look like one to be tried.
                date = moment if outcome.request is None else max(moment, outcome.request.created + 1)
                for error in outcome.errors:
                    await error_tables.insert(tx, error, date)
                await _save_updated(tx, outcome)
            await tx.execute(
                "INSERT INTO cast_state (id, synced_sequence, synced_date, finished) VALUES (1, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET synced_sequence = excluded.synced_sequence, "
                "finished = excluded.finished, "
                "synced_date = CASE WHEN cast_state.synced_sequence < excluded.synced_sequence "
                "THEN excluded.synced_date ELSE cast_state.synced_date END "
                "WHERE cast_state.synced_sequence <= excluded.synced_sequence",
                progress.position,
                moment,
                _ranges(progress.finished),
            )
            await _save_activity(tx, activity, moment)

        await self._database.write(unit)

    async def rebuilt(self, tx: Transaction, outcome: Outcome) -> None:
        """Record what a study was found to need beside the passes: rows, rows that are settled, its known values."""
        await error_tables.remove_tried_again(tx, outcome.tried_again, copied_elsewhere=self._has_table_store)
        for error in outcome.errors:
            await error_tables.insert(tx, error, now())
        await _save_updated(tx, outcome)

    async def is_linked(self, study_uid: str) -> bool:
        """Whether the Task of a workitem leads to a study."""
        return await changes.is_linked(self._database, study_uid)

    async def filed(self, errors: Sequence[ErrorRow]) -> None:
        """Record rows beside the feed."""
        moment = now()

        async def unit(tx: Transaction) -> None:
            for error in errors:
                await error_tables.insert(tx, error, moment)

        await self._database.write(unit)

    async def settled(self, tx: Transaction, workitem_id: int, errors: Sequence[ErrorRow]) -> None:
        """Put ``errors`` in place of the rows that say why a workitem was skipped."""
        await error_tables.remove_workitem(tx, workitem_id, copied_elsewhere=self._has_table_store)
        for error in errors:
            await error_tables.insert(tx, error, now())

    async def retrying(self, error: ErrorRow, activity: Activity) -> None:
        """Record that an entry will be tried again."""
        moment = now()

        async def unit(tx: Transaction) -> None:
            await error_tables.insert(tx, error, moment)
            await _save_activity(tx, activity, moment)

        await self._database.write(unit)

    async def report(self, activity: Activity, reason: Standstill | None = None) -> None:
        """Say what the worker is doing, and that it lives; count the ``reason`` of a standstill that begins."""
        moment = now()

        async def unit(tx: Transaction) -> None:
            await _save_activity(tx, activity, moment)
            if reason is not None:
                await tx.execute(
                    "INSERT INTO cast_failure (reason, number) VALUES (?, 1) "
                    "ON CONFLICT (reason) DO UPDATE SET number = cast_failure.number + 1",
                    reason.value,
                )

        await self._database.write(unit)

    async def status(self) -> Status:
        """What other processes may know."""

        async def unit(tx: Transaction) -> tuple[Row | None, Row | None, list[Row], list[Row], list[Row], list[Row]]:
            return (
                await tx.fetch_one(
                    "SELECT state, fhir_endpoint, dicom_web_endpoint, current_entry, last_error, heartbeat, rate, "
                    "table_store_error, workitem_error FROM cast_status WHERE id = 1"
                ),
                await tx.fetch_one("SELECT synced_sequence, synced_date FROM cast_state WHERE id = 1"),
                await tx.fetch("SELECT table_name, count(*) FROM cast_error GROUP BY table_name"),
                await tx.fetch("SELECT reason, number FROM cast_failure"),
                await tx.fetch("SELECT table_name, study_uid, created FROM cast_retry ORDER BY created LIMIT 100"),
                await tx.fetch(_COUNT_UNCOPIED) if self._has_table_store else [],
            )

        said, synced, counts, standstills, retries, uncopied = await self._database.read(unit)
        activity = None
        if said is not None:
            current = msgspec.json.decode(said[3], type=Attempt) if said[3] else None
            errors = [msgspec.json.decode(text, type=LastError) if text else None for text in (said[4], *said[7:])]
            activity = Activity(said[0], said[1], said[2], current, errors[0], said[6], *errors[1:])
        return Status(
            activity=activity,
            is_alive=said is not None and said[5] >= now() - STALE_SECONDS * 1_000_000,
            synced_sequence=0 if synced is None else synced[0],
            synced_date=None if synced is None else synced[1],
            error_counts=dict.fromkeys(Table, 0) | {Table(name): int(count) for name, count in counts},
            standstills=dict.fromkeys(Standstill, 0) | {Standstill(name): int(number) for name, number in standstills},
            retries=[RetryRequest(Table(name), study_uid, created) for name, study_uid, created in retries],
            uncopied=sum(int(row[0]) for row in uncopied),
        )

    async def errors(
        self, table: Table, limit: int, token: str | None, choice: Choice | None = None
    ) -> tuple[list[StoredError], str | None]:
        """A page of a table; see :func:`~hounsfield.cast.error_tables.page`."""
        return await error_tables.page(self._database, table, limit, token, choice or Choice())


async def _save_updated(tx: Transaction, outcome: Outcome) -> None:
    if outcome.study_uid:
        await (changes.study_is_there if outcome.has_study else changes.study_is_gone)(tx, outcome.study_uid)
    for sop_uid, values in outcome.updated.items():
        if outcome.updated_before.get(sop_uid) != values:
            await tx.execute(
                "INSERT INTO cast_updated_instance (study_uid, sop_uid, accession_number, study_description) "
                "VALUES (?, ?, ?, ?) ON CONFLICT (study_uid, sop_uid) DO UPDATE SET "
                "accession_number = excluded.accession_number, study_description = excluded.study_description",
                outcome.study_uid,
                sop_uid,
                values.accession_number,
                values.description,
            )
    for sop_uid in outcome.updated_before.keys() - outcome.updated.keys():
        await tx.execute(
            "DELETE FROM cast_updated_instance WHERE study_uid = ? AND sop_uid = ?", outcome.study_uid, sop_uid
        )


async def _save_activity(tx: Transaction, activity: Activity, moment: int) -> None:
    await tx.execute(
        "INSERT INTO cast_status (id, state, fhir_endpoint, dicom_web_endpoint, current_entry, last_error, heartbeat, "
        "rate, table_store_error, workitem_error) VALUES (1, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "state = excluded.state, fhir_endpoint = excluded.fhir_endpoint, "
        "dicom_web_endpoint = excluded.dicom_web_endpoint, current_entry = excluded.current_entry, "
        "last_error = excluded.last_error, heartbeat = excluded.heartbeat, rate = excluded.rate, "
        "table_store_error = excluded.table_store_error, workitem_error = excluded.workitem_error",
        activity.state,
        activity.fhir_endpoint,
        activity.dicom_web_endpoint,
        _text(activity.current),
        _text(activity.last_error),
        moment,
        activity.rate,
        _text(activity.table_store_error),
        _text(activity.workitem_error),
    )


def _ranges(sequences: Collection[int]) -> str:
    """Numbers as JSON ``[[first, last], …]``; mostly a few long ranges."""
    ranges: list[list[int]] = []
    for sequence in sorted(sequences):
        if ranges and ranges[-1][1] == sequence - 1:
            ranges[-1][1] = sequence
        else:
            ranges.append([sequence, sequence])
    return msgspec.json.encode(ranges).decode()


def _expand(ranges: str) -> frozenset[int]:
    found: list[tuple[int, int]] = msgspec.json.decode(ranges, type=list[tuple[int, int]])
    return frozenset(sequence for first, last in found for sequence in range(first, last + 1))


def _text(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()

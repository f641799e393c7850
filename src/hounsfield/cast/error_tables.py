"""The five error tables in our own database (dicom-cast.md §5): rows in, pages out, and requests to try rows again.

Units of work of ``state`` call the functions that take a transaction; the others are asked by the routes.
"""

import base64
import binascii
import time
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import msgspec

from hounsfield.cast.failure import Table, exception_text
from hounsfield.database.engine import Database, Transaction, Value
from hounsfield.worklist import changes

RETRYABLE = (Table.FHIR_FAIL, Table.DICOM_FAIL, Table.TRANSIENT_FAILURE)
"""The tables of entries that were skipped. What is in the other two is in FHIR, or still being tried."""
REMOVED_AT_ONCE = 1000
MAX_NUMBER = 2**63 - 1


def now() -> int:
    """Microseconds since 1970 UTC."""
    return time.time_ns() // 1000


class InvalidToken(ValueError):
    """A continuation token that was not made here."""


class Entry(Protocol):
    """A change feed entry, as far as a row names it."""

    @property
    def sequence(self) -> int: ...

    @property
    def study_uid(self) -> str: ...

    @property
    def series_uid(self) -> str: ...

    @property
    def sop_uid(self) -> str: ...


@dataclass(frozen=True, slots=True)
class WorkitemKey:
    """What a row of a workitem is about: its UID takes the place of the instance's, and it is in no change feed."""

    workitem_id: int
    sop_uid: str
    study_uid: str
    series_uid: str = ""
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """A row for an error table. ``once`` makes it the same row when a crash lets it be written again."""

    table: Table
    step: Entry
    name: str
    message: str
    retry_number: int | None = None
    once: str | None = None


@dataclass(frozen=True, slots=True)
class StoredError:
    """A row as it is in its table. ``timestamp`` in microseconds since 1970 UTC."""

    partition_key: str
    row_key: str
    timestamp: int
    study_uid: str
    series_uid: str
    instance_uid: str
    sequence: int
    exception: str
    retry_number: int | None


COLUMNS = "partition_key, row_key, timestamp, study_uid, series_uid, instance_uid, sequence, exception, retry_number"
"""Those of a StoredError, in its order."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows of a table are asked for: of one study, and filed at ``since`` (microseconds) or later."""

    study_uid: str | None = None
    since: int | None = None


@dataclass(frozen=True, slots=True)
class RetryRequest:
    """Try again what was in ``table`` at ``created``; an empty ``study_uid`` means all studies."""

    table: Table
    study_uid: str
    created: int


async def insert(tx: Transaction, error: ErrorRow, moment: int) -> None:
    """File a row, unless it is the same as one that is there (``once``)."""
    await tx.execute(
        "INSERT INTO cast_error (row_key, table_name, partition_key, timestamp, study_uid, series_uid, instance_uid, "
        "sequence, exception, retry_number, once, workitem_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (table_name, once) DO NOTHING",
        str(uuid.uuid4()),
        error.table.value,
        error.name,
        moment,
        error.step.study_uid,
        error.step.series_uid,
        error.step.sop_uid,
        error.step.sequence,
        exception_text(error.name, error.message),
        error.retry_number,
        error.once,
        error.step.workitem_id if isinstance(error.step, WorkitemKey) else None,
    )


async def remove_tried_again(tx: Transaction, sequences: Collection[int], *, copied_elsewhere: bool) -> None:
    """Take the rows of skipped entries out; what they are now, if anything, is filed anew.

    ``copied_elsewhere``: there is a table store, from which they have to go as well.
    """
    tables = [table.value for table in RETRYABLE]
    marks = ", ".join("?" * len(tables))
    for sequence in sequences:
        await _remove(tx, f"table_name IN ({marks}) AND sequence = ?", [*tables, sequence], copied_elsewhere)


async def remove_workitem(tx: Transaction, workitem_id: int, *, copied_elsewhere: bool) -> None:
    """Take the rows of a workitem out that was skipped; what it is now, if anything, is filed anew."""
    marks = ", ".join("?" * len(RETRYABLE))
    values: list[Value] = [workitem_id, *(table.value for table in RETRYABLE)]
    await _remove(tx, f"workitem_id = ? AND table_name IN ({marks})", values, copied_elsewhere)


async def empty(database: Database, table: Table, *, copied_elsewhere: bool) -> None:
    """Remove every row that a table has now, some at a time: SQLite has one writer, and stores must not wait."""
    which = (
        "row_key IN (SELECT row_key FROM cast_error WHERE table_name = ? AND timestamp <= ? ORDER BY sequence LIMIT ?)"
    )
    values: list[Value] = [table.value, now(), REMOVED_AT_ONCE]

    async def unit(tx: Transaction) -> int:
        return await _remove(tx, which, values, copied_elsewhere)

    while await database.write(unit):
        pass


async def _remove(tx: Transaction, which: str, values: list[Value], copied_elsewhere: bool) -> int:
    if copied_elsewhere:
        await tx.execute(
            "INSERT INTO cast_error_removed (row_key, table_name, partition_key) "
            f"SELECT row_key, table_name, partition_key FROM cast_error WHERE {which}",
            *values,
        )
    return await tx.execute(f"DELETE FROM cast_error WHERE {which}", *values)


async def page(
    database: Database, table: Table, limit: int, token: str | None, choice: Choice
) -> tuple[list[StoredError], str | None]:
    """A page of a table, highest sequence first, then newest; and the token of the next page, None at the end.

    Raises InvalidToken for a token that is none of ours.
    """
    values: list[Value] = [table.value]
    conditions = "table_name = ?"
    if choice.study_uid is not None:
        conditions += " AND study_uid = ?"
        values.append(choice.study_uid)
    if choice.since is not None:
        conditions += " AND timestamp >= ?"
        values.append(choice.since)
    if token is not None:
        conditions += " AND (sequence, timestamp, row_key) < (?, ?, ?)"
        values += _parse_token(token)
    rows = await database.fetch(
        f"SELECT {COLUMNS} FROM cast_error WHERE {conditions} "
        "ORDER BY sequence DESC, timestamp DESC, row_key DESC LIMIT ?",
        *values,
        limit + 1,
    )
    found = [StoredError(*row) for row in rows[:limit]]
    return found, _token(found[-1]) if len(rows) > limit else None


async def skipped(database: Database, study_uid: str) -> set[int]:
    """Sequences of a study's entries that were skipped and are not in FHIR."""
    marks = ", ".join("?" * len(RETRYABLE))
    rows = await database.fetch(
        f"SELECT DISTINCT sequence FROM cast_error WHERE study_uid = ? AND table_name IN ({marks})",
        study_uid,
        *(table.value for table in RETRYABLE),
    )
    return {int(row[0]) for row in rows}


async def skipped_between(database: Database, after: int, through: int) -> set[int]:
    """Sequences ``after < s <= through`` of entries that were skipped and are not in FHIR."""
    marks = ", ".join("?" * len(RETRYABLE))
    rows = await database.fetch(
        f"SELECT DISTINCT sequence FROM cast_error WHERE table_name IN ({marks}) AND sequence > ? AND sequence <= ?",
        *(table.value for table in RETRYABLE),
        after,
        through,
    )
    return {int(row[0]) for row in rows}


async def request_retry(database: Database, tables: Collection[Table], study_uid: str) -> int:
    """Have the active worker try the rows of ``tables`` again (all studies for an empty UID); how many there are.

    Asking again while a request waits changes nothing but its date. Nothing is asked for where there are no rows.
    """
    moment = now()

    async def unit(tx: Transaction) -> int:
        total = 0
        for table in tables:
            of_study = " AND study_uid = ?" if study_uid else ""
            row = await tx.fetch_one(
                f"SELECT count(*) FROM cast_error WHERE table_name = ?{of_study}",
                table.value,
                *([study_uid] if study_uid else []),
            )
            number = 0 if row is None else int(row[0])
            if number:
                workitems = await tx.fetch(
                    f"SELECT workitem_id FROM cast_error WHERE table_name = ? AND workitem_id IS NOT NULL{of_study}",
                    table.value,
                    *([study_uid] if study_uid else []),
                )
                await changes.again(tx, [row[0] for row in workitems])
                await tx.execute(
                    "INSERT INTO cast_retry (table_name, study_uid, created) VALUES (?, ?, ?) "
                    "ON CONFLICT (table_name, study_uid) DO UPDATE SET created = excluded.created",
                    table.value,
                    study_uid,
                    moment,
                )
            total += number
        return total

    return await database.write(unit)


async def retry_requests(database: Database) -> list[RetryRequest]:
    """Those that are not worked off, oldest first."""
    rows = await database.fetch(
        "SELECT table_name, study_uid, created FROM cast_retry ORDER BY created, table_name, study_uid LIMIT 1000",
        quick=True,
    )
    return [RetryRequest(Table(name), study_uid, created) for name, study_uid, created in rows]


async def to_try_again(database: Database, request: RetryRequest, after: int, limit: int) -> list[int]:
    """Sequences beyond ``after``, lowest first, of the rows that a request is about."""
    of_study = " AND study_uid = ?" if request.study_uid else ""
    rows = await database.fetch(
        "SELECT DISTINCT sequence FROM cast_error WHERE table_name = ? AND sequence > ? AND timestamp <= ? "
        "AND workitem_id IS NULL"
        f"{of_study} ORDER BY sequence LIMIT ?",
        request.table.value,
        after,
        request.created,
        *([request.study_uid] if request.study_uid else []),
        limit,
    )
    return [int(row[0]) for row in rows]


async def end_request(database: Database, request: RetryRequest) -> None:
    """A request is worked off. One that was repeated meanwhile stays."""

    async def unit(tx: Transaction) -> None:
        await tx.execute(
            "DELETE FROM cast_retry WHERE table_name = ? AND study_uid = ? AND created = ?",
            request.table.value,
            request.study_uid,
            request.created,
        )

    await database.write(unit)


def _token(row: StoredError) -> str:
    parts = (row.sequence, row.timestamp, row.row_key)
    return base64.urlsafe_b64encode(msgspec.json.encode(parts)).decode()


def _parse_token(token: str) -> tuple[int, int, str]:
    try:
        sequence, moment, row_key = msgspec.json.decode(
            base64.urlsafe_b64decode(token), type=tuple[int, int, uuid.UUID]
        )
        if not (0 <= sequence <= MAX_NUMBER and 0 <= moment <= MAX_NUMBER):
            raise ValueError("out of range")
        return sequence, moment, str(row_key)
    except (ValueError, binascii.Error) as error:
        raise InvalidToken("The continuation token is not one of ours.") from error

"""Reading operations, and removing the records of those that ended long ago."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from hounsfield.database.engine import Database, Row, Transaction
from hounsfield.operations.job import Json, Operation, Status, merged

RETENTION = timedelta(days=30)
"""How long the record of a finished operation is kept; at least seven days (operations.md §1)."""
ABANDONED = timedelta(days=7)
"""An operation no worker knows how to do, and none has touched for so long, is ended: none may run for ever."""

_COLUMNS = "id, kind, status, created, updated, arguments, done, total, results, error, stop, secret"
_PARTS = "SELECT operation_id, done, total, results, updated FROM operation_part WHERE operation_id"


async def find(database: Database, operation_id: str) -> Operation | None:
    """The operation with that id (32 lower-case hex digits), or None."""

    async def unit(tx: Transaction) -> Operation | None:
        return await read(tx, operation_id)

    return await database.read(unit)


async def active(reader: Database | Transaction, kind: str) -> str | None:
    """The operation of this kind that is alone (engine.start) and has not ended, or None."""
    row = await reader.fetch_one("SELECT id FROM operation WHERE exclusion = ?", kind)
    return None if row is None else str(row[0])


async def page(database: Database, limit: int, offset: int) -> list[Operation]:
    """Operations, newest first."""

    async def unit(tx: Transaction) -> list[Operation]:
        rows = await tx.fetch(
            f"SELECT {_COLUMNS} FROM operation ORDER BY created DESC, id DESC LIMIT ? OFFSET ?", limit, offset
        )
        return await _with_parts(tx, rows)

    return await database.read(unit)


async def counts(database: Database) -> Mapping[str, int]:
    """How many operations there are in each status, none left out."""
    rows = await database.fetch("SELECT status, count(*) FROM operation GROUP BY status")
    found: dict[str, int] = dict(rows)
    return {status.value: found.get(status.value, 0) for status in Status}


async def read(tx: Transaction, operation_id: str) -> Operation | None:
    """The operation as a transaction sees it."""
    rows = await tx.fetch(f"SELECT {_COLUMNS} FROM operation WHERE id = ?", operation_id)
    found = await _with_parts(tx, rows)
    return found[0] if found else None


async def purge(database: Database, now: int) -> int:
    """Remove the records of operations that ended more than RETENTION before ``now``; returns how many."""

    async def unit(tx: Transaction) -> int:
        removed = 0
        for status in (Status.SUCCEEDED, Status.FAILED, Status.CANCELED):
            oldest = now - RETENTION // timedelta(microseconds=1)
            removed += await tx.execute("DELETE FROM operation WHERE status = ? AND updated < ?", status, oldest)
        return removed

    return await database.write(unit)


def decoded(text: str | None) -> Any:
    """What JSON in a column says; None for NULL."""
    return None if text is None else msgspec.json.decode(text)


def encoded(value: Json | None) -> str | None:
    """``value`` for a column."""
    return None if value is None else msgspec.json.encode(value).decode()


async def _with_parts(tx: Transaction, rows: Sequence[Row]) -> list[Operation]:
    active = [row[0] for row in rows if Status(row[2]).is_active]
    parts: dict[str, list[Row]] = {}
    if active:
        marks = ", ".join("?" * len(active))
        for part in await tx.fetch(f"{_PARTS} IN ({marks}) ORDER BY operation_id, number", *active):
            parts.setdefault(part[0], []).append(part)
    return [_operation(row, parts.get(row[0], [])) for row in rows]


def _operation(row: Row, parts: Sequence[Row]) -> Operation:
    identifier, kind, status, created, updated, arguments, done, total, results, error, stop, secret = row
    return Operation(
        id=identifier,
        kind=kind,
        status=Status(status),
        created=created,
        updated=max([updated, *(part[4] for part in parts)]),
        arguments=decoded(arguments),
        done=done + sum(part[1] for part in parts),
        total=total + sum(part[2] for part in parts),
        results=merged([decoded(text) for text in (results, *(part[3] for part in parts)) if text is not None]),
        error=error,
        stop=None if stop is None else Status(stop),
        secret=secret,
    )

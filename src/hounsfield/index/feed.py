"""The change feed: an append-only log, in commit order, of every create, update and delete (change-feed.md).

The order holds whatever the engine and however many processes write: sequence and timestamp are drawn by updating
the single row of ``feed_head``, as the last step of the transaction; the row's lock is held to the commit, so a
reader that sees sequence N sees all before it. State is not stored: it follows from the version visible now.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from hounsfield.database.engine import Database, Row, Transaction
from hounsfield.index.fragments import unpack

_MAX_SEQUENCE = 2**63 - 1
"""The largest number either engine compares with."""


class Action(IntEnum):
    """What happened to the instance; the number is what the table stores."""

    CREATE = 0
    DELETE = 1
    UPDATE = 2


class State(Enum):
    """How the entry stands to the instance as it is now."""

    CURRENT = "Current"
    REPLACED = "Replaced"
    DELETED = "Deleted"


@dataclass(frozen=True, slots=True)
class NewEntry:
    """One instance that was created, removed or updated."""

    partition_key: int
    study_uid: str
    series_uid: str
    sop_uid: str
    version: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as it reads now. ``timestamp`` in microseconds since 1970 UTC, ``metadata`` DICOM JSON text."""

    sequence: int
    timestamp: int
    action: Action
    partition_name: str
    study_uid: str
    series_uid: str
    sop_uid: str
    state: State
    metadata: bytes | None


async def append(tx: Transaction, action: Action, entries: Sequence[NewEntry], now: int) -> int | None:
    """Write ``entries`` as one contiguous block. Must come last in a transaction: it takes the feed's lock.

    Returns the generation of extended query tags (index.query_tags) at this moment; None where there is no entry.
    """
    if not entries:
        return None
    head = await _draw(tx, len(entries), now)
    first = int(head[0]) - len(entries) + 1
    await tx.execute_many(
        "INSERT INTO feed (sequence, timestamp, action, partition_key, study_uid, series_uid, sop_uid, version) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                first + number,
                int(head[1]),
                int(action),
                entry.partition_key,
                entry.study_uid,
                entry.series_uid,
                entry.sop_uid,
                entry.version,
            )
            for number, entry in enumerate(entries)
        ],
    )
    return int(head[2])


async def append_updates(tx: Transaction, study_id: int, first: int, last: int, count: int, now: int) -> None:
    """Write an Update entry for each of ``count`` instances of a study that have a version from ``first`` to ``last``.

    Must come last in a transaction, as ``append``; one statement, as there may be thousands.
    """
    head = await _draw(tx, count, now)
    await tx.execute(
        "INSERT INTO feed (sequence, timestamp, action, partition_key, study_uid, series_uid, sop_uid, version) "
        "SELECT ? + row_number() OVER (ORDER BY v.version), ?, ?, s.partition_key, s.study_uid, e.series_uid, "
        "i.sop_uid, v.version FROM instance_version v JOIN instance i ON i.id = v.instance_id "
        "JOIN series e ON e.id = i.series_id JOIN study s ON s.id = e.study_id "
        "WHERE v.version >= ? AND v.version <= ? AND i.version = v.version AND s.id = ?",
        int(head[0]) - count,
        int(head[1]),
        int(Action.UPDATE),
        first,
        last,
        study_id,
    )


async def _draw(tx: Transaction, count: int, now: int) -> Row:
    """Draw sequences: the last of ``count``, their timestamp, and the generation of extended query tags."""
    head = await tx.fetch_one(
        "UPDATE feed_head SET sequence = sequence + ?, timestamp = CASE WHEN timestamp < ? THEN ? ELSE timestamp END "
        "WHERE id = 1 RETURNING sequence, timestamp, tag_generation",
        count,
        now,
        now,
    )
    assert head is not None
    return head


def _select(include_metadata: bool) -> str:
    content = "coalesce(v.metadata, c.metadata)" if include_metadata else "NULL"
    join = (
        "LEFT JOIN instance_content c ON c.instance_id = i.id LEFT JOIN instance_version v ON v.version = i.version "
        if include_metadata
        else ""
    )
    return (
        "SELECT f.sequence, f.timestamp, f.action, p.name, f.study_uid, f.series_uid, f.sop_uid, f.version, "
        "coalesce(i.version, i.id), "
        f"{content} FROM feed f JOIN data_partition p ON p.key = f.partition_key "
        "LEFT JOIN study s ON s.partition_key = f.partition_key AND s.study_uid = f.study_uid "
        "LEFT JOIN series e ON e.study_id = s.id AND e.series_uid = f.series_uid "
        "LEFT JOIN instance i ON i.series_id = e.id AND i.sop_uid = f.sop_uid "
        f"{join}"
    )


def _entry(row: Row) -> Entry:
    version, live, fragment = row[7:10]
    if live is None:
        state = State.DELETED
    elif live == version:
        state = State.CURRENT
    else:
        state = State.REPLACED
    metadata = unpack([fragment]) if fragment is not None else None
    return Entry(row[0], row[1], Action(row[2]), row[3], row[4], row[5], row[6], state, metadata)


async def after(database: Database, sequence: int, width: int, *, include_metadata: bool) -> list[Entry]:
    """Entries with ``sequence < s <= sequence + width``, in order (the v1 window)."""
    rows = await database.fetch(
        f"{_select(include_metadata)}WHERE f.sequence > ? AND f.sequence <= ? ORDER BY f.sequence",
        sequence,
        min(sequence + width, _MAX_SEQUENCE),
    )
    return [_entry(row) for row in rows]


async def window(
    database: Database, start: int, end: int, offset: int, limit: int, *, include_metadata: bool
) -> list[Entry]:
    """Entries with ``start <= timestamp < end``, in order, without the first ``offset`` (the v2 window)."""
    rows = await database.fetch(
        f"{_select(include_metadata)}WHERE f.timestamp >= ? AND f.timestamp < ? "
        "ORDER BY f.timestamp, f.sequence LIMIT ? OFFSET ?",
        start,
        end,
        limit,
        offset,
    )
    return [_entry(row) for row in rows]


async def latest(database: Database, *, include_metadata: bool) -> Entry | None:
    """The newest entry, or None while the feed is empty."""
    row = await database.fetch_one(
        f"{_select(include_metadata)}WHERE f.sequence = (SELECT max(sequence) FROM feed)", quick=True
    )
    return None if row is None else _entry(row)


async def latest_sequence(database: Database) -> int:
    """The newest entry's sequence; 0 while the feed is empty."""
    row = await database.fetch_one("SELECT max(sequence) FROM feed", quick=True)
    return 0 if row is None or row[0] is None else int(row[0])


async def waiting_since(database: Database, sequence: int) -> int | None:
    """When the first entry after ``sequence`` was made (microseconds since 1970 UTC); None while there is none."""
    row = await database.fetch_one(
        "SELECT timestamp FROM feed WHERE sequence > ? ORDER BY sequence LIMIT 1", sequence, quick=True
    )
    return None if row is None else int(row[0])

"""Extended query tags: attributes that an operator makes searchable (extended-query-tags.md).

Which tags there are has a *generation*, a number in ``feed_head`` that every change of the set raises. A storing
transaction updates that row anyway and is told the generation with it; one that knew another set begins anew
(:class:`TagsChanged`). So an instance is either committed before a tag is added, and then the re-index sees it, or it
is stored with the tag: none is missed, and a store without tags costs nothing more.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from hounsfield.database.engine import Database, Row, Transaction
from hounsfield.index.levels import Level


class TagStatus(IntEnum):
    """Where a tag is between being added and being gone; the number is what the table stores."""

    ADDING = 0
    READY = 1
    DELETING = 2


@dataclass(frozen=True, slots=True)
class QueryTag:
    """One tag. ``path`` is eight upper-case hexadecimal digits."""

    id: int
    path: str
    vr: str
    private_creator: str | None
    level: Level
    status: TagStatus
    enabled: bool
    """Whether searches may name it."""
    error_count: int
    operation_id: str | None
    """The re-index that makes it ready."""


@dataclass(frozen=True, slots=True)
class NewTag:
    """A tag to be added."""

    path: str
    vr: str
    private_creator: str | None
    level: Level


@dataclass(frozen=True, slots=True)
class TagSet:
    """The tags that stores index, in order of adding."""

    generation: int
    tags: tuple[QueryTag, ...] = ()


class TagsChanged(Exception):
    """A tag was added or removed while an instance was being stored."""


class KnownTags:
    """The tags as this process knows them; out of date without harm, as every store compares generations."""

    def __init__(self) -> None:
        # A database that never had tags is right about them from the first store on.
        self._known = TagSet(0)

    @property
    def current(self) -> TagSet:
        """The tags as last read; none before."""
        return self._known

    async def read(self, database: Database) -> TagSet:
        """The tags as they are now."""
        self._known = await indexed_tags(database)
        return self._known


_COLUMNS = "id, path, vr, private_creator, level, status, enabled, error_count, operation_id"
_EVERYTHING = f"SELECT {_COLUMNS} FROM query_tag ORDER BY id"
_WITH_TABLE = ", ".join(f"t.{column}" for column in _COLUMNS.split(", "))


def _tag(row: Row) -> QueryTag:
    return QueryTag(row[0], row[1], row[2], row[3], Level(row[4]), TagStatus(row[5]), bool(row[6]), row[7], row[8])


async def indexed_tags(database: Database) -> TagSet:
    """The tags stores index, with their generation, in one look."""
    rows = await database.fetch(
        f"SELECT h.tag_generation, {_WITH_TABLE} FROM feed_head h LEFT JOIN query_tag t ON t.status <> ? "
        "WHERE h.id = 1 ORDER BY t.id",
        int(TagStatus.DELETING),
        quick=True,
    )
    return TagSet(rows[0][0], tuple(_tag(row[1:]) for row in rows if row[1] is not None))


async def page(database: Database, limit: int, offset: int) -> list[QueryTag]:
    """Tags in order of adding."""
    rows = await database.fetch(
        f"SELECT {_COLUMNS} FROM query_tag ORDER BY id LIMIT ? OFFSET ?", limit, offset, quick=True
    )
    return [_tag(row) for row in rows]


async def everything(database: Database) -> list[QueryTag]:
    """Every tag, in order of adding."""
    return [_tag(row) for row in await database.fetch(_EVERYTHING, quick=True)]


async def find(database: Database, path: str) -> QueryTag | None:
    """The tag with that path, whatever its status."""
    row = await database.fetch_one(f"SELECT {_COLUMNS} FROM query_tag WHERE path = ?", path, quick=True)
    return None if row is None else _tag(row)


async def with_ids(database: Database, ids: Sequence[int]) -> list[QueryTag]:
    """Those of the tags that still exist."""
    if not ids:
        return []
    marks = ", ".join("?" * len(ids))
    rows = await database.fetch(f"SELECT {_COLUMNS} FROM query_tag WHERE id IN ({marks}) ORDER BY id", *ids)
    return [_tag(row) for row in rows]


async def all_tags(tx: Transaction) -> list[QueryTag]:
    """Every tag, as a transaction sees them."""
    return [_tag(row) for row in await tx.fetch(_EVERYTHING)]


async def next_generation(tx: Transaction) -> None:
    """Have every store that is not committed yet begin anew. Until the transaction ends, no store can commit."""
    await tx.execute("UPDATE feed_head SET tag_generation = tag_generation + 1 WHERE id = 1")


async def newest_version(tx: Transaction) -> int:
    """The version of the newest instance; 0 while there is none."""
    row = await tx.fetch_one("SELECT coalesce(max(id), 0) FROM instance")
    assert row is not None
    return int(row[0])


async def add(tx: Transaction, tags: Sequence[NewTag]) -> list[int]:
    """Add ``tags`` and return their ids.

    Must run after :func:`next_generation` in one transaction with the start of their re-index.
    """
    ids: list[int] = []
    for tag in tags:
        row = await tx.fetch_one(
            "INSERT INTO query_tag (path, vr, private_creator, level, status, enabled, error_count) "
            "VALUES (?, ?, ?, ?, ?, 1, 0) RETURNING id",
            tag.path,
            tag.vr,
            tag.private_creator,
            tag.level.value,
            int(TagStatus.ADDING),
        )
        assert row is not None
        ids.append(int(row[0]))
    return ids


async def set_operation(tx: Transaction, ids: Sequence[int], operation_id: str) -> None:
    """Note which re-index makes the tags ready."""
    await tx.execute_many(
        "UPDATE query_tag SET operation_id = ? WHERE id = ?", [(operation_id, tag_id) for tag_id in ids]
    )


async def end_operation(tx: Transaction, operation_id: str, *, ready: bool) -> None:
    """The re-index is over; if it did not come to its end, its tags stay as they are, to be added again."""
    await tx.execute(
        "UPDATE query_tag SET operation_id = NULL, status = CASE WHEN status = ? THEN ? ELSE status END "
        "WHERE operation_id = ?",
        int(TagStatus.ADDING),
        int(TagStatus.READY if ready else TagStatus.ADDING),
        operation_id,
    )


async def set_enabled(database: Database, path: str, enabled: bool) -> QueryTag | None:
    """Let searches name the tag or not, and return it; None where there is none."""

    async def unit(tx: Transaction) -> QueryTag | None:
        row = await tx.fetch_one(
            f"UPDATE query_tag SET enabled = ? WHERE path = ? RETURNING {_COLUMNS}", int(enabled), path
        )
        return None if row is None else _tag(row)

    return await database.write(unit)

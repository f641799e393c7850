"""Removing an extended query tag (extended-query-tags.md §9): at once from searches and stores, then row by row.

Values can be millions, and a database has one writer: they go in small transactions, others get their turn between
them. A tag that is being deleted stays so whatever dies, and can be deleted again by anybody, from where it stands.
"""

import asyncio
import time

from hounsfield import faults
from hounsfield.database.engine import Database, Transaction
from hounsfield.index import query_tags
from hounsfield.index.query_tags import TagStatus

BATCH = 1000
"""Rows of a table that go in one transaction: a few milliseconds."""

_TABLES = {"query_tag_value": "object_id", "query_tag_name": "object_id", "query_tag_error": "version"}
"""What hangs on a tag, and what else identifies its rows."""


async def begin(database: Database, path: str) -> int | None:
    """Have the tag be deleting, and return its id; None where there is none.

    From here on no store and no re-index writes values of it.
    """

    async def unit(tx: Transaction) -> int | None:
        row = await tx.fetch_one(
            "UPDATE query_tag SET status = ? WHERE path = ? RETURNING id", int(TagStatus.DELETING), path
        )
        if row is None:
            return None
        await query_tags.next_generation(tx)
        return int(row[0])

    return await database.write(unit)


async def begun(database: Database) -> list[int]:
    """The tags that are being deleted."""
    rows = await database.fetch(
        "SELECT id FROM query_tag WHERE status = ? ORDER BY id", int(TagStatus.DELETING), quick=True
    )
    return [row[0] for row in rows]


async def finish(database: Database, tag_id: int) -> None:
    """Remove what hangs on a tag that is being deleted, then the tag. Several may do it at once."""

    async def unit(tx: Transaction) -> bool:
        removed = 0
        for table, column in _TABLES.items():
            removed += await tx.execute(
                f"DELETE FROM {table} WHERE tag_id = ? AND {column} IN "
                f"(SELECT {column} FROM {table} WHERE tag_id = ? LIMIT ?)",
                tag_id,
                tag_id,
                BATCH,
            )
        if removed:
            return False
        # Nothing was left to this transaction; on PostgreSQL another may be about to remove the rest, or to give up.
        left = " AND ".join(f"NOT EXISTS (SELECT 1 FROM {table} WHERE tag_id = ?)" for table in _TABLES)
        await tx.execute(
            f"DELETE FROM query_tag WHERE id = ? AND status = ? AND {left}",
            tag_id,
            int(TagStatus.DELETING),
            *[tag_id] * len(_TABLES),
        )
        return await tx.fetch_one("SELECT 1 FROM query_tag WHERE id = ?", tag_id) is None

    while True:
        started = time.monotonic()
        if await database.write(unit):
            return
        faults.point("tag deletion: batch removed")
        # As long as it took: others get at least half of the time.
        await asyncio.sleep(time.monotonic() - started)

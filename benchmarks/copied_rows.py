"""The rows of an archive in SQLite brought into PostgreSQL as they are: many times faster than storing them there.

They are what the ingest code wrote, so searches find the same in both; only the speed of the load is not measured.
"""

import asyncio
import sqlite3
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import asyncpg

from hounsfield.database import migrate

BATCH = 20_000
"""Rows brought over at a time."""
TABLES = (
    "data_partition",
    "study",
    "series",
    "instance",
    "instance_content",
    "person_name",
    "feed",
    "feed_head",
)
"""Referred to before referring. Tables of later migrations are empty after a load."""


def copy(source: Path, url: str) -> None:
    """Empties the tables of the archive and fills them from the SQLite file ``source``; both get the newest schema."""
    migrate.ensure(f"sqlite:///{source.resolve()}")
    migrate.ensure(url)
    asyncio.run(_copy(source, url))


async def _copy(source: Path, url: str) -> None:
    target = await asyncpg.connect(url)
    old = sqlite3.connect(source)
    try:
        await target.execute(f"TRUNCATE {', '.join(TABLES)}")
        for table in TABLES:
            columns = [row[1] for row in old.execute(f"PRAGMA table_info({table})")]
            rows = old.execute(f"SELECT {', '.join(columns)} FROM {table}")
            await target.copy_records_to_table(table, records=chain.from_iterable(_batches(rows)), columns=columns)
            if columns[0] in ("id", "key") and table != "feed_head":
                await target.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table}', '{columns[0]}'), "
                    f"(SELECT max({columns[0]}) FROM {table}))"
                )
        await target.execute("ANALYZE")
    finally:
        old.close()
        await target.close()


def _batches(rows: sqlite3.Cursor) -> Iterator[list[tuple[object, ...]]]:
    return iter(lambda: rows.fetchmany(BATCH), [])

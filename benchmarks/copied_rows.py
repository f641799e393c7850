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
from hounsfield.database.schema import metadata

BATCH = 20_000
"""Rows brought over at a time."""


def copy(source: Path, url: str) -> None:
    """Empties the tables of the archive and fills them from the SQLite file ``source``; both get the newest schema."""
    migrate.ensure(f"sqlite:///{source.resolve()}")
    migrate.ensure(url)
    asyncio.run(_copy(source, url))


async def _copy(source: Path, url: str) -> None:
    target = await asyncpg.connect(url)
    old = sqlite3.connect(source)
    try:
        tables = metadata.sorted_tables  # referred to before referring
        await target.execute(f"TRUNCATE {', '.join(table.name for table in tables)}")
        for table in tables:
            columns = [column.name for column in table.columns]
            rows = old.execute(f"SELECT {', '.join(columns)} FROM {table.name}")
            await target.copy_records_to_table(table.name, records=chain.from_iterable(_batches(rows)), columns=columns)
            if table.autoincrement_column is not None:
                key = table.autoincrement_column.name
                await target.execute(
                    f"SELECT setval(pg_get_serial_sequence('{table.name}', '{key}'), max({key})) FROM {table.name}"
                )
        await target.execute("ANALYZE")
    finally:
        old.close()
        await target.close()


def _batches(rows: sqlite3.Cursor) -> Iterator[list[tuple[object, ...]]]:
    return iter(lambda: rows.fetchmany(BATCH), [])

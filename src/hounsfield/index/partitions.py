"""Data partitions (server.md §4)."""

import time
from dataclasses import dataclass

from hounsfield.database.engine import Database, Transaction

DEFAULT_KEY = 1
DEFAULT_NAME = "Microsoft.Default"


@dataclass(frozen=True, slots=True)
class Partition:
    """A set of studies of its own. Partitions are neither renamed nor removed."""

    key: int
    name: str


DEFAULT = Partition(DEFAULT_KEY, DEFAULT_NAME)
"""The partition that always exists."""


async def find(database: Database, name: str) -> Partition | None:
    """The partition of that name (case matters), None where there is none."""
    row = await database.fetch_one("SELECT key FROM data_partition WHERE name = ?", name, quick=True)
    return None if row is None else Partition(int(row[0]), name)


async def ensure(database: Database, name: str) -> Partition:
    """The partition of that name, made if there is none; however many ask at once, there is one afterwards."""

    async def unit(tx: Transaction) -> Partition:
        await tx.execute(
            "INSERT INTO data_partition (name, created) VALUES (?, ?) ON CONFLICT (name) DO NOTHING",
            name,
            time.time_ns() // 1000,
        )
        row = await tx.fetch_one("SELECT key FROM data_partition WHERE name = ?", name)
        assert row is not None
        return Partition(int(row[0]), name)

    return await database.write(unit)


async def all_partitions(database: Database) -> list[tuple[Partition, int]]:
    """Every partition with the microseconds since 1970 of its creation, oldest first."""
    rows = await database.fetch("SELECT key, name, created FROM data_partition ORDER BY key")
    return [(Partition(int(key), str(name)), int(created)) for key, name, created in rows]


async def is_partitioned(database: Database) -> bool:
    """Whether a partition besides the default one exists."""
    return bool(await database.fetch("SELECT 1 FROM data_partition WHERE key <> ? LIMIT 1", DEFAULT_KEY))

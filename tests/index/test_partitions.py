"""Data partitions on both engines (server.md §4)."""

import asyncio

from hounsfield.database.engine import Database
from hounsfield.index import partitions
from hounsfield.index.partitions import DEFAULT


async def test_the_default_partition_is_always_there(database: Database) -> None:
    assert await partitions.find(database, "Microsoft.Default") == DEFAULT
    assert (await partitions.all_partitions(database))[0][0] == DEFAULT


async def test_one_partition_however_many_ask(database: Database) -> None:
    assert not await partitions.is_partitioned(database)
    assert await partitions.find(database, "a") is None
    made = await asyncio.gather(*(partitions.ensure(database, "a") for _ in range(8)))
    assert len(set(made)) == 1
    assert await partitions.find(database, "a") == made[0]
    assert await partitions.find(database, "A") is None
    other = await partitions.ensure(database, "A")
    assert [found for found, _ in await partitions.all_partitions(database)] == [DEFAULT, made[0], other]
    assert await partitions.is_partitioned(database)

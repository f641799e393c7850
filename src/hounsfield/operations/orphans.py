"""Finding files no instance refers to: what a crash between writing the file and committing the index leaves behind."""

import time
from datetime import timedelta

from hounsfield.database.engine import Database, Transaction
from hounsfield.index import deleted_files, instances
from hounsfield.storage.layout import parse_key
from hounsfield.storage.object_store import ObjectStore, StoredObject

MINIMUM_AGE = timedelta(hours=24)
"""Younger files may belong to a store request that is still under way."""
BATCH = 500


async def sweep_orphans(database: Database, files: ObjectStore, minimum_age: timedelta = MINIMUM_AGE) -> int:
    """Queue every orphan older than ``minimum_age`` for cleanup; returns how many there were."""
    oldest = time.time() - minimum_age.total_seconds()
    swept = 0
    batch: list[StoredObject] = []
    async for found in files.list(""):
        if found.modified < oldest:
            batch.append(found)
        if len(batch) == BATCH:
            swept += await _queue(database, batch)
            batch = []
    return swept + await _queue(database, batch)


async def _queue(database: Database, batch: list[StoredObject]) -> int:
    keys = {found.key: parsed for found in batch if (parsed := parse_key(found.key)) is not None}

    async def unit(tx: Transaction) -> int:
        waiting = {row[0] for row in await tx.fetch("SELECT file_key FROM deleted_file")}
        now = time.time_ns() // 1000
        orphans = 0
        for key, parsed in keys.items():
            if key in waiting or await instances.file_key_of(tx, parsed.partition, *parsed[1:4]) == key:
                continue
            await deleted_files.queue_orphan(tx, key, now)
            orphans += 1
        return orphans

    return await database.write(unit) if keys else 0

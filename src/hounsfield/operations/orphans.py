"""Finding files no instance refers to: what a crash between writing the file and committing the index leaves behind."""

import time
from datetime import timedelta

from hounsfield.database.engine import Database, Transaction
from hounsfield.index import deleted_files
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
    if not batch:
        return 0
    marks = ", ".join("?" * len(batch))
    keys = [found.key for found in batch]

    async def unit(tx: Transaction) -> int:
        known = await tx.fetch(
            f"SELECT file_key FROM instance WHERE file_key IN ({marks}) "
            f"UNION ALL SELECT file_key FROM deleted_file WHERE file_key IN ({marks})",
            *keys,
            *keys,
        )
        orphans = set(keys) - {row[0] for row in known}
        now = time.time_ns() // 1000
        for key in sorted(orphans):
            await deleted_files.queue_orphan(tx, key, now)
        return len(orphans)

    return await database.write(unit)

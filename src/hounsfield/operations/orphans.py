"""Finding files no instance refers to: what a crash between writing the file and committing the index leaves behind."""

import logging
import time
from datetime import timedelta

from hounsfield.database.engine import Database, Transaction
from hounsfield.index import deleted_files, instances
from hounsfield.storage.layout import parse_key
from hounsfield.storage.object_store import ObjectStore, StoredObject

logger = logging.getLogger(__name__)

MINIMUM_AGE = timedelta(days=7)
"""Younger files may belong to a store request that is still under way, or to an index that was restored from an older
backup by mistake: there is time to notice. They only cost space."""
MAX_ORPHANS = 200
"""More in one sweep are not what crashes leave: the index is older than the files, and none of them is touched."""
BATCH = 500


async def sweep_orphans(database: Database, files: ObjectStore, minimum_age: timedelta = MINIMUM_AGE) -> int:
    """Queue every orphan older than ``minimum_age`` for cleanup; returns how many there were.

    Finds more than MAX_ORPHANS: logs what to do and queues none.
    """
    oldest = time.time() - minimum_age.total_seconds()
    orphans: list[str] = []
    batch: list[StoredObject] = []
    async for found in files.list(""):
        if found.modified < oldest:
            batch.append(found)
        if len(batch) == BATCH:
            orphans += await _unknown(database, batch)
            batch = []
            if len(orphans) > MAX_ORPHANS:
                break
    orphans += await _unknown(database, batch)
    if len(orphans) > MAX_ORPHANS:
        logger.critical(
            "More than %d files belong to no instance of the index. If the index was restored from a backup, its newer "
            "instances are missing: store their files again. No file is removed.",
            MAX_ORPHANS,
        )
        return 0
    await _queue(database, orphans)
    return len(orphans)


async def _unknown(database: Database, batch: list[StoredObject]) -> list[str]:
    """Keys of files that neither an instance nor the cleanup queue refers to; files not named by us are left out."""
    keys = {found.key: parsed for found in batch if (parsed := parse_key(found.key)) is not None}

    async def unit(tx: Transaction) -> list[str]:
        waiting = {row[0] for row in await tx.fetch("SELECT file_key FROM deleted_file")}
        return [
            key
            for key, parsed in keys.items()
            if key not in waiting and key not in await instances.file_keys_of(tx, parsed.partition, *parsed[1:4])
        ]

    return await database.read(unit)


async def _queue(database: Database, orphans: list[str]) -> None:
    if not orphans:
        return

    async def unit(tx: Transaction) -> None:
        now = time.time_ns() // 1000
        for key in orphans:
            await deleted_files.queue_orphan(tx, key, now)

    await database.write(unit)

"""Removing the files of deleted instances once their delay is over (server.md §12)."""

import logging
import time
from dataclasses import dataclass
from datetime import timedelta

from hounsfield import faults
from hounsfield.database.engine import Database
from hounsfield.index import deleted_files
from hounsfield.index.deleted_files import DeletedFile
from hounsfield.storage.object_store import ObjectStore

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CleanupOptions:
    """DicomServer:Services:DeletedInstanceCleanup."""

    max_retries: int
    retry_back_off: timedelta
    polling_interval: timedelta
    batch_size: int


async def clean_up(database: Database, files: ObjectStore, options: CleanupOptions) -> int:
    """Remove every file that is due; returns how many went. Files that cannot be removed are tried again later."""
    removed = 0
    while True:
        now = time.time_ns() // 1000
        batch = await deleted_files.due(database, now, options.max_retries, options.batch_size)
        gone = []
        for file in batch:
            try:
                await files.delete_many([file.file_key])
            except Exception as error:
                # Whatever it is: one file that cannot be removed must not keep the others.
                _report(file, options, error)
                back_off = int(options.retry_back_off.total_seconds() * 1_000_000)
                await deleted_files.failed(database, file, now + back_off)
            else:
                gone.append(file)
                faults.point("cleanup: file removed")
        if gone:
            await deleted_files.removed(database, gone)
            removed += len(gone)
            faults.point("cleanup: done")
        if len(batch) < options.batch_size:
            return removed


def _report(file: DeletedFile, options: CleanupOptions, error: Exception) -> None:
    if file.retry_count < options.max_retries:
        logger.warning("A deleted instance's file could not be removed: %s", type(error).__name__)
    else:
        logger.critical(
            "A deleted instance's file could not be removed in %d attempts, and stays: %s",
            file.retry_count + 1,
            type(error).__name__,
        )

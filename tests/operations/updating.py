"""A worker process for tests of bulk update.

``python -m tests.operations.updating URL FILES`` works until no operation is left.
"""

import asyncio
import sys
from datetime import timedelta
from pathlib import Path

from hounsfield.archive.archive import Archive
from hounsfield.archive.version_files import UpdateOptions
from hounsfield.database.connect import open_database
from hounsfield.operations import records, update
from hounsfield.operations.cleanup import CleanupOptions, clean_up
from hounsfield.operations.runner import OperationRunner
from hounsfield.storage.local import LocalStore
from tests.operations.counting import PACE

CLEANUP = CleanupOptions(0, timedelta(0), timedelta(0), 1000)


async def work(url: str, files: Path) -> None:
    """Be a worker process, in steps of two instances."""
    update.BATCH = 2
    archive = Archive(open_database(url), LocalStore(files), timedelta(0), 1 << 20)
    stop = asyncio.Event()
    job = update.update_job(archive, UpdateOptions())
    runner = asyncio.create_task(OperationRunner(archive.database, [job], PACE).run(stop))
    while any(each.status.is_active for each in await records.page(archive.database, 10, 0)):
        await asyncio.sleep(0.02)
    stop.set()
    await runner
    await clean_up(archive.database, archive.files, CLEANUP)
    await archive.database.close()


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], Path(sys.argv[2])))

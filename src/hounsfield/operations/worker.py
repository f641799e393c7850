"""The background loop: cleanup of deleted files and the sweep of orphans, in one process at a time."""

import asyncio
import logging
import secrets
from contextlib import suppress
from datetime import timedelta

from hounsfield.database import leases
from hounsfield.database.engine import Database
from hounsfield.errors import StoreUnavailable
from hounsfield.operations.cleanup import CleanupOptions, clean_up
from hounsfield.operations.orphans import MINIMUM_AGE, sweep_orphans
from hounsfield.storage.object_store import ObjectStore

logger = logging.getLogger(__name__)

LEASE = "background-worker"
LEASE_MARGIN = 60.0
"""Seconds a worker may be late for its next round before another takes over."""
ORPHAN_INTERVAL = timedelta(hours=6)
"""Orphans only come from crashes, and looking for them reads the names of all files."""


class BackgroundWorker:
    """Runs until told to stop; a failed round is logged and never ends the loop."""

    def __init__(self, database: Database, files: ObjectStore, options: CleanupOptions) -> None:
        self._database = database
        self._files = files
        self._options = options
        self._owner = secrets.token_hex(8)
        self._next_sweep = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set."""
        pause = self._options.polling_interval.total_seconds()
        while not stop.is_set():
            try:
                if await self._my_turn(pause + LEASE_MARGIN):
                    await self._round()
            except StoreUnavailable as error:
                logger.warning("Background work waits: %s", error.message)
            except Exception as error:
                logger.error("A round of background work failed: %s", type(error).__name__, exc_info=error)
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), timeout=pause)
        with suppress(Exception):
            await leases.release(self._database, LEASE, self._owner)

    async def _my_turn(self, seconds: float) -> bool:
        try:
            return await leases.acquire(self._database, LEASE, self._owner, seconds)
        except StoreUnavailable as error:
            # A full disk has no room for a lease, and this is the work that makes room. Two at it do no harm.
            logger.info("Background work goes on without a lease: %s", error.message)
            return True

    async def _round(self) -> None:
        removed = await clean_up(self._database, self._files, self._options)
        if removed:
            logger.info("Removed the files of %d deleted instances.", removed)
        now = asyncio.get_running_loop().time()
        if now >= self._next_sweep:
            await self._files.sweep_temporary(MINIMUM_AGE)
            swept = await sweep_orphans(self._database, self._files)
            self._next_sweep = now + ORPHAN_INTERVAL.total_seconds()
            if swept:
                logger.warning("Queued %d files no instance refers to for removal.", swept)

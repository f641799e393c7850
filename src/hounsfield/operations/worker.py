"""What one process at a time does in the background: remove the files of deleted instances, orphans, old
records, and event reports that wait in vain."""

import asyncio
import logging
import secrets
from collections.abc import Collection
from contextlib import suppress
from datetime import timedelta

from hounsfield.database import leases
from hounsfield.database.engine import Database
from hounsfield.errors import StoreUnavailable
from hounsfield.index import tag_deletion
from hounsfield.operations import engine, records
from hounsfield.operations.cleanup import CleanupOptions, clean_up
from hounsfield.operations.orphans import MINIMUM_AGE, sweep_orphans
from hounsfield.storage.object_store import ObjectStore
from hounsfield.worklist import reports

logger = logging.getLogger(__name__)

LEASE = "background-worker"
RENEWAL_SECONDS = 10.0
"""How often a worker says that it is alive, and others look whether it still is."""
LEASE_SECONDS = 30.0
"""How long a worker may say nothing before another takes over."""
ORPHAN_INTERVAL = timedelta(hours=6)
"""Orphans only come from crashes, and looking for them reads the names of all files."""


async def is_alive(database: Database) -> bool:
    """Whether some worker is at work. Raises StoreUnavailable."""
    return await leases.is_held(database, LEASE)


class BackgroundWorker:
    """Runs until told to stop; a failed round is logged and never ends the loop."""

    def __init__(
        self, database: Database, files: ObjectStore, options: CleanupOptions, kinds: Collection[str] = ()
    ) -> None:
        """``kinds``: of the operations that this program can do."""
        self._database = database
        self._kinds = kinds
        self._files = files
        self._options = options
        self._owner = secrets.token_hex(8)
        self._is_our_turn = asyncio.Event()
        self._next_sweep = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set."""
        pause = self._options.polling_interval.total_seconds()
        # Beside the rounds: one that takes longer than the lease must not lose it.
        renewing = asyncio.create_task(self._renew())
        stopped = asyncio.create_task(stop.wait())
        while not stop.is_set():
            turn = asyncio.create_task(self._is_our_turn.wait())
            await asyncio.wait([turn, stopped], return_when=asyncio.FIRST_COMPLETED)
            turn.cancel()
            if stop.is_set():
                break
            try:
                await self._round()
            except StoreUnavailable as error:
                logger.warning("Background work waits: %s", error.message)
            except Exception as error:
                logger.error("A round of background work failed: %s", type(error).__name__, exc_info=error)
            await asyncio.wait([stopped], timeout=pause)
        renewing.cancel()
        with suppress(asyncio.CancelledError):
            await renewing
        with suppress(Exception):
            await leases.release(self._database, LEASE, self._owner)

    async def _renew(self) -> None:
        while True:
            if await self._is_leased():
                self._is_our_turn.set()
            else:
                self._is_our_turn.clear()
            await asyncio.sleep(RENEWAL_SECONDS)

    async def _is_leased(self) -> bool:
        try:
            return await leases.acquire(self._database, LEASE, self._owner, LEASE_SECONDS)
        except StoreUnavailable as error:
            # A full disk has no room for a lease, and this is the work that makes room. Two at it do no harm.
            logger.info("Background work goes on without a lease: %s", error.message)
            return True
        except Exception as error:
            logger.warning("Background work waits: %s", type(error).__name__)
            return False

    async def _round(self) -> None:
        for tag_id in await tag_deletion.begun(self._database):
            await tag_deletion.finish(self._database, tag_id)
        removed = await clean_up(self._database, self._files, self._options)
        if removed:
            logger.info("Removed the files of %d deleted instances.", removed)
        await reports.trim(self._database)
        now = asyncio.get_running_loop().time()
        if now >= self._next_sweep:
            await self._files.sweep_temporary(MINIMUM_AGE)
            swept = await sweep_orphans(self._database, self._files)
            await records.purge(self._database, engine.timestamp())
            await engine.abandon(self._database, self._kinds, engine.timestamp())
            self._next_sweep = now + ORPHAN_INTERVAL.total_seconds()
            if swept:
                logger.warning("Queued %d files no instance refers to for removal.", swept)

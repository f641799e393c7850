"""The loop: one worker among all processes of a database polls the feed and works off what is new (§2, §3)."""

import asyncio
import logging
import secrets
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

from hounsfield.cast.creation import Creations
from hounsfield.cast.failure import Faulted, TryAgain
from hounsfield.cast.feed import FeedAway, FeedReader, FeedRefused, FeedReplaced, FeedUnavailable
from hounsfield.cast.journal import Journal
from hounsfield.cast.options import CastOptions
from hounsfield.cast.rebuild import RebuildJob
from hounsfield.cast.replay import Replay
from hounsfield.cast.retry import of_search, standstill
from hounsfield.cast.state import CastState
from hounsfield.cast.synchroniser import Batch, LeaseLost, Synchroniser
from hounsfield.cast.table_copy import TableCopy
from hounsfield.cast.table_store import TableStore, TableStoreUnavailable
from hounsfield.cast.task_sync import TaskSync
from hounsfield.database import leases
from hounsfield.database.engine import Database
from hounsfield.errors import StoreUnavailable
from hounsfield.fhir.target import FhirError, FhirTarget, Resource
from hounsfield.fhir.versions import VERSIONS
from hounsfield.operations.runner import OperationRunner, Pace

logger = logging.getLogger(__name__)

LEASE = "cast"
LEASE_SECONDS = 10.0
"""How long a dead worker's place stays taken: a crash delays casting by at most this."""
BEAT_SECONDS = 3.0
"""How often the lease is renewed and the status refreshed; three chances before either is stale."""
REPLAY_DURATION = timedelta(seconds=30)
"""How long an entry is retried that somebody has tried again: what is new in the feed waits meanwhile."""
ONE_AT_A_TIME = Pace(slots=1)
_LONGEST_FAULT = timedelta(seconds=60)
_SHORTEST_FAULT = timedelta(seconds=1)


def check_capability(statement: Resource, version: str = "R4") -> None:
    """Raises Faulted unless the server speaks that version and takes transactions (dicom-cast.md §7.1)."""
    if statement.get("fhirVersion") not in VERSIONS[version]:
        listed = ", ".join(VERSIONS[version])
        raise Faulted(
            "InvalidFhirServerException",
            f"The FHIR server's version does not fit Fhir:Version={version}; it must be one of {listed}.",
        )
    for rest in statement.get("rest", []):
        if any(interaction.get("code") == "transaction" for interaction in rest.get("interaction", [])):
            return
    raise Faulted("InvalidFhirServerException", "The FHIR server does not support transactions.")


class CastWorker:
    """Keeps ``target`` true to ``feed``; its position, errors and status are in ``database``.

    With a ``table_store`` errors are in Azure tables, too; ``keeps_position``: so is the position, which a new database
    takes from there.
    """

    def __init__(
        self,
        feed: FeedReader,
        target: FhirTarget,
        database: Database,
        options: CastOptions,
        table_store: TableStore | None = None,
        *,
        keeps_position: bool = False,
    ) -> None:
        self._feed = feed
        self._target = target
        self._database = database
        self._options = options
        self._owner = secrets.token_hex(8)
        self._state = CastState(database, has_table_store=table_store is not None)
        self._journal = Journal(self._state, target.endpoint, options.root_url)
        creations = Creations()
        self._synchroniser = Synchroniser(target, self._state, self._journal, options, self._guard, creations)
        hasty = replace(options, total_retry_duration=min(options.total_retry_duration, REPLAY_DURATION))
        again = Synchroniser(target, self._state, self._journal, hasty, self._guard, creations)
        self._tasks = TaskSync(target, database, self._state, self._journal, options, self._guard, creations)
        self._replay = Replay(feed, database, again, options)
        self._copy = None
        if table_store is not None:
            self._copy = TableCopy(table_store, database, self._journal.table_store, with_position=keeps_position)
        self._has_position = asyncio.Event()
        self._lease_end = 0.0
        self._is_fit = False
        self._woken = asyncio.Event()
        self._turn = asyncio.Lock()
        self._rebuild = RebuildJob(
            feed,
            target,
            self._state,
            database,
            options,
            guard=self._guard,
            is_fit=lambda: self._is_fit,
            turn=self._turn,
        )

    def wake(self) -> None:
        """Hint that the feed has grown: do not wait for the end of the poll interval."""
        self._woken.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set. Never raises but for cancellation; does not close feed and target."""
        while not stop.is_set():
            try:
                if await self._acquire():
                    await self._work(stop)
            except LeaseLost:
                logger.warning("Another process has taken over casting.")
            except Exception as error:
                logger.error("Casting starts again after an error: %s", type(error).__name__)
            await _wait(stop, BEAT_SECONDS)
        with suppress(Exception):
            await leases.release(self._database, LEASE, self._owner)

    async def _work(self, stop: asyncio.Event) -> None:
        """Be the active worker until told to stop or somebody else is. Raises LeaseLost, or what the database does."""
        self._is_fit = False
        works = (self._beat(), self._passes(), self._copies(), self._rebuilds(), self._workitems())
        tasks = [asyncio.create_task(work) for work in works]
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*tasks, stopped):
                task.cancel()
            results = await asyncio.gather(*tasks, stopped, return_exceptions=True)
        for result in results:
            if isinstance(result, Exception):
                raise result
        await self._journal.rest("stopped")

    async def _acquire(self) -> bool:
        """Take or renew the lease. Its end is counted from before the request, so never too late."""
        begun = asyncio.get_running_loop().time()
        if not await leases.acquire(self._database, LEASE, self._owner, LEASE_SECONDS):
            return False
        self._lease_end = begun + LEASE_SECONDS
        return True

    def _guard(self) -> None:
        if asyncio.get_running_loop().time() >= self._lease_end:
            raise LeaseLost

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            if not await self._acquire():
                raise LeaseLost
            await self._journal.beat()
            if self._is_fit and await self._replay.is_wanted():
                self.wake()

    async def _copies(self) -> None:
        """Copy to the Azure tables; not before the position that is there has been seen."""
        await self._has_position.wait()
        if self._copy is None:
            await asyncio.Event().wait()
        else:
            await self._copy.run()

    async def _rebuilds(self) -> None:
        """Work off what rebuilds are asked for, in turns with the passes."""
        try:
            await OperationRunner(self._database, [self._rebuild.job()], ONE_AT_A_TIME).run(asyncio.Event())
        finally:
            self._rebuild.close()

    async def _workitems(self) -> None:
        """Keep Tasks true to workitems, where that is wanted; beside the passes, which it neither delays nor stops."""
        if not self._options.sync_workitems:
            await asyncio.Event().wait()
        await self._tasks.run(lambda: self._is_fit)

    async def _passes(self) -> None:
        """Pass after pass. What goes wrong with feed or FHIR server is reported, then tried again (D12)."""
        while True:
            pause = self._options.poll_interval
            try:
                if not self._is_fit:
                    await self._check_target()
                if not self._has_position.is_set():
                    await self._take_over()
                async with self._turn:
                    await self._pass()
                    while await self._replay.page():
                        await self._pass()
                await self._journal.rest("idle")
            except TryAgain as error:
                await self._journal.unavailable(error)
                pause = timedelta(seconds=self._options.retry_timing.probe)
            except FeedAway as error:
                await self._journal.unavailable(TryAgain("RetryableException", str(error), public=str(error)))
                pause = timedelta(seconds=self._options.retry_timing.probe)
            except (LeaseLost, StoreUnavailable):
                raise
            except Exception as error:
                await self._faulted(error)
                pause = max(min(pause, _LONGEST_FAULT), _SHORTEST_FAULT)
            await self._pause(pause)

    async def _faulted(self, error: Exception) -> None:
        fault = error if isinstance(error, Faulted) else Faulted(type(error).__name__, "Casting failed unexpectedly.")
        if isinstance(error, FeedUnavailable):
            fault = Faulted(error.name if isinstance(error, FeedRefused) else type(error).__name__, str(error))
        elif isinstance(error, TableStoreUnavailable):
            fault = Faulted(type(error).__name__, error.message)
        self._is_fit = False
        logger.error("Casting is at a standstill: %s: %s", fault.name, fault.message)
        await self._journal.faulted(fault, standstill(error))

    async def _check_target(self) -> None:
        try:
            statement = await self._target.capabilities()
        except FhirError as error:
            failure = of_search(error)
            if isinstance(failure, Faulted | TryAgain):
                raise failure from error
            raise Faulted("InvalidFhirServerException", failure.public) from error
        check_capability(statement, self._options.fhir_version)
        self._is_fit = True

    async def _take_over(self) -> None:
        """Begin where the Azure tables say, if nothing was ever cast from here (dicom-cast.md §5).

        A position beyond the feed's end belongs to another feed and is not taken: everything would be skipped.
        """
        if self._copy is not None and await self._state.position() == 0:
            position = await self._copy.position()
            latest = await self._feed.latest() if position else 0
            if position > latest:
                logger.warning("The position %d of the Azure tables is beyond this feed's end: not used.", position)
            elif position:
                await self._journal.resume()
                await self._journal.take_over(position)
        self._has_position.set()

    async def _pass(self) -> None:
        """Work off the feed until nothing is new, or, where it is watched, until all that was there has been done.

        What comes meanwhile to a watched feed waits for the next look: every pass rewrites the studies it touches, so
        that following a store closely would take the processor and the database from it. Studies that wait for
        another attempt do not keep the rest from being cast.
        """
        position = await self._journal.resume()
        watch = self._options.watch_interval
        is_at_end = False
        async with self._synchroniser.batch() as batch:
            while not (is_at_end and batch.is_done):
                if batch.has_room and not is_at_end:
                    try:
                        position, is_at_end = await self._read(batch, position)
                    except FeedUnavailable:
                        if batch.is_done:
                            raise
                        is_at_end = True  # what is under way is finished first, meanwhile the feed may be back
                if not batch.is_done and (is_at_end or not batch.has_room):
                    await batch.wait((watch or self._options.poll_interval).total_seconds())
                    is_at_end = is_at_end and watch is not None and batch.is_done

    async def _read(self, batch: Batch, position: int) -> tuple[int, bool]:
        """Add a page of what is new after ``position``: how far it goes, and whether that is enough for now."""
        latest = await self._feed.latest()
        if latest < position:
            # To wait until it has grown would skip all it gets until then.
            raise FeedReplaced(f"The change feed ends at {latest}, but {position} of its entries were cast.")
        if latest == position:
            return position, True
        page = await self._feed.page(position, min(self._options.page_size, latest - position))
        by_sequence = {entry.sequence: entry for entry in page.entries if entry.sequence > position}
        entries = [by_sequence[sequence] for sequence in sorted(by_sequence)]
        # Numbers up to the newest that are not in the window will never be: a transaction that was rolled back.
        through = max([min(page.through, latest), *(entry.sequence for entry in entries[-1:])])
        await batch.add(entries, through)
        if through == position:
            return position, True  # the reader could not go further, though something is new: look again later
        is_enough = self._options.watch_interval is not None and through >= latest
        if self._options.catchup_interval and not is_enough:
            await asyncio.sleep(self._options.catchup_interval.total_seconds())
        return through, is_enough

    async def _pause(self, pause: timedelta) -> None:
        """Wait for ``pause``, a wake-up, or a new entry where the feed may be watched."""
        clock = asyncio.get_running_loop().time
        end = clock() + pause.total_seconds()
        watch = self._options.watch_interval if self._is_fit else None
        seen = await self._state.position() if watch else 0
        while not self._woken.is_set() and (rest := end - clock()) > 0:
            await _wait(self._woken, min(rest, watch.total_seconds()) if watch else rest)
            if watch:
                try:
                    if await self._feed.latest() > seen:
                        break
                except FeedUnavailable:
                    continue  # the next pass will say so
        self._woken.clear()


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until ``event`` is set, at most ``seconds``."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

"""Error rows and position in Azure tables (dicom-cast.md §5, backends): a copy that follows our own database.

A row is filed in the database first, where it waits until the table store has it. Row keys are the same on both sides
and a put replaces, so a crash in between repeats a put and changes nothing. Only the active worker copies.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hounsfield.cast.error_tables import COLUMNS, StoredError, now
from hounsfield.cast.failure import Table
from hounsfield.cast.state import CastState, LastError
from hounsfield.cast.table_store import Entity, EntityRefused, TableStore, TableStoreUnavailable
from hounsfield.database.engine import Database, Row, Transaction

logger = logging.getLogger(__name__)

PAGE = 100
AT_ONCE = 8
"""Requests to the table store at a time; a round trip to a cloud takes long."""
POLL_SECONDS = 2.0
PAUSE_SECONDS = 15.0
"""Until the next try when the table store is away."""
POSITION = "SyncStateTable"
POSITION_KEYS = ("SyncStatePartitionKey", "SyncStateRowKey")

_LONGS = frozenset({"ChangeFeedSequence", "SyncedSequence"})


class TableCopy:
    """Keeps the tables true to the database.

    ``with_position``: the feed is the one the tables' position counts in, so that it is taken over and kept there.
    ``tell`` is told why copying fails, and None when it works.
    """

    def __init__(
        self,
        store: TableStore,
        database: Database,
        tell: Callable[[LastError | None], None],
        *,
        with_position: bool,
        poll: float = POLL_SECONDS,
        pause: float = PAUSE_SECONDS,
    ) -> None:
        self._store = store
        self._database = database
        self._state = CastState(database)
        self._tell = tell
        self._with_position = with_position
        self._poll, self._pause = poll, pause
        self._is_made = False
        self._copied_position: int | None = None
        self._is_well: bool | None = None

    async def position(self) -> int:
        """The position that is kept in the tables, 0 if none. Raises TableStoreUnavailable."""
        if not self._with_position:
            return 0
        found = await self._store.get(POSITION, *POSITION_KEYS)
        try:
            return 0 if found is None else max(int(found["SyncedSequence"]), 0)
        except (KeyError, TypeError, ValueError) as error:
            raise TableStoreUnavailable(f"{POSITION} does not hold a position.") from error

    async def run(self) -> None:
        """Copy until cancelled. Raises nothing: what goes wrong here must not touch casting."""
        while True:
            try:
                while await self.copy():
                    pass
                self._report(None)
                pause = self._poll
            except TableStoreUnavailable as error:
                self._is_made = error.status != 404 and self._is_made
                self._report(error.message)
                pause = self._pause
            except Exception as error:
                self._report(f"Copying failed unexpectedly ({type(error).__name__}).")
                pause = self._pause
            await asyncio.sleep(pause)

    async def copy(self) -> bool:
        """Copy a page of what is not there; False if that was all. Raises TableStoreUnavailable."""
        if not self._is_made:
            for name in [*(table.value for table in Table), *([POSITION] if self._with_position else [])]:
                await self._store.make(name)
            self._is_made = True
        rows = await self._database.fetch(
            f"SELECT table_name, {COLUMNS} FROM cast_error WHERE copied = 0 ORDER BY row_key LIMIT ?", PAGE
        )
        gone = await self._database.fetch(
            "SELECT row_key, table_name, partition_key FROM cast_error_removed ORDER BY row_key LIMIT ?", PAGE
        )
        # Removals last: a row of this page may have been removed since it was read.
        await self._each(rows, self._put)
        await self._mark([row[2] for row in rows])
        await self._each(gone, self._delete)
        await self._forget([row[0] for row in gone])
        if self._with_position:
            await self._copy_position()
        return len(rows) == PAGE or len(gone) == PAGE

    async def _each(self, rows: list[Row], do: Callable[[Row], Awaitable[None]]) -> None:
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(row: Row) -> None:
            async with slots:
                await do(row)

        results = await asyncio.gather(*(one(row) for row in rows), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _put(self, row: Row) -> None:
        try:
            await self._store.put(row[0], entity(StoredError(*row[1:])), longs=_LONGS)
        except EntityRefused:
            # It is in our own table; trying for ever would keep the others out of theirs.
            logger.error("An error row of change feed entry %d is refused by the table store.", row[7])

    async def _delete(self, row: Row) -> None:
        await self._store.delete(row[1], row[2], row[0])

    async def _mark(self, row_keys: list[str]) -> None:
        await self._write_many("UPDATE cast_error SET copied = 1 WHERE row_key = ?", row_keys)

    async def _forget(self, row_keys: list[str]) -> None:
        await self._write_many("DELETE FROM cast_error_removed WHERE row_key = ?", row_keys)

    async def _write_many(self, sql: str, row_keys: list[str]) -> None:
        async def unit(tx: Transaction) -> None:
            await tx.execute_many(sql, [(row_key,) for row_key in row_keys])

        if row_keys:
            await self._database.write(unit)

    async def _copy_position(self) -> None:
        position = await self._state.position()
        if position and position != self._copied_position:
            keys = dict(zip(("PartitionKey", "RowKey"), POSITION_KEYS, strict=True))
            await self._store.put(POSITION, {**keys, "SyncedSequence": position}, longs=_LONGS)
            self._copied_position = position

    def _report(self, problem: str | None) -> None:
        if problem is not None and self._is_well is not False:
            logger.warning("Error rows are kept, but not copied to the Azure tables: %s", problem)
        self._is_well = problem is None
        self._tell(None if problem is None else LastError("TableStoreUnavailable", problem, now()))


def entity(row: StoredError) -> Entity:
    """A row with the reference's columns; its ``Timestamp`` is the table store's own."""
    found: dict[str, str | int] = {
        "PartitionKey": row.partition_key,
        "RowKey": row.row_key,
        "StudyUid": row.study_uid,
        "SeriesUid": row.series_uid,
        "InstanceUid": row.instance_uid,
        "ChangeFeedSequence": row.sequence,
        "Exception": row.exception,
    }
    if row.retry_number is not None:
        found["RetryNumber"] = row.retry_number
    return found

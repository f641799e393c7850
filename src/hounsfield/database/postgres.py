"""PostgreSQL (or a wire-compatible distributed database) through asyncpg."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import asyncpg

from hounsfield.database.engine import Dialect, PendingWrite, Row, Shortcut, Unit, Value
from hounsfield.errors import StoreUnavailable, TookTooLong

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

T = TypeVar("T")

MAX_CONNECTIONS = 16
"""Connections of one process; commits of several run at the same time and share the server's WAL flush."""
CONNECT_SECONDS = 10
CHECK_SECONDS = 10
ATTEMPTS = 5
"""How often a unit is tried when the server aborts it in favour of another (deadlock, serialisation, lost row)."""

_CONFLICTS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ForeignKeyViolationError,
    asyncpg.UniqueViolationError,
)
_UNREACHABLE = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
    asyncpg.ReadOnlySQLTransactionError,
    # The database was dropped or the user locked out while we ran.
    asyncpg.InvalidCatalogNameError,
    asyncpg.InvalidAuthorizationSpecificationError,
)


@lru_cache(maxsize=2048)
def numbered(sql: str) -> str:
    """``sql`` with its ``?`` placeholders as ``$1``, ``$2``, …

    >>> numbered("SELECT a FROM t WHERE b = ? AND c = ?")
    'SELECT a FROM t WHERE b = $1 AND c = $2'
    """
    head, *rest = sql.split("?")
    return head + "".join(f"${number}{text}" for number, text in enumerate(rest, 1))


async def _nothing_to_reset(_connection: "asyncpg.Connection[Any]") -> None:
    """What a connection needs before its next use: no unit leaves settings, cursors or locks behind its transaction,
    so four statements and a round trip after each are saved. Open transactions asyncpg rolls back by itself."""


class PostgresTransaction:
    """See :class:`~hounsfield.database.engine.Transaction`."""

    dialect: Dialect = "postgresql"

    def __init__(self, connection: "PoolConnectionProxy[Any]") -> None:
        self._connection = connection

    async def execute(self, sql: str, *values: Value) -> int:
        status = await self._connection.execute(numbered(sql), *values)
        count = status.rpartition(" ")[2]
        return int(count) if count.isdigit() else 0

    async def execute_many(self, sql: str, rows: Iterable[tuple[Value, ...]]) -> None:
        await self._connection.executemany(numbered(sql), rows)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return [tuple(row) for row in await self._connection.fetch(numbered(sql), *values)]

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        row = await self._connection.fetchrow(numbered(sql), *values)
        return None if row is None else tuple(row)


class PostgresDatabase:
    """See :class:`~hounsfield.database.engine.Database`. The pool is opened on first use."""

    dialect: Dialect = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url
        self._pool: asyncpg.Pool[Any] | None = None
        self._opening = asyncio.Lock()

    async def fetch(self, sql: str, *values: Value, quick: bool = False) -> list[Row]:
        async def query() -> list[Row]:
            rows = await (await self._connected()).fetch(numbered(sql), *values)
            return [tuple(row) for row in rows]

        return await self._guarded(query)

    async def fetch_one(self, sql: str, *values: Value, quick: bool = False) -> Row | None:
        rows = await self.fetch(sql, *values)
        return rows[0] if rows else None

    async def read(self, unit: Unit[T], *, seconds: float | None = None) -> T:
        async def query() -> T:
            pool = await self._connected()
            async with pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                try:
                    # A statement that is cancelled here is cancelled in the server, too.
                    async with asyncio.timeout(seconds):
                        return await unit(PostgresTransaction(connection))
                except TimeoutError as error:
                    if seconds is None:
                        raise
                    raise TookTooLong(f"Reading took longer than {seconds:g} seconds.") from error

        return await self._guarded(query)

    async def write(self, unit: Unit[T]) -> T:
        async def attempt() -> T:
            pool = await self._connected()
            async with pool.acquire() as connection, connection.transaction():
                return await unit(PostgresTransaction(connection))

        for number in range(1, ATTEMPTS + 1):
            try:
                return await self._guarded(attempt)
            except _CONFLICTS:
                if number == ATTEMPTS:
                    raise
                await asyncio.sleep(0.01 * 2**number)
        raise AssertionError("unreachable")

    def pending(self, unit: Unit[T], shortcut: Shortcut[T] | None = None) -> PendingWrite[T]:
        return _Pending(self, unit)

    async def check(self) -> None:
        # A server that hangs keeps the connection open for good.
        try:
            await asyncio.wait_for(self.fetch("SELECT 1"), CHECK_SECONDS)
        except TimeoutError as error:
            raise StoreUnavailable("The index database does not answer.") from error

    async def close(self) -> None:
        if self._pool is not None:
            await self._pool.close()
            self._pool = None

    async def _connected(self) -> "asyncpg.Pool[Any]":
        if self._pool is None:
            async with self._opening:
                if self._pool is None:
                    self._pool = await asyncpg.create_pool(
                        self._url,
                        min_size=1,
                        max_size=MAX_CONNECTIONS,
                        timeout=CONNECT_SECONDS,
                        reset=_nothing_to_reset,
                    )
        return self._pool

    @staticmethod
    async def _guarded(work: Callable[[], Awaitable[T]]) -> T:
        try:
            return await work()
        except _UNREACHABLE as error:
            # What the server itself refuses is rolled back; of a connection that broke, nobody knows.
            undone = isinstance(error, (asyncpg.InsufficientResourcesError, asyncpg.ReadOnlySQLTransactionError))
            text = f"The index database cannot be used: {type(error).__name__}."
            raise StoreUnavailable(text, undone=undone) from error


class _Pending(Generic[T]):
    """See :class:`~hounsfield.database.engine.PendingWrite`: a task that begins when any thread says so."""

    def __init__(self, database: PostgresDatabase, unit: Unit[T]) -> None:
        self._database = database
        self._unit = unit
        self._loop = asyncio.get_running_loop()
        self._begun: asyncio.Future[asyncio.Task[T]] = self._loop.create_future()

    def begin(self) -> None:
        self._loop.call_soon_threadsafe(self._start)

    async def result(self) -> T:
        return await (await self._begun)

    def _start(self) -> None:
        self._begun.set_result(self._loop.create_task(self._database.write(self._unit)))

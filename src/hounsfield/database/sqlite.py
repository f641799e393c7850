"""SQLite: one writer at a time per process, with group commit, a few reader threads, WAL, synchronous=FULL.

All units waiting when a writer begins share one ``BEGIN IMMEDIATE … COMMIT`` and so one sync of the disk, each in
a savepoint of its own: one that fails does not take its neighbours along. Several processes may open the same file;
``BEGIN IMMEDIATE`` protects them from each other, and a lock file beside the database has them wait in turn.

Whoever begins a unit in a thread that may wait is the writer, unless there is one, who then does it as well; what is
begun on the event loop is handed to a thread of its own.
"""

import asyncio
import fcntl
import os
import queue
import re
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from hounsfield import faults
from hounsfield.database.engine import Dialect, PendingWrite, Row, Shortcut, Transaction, Unit, Value
from hounsfield.errors import StoreUnavailable, TookTooLong
from hounsfield.threads import Threads

T = TypeVar("T")

MAX_GROUP = 256
"""Units in one commit: enough to share a sync, few enough that the first waiter is not kept long."""
BUSY_TIMEOUT_MS = 20_000
"""How long a writer waits for another process's transaction; those take milliseconds."""
READER_THREADS = 4
WAL_AUTOCHECKPOINT_PAGES = 4_000
"""16 MiB: a checkpoint rewrites hot index pages once instead of many times."""
WAL_KEPT_BYTES = 64 << 20
"""What a log that a long read let grow is cut to afterwards; it would keep its size for ever."""
CACHE_KIB = 16_384
"""Page cache of each connection."""
PROGRESS_STEPS = 100_000
"""Steps of SQLite's machine between two looks at the clock, where a read may take so long only: a few milliseconds."""
MMAP_BYTES = 1 << 30
"""Readers see the page cache of the operating system without copying."""


def connect(path: Path | str, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with this product's pragmas, in autocommit mode, usable from any one thread at a time."""
    connection = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_MS / 1000, isolation_level=None, check_same_thread=False, cached_statements=256
    )
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    switch_to_wal(connection)
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    connection.execute(f"PRAGMA wal_autocheckpoint={WAL_AUTOCHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={WAL_KEPT_BYTES}")
    connection.create_function("regexp", 2, _regexp, deterministic=True)
    if read_only:
        connection.execute(f"PRAGMA mmap_size={MMAP_BYTES}")
        connection.execute("PRAGMA query_only=ON")
    return connection


def switch_to_wal(connection: sqlite3.Connection) -> None:
    """Journal mode WAL, also while another process creates or switches the same file.

    SQLite does not wait there, whatever its busy time-out. Raises sqlite3.OperationalError.
    """
    until = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as problem:
            if problem.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
        time.sleep(0.01)


def _regexp(pattern: str, text: str | None) -> bool:
    """SQLite's ``text REGEXP pattern``, which it leaves to the application."""
    return text is not None and re.search(pattern, text) is not None


def unavailable(error: sqlite3.Error | OSError, *, undone: bool = False) -> StoreUnavailable:
    """The refusal a client sees when SQLite cannot do its work (disk full, I/O error, locked for too long)."""
    reason = "database or disk is full" if _disk_is_full(error) else str(error)
    return StoreUnavailable(f"The index database cannot be used: {reason}.", undone=undone)


def _of_unit(error: Exception) -> Exception:
    """The error of a unit that was rolled back."""
    return unavailable(error, undone=True) if isinstance(error, sqlite3.OperationalError) else error


def _disk_is_full(error: BaseException) -> bool:
    # No room for the index of the log is an "I/O error" to SQLite.
    return getattr(error, "sqlite_errorname", "") in ("SQLITE_FULL", "SQLITE_IOERR_SHMSIZE")


_REFUSALS = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)


def _never_began(error: sqlite3.Error) -> bool:
    """Whether a transaction was refused before it changed anything."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _REFUSALS


class SqliteTransaction:
    """A :class:`~hounsfield.database.engine.Transaction` whose methods never suspend."""

    dialect: Dialect = "sqlite"

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def execute(self, sql: str, *values: Value) -> int:
        return self._connection.execute(sql, values).rowcount

    async def execute_many(self, sql: str, rows: Iterable[tuple[Value, ...]]) -> None:
        self._connection.executemany(sql, rows)

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        return self._connection.execute(sql, values).fetchall()

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        # fetchall, not fetchone: a statement with RETURNING left half-read would stay open.
        rows = self._connection.execute(sql, values).fetchall()
        return rows[0] if rows else None


def run_to_end(work: Awaitable[T]) -> T:
    """The result of a coroutine that never suspends."""
    coroutine = cast(Coroutine[Any, Any, T], work)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast(T, stop.value)
    coroutine.close()
    raise RuntimeError("a unit of work may await nothing but its transaction")


@dataclass(slots=True)
class _Job(Generic[T]):
    """A unit on its way through the writer: see :class:`~hounsfield.database.engine.PendingWrite`."""

    take: "Callable[[_Job[T]], None]"
    """The database's."""
    unit: Unit[T]
    shortcut: Shortcut[T] | None
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[T]
    home: int
    """The thread of ``loop``."""
    returned: T | None = None
    error: BaseException | None = None
    is_done: bool = False
    """Whether one of these is set for good."""
    is_awaited: bool = False
    """Whether ``future`` has to be resolved when it is done. Either side sets its own flag before it looks at the
    other's, so one of them sees that both are set."""

    def begin(self) -> None:
        self.take(self)

    async def result(self) -> T:
        self.is_awaited = True
        if self.is_done and not self.future.done():
            _resolve([self])
        return await self.future


class SqliteDatabase:
    """See :class:`~hounsfield.database.engine.Database`."""

    dialect: Dialect = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._jobs: deque[_Job[Any]] = deque()
        self._writing = threading.Lock()
        self._calls: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connections_lock = threading.Lock()
        self._readers = Threads(READER_THREADS, "sqlite-reader", for_readers=True)
        self._quick = self._connect_reader()
        self._writer_connection = connect(path)
        self._set_up: set[tuple[str, ...]] = set()  # of shortcuts, in that connection
        opened = path.stat()
        self._file = opened.st_dev, opened.st_ino
        self._queue_file = os.open(f"{path}-queue", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self._writer = threading.Thread(target=self._write_loop, name="sqlite-writer", daemon=True)
        self._writer.start()
        self._closed = False

    async def fetch(self, sql: str, *values: Value, quick: bool = False) -> list[Row]:
        try:
            if quick:
                return self._quick.execute(sql, values).fetchall()
            return await self._readers.run(self._fetch, sql, values)
        except sqlite3.OperationalError as error:
            raise unavailable(error) from error

    async def fetch_one(self, sql: str, *values: Value, quick: bool = False) -> Row | None:
        rows = await self.fetch(sql, *values, quick=quick)
        return rows[0] if rows else None

    async def read(self, unit: Unit[T], *, seconds: float | None = None) -> T:
        try:
            return await self._readers.run(self._read, unit, seconds)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
                raise TookTooLong(f"Reading took longer than {seconds:g} seconds.") from error
            raise unavailable(error) from error

    async def write(self, unit: Unit[T]) -> T:
        job = self.pending(unit)
        job.begin()
        return await job.result()

    def pending(self, unit: Unit[T], shortcut: Shortcut[T] | None = None) -> PendingWrite[T]:
        loop = asyncio.get_running_loop()
        return _Job(self._take, unit, shortcut, loop, loop.create_future(), threading.get_ident())

    async def check(self) -> None:
        await self.fetch("SELECT 1")
        try:
            found = self._path.stat()
        except OSError as error:
            raise StoreUnavailable("The index database's file is gone.") from error
        if (found.st_dev, found.st_ino) != self._file:
            # Both would go on working, and what is written here would be gone with the process.
            raise StoreUnavailable("The index database's file was replaced while the server ran.")

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._calls.put(False)
        await asyncio.get_running_loop().run_in_executor(None, self._writer.join)
        await asyncio.to_thread(self._readers.close)
        with self._writing:
            for connection in [*self._connections, self._writer_connection]:
                connection.close()
        os.close(self._queue_file)

    def _take(self, job: _Job[Any]) -> None:
        """The writer's next job, from any thread."""
        if self._closed:
            job.error = StoreUnavailable("The index database is closed.", undone=True)
            self._answer([job])
            return
        self._jobs.append(job)
        if threading.get_ident() == job.home:
            self._calls.put(True)
        else:
            self._work_off()

    def _connect_reader(self) -> sqlite3.Connection:
        connection = connect(self._path, read_only=True)
        with self._connections_lock:
            self._connections.append(connection)
        return connection

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect_reader()
        return connection

    def _fetch(self, sql: str, values: tuple[Value, ...]) -> list[Row]:
        return self._reader().execute(sql, values).fetchall()

    def _read(self, unit: Unit[T], seconds: float | None) -> T:
        connection = self._reader()
        connection.execute("BEGIN")
        try:
            if seconds is not None:
                until = time.monotonic() + seconds
                connection.set_progress_handler(lambda: time.monotonic() > until, PROGRESS_STEPS)
            return run_to_end(unit(SqliteTransaction(connection)))
        finally:
            connection.set_progress_handler(None, 0)
            connection.execute("ROLLBACK")

    def _write_loop(self) -> None:
        while self._calls.get():
            self._work_off()
        self._work_off()

    def _work_off(self) -> None:
        """Write what waits, unless another thread is writing: that one looks again when it has let go of the lock."""
        while self._jobs and self._writing.acquire(blocking=False):
            try:
                with self._turn():
                    group = [self._jobs.popleft() for _ in range(min(len(self._jobs), MAX_GROUP))]
                    if group:
                        self._commit(group)
                self._answer(group)
            finally:
                self._writing.release()

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """This process's turn to write, among all on this database.

        SQLite alone would have it look again after growing pauses, while the lock lay idle. What it does itself is
        the protection; this is only the queue, so a lock that cannot be had is no error.
        """
        with suppress(OSError):
            fcntl.flock(self._queue_file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with suppress(OSError):
                fcntl.flock(self._queue_file, fcntl.LOCK_UN)

    def _commit(self, group: list[_Job[Any]]) -> None:
        """Run the group in one transaction, leaving in each job its result or its error."""
        connection = self._writer_connection
        transaction: Transaction = SqliteTransaction(connection)
        committing = False
        try:
            for job in group:
                self._prepare(job.shortcut)
            if len(group) == 1 and self._ended_alone(group[0]):
                return
            connection.execute("BEGIN IMMEDIATE")
            faults.point("transaction: begun")
            for job in group:
                if len(group) > 1 and self._shortened(job):
                    continue
                # Where nobody else's work is in the transaction, it is rolled back as a whole.
                undo = [] if len(group) == 1 else ["ROLLBACK TO unit", "RELEASE unit"]
                if undo:
                    connection.execute("SAVEPOINT unit")
                try:
                    job.returned = run_to_end(job.unit(transaction))
                    if undo:
                        connection.execute("RELEASE unit")
                except Exception as error:
                    if not connection.in_transaction:
                        # SQLite gave up the whole transaction (disk full, I/O error): nobody's work is saved.
                        raise
                    job.error = _of_unit(error)
                    for statement in undo or ["ROLLBACK"]:
                        connection.execute(statement)
            if not connection.in_transaction:
                return
            faults.point("transaction: before commit")
            committing = True
            connection.execute("COMMIT")
            faults.point("transaction: committed")
        except Exception as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            # A failed sync may leave the whole transaction in the log, for a restart to find; a full disk does not.
            undone = not committing or _disk_is_full(error)
            for job in group:
                job.error = unavailable(error, undone=undone) if isinstance(error, sqlite3.Error) else error

    def _prepare(self, shortcut: Shortcut[Any] | None) -> None:
        """Make what a shortcut needs, before a transaction that might undo it."""
        if shortcut is not None and shortcut.setup not in self._set_up:
            for statement in shortcut.setup:
                self._writer_connection.execute(statement)
            self._set_up.add(shortcut.setup)

    def _ended_alone(self, job: _Job[Any]) -> bool:
        """Whether a job was done by its shortcut, or failed for good: a statement by itself is a transaction."""
        if job.shortcut is None:
            return False
        faults.point("transaction: by one statement")
        try:
            if not self._shortened(job):
                return False
        except sqlite3.Error as error:
            # It may have come as far as the sync, as a commit does.
            job.error = unavailable(error, undone=_disk_is_full(error) or _never_began(error))
            return True
        faults.point("transaction: committed")
        return True

    def _shortened(self, job: _Job[Any]) -> bool:
        """Whether a job could be done by its shortcut; if not, nothing has been done. Raises sqlite3.Error."""
        shortcut = job.shortcut
        if shortcut is None:
            return False
        connection = self._writer_connection
        try:
            connection.execute(shortcut.statement, shortcut.values())
        except sqlite3.IntegrityError:
            return False
        except sqlite3.Error:
            # In a transaction that goes on, the unit meets the same by itself.
            if connection.in_transaction:
                return False
            raise
        job.returned = shortcut.result
        return True

    @staticmethod
    def _answer(group: list[_Job[Any]]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[_Job[Any]]] = {}
        for job in group:
            job.is_done = True
            if job.is_awaited:
                by_loop.setdefault(job.loop, []).append(job)
        for loop, jobs in by_loop.items():
            # A loop that has been closed meanwhile has nobody left who waits.
            if not loop.is_closed():
                loop.call_soon_threadsafe(_resolve, jobs)


def _resolve(jobs: list[_Job[Any]]) -> None:
    for job in jobs:
        if job.future.done():
            continue
        if job.error is not None:
            job.future.set_exception(job.error)
        else:
            job.future.set_result(job.returned)

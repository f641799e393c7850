"""What every room may ask of a database: statements, units of work, a health check.

SQL is written once, with ``?`` placeholders and in the dialect both engines share; a *unit of work* is an
``async def unit(tx)`` that awaits nothing but its transaction. SQLite drives such a unit to its end on the writing
thread without an event loop, PostgreSQL awaits it; so the same function is one transaction on either engine.
"""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Value = str | int | float | bytes | None | list[int] | list[str] | list[str | None]
"""Lists are PostgreSQL's arrays, for statements that are written for it."""
Row = tuple[Any, ...]
Dialect = Literal["sqlite", "postgresql"]


class Transaction(Protocol):
    """One open transaction. Statements take ``?`` placeholders and positional values."""

    @property
    def dialect(self) -> Dialect:
        """Which engine runs this, for the few statements that differ."""

    async def execute(self, sql: str, *values: Value) -> int:
        """Run a statement and return how many rows it changed."""

    async def execute_many(self, sql: str, rows: Iterable[tuple[Value, ...]]) -> None:
        """Run a statement once for every row of values."""

    async def fetch(self, sql: str, *values: Value) -> list[Row]:
        """Run a statement and return all its rows."""

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        """Run a statement and return its first row, or None."""


Unit = Callable[[Transaction], Awaitable[T]]


@dataclass(frozen=True, slots=True)
class Shortcut(Generic[T]):
    """One statement that does all a unit of work does, or, where it cannot, fails by a constraint and does nothing.

    For SQLite, which runs the unit where the statement fails. ``setup`` makes what the statement needs, in the
    connection and nowhere else; ``values`` are asked for when it is run.
    """

    setup: tuple[str, ...]
    statement: str
    values: Callable[[], tuple[Value, ...]]
    result: T
    """What the unit returns then."""


class PendingWrite(Protocol[T_co]):
    """A write that is ready to be begun."""

    def begin(self) -> None:
        """Begin, once. Any thread may call this; one that is not the event loop's may be made to do the work."""

    async def result(self) -> T_co:
        """What :meth:`Database.write` returns or raises; waits for ever for what nobody begins."""


class Database(Protocol):
    """A connection to one of the two engines, for one process and one event loop."""

    @property
    def dialect(self) -> Dialect:
        """Which engine this is."""

    async def fetch(self, sql: str, *values: Value, quick: bool = False) -> list[Row]:
        """Rows of one read-only statement.

        ``quick`` promises an index look-up of a few rows: SQLite then answers on the calling thread, which is far
        cheaper than a hop to a reader thread. Raises StoreUnavailable when the database cannot be reached.
        """

    async def fetch_one(self, sql: str, *values: Value, quick: bool = False) -> Row | None:
        """The first row of :meth:`fetch`, or None."""

    async def read(self, unit: Unit[T], *, seconds: float | None = None) -> T:
        """Run several reads on one snapshot. Raises TookTooLong when they are not done after ``seconds``."""

    async def write(self, unit: Unit[T]) -> T:
        """Run ``unit`` atomically; when this returns, its effect is durable.

        Many concurrent units may share one commit. A unit that raises leaves nothing behind and the error reaches
        the caller. A unit may be run again after a conflict between processes, so it must have no effect outside
        the database. Raises StoreUnavailable when the database refuses to write.
        """

    def pending(self, unit: Unit[T], shortcut: Shortcut[T] | None = None) -> PendingWrite[T]:
        """``write`` of ``unit``, to be begun by whoever finishes what must come before it."""

    async def check(self) -> None:
        """Return if the database answers; raise StoreUnavailable if not."""

    async def close(self) -> None:
        """Finish the writes under way and release every connection."""

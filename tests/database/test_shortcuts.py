"""The short way of a write on SQLite (database.engine.Shortcut)."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hounsfield.database import migrate, sqlite
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database, Shortcut, Transaction, Unit
from hounsfield.errors import StoreUnavailable

SETUP = (
    "CREATE TEMP VIEW short AS SELECT NULL AS name",
    "CREATE TEMP TRIGGER put INSTEAD OF INSERT ON short BEGIN "
    "INSERT INTO lease (name, owner, expires) VALUES (NEW.name, 'short', 0); "
    "INSERT INTO lease (name, owner, expires) VALUES (NEW.name || '+', 'short', 0); END",
)


@pytest.fixture
async def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_MS", 200)
    url = f"sqlite:///{tmp_path / 'index.db'}"
    migrate.upgrade(url)
    opened = open_database(url)
    yield opened
    await opened.close()


def shortcut(name: str, statement: str = "INSERT INTO short VALUES (?)") -> Shortcut[str]:
    return Shortcut(SETUP, statement, lambda: (name,), "short")


def long(name: str, seconds: float = 0.0) -> Unit[str]:
    async def unit(tx: Transaction) -> str:
        await tx.execute("INSERT INTO lease (name, owner, expires) VALUES (?, 'long', 0)", name)
        time.sleep(seconds)
        return "long"

    return unit


async def write(database: Database, unit: Unit[str], short: Shortcut[str] | None = None) -> str:
    begun = database.pending(unit, short)
    begun.begin()
    return await begun.result()


async def rows(database: Database) -> list[tuple[object, ...]]:
    return [tuple(row) for row in await database.fetch("SELECT name, owner FROM lease ORDER BY name")]


async def test_the_statement_does_it(database: Database) -> None:
    assert await write(database, long("a"), shortcut("a")) == "short"
    assert await rows(database) == [("a", "short"), ("a+", "short")]


async def test_a_constraint_undoes_the_statement_and_the_unit_is_run(database: Database) -> None:
    await write(database, long("a+"))
    assert await write(database, long("a"), shortcut("a")) == "long"
    assert await rows(database) == [("a", "long"), ("a+", "long")]


async def test_several_in_one_transaction(database: Database) -> None:
    """Each by its statement or its unit, whatever becomes of the others."""
    first = database.pending(long("first", 0.3))
    writing = asyncio.create_task(asyncio.to_thread(first.begin))
    await asyncio.sleep(0.1)
    asked = [
        write(database, long("a"), shortcut("a")),
        write(database, long("b"), shortcut("b", "INSERT INTO nowhere VALUES (?)")),
        write(database, long("a"), shortcut("a")),
        write(database, long("c")),
        write(database, long("d"), shortcut("d")),
    ]
    results = await asyncio.gather(*asked, return_exceptions=True)
    await writing
    assert [results[number] for number in (0, 1, 3, 4)] == ["short", "long", "long", "short"]
    assert isinstance(results[2], sqlite3.IntegrityError)
    names = [name for name, _ in await rows(database)]
    assert names == ["a", "a+", "b", "c", "d", "d+", "first"]


async def test_a_statement_that_breaks_off(database: Database) -> None:
    """It may have come as far as a commit whose sync fails, so nobody may say that it is undone."""
    with pytest.raises(StoreUnavailable) as refused:
        await write(database, long("a"), shortcut("a", "INSERT INTO nowhere VALUES (?)"))
    assert not refused.value.undone
    assert await rows(database) == []
    assert await write(database, long("a"), shortcut("a")) == "short"


async def test_a_statement_that_never_gets_the_lock(database: Database, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "index.db", isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable) as refused:
            await write(database, long("a"), shortcut("a"))
        assert refused.value.undone
        other.execute("ROLLBACK")
    assert await write(database, long("a"), shortcut("a")) == "short"

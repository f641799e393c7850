"""What the two engines promise, the same for both (database/engine.py)."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hounsfield.database import leases, migrate, sqlite
from hounsfield.database.connect import is_sqlite, open_database, sqlite_path
from hounsfield.database.engine import Database, Transaction, Unit
from hounsfield.database.postgres import numbered
from hounsfield.database.sqlite import run_to_end
from hounsfield.errors import SettingsError, StoreUnavailable


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A new, migrated database."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("migrated_postgres"))
    made = f"sqlite:///{tmp_path / 'index.db'}"
    migrate.upgrade(made)
    return made


@pytest.fixture
def migrated_postgres(postgres_url: str) -> str:
    """A new, migrated PostgreSQL database."""
    migrate.upgrade(postgres_url)
    return postgres_url


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    opened = open_database(url)
    yield opened
    await opened.close()


def put(name: str, owner: str = "me") -> Unit[int]:
    async def unit(tx: Transaction) -> int:
        return await tx.execute("INSERT INTO lease (name, owner, expires) VALUES (?, ?, ?)", name, owner, 0)

    return unit


async def names(database: Database) -> list[str]:
    return [row[0] for row in await database.fetch("SELECT name FROM lease ORDER BY name")]


async def test_a_write_is_seen_by_the_next_read(database: Database) -> None:
    assert await database.write(put("a")) == 1
    assert await names(database) == ["a"]
    assert await database.fetch_one("SELECT owner FROM lease WHERE name = ?", "a", quick=True) == ("me",)
    assert await database.fetch_one("SELECT owner FROM lease WHERE name = ?", "b") is None


async def test_a_unit_that_fails_leaves_nothing_and_takes_no_neighbour_along(database: Database) -> None:
    async def failing(tx: Transaction) -> int:
        await tx.execute("INSERT INTO lease (name, owner, expires) VALUES (?, ?, ?)", "bad", "me", 0)
        raise ValueError("on purpose")

    units: list[Unit[int]] = [failing if number % 3 == 1 else put(f"good-{number:02}") for number in range(30)]
    results = await asyncio.gather(*(database.write(unit) for unit in units), return_exceptions=True)
    assert [type(result) for result in results] == [ValueError if n % 3 == 1 else int for n in range(30)]
    assert await names(database) == [f"good-{number:02}" for number in range(30) if number % 3 != 1]


async def test_statements_of_a_unit_see_each_other(database: Database) -> None:
    async def unit(tx: Transaction) -> list[tuple[str, int]]:
        await tx.execute_many(
            "INSERT INTO lease (name, owner, expires) VALUES (?, ?, ?)", [("x", "a", 1), ("y", "b", 2)]
        )
        assert await tx.execute("UPDATE lease SET expires = expires + 1") == 2
        assert await tx.fetch_one("SELECT count(*) FROM lease") == (2,)
        return [(row[0], row[1]) for row in await tx.fetch("SELECT name, expires FROM lease ORDER BY name")]

    assert await database.write(unit) == [("x", 2), ("y", 3)]


async def test_a_read_works_on_one_snapshot(migrated_postgres: str) -> None:
    """Only here: on SQLite a unit may await nothing but its transaction, so nothing can happen in between."""
    database = open_database(migrated_postgres)
    await database.write(put("a"))

    async def unit(tx: Transaction) -> tuple[int, int]:
        before = await tx.fetch("SELECT name FROM lease")
        await database.write(put("b"))
        return len(before), len(await tx.fetch("SELECT name FROM lease"))

    assert await database.read(unit) == (1, 1)
    assert await names(database) == ["a", "b"]
    await database.close()


async def test_concurrent_counters_lose_nothing(database: Database, url: str) -> None:
    """Two connections, as two processes have them, adding to one row."""
    other = open_database(url)
    await database.write(put("counter"))

    async def unit(tx: Transaction) -> None:
        await tx.execute("UPDATE lease SET expires = expires + 1 WHERE name = ?", "counter")

    await asyncio.gather(*(one.write(unit) for one in [database, other] * 50))
    assert await database.fetch_one("SELECT expires FROM lease") == (100,)
    await other.close()


async def test_leases(database: Database) -> None:
    assert await leases.acquire(database, "work", "one", 60)
    assert not await leases.acquire(database, "work", "two", 60)
    assert await leases.acquire(database, "work", "one", 0.0)
    await asyncio.sleep(0.01)
    assert await leases.acquire(database, "work", "two", 60)
    await leases.release(database, "work", "one")
    assert not await leases.acquire(database, "work", "one", 60)
    await leases.release(database, "work", "two")
    assert await leases.acquire(database, "work", "one", 60)


async def test_writes_begun_by_threads_and_by_the_loop_are_all_done_once(database: Database) -> None:
    """Whoever writes takes along what others have begun meanwhile; nobody is left waiting, whoever looks first."""

    async def one(number: int) -> int:
        await asyncio.sleep(number % 7 / 1000)
        if number % 3 == 0:
            return await database.write(put(f"{number:03}"))
        begun = database.pending(put(f"{number:03}"))
        thread = asyncio.to_thread(begun.begin)
        if number % 3 == 1:
            await thread  # done, perhaps, before anybody waits for it
            return await begun.result()
        _, result = await asyncio.gather(thread, begun.result())
        return result

    for turn in range(0, 600, 200):
        async with asyncio.timeout(30):
            assert await asyncio.gather(*(one(turn + number) for number in range(200))) == [1] * 200
    assert await names(database) == [f"{number:03}" for number in range(600)]


async def test_a_write_begun_by_a_thread_fails_where_it_is_awaited(database: Database) -> None:
    async def failing(_: Transaction) -> int:
        raise ValueError("on purpose")

    begun = database.pending(failing)
    await asyncio.to_thread(begun.begin)
    with pytest.raises(ValueError, match="on purpose"):
        await asyncio.wait_for(begun.result(), 20)
    begun = database.pending(failing)
    waiting = asyncio.create_task(begun.result())
    await asyncio.sleep(0)
    await asyncio.to_thread(begun.begin)
    with pytest.raises(ValueError, match="on purpose"):
        await asyncio.wait_for(waiting, 20)


async def test_a_closed_database_writes_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'index.db'}"
    migrate.upgrade(url)
    database = open_database(url)
    begun = database.pending(put("late"))
    waiting = [asyncio.create_task(database.write(put(f"{number}"))) for number in range(20)]
    await asyncio.sleep(0)
    await database.close()
    assert await asyncio.wait_for(asyncio.gather(*waiting), 20) == [1] * 20, "what was begun is finished"
    await asyncio.to_thread(begun.begin)
    with pytest.raises(StoreUnavailable, match="closed") as refused:
        await asyncio.wait_for(begun.result(), 20)
    assert refused.value.undone


def test_a_unit_may_await_nothing_else() -> None:
    async def unit() -> None:
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="nothing but its transaction"):
        run_to_end(unit())


def test_placeholders_are_numbered() -> None:
    assert numbered("SELECT 1") == "SELECT 1"
    assert numbered("INSERT INTO t VALUES (?, ?) RETURNING a") == "INSERT INTO t VALUES ($1, $2) RETURNING a"


def test_urls() -> None:
    assert sqlite_path("sqlite:////var/lib/a%20b/index.db") == Path("/var/lib/a b/index.db")
    assert is_sqlite("sqlite:///x.db") and not is_sqlite("postgresql://h/d")
    for bad in ("mysql://h/d", "index.db", ""):
        with pytest.raises(SettingsError):
            is_sqlite(bad)
    with pytest.raises(SettingsError):
        sqlite_path("sqlite://")


async def test_a_database_that_is_away_is_unavailable() -> None:
    database = open_database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable):
        await database.check()
    with pytest.raises(StoreUnavailable):
        await database.write(put("a"))


@pytest.mark.peer
async def test_what_the_server_refuses_is_known_to_be_undone(migrated_postgres: str) -> None:
    database = open_database(migrated_postgres)

    async def unit(tx: Transaction) -> None:
        await tx.execute("SET TRANSACTION READ ONLY")
        await put("never")(tx)

    with pytest.raises(StoreUnavailable) as caught:
        await database.write(unit)
    assert caught.value.undone
    assert "never" not in await names(database)
    await database.close()
    away = open_database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(StoreUnavailable) as caught:
        await away.write(put("never"))
    assert not caught.value.undone


async def test_a_full_disk_fails_the_whole_group_and_nothing_is_half_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'index.db'}"
    migrate.upgrade(url)
    with sqlite3.connect(tmp_path / "index.db") as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.close()
    database = open_database(url)

    async def limit(tx: Transaction) -> None:
        await tx.fetch(f"PRAGMA max_page_count = {pages + 2}")

    await database.write(limit)
    big = "x" * 200_000
    results = await asyncio.gather(
        database.write(put("small")),
        database.write(put("big", big)),
        return_exceptions=True,
    )
    assert isinstance(results[1], StoreUnavailable)
    assert results[1].undone
    expected = [] if isinstance(results[0], StoreUnavailable) else ["small"]
    assert await names(database) == expected
    await database.write(put("after"))
    assert "after" in await names(database)
    await database.close()


KILLED = """
import asyncio, sys
from hounsfield.database.connect import open_database

async def main():
    database = open_database(sys.argv[1])
    async def add(number):
        async def unit(tx):
            await tx.execute("INSERT INTO lease (name, owner, expires) VALUES (?, ?, ?)", f"{number:06}", "x", number)
        await database.write(unit)
        print(number, flush=True)
    for start in range(0, 100000, 8):
        await asyncio.gather(*(add(number) for number in range(start, start + 8)))

asyncio.run(main())
"""


def test_the_log_a_long_read_let_grow_is_cut_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "WAL_KEPT_BYTES", 100_000)
    path, log = tmp_path / "a.db", tmp_path / "a.db-wal"
    writer, reader = sqlite.connect(path), sqlite.connect(path, read_only=True)
    writer.execute("CREATE TABLE piece (content BLOB)")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM piece").fetchall()
    for _ in range(30):
        writer.execute("INSERT INTO piece VALUES (zeroblob(1000000))")
    assert log.stat().st_size > 20_000_000
    reader.execute("ROLLBACK")
    writer.execute("PRAGMA wal_checkpoint(PASSIVE)")
    writer.execute("INSERT INTO piece VALUES (zeroblob(1000))")
    assert log.stat().st_size <= 100_000
    reader.close()
    writer.close()


async def test_what_was_acknowledged_survives_kill_9(url: str) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, url], stdout=subprocess.PIPE)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(100)]
    os.kill(process.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in process.stdout.read().split()]
    process.wait()
    process.stdout.close()
    database = open_database(url)
    found = {int(row[0]) for row in await database.fetch("SELECT name FROM lease")}
    await database.close()
    assert found >= set(acknowledged)

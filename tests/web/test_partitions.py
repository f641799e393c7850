"""Names of data partitions are kept for a while, and not more of them than asked for (server.md §4)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from hounsfield.database import migrate
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.errors import BadRequest
from hounsfield.index import partitions as index
from hounsfield.index.partitions import Partition
from hounsfield.web import partitions as web
from hounsfield.web.partitions import Partitions


class Clock:
    """In place of module time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Asked(list[str]):
    """The names the database is asked for."""


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    url = f"sqlite:///{tmp_path / 'index.db'}"
    migrate.upgrade(url)
    opened = open_database(url)
    yield opened
    await opened.close()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(web, "time", clock)
    return clock


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    asked, find = Asked(), index.find

    async def counted(database: Database, name: str) -> Partition | None:
        asked.append(name)
        return await find(database, name)

    monkeypatch.setattr(index, "find", counted)
    return asked


async def test_a_name_is_kept_for_the_time_set_however_often_it_is_used(
    database: Database, clock: Clock, asked: Asked
) -> None:
    known = Partitions(database, enabled=True, cache_size=10, cache_time=timedelta(minutes=5))
    with pytest.raises(BadRequest):
        await known.resolve("a", create=False)
    made = await known.resolve("a", create=True)
    assert asked == ["a", "a"]
    for _ in range(3):
        clock.now += 99
        assert await known.resolve("a", create=False) == made
    assert len(asked) == 2
    clock.now += 4
    assert await known.resolve("a", create=False) == made
    assert len(asked) == 3


async def test_the_names_used_last_are_kept(database: Database, asked: Asked) -> None:
    known = Partitions(database, enabled=True, cache_size=2, cache_time=timedelta(minutes=5))
    for name in ("a", "b", "a", "c"):
        await known.resolve(name, create=True)
    asked.clear()
    for name in ("a", "c", "b"):
        await known.resolve(name, create=False)
    assert asked == ["b"]


async def test_none_may_be_kept(database: Database, asked: Asked) -> None:
    known = Partitions(database, enabled=True, cache_size=0, cache_time=timedelta(minutes=5))
    for _ in range(3):
        await known.resolve("a", create=True)
    assert asked == ["a"] * 3

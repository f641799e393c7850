"""What tests of operations share: a database of either engine with a table that a test-only job writes to."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.database.migrate import upgrade
from tests.operations.counting import create_table

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)]


@pytest.fixture(scope="module", params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database shared by the tests of a module; each starts operations of its own."""
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path_factory.mktemp('operations') / 'index.db'}"
    else:
        found = cast("Callable[[], str]", request.getfixturevalue("postgres_database"))()
    upgrade(found)
    asyncio.run(create_table(found))
    return found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """The database, opened and without operations."""
    opened = open_database(url)
    for table in ("operation_part", "operation", "counted"):
        await opened.write(lambda tx, table=table: tx.execute(f"DELETE FROM {table}"))  # type: ignore[misc]
    yield opened
    await opened.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[Database]:
    """The same database as another process sees it."""
    opened = open_database(url)
    yield opened
    await opened.close()

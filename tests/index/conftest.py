"""Every test of this package runs on both engines."""

from collections.abc import AsyncIterator, Callable
from typing import cast

import pytest

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.database.migrate import upgrade

ENGINES = ["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)]


@pytest.fixture(scope="module", params=ENGINES)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a database with our schema, shared by the tests of a module."""
    if request.param == "sqlite":
        found = f"sqlite:///{tmp_path_factory.mktemp('index') / 'index.db'}"
    else:
        found = cast("Callable[[], str]", request.getfixturevalue("postgres_database"))()
    upgrade(found)
    return found


@pytest.fixture
async def database(url: str) -> AsyncIterator[Database]:
    """The database, opened."""
    opened = open_database(url)
    yield opened
    await opened.close()


@pytest.fixture
async def other(url: str) -> AsyncIterator[Database]:
    """The same database as another process sees it."""
    opened = open_database(url)
    yield opened
    await opened.close()

"""The store on both engines, and an HTTP client of it."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.database.migrate import upgrade
from hounsfield.fhir.store import FhirStore
from hounsfield.web.fhir import fhir_routes
from tests.peers.postgres import PostgresServer
from tests.web import anybody

BASE = "http://hospital.example/fhir"
TABLES = ("history", "resource", "head", "token", "string", "date", "reference")


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file."""
    path = tmp_path_factory.mktemp("fhir") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def fhir_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A migrated PostgreSQL database, emptied before each test that uses it."""
    url = postgres.create_database()
    upgrade(url)
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a migrated database of each engine, without FHIR rows."""
    if request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "fhir.db")
        return f"sqlite:///{tmp_path / 'fhir.db'}"
    url: str = request.getfixturevalue("fhir_postgres_url")
    asyncio.run(empty(url))
    return url


async def empty(url: str) -> None:
    """Remove all FHIR rows of a PostgreSQL database."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f"TRUNCATE {', '.join(f'fhir_{table}' for table in TABLES)}")
    finally:
        await connection.close()


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """An open database without FHIR rows."""
    database = open_database(database_url)
    yield database
    await database.close()


@pytest.fixture
def store(database: Database) -> FhirStore:
    """The store under test."""
    return FhirStore(database, BASE)


@pytest.fixture
async def client(store: FhirStore) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose relative URLs begin at the FHIR base."""
    transport = httpx.ASGITransport(app=anybody.application(fhir_routes(store)))
    headers = {"Content-Type": "application/fhir+json"}
    async with httpx.AsyncClient(transport=transport, base_url=BASE + "/", headers=headers) as client:
        yield client


async def found(client: httpx.AsyncClient, search: str) -> list[Any]:
    """The ids of all matches of a search, page by page."""
    ids = []
    url = search
    while url:
        answer = await client.get(url)
        assert answer.status_code == 200, answer.text
        bundle = answer.json()
        ids += [entry["resource"]["id"] for entry in bundle.get("entry", []) if entry["search"]["mode"] == "match"]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
    return ids

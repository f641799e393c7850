"""Databases, the embedded FHIR store as target, and options that do not make tests wait."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from hounsfield.cast.journal import Journal
from hounsfield.cast.options import CastOptions, RetryTiming
from hounsfield.cast.state import CastState
from hounsfield.cast.synchroniser import Synchroniser
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.database.migrate import upgrade
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirTarget
from tests.cast.faulty_target import FaultyTarget
from tests.cast.memory_archive import MemoryArchive
from tests.peers.postgres import PostgresServer

ROOT = "https://dicom.example.com/"
QUICK = RetryTiming(base=0.02, longest=0.1, probe=0.03)
OPTIONS = CastOptions(
    root_url=ROOT,
    poll_interval=timedelta(milliseconds=20),
    total_retry_duration=timedelta(seconds=0.5),
    retry_timing=QUICK,
)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file."""
    path = tmp_path_factory.mktemp("cast") / "template.db"
    upgrade(f"sqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The URL of a database of this test's own."""
    shutil.copy(sqlite_template, tmp_path / "cast.db")
    return f"sqlite:///{tmp_path / 'cast.db'}"


@pytest.fixture
async def database(sqlite_url: str) -> AsyncIterator[Database]:
    """That database, open."""
    database = open_database(sqlite_url)
    yield database
    await database.close()


@pytest.fixture(scope="module")
def cast_postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """A migrated PostgreSQL database."""
    url = postgres.create_database()
    upgrade(url)
    yield url
    postgres.drop_database(url)


@pytest.fixture
def state(database: Database) -> CastState:
    """Cast's tables in that database."""
    return CastState(database)


@pytest.fixture
def target(database: Database) -> EmbeddedTarget:
    """The embedded FHIR store in that database."""
    return EmbeddedTarget(FhirStore(database, "http://hospital.example/fhir"), "http://hospital.example/fhir")


Cast = Callable[..., Any]


@pytest.fixture
def cast(database: Database) -> Cast:
    """``await cast(archive, target, **options)``: one pass over what is new, without worker and lease."""

    async def one_pass(
        archive: MemoryArchive,
        target: FhirTarget,
        *,
        page_size: int = 1000,
        database: Database = database,
        **changes: Any,
    ) -> CastState:
        options = replace(OPTIONS, page_size=page_size, **changes)
        state = CastState(database)
        journal = Journal(state, target.endpoint, options.root_url)
        synchroniser = Synchroniser(target, state, journal, options, lambda: None)
        position = await journal.resume()
        while (latest := await archive.latest()) > position:
            page = await archive.page(position, page_size)
            through = min(page.through, latest)
            await synchroniser.process(page.entries, through)
            position = through
        return state

    return one_pass


@pytest.fixture
def archive() -> MemoryArchive:
    """An empty one."""
    return MemoryArchive()


@pytest.fixture
def faulty(target: EmbeddedTarget) -> FaultyTarget:
    """The embedded FHIR store, which fails when told to."""
    return FaultyTarget(target)

"""The migration chain: it makes exactly the declared schema, all or nothing, whoever else tries (both engines)."""

import asyncio
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from hounsfield.database import migrate
from hounsfield.database.connect import is_sqlite, sqlite_path
from hounsfield.database.migrations import environment
from hounsfield.database.schema import metadata
from hounsfield.errors import HounsfieldError, SettingsError


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.peer)])
def new_url(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """Call for the URL of a database that does not exist yet, or is empty."""
    if request.param == "postgresql":
        create: Callable[[], str] = request.getfixturevalue("postgres_database")
        return create
    paths = iter(range(100))
    return lambda: f"sqlite:///{tmp_path / f'{next(paths)}.db'}"


def run(url: str, work: Callable[[sa.Connection], Any]) -> Any:
    """What ``work`` gives on a connection, its effects committed."""
    if is_sqlite(url):
        engine = sa.create_engine(f"sqlite:///{sqlite_path(url)}")
        with engine.begin() as connection:
            result = work(connection)
        engine.dispose()
        return result

    async def inside() -> Any:
        engine = create_async_engine(sa.make_url(url).set(drivername="postgresql+asyncpg"))
        async with engine.begin() as connection:
            result = await connection.run_sync(work)
        await engine.dispose()
        return result

    return asyncio.run(inside())


def describe(connection: sa.Connection) -> list[tuple[Any, ...]]:
    """Everything the engine says about tables, columns, indexes and constraints, Alembic's own table left out."""
    if connection.dialect.name == "sqlite":
        rows = connection.execute(sa.text("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        return sorted((kind, name, _normal(sql)) for kind, name, sql in rows if "alembic_version" not in name)
    found: list[tuple[Any, ...]] = []
    for query in (
        "SELECT table_name, ordinal_position, column_name, data_type, collation_name, is_nullable, is_identity, "
        "column_default FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint "
        "WHERE connamespace = 'public'::regnamespace",
        "SELECT sequencename, data_type::text, '' FROM pg_sequences WHERE schemaname = 'public'",
    ):
        found += [tuple(map(str, row)) for row in connection.execute(sa.text(query)) if row[0] != "alembic_version"]
    return sorted(found)


def _normal(sql: str) -> str:
    """SQL whose layout and whose order of columns and table constraints do not matter: new columns come last."""
    text = " ".join(sql.replace('"', "").split())
    head, parenthesis, rest = text.partition("(")
    body, closing, options = rest.rpartition(")")
    lines = sorted(part.strip() for part in re.split(r",(?![^(]*\))", body))
    return " ".join([head, parenthesis, ", ".join(lines), closing, options])


def test_the_chain_makes_the_declared_schema(new_url: Callable[[], str]) -> None:
    migrated, declared = new_url(), new_url()
    migrate.upgrade(migrated)
    run(declared, metadata.create_all)
    assert run(migrated, describe) == run(declared, describe)


def test_alembic_finds_nothing_to_do(new_url: Callable[[], str]) -> None:
    url = new_url()
    migrate.upgrade(url)

    def compare(connection: sa.Connection) -> Any:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        return compare_metadata(context, metadata)

    assert run(url, compare) == []
    assert asyncio.run(migrate.current(url)) == migrate.HEAD


def test_the_newest_file_is_the_head_constant() -> None:
    script = ScriptDirectory.from_config(environment.configuration())
    assert script.get_heads() == [migrate.HEAD]
    files = sorted(path.name for path in (Path(environment.__file__).parent / "versions").glob("*.py"))
    assert files[-1].startswith(f"{migrate.HEAD}_")
    assert [revision.revision for revision in script.walk_revisions()] == [name[:4] for name in reversed(files)]


def test_a_database_that_is_not_there_has_no_revision(new_url: Callable[[], str]) -> None:
    url = new_url()
    assert asyncio.run(migrate.current(url)) is None
    if is_sqlite(url):
        assert not sqlite_path(url).exists()


def test_again_changes_nothing(new_url: Callable[[], str]) -> None:
    url = new_url()
    migrate.ensure(url)
    run(url, lambda connection: connection.execute(sa.text("UPDATE feed_head SET sequence = 7")))
    before = run(url, describe)
    migrate.upgrade(url)
    migrate.ensure(url)
    assert run(url, describe) == before
    assert run(url, rows) == (1, 1, 7)


def rows(connection: sa.Connection) -> tuple[int, int, int]:
    """Partitions, feed heads, and the sequence the head is at."""
    query = (
        "SELECT (SELECT count(*) FROM data_partition), (SELECT count(*) FROM feed_head), max(sequence) FROM feed_head"
    )
    first, second, third = connection.execute(sa.text(query)).one()
    return first, second, third


@pytest.fixture
def failing_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One more migration, which creates a table, changes rows and then fails."""
    scripts = tmp_path / "scripts"
    shutil.copytree(Path(environment.__file__).parent, scripts, ignore=shutil.ignore_patterns("__pycache__"))
    (scripts / "versions" / "9999_failing.py").write_text(
        f"""from alembic import op
import sqlalchemy as sa
revision, down_revision = "9999", "{migrate.HEAD}"


def upgrade():
    op.create_table("half_made", sa.Column("id", sa.Integer, primary_key=True))
    op.execute("UPDATE feed_head SET sequence = 99")
    raise RuntimeError("the migration failed")
"""
    )
    configuration = environment.configuration()
    configuration.set_main_option("script_location", str(scripts))
    monkeypatch.setattr(environment, "configuration", lambda: configuration)


@pytest.mark.usefixtures("failing_step")
def test_a_chain_that_fails_leaves_nothing(new_url: Callable[[], str]) -> None:
    url = new_url()
    with pytest.raises(RuntimeError, match="the migration failed"):
        migrate.upgrade(url)
    assert run(url, describe) == []
    assert asyncio.run(migrate.current(url)) is None


def test_a_step_that_fails_leaves_the_schema_before_it(
    new_url: Callable[[], str], request: pytest.FixtureRequest
) -> None:
    url = new_url()
    migrate.upgrade(url)
    before = run(url, describe)
    request.getfixturevalue("failing_step")
    with pytest.raises(RuntimeError, match="the migration failed"):
        migrate.upgrade(url)
    assert run(url, describe) == before
    assert run(url, rows) == (1, 1, 0)
    assert asyncio.run(migrate.current(url)) == migrate.HEAD


def test_three_processes_at_once(new_url: Callable[[], str]) -> None:
    url = new_url()
    command = [sys.executable, "-m", "hounsfield.database.migrate"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, **pipes) for _ in range(3)]  # type: ignore[call-overload]
    for process in processes:
        process.stdin.write(url.encode())
        process.stdin.close()
    for process in processes:
        output = process.stdout.read() + process.stderr.read()
        assert process.wait(60) == 0, output
        process.stdout.close()
        process.stderr.close()
    assert asyncio.run(migrate.current(url)) == migrate.HEAD
    assert run(url, rows) == (1, 1, 0)


def test_a_schema_newer_than_this_release_is_refused(new_url: Callable[[], str]) -> None:
    url = new_url()
    migrate.upgrade(url)
    run(url, lambda connection: connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'")))
    with pytest.raises(SettingsError, match="9999"):
        migrate.ensure(url)
    assert asyncio.run(migrate.current(url)) == "9999"


@pytest.mark.parametrize("content", [b"not a database, but long enough to be looked at as one" * 100, None])
def test_a_file_that_is_no_database_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "index.db"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    with pytest.raises(HounsfieldError):
        migrate.ensure(f"sqlite:///{path}")

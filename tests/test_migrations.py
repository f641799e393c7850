"""The migration chain: it makes exactly the declared schema, all or nothing, whoever else tries (both engines)."""

import asyncio
import json
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
from hounsfield.index.fragments import pack


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


# --- 0003: what is searched more, filled from stored metadata ---


class _Stored:
    """Rows as release 0002 left them: one study of two series, three instances, the newest saying least."""

    STUDY = (
        "INSERT INTO study (id, partition_key, study_uid, created, patient_name, patient_name_key) "
        "VALUES (1, 1, '1.2', 0, 'Yamada^Tarou=山田^太郎', 'yamada^tarou=山田^太郎')"
    )
    SERIES = "INSERT INTO series (id, partition_key, study_id, series_uid, created) VALUES (:id, 1, 1, :uid, 0)"
    INSTANCE = (
        "INSERT INTO instance (id, partition_key, study_id, series_id, sop_uid, transfer_syntax, file_key, file_size, "
        "created) VALUES (:id, 1, 1, :series, :uid, '', '', 1, 0)"
    )
    CONTENT = "INSERT INTO instance_content (instance_id, metadata) VALUES (:id, :metadata)"

    INSTANCES: tuple[tuple[int, int, dict[str, Any]], ...] = (
        (
            1,
            10,
            {
                "00080016": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
                "00080030": {"vr": "TM", "Value": ["1015"]},
                "00100040": {"vr": "CS", "Value": ["F "]},
                "00200010": {"vr": "SH", "Value": ["Old"]},
                "00200011": {"vr": "IS", "Value": [7]},
                "00200013": {"vr": "IS", "Value": [12]},
                "00400275": {
                    "vr": "SQ",
                    "Value": [
                        {"00400009": {"vr": "SH", "Value": ["Step"]}},
                        {},
                        {"00401001": {"vr": "SH", "Value": ["Proc"]}},
                    ],
                },
            },
        ),
        (
            2,
            10,
            {
                "00200010": {"vr": "SH", "Value": ["ÉTUDE"]},
                "0008103E": {"vr": "LO", "Value": ["x" * 65]},
                "00400245": {"vr": "TM", "Value": ["25"]},
            },
        ),
        (3, 11, {"00200010": {"vr": "SH"}, "0008103E": {"vr": "LO", "Value": ["Axial"]}}),
    )

    @classmethod
    def write(cls, connection: sa.Connection) -> None:
        connection.execute(sa.text(cls.STUDY))
        for series in (10, 11):
            connection.execute(sa.text(cls.SERIES), {"id": series, "uid": f"1.2.{series}"})
        for number, series, content in cls.INSTANCES:
            packed = pack(json.dumps(content).encode())
            # As version 0.1 packed them: without checksum and length.
            metadata = packed[:-8] if number == 1 else packed
            connection.execute(sa.text(cls.INSTANCE), {"id": number, "series": series, "uid": f"1.2.3.{number}"})
            connection.execute(sa.text(cls.CONTENT), {"id": number, "metadata": metadata})


def test_what_is_searched_more_is_filled_from_metadata(
    new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_url()
    with monkeypatch.context() as patch:
        patch.setattr(environment, "TARGET", "0002")
        migrate.upgrade(url)
    run(url, _Stored.write)
    migrate.upgrade(url)

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return run(url, lambda connection: [tuple(row) for row in connection.execute(sa.text(sql))])  # type: ignore[no-any-return]

    assert rows(
        "SELECT study_time, study_time_key, study_id_text, study_id_text_key, patient_sex, patient_sex_key FROM study"
    ) == [("1015", 36_900_000_000, "ÉTUDE", "étude", "F ", "f")]
    assert rows(
        "SELECT series_number, series_description, series_description_key, request_attributes, "
        "performed_procedure_step_start_time_key FROM series ORDER BY id"
    ) == [(7, None, None, '[["Step",null],[null,"Proc"]]', None), (None, "Axial", "axial", None, None)]
    assert rows("SELECT sop_class_uid, instance_number FROM instance ORDER BY id") == [
        ("1.2.840.10008.5.1.4.1.1.2", 12),
        (None, None),
        (None, None),
    ]
    assert rows(
        "SELECT series_id, item, partition_key, scheduled_procedure_step_id_key, requested_procedure_id_key "
        "FROM request_attribute ORDER BY item"
    ) == [(10, 0, 1, "step", None), (10, 1, 1, None, "proc")]
    assert rows("SELECT study_id, attribute, suffix, partition_key FROM person_name ORDER BY attribute") == [
        (1, 2, "yamada^tarou", 1),
        (1, 3, "山田^太郎", 1),
    ]


# --- 0010: workitems of before ---


def test_workitems_of_before_wait_for_whoever_follows_them(
    new_url: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = new_url()
    with monkeypatch.context() as patch:
        patch.setattr(environment, "TARGET", "0009")
        migrate.upgrade(url)
    insert = "INSERT INTO workitem (id, partition_key, uid, state, created) VALUES (7, 1, '1.2', 'SCHEDULED', 99)"
    run(url, lambda connection: connection.execute(sa.text(insert)))
    migrate.upgrade(url)
    waiting = (
        "SELECT workitem_id, partition_key, modified, study_uid FROM workitem_change WHERE followed_revision < revision"
    )
    assert run(url, lambda connection: [tuple(row) for row in connection.execute(sa.text(waiting))]) == [(7, 1, 99, "")]

"""How the migrations are run: in one transaction, under a lock, on either engine."""

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy.ext.asyncio import create_async_engine

from hounsfield.database.schema import metadata
from hounsfield.database.sqlite import connect

LOCK = 0x484F554E
"""PostgreSQL advisory lock of a migration (the letters HOUN); any number would do."""

TARGET = "head"
"""How far databases are migrated; tests go less far."""

__all__ = ["LOCK", "command", "upgrade_connection", "upgrade_postgres", "upgrade_sqlite"]


def configuration() -> Config:
    """Alembic's configuration without an ini file."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    return config


def upgrade_connection(connection: sa.Connection) -> None:
    """Run what is missing on an open connection, inside its transaction."""
    config = configuration()
    script = ScriptDirectory.from_config(config)

    def steps(revision: Any, context: Any) -> Any:
        return script._upgrade_revs(TARGET, revision)

    with EnvironmentContext(config, script, fn=steps) as environment:
        environment.configure(
            connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite"
        )
        environment.run_migrations()


def upgrade_sqlite(path: Path) -> None:
    """Migrate a SQLite file; created if absent."""
    # Autocommit underneath and BEGIN IMMEDIATE by hand: the driver's own transactions would end at the first DDL
    # and leave half a migration behind.
    engine = sa.create_engine("sqlite://", creator=lambda: connect(path), poolclass=sa.pool.NullPool)

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            upgrade_connection(connection)
    finally:
        engine.dispose()


async def upgrade_postgres(url: str) -> None:
    """Migrate a PostgreSQL database; several processes may try at once."""
    engine = create_async_engine(sa.make_url(url).set(drivername="postgresql+asyncpg"))
    try:
        async with engine.begin() as connection:
            await connection.execute(sa.text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            await connection.run_sync(upgrade_connection)
    finally:
        await engine.dispose()

"""Bringing a database to the newest schema.

Alembic and SQLAlchemy are loaded only when there is something to do, and by ``ensure`` in a process of their own,
so that a server whose schema is current starts quickly and stays small.
"""

import asyncio
import subprocess
import sys
from typing import Any

from hounsfield.database.connect import is_sqlite, open_database, sqlite_path
from hounsfield.errors import HounsfieldError, SettingsError

HEAD = "0010"
"""The newest migration; a test holds it to the files in migrations/versions."""


async def current(url: str) -> str | None:
    """The revision a database is at; None where there is no schema yet. Raises StoreUnavailable."""
    if is_sqlite(url) and not sqlite_path(url).exists():
        return None
    database = open_database(url)
    try:
        if database.dialect == "sqlite":
            known = "SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'"
        else:
            known = "SELECT 1 FROM pg_tables WHERE schemaname = current_schema() AND tablename = 'alembic_version'"
        if not await database.fetch(known):
            return None
        row = await database.fetch_one("SELECT version_num FROM alembic_version")
        return None if row is None else str(row[0])
    finally:
        await database.close()


def ensure(url: str, *, create: bool = True, update: bool = True) -> None:
    """Create or migrate the schema if it is not the newest. Raises SettingsError if that fails or is not allowed."""
    found = asyncio.run(current(url))
    if found == HEAD:
        return
    if found is None and not create:
        raise SettingsError("The database is empty, and SqlServer:Initialize does not allow to make the schema.")
    if found is not None and found > HEAD:
        raise SettingsError(
            f"The database has been brought up to date by a newer version of Hounsfield (schema {found}, here {HEAD}). "
            "Install that version, or restore the backup from before."
        )
    if found is not None and not update:
        raise SettingsError(
            "The database has another schema than this program, and SqlServer:SchemaOptions:AutomaticUpdatesEnabled "
            "does not allow to update it."
        )
    done = subprocess.run(
        [sys.executable, "-m", "hounsfield.database.migrate"], input=url.encode(), capture_output=True, check=False
    )
    if done.returncode != 0:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise SettingsError(f"The database schema could not be brought up to date: {reason}")


def upgrade(url: str) -> None:
    """Run every migration the database lacks, all or nothing, one process at a time."""
    from hounsfield.database.migrations import environment

    if is_sqlite(url):
        sqlite_path(url).parent.mkdir(parents=True, exist_ok=True)
        environment.upgrade_sqlite(sqlite_path(url))
    else:
        asyncio.run(environment.upgrade_postgres(url))


def main(arguments: Any = None) -> int:
    """Entry point of the process :func:`ensure` starts; the URL comes on standard input, as it may hold a password."""
    try:
        upgrade(sys.stdin.read().strip())
    except HounsfieldError as error:
        print(error.message, file=sys.stderr)
        return 1
    except Exception as error:
        # SQLAlchemy goes on with the statement and an address.
        print(f"{type(error).__name__}: {str(error).partition(chr(10))[0]}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

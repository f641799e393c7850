"""From ``Database:Url`` to an open database."""

from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from hounsfield.database.engine import Database
from hounsfield.errors import SettingsError


def sqlite_path(url: str) -> Path:
    """The file a ``sqlite:///…`` URL names (four slashes for an absolute path, as SQLAlchemy has it)."""
    path = unquote(_split(url).path)
    if not path.startswith("/") or path == "/":
        raise SettingsError("Database:Url names no file. Write sqlite:////absolute/path/index.db.")
    return Path(path[1:])


def is_sqlite(url: str) -> bool:
    """Whether ``url`` means SQLite; raises SettingsError for an engine we do not know."""
    scheme = _split(url).scheme
    if scheme == "sqlite":
        return True
    if scheme in ("postgresql", "postgres"):
        return False
    raise SettingsError("Database:Url must begin with sqlite:/// or postgresql://.")


def place(url: str) -> str:
    """Where a database is, for people: its file, or database and host, without user and password."""
    if is_sqlite(url):
        return str(sqlite_path(url))
    parts = _split(url)
    host = parts.netloc.rpartition("@")[2] or "this machine"
    return f"{parts.path.strip('/') or 'the default one'} at {host}"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        # Its text could hold the password.
        raise SettingsError(
            "Database:Url is not a URL. In a user or password write @ as %40, / as %2F, [ as %5B and so on."
        ) from None


def open_database(url: str) -> Database:
    """Open ``url`` for this process. The schema must be up to date (see database/migrate.py).

    Raises SettingsError for an address of no use, StoreUnavailable for a file that is no database.
    """
    if is_sqlite(url):
        import sqlite3

        from hounsfield.database.sqlite import SqliteDatabase, unavailable

        try:
            return SqliteDatabase(sqlite_path(url))
        except (sqlite3.Error, OSError) as error:
            raise unavailable(error) from error
    from hounsfield.database.postgres import PostgresDatabase

    return PostgresDatabase(url)

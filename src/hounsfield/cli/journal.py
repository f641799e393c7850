"""Remembers which files a server has acknowledged, so that an interrupted upload goes on where it stopped.

One small SQLite file for all servers, in the user's state folder. Losing it costs nothing but time: the server reports
files that are sent again as already there.
"""

import contextlib
import os
import sqlite3
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from hounsfield.cli.sources import Source
from hounsfield.database.sqlite import switch_to_wal
from hounsfield.errors import HounsfieldError

_SCHEMA = """
CREATE TABLE IF NOT EXISTS acknowledged (
    server TEXT NOT NULL, label BLOB NOT NULL, size INTEGER NOT NULL, stamp TEXT NOT NULL,
    PRIMARY KEY (server, label)
) WITHOUT ROWID
"""


class JournalUnusable(HounsfieldError):
    """The journal file cannot be opened or is not one of ours."""


def default_path() -> Path:
    """Where the journal is kept unless the person says otherwise."""
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "hounsfield" / "uploads.sqlite"


class Journal:
    """The acknowledged files of one server. Safe for several threads and for several uploads at the same time."""

    def __init__(self, path: Path, server_url: str) -> None:
        """Opens or makes the file. Raises JournalUnusable."""
        self._server = server_url
        self._lock = threading.Lock()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)  # names of files can tell about patients
            self._database = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
            # A killed process loses nothing in this mode; a power cut may lose the last entries, which does no harm.
            switch_to_wal(self._database)
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as problem:
            raise JournalUnusable(
                f"The journal {path} cannot be used ({problem}). Name another file with --journal."
            ) from problem

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._database.close()

    def forget(self) -> None:
        """Forgets what this server acknowledged."""
        with self._lock:
            self._database.execute("DELETE FROM acknowledged WHERE server = ?", (self._server,))

    def knows(self, source: Source) -> bool:
        """Whether the server acknowledged this very content: same name, size and stamp."""
        with self._lock:
            row = self._database.execute(
                "SELECT size, stamp FROM acknowledged WHERE server = ? AND label = ?",
                (self._server, _key(source)),
            ).fetchone()
        return bool(row == (source.size, source.stamp))

    def acknowledge(self, sources: Iterable[Source]) -> None:
        """Remembers these, in one transaction; a journal that can no longer be written does not stop the upload."""
        rows = [(self._server, _key(source), source.size, source.stamp) for source in sources]
        with self._lock, contextlib.suppress(sqlite3.Error), self._database:
            self._database.execute("BEGIN IMMEDIATE")
            self._database.executemany("INSERT OR REPLACE INTO acknowledged VALUES (?, ?, ?, ?)", rows)


def _key(source: Source) -> bytes:
    return source.label.encode("utf-8", "surrogatepass")

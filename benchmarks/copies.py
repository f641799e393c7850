"""Copies of loaded archives for measurements that add to them: the originals stay what their populations say."""

import asyncio
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from benchmarks.postgres import cluster

COPY = "archive_copy"


@dataclass(frozen=True)
class Copied:
    """A copy: where it is, a directory for a server on it, and the processes of its database besides the server."""

    name: str
    url: str
    directory: Path
    others: list[int]

    @property
    def database(self) -> str | None:
        """What a server has to be told besides the directory: nothing where the index lies there."""
        return None if self.url.startswith("sqlite:") else self.url


@contextmanager
def of_sqlite(data_dir: Path, work_dir: Path) -> Iterator[Copied]:
    """A data directory with a copy of the index of ``data_dir``, which nobody may be using."""
    if (data_dir / "index.db-wal").exists():
        raise RuntimeError(f"{data_dir} is in use, or was not closed: start and stop `hounsfield serve` on it once")
    with tempfile.TemporaryDirectory(prefix="archive-copy-", dir=work_dir) as name:
        shutil.copyfile(data_dir / "index.db", Path(name) / "index.db")
        yield Copied("SQLite", f"sqlite:///{name}/index.db", Path(name), [])


@contextmanager
def of_postgres(directory: Path, work_dir: Path) -> Iterator[Copied]:
    """A copy of the database in the same cluster, dropped afterwards."""
    with cluster(directory) as server, tempfile.TemporaryDirectory(dir=work_dir) as name:
        url = create(server.url, f"CREATE DATABASE {COPY} TEMPLATE archive", COPY)
        try:
            asyncio.run(_execute(url, "ANALYZE"))
            yield Copied("PostgreSQL", url, Path(name), [server.pid])
        finally:
            drop(url)


def create(beside: str, statement: str, name: str) -> str:
    """The URL of a database that ``statement`` makes in the cluster of ``beside``, in place of one of that name."""
    url = f"{_cluster(beside)}/{name}"
    drop(url)
    # From a database of its own: one that is copied may have no other connection.
    asyncio.run(_execute(f"{_cluster(beside)}/postgres", statement))
    return url


def drop(url: str) -> None:
    """Removes a database, if it is there."""
    name = url.rpartition("/")[2]
    asyncio.run(_execute(f"{_cluster(url)}/postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))


def _cluster(url: str) -> str:
    return url.rpartition("/")[0]


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()

"""A PostgreSQL cluster for a benchmark, from the system's binaries, that is kept in its directory when it stops."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import free_port

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "100",
    # What everybody raises who has PostgreSQL to himself; the defaults are for a machine of 1 GB.
    "shared_buffers": "1GB",
    "effective_cache_size": "4GB",
    "max_wal_size": "4GB",
}
"""Durability is PostgreSQL's own: fsync and synchronous_commit are on."""
START_SECONDS = 60.0
DATABASE = "archive"


@dataclass(frozen=True)
class Cluster:
    """A running cluster with a database for one archive. It lets everybody on this machine in."""

    url: str
    pid: int


def binaries() -> Path | None:
    """Where the newest PostgreSQL is installed; None where there is none."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = shutil.which("initdb")
    return installed[-1].parent if installed else Path(found).parent if found else None


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """The cluster in ``directory``, made if there is none. Raises RuntimeError when it does not start.

    PostgreSQL refuses to run as root, so then the user postgres runs it.
    """
    programs = binaries()
    if programs is None:
        raise RuntimeError("PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else None
    data = directory.resolve() / "cluster"
    if not (data / "PG_VERSION").exists():
        data.mkdir(parents=True, exist_ok=True)
        _own(data, user)
        made = [str(programs / "initdb"), "-D", str(data), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
        _run([*made, "--locale=C.UTF-8"], user, data)
    port = free_port()
    options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    command = [str(programs / "postgres"), "-D", str(data), "-p", str(port), *options]
    with (directory / "log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=data, user=user, group=user)
    address = ["-h", "127.0.0.1", "-p", str(port)]
    try:
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run([str(programs / "pg_isready"), "-q", *address], check=False).returncode:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not get ready; {directory / 'log'} says why")
            time.sleep(0.1)
        listed = [str(programs / "psql"), *address, "-U", "postgres", "-Atc", "SELECT datname FROM pg_database"]
        if DATABASE not in _run(listed, None, data).split():
            _run([str(programs / "createdb"), *address, "-U", "postgres", DATABASE], None, data)
        yield Cluster(f"postgresql://postgres@127.0.0.1:{port}/{DATABASE}", process.pid)
    finally:
        process.send_signal(signal.SIGINT)  # ends connections, too
        process.wait(START_SECONDS)


def _own(path: Path, user: str | None) -> None:
    if user is not None:
        entry = pwd.getpwnam(user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _run(command: list[str], user: str | None, place: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, user=user, group=user, cwd=place)
    if done.returncode:
        raise RuntimeError(f"failed: {' '.join(command)}: {done.stderr.strip()}")
    return done.stdout

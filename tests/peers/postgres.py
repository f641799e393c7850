"""A PostgreSQL cluster of our own, from the system's binaries."""

import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.process import running, unavailable
from tests.server import free_port

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    # Tests kill our server, never the machine.
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
}


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running cluster that lets everybody on this machine in."""

    binaries: Path
    port: int
    process: subprocess.Popen[bytes]

    def create_database(self) -> str:
        """The URL of a new, empty database."""
        name = f"test_{secrets.token_hex(6)}"
        self._run("createdb", name)
        return f"postgresql://postgres@127.0.0.1:{self.port}/{name}"

    def drop_database(self, url: str) -> None:
        """Remove a database, ending connections to it."""
        self._run("dropdb", "--force", url.rpartition("/")[2])

    def processes(self) -> list[int]:
        """Its main process and those it has made."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.binaries / program), "-h", "127.0.0.1", "-p", str(self.port), "-U", "postgres", *arguments]
        subprocess.run(command, check=True, capture_output=True, timeout=30)


def find_binaries() -> Path:
    """The newest installed PostgreSQL; skips if there is none."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if installed:
        return installed[-1].parent
    found = shutil.which("initdb")
    if found is None:
        unavailable("PostgreSQL is not installed")
    return Path(found).parent


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A new cluster in a temporary directory. PostgreSQL refuses to run as root, so then the user postgres runs it."""
    binaries = find_binaries()
    user = "postgres" if os.geteuid() == 0 else None
    # Not below pytest's directory: that one is closed to other users.
    directory = Path(tempfile.mkdtemp(prefix="hounsfield-postgres-"))
    try:
        data = directory / "data"
        if user is not None:
            shutil.chown(directory, user, user)
        initdb = [
            str(binaries / "initdb"),
            "-D",
            str(data),
            "-U",
            "postgres",
            "--auth=trust",
            "--encoding=UTF8",
            "--no-sync",
        ]
        subprocess.run(
            [*initdb, "--locale=C.UTF-8"], check=True, capture_output=True, user=user, group=user, cwd=directory
        )
        port = free_port()
        options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
        command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options]

        def is_ready() -> bool:
            probe = [str(binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)]
            return subprocess.run(probe, check=False).returncode == 0

        with running(command, directory / "log", is_ready, user=user) as process:
            yield PostgresServer(binaries, port, process)
    finally:
        shutil.rmtree(directory, ignore_errors=True)

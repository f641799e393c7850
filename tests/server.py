"""The real command in a subprocess, as tests use it."""

import atexit
import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from hounsfield.database.migrate import upgrade

START_SECONDS = 60


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@functools.cache
def empty_index() -> Path:
    """An index with the newest schema and nothing in it."""
    folder = Path(tempfile.mkdtemp(prefix="hounsfield-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    upgrade(f"sqlite:///{folder / 'index.db'}")
    return folder / "index.db"


class Server:
    """``hounsfield serve`` with its whole process group."""

    def __init__(
        self,
        data_dir: Path,
        arguments: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.root = f"http://127.0.0.1:{self.port}"
        self._arguments = arguments
        self._environment = {**os.environ, **(environment or {})}
        self._log = data_dir.parent / f"{data_dir.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Server":
        """Start it and wait until it is ready."""
        self._spare_migrations()
        command = [sys.executable, "-m", "hounsfield", "serve", "--port", str(self.port)]
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(self.data_dir), *self._arguments],
                env=self._environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        with self.client() as client:
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise AssertionError(f"the server ended at once:\n{self.log()}")
                with contextlib.suppress(httpx.TransportError):
                    if client.get("/health/check", timeout=5).status_code == 200:
                        return self
                time.sleep(0.05)
        raise AssertionError(f"the server was not ready in time:\n{self.log()}")

    def _spare_migrations(self) -> None:
        """Give a server that would make its index first thing one that is made: most of its start otherwise."""
        if self.data_dir.exists() or any(
            name.lower().startswith(("database", "sqlserver")) for name in self._environment
        ):
            return
        self.data_dir.mkdir(mode=0o750)
        shutil.copy(empty_index(), self.data_dir / "index.db")
        (self.data_dir / "index.db").chmod(0o640)

    def log(self) -> str:
        """What it printed so far."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def stop(self) -> int:
        """SIGTERM to the main process; returns its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(30)
        self.process = None
        return code

    def kill(self) -> None:
        """SIGKILL to the whole process group."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)
        self.process = None

    def processes(self) -> list[int]:
        """Process ids of the command and everything it started, zombies left out (Linux)."""
        assert self.process is not None
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                    # After the name in parentheses: state, parent, process group, session, …
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                    if int(fields[3]) == self.process.pid and fields[0] != "Z":
                        found.append(int(entry.name))
        return found

    def end(self) -> None:
        """Leave nothing behind, whatever state it is in."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.kill()

    def client(self) -> httpx.Client:
        """A client of this server."""
        # Nothing is encrypted here, and loading certificates takes longer than most tests.
        return httpx.Client(base_url=self.root, timeout=60, verify=False)

"""The servers a run compares: given by URL, Hounsfield from this environment, or a peer; started and stopped here."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path

from benchmarks import nginx, orthanc
from benchmarks.processes import Roots, free_port, listeners
from benchmarks.wire import Base, Connection, WireError

START_SECONDS = 60.0
STOP_SECONDS = 25.0


@dataclass(frozen=True)
class Server:
    """A DICOMweb service: its base URL, the processes it consists of, and what is known about it."""

    name: str
    base: Base
    roots: Roots
    about: str
    whole_metadata: bool = True
    casts: bool = False
    newest_first: bool = False
    """Whether searches are answered as Hounsfield promises: newest first, names matched word by word if asked for."""
    tools_find: bool = False
    """Whether it is asked in Orthanc's own way, which DICOMweb is made of there."""
    files: Path | None = None
    """Set for the file server: where its answers are put, as it cannot be stored to."""
    stop: Callable[[], None] = field(default=lambda: None)


def given(name: str, url: str) -> Server:
    """A server somebody else started; its processes are found by its port when it runs on this machine."""
    base = Base.parse(url)
    pids = frozenset(listeners(base.port)) if base.host in ("127.0.0.1", "localhost", "::1") else frozenset()
    return Server(name, base, lambda: pids, f"given as {url}")


def start_hounsfield(directory: Path) -> Server:
    """``hounsfield serve`` of the environment this runs in, on an empty data directory, everything at its default."""
    about = f"hounsfield {metadata.version('hounsfield')}, all in one, SQLite, files synced before the answer"
    return _serve("hounsfield", directory, directory / "data", about, casts=True)


def start_archive(name: str, data_dir: Path, log_dir: Path, database: str | None = None) -> Server:
    """``hounsfield serve`` on what ``data_dir`` or ``database`` holds; no DICOM Cast, which would follow it all."""
    engine = "PostgreSQL" if database else "SQLite"
    about = f"hounsfield {metadata.version('hounsfield')}, {engine}, no DICOM Cast"
    return _serve(name, log_dir, data_dir, about, casts=False, database=database)


def start_casting(name: str, data_dir: Path, log_dir: Path) -> Server:
    """``hounsfield serve`` on what ``data_dir`` holds, with DICOM Cast."""
    about = f"hounsfield {metadata.version('hounsfield')}, SQLite, with DICOM Cast"
    return _serve(name, log_dir, data_dir, about, casts=True)


def _serve(name: str, log_dir: Path, data_dir: Path, about: str, *, casts: bool, database: str | None = None) -> Server:
    port = free_port()
    command = [str(Path(sys.executable).with_name("hounsfield")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    command += [] if casts else ["--no-cast"]
    environment = os.environ | ({"Database__Url": database} if database else {})
    with (log_dir / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(data_dir)], stdout=log, stderr=log, start_new_session=True, env=environment
        )
    _wait_for(process, Base("127.0.0.1", port, ""), "/health/check", log_dir / "log")
    return _started(name, process, Base("127.0.0.1", port, "/v2"), about, casts=casts, newest_first=True)


def start_peer(peer: str, directory: Path) -> Server:
    """``orthanc`` or ``orthanc-fast``; installs the Debian packages when they are missing."""
    orthanc.install()
    port = free_port()
    base = Base("127.0.0.1", port, "/dicom-web")
    process = orthanc.start(peer, directory, port)
    _wait_for(process, base, "/studies?limit=1", directory / "log")
    return _started(peer, process, base, orthanc.version(), whole_metadata=peer == "orthanc")


def own_search(orthanc_server: Server) -> Server:
    """The same running Orthanc, asked through its ``/tools/find``."""
    base = Base(orthanc_server.base.host, orthanc_server.base.port, "")
    return replace(orthanc_server, name="orthanc, /tools/find", base=base, tools_find=True, stop=lambda: None)


def start_file_server(directory: Path) -> Server | None:
    """nginx as the limit of reading; None where it is not installed."""
    if nginx.binary() is None:
        return None
    port = free_port()
    process = nginx.start(directory, port)
    base = Base("127.0.0.1", port, "")
    _wait_for(process, base, "/ready", directory / "log")
    return _started("nginx", process, base, nginx.version(), files=directory / "files")


def _started(
    name: str,
    process: subprocess.Popen[bytes],
    base: Base,
    about: str,
    *,
    whole_metadata: bool = True,
    casts: bool = False,
    newest_first: bool = False,
    files: Path | None = None,
) -> Server:
    return Server(
        name,
        base,
        lambda: [process.pid],
        about,
        whole_metadata,
        casts,
        newest_first,
        files=files,
        stop=lambda: _stop(process),
    )


def _wait_for(process: subprocess.Popen[bytes], base: Base, path: str, log: Path) -> None:
    """Until the server answers 200 on ``path``.

    Raises RuntimeError with the end of its log when it does not; whatever happens, it is not left running unready.
    """
    try:
        deadline = time.monotonic() + START_SECONDS
        with Connection(base) as connection:
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    if connection.exchange([base.get(path, "*/*")]).status == 200:
                        return
                except (OSError, WireError):
                    connection.close()
                time.sleep(0.1)
        raise RuntimeError(f"{process.args!r} did not get ready:\n{log.read_text(errors='replace')[-2000:]}")
    except BaseException:
        _stop(process)
        raise


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the server, SIGKILL to whatever of its session is left when it does not end."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()

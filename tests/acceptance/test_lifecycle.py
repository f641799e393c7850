"""Starting, stopping, several processes: the outer contract of ``hounsfield serve`` and ``hounsfield worker``."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINAL, instance_path, study_path
from tests.dicom.rendering.sources import grey
from tests.server import Server, free_port

pytestmark = pytest.mark.acceptance

STOP_SECONDS = 20


@contextlib.contextmanager
def running(data_dir: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server of the test's own."""
    server = Server(data_dir, [*QUIET, "--workers", "1", *arguments], environment)
    try:
        yield server.start()
    finally:
        server.end()


def serve_fails(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """Runs ``serve`` with arguments that must stop it at once; what it says on standard error, one line."""
    done = subprocess.run(
        [sys.executable, "-m", "hounsfield", "serve", *QUIET, *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done
    assert done.stdout == ""
    assert done.stderr.startswith("hounsfield: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def is_running(pid: int) -> bool:
    """Whether the process still does anything; one that only waits for an init that does not reap is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def until(condition: Callable[[], bool], seconds: float = STOP_SECONDS) -> None:
    """Waits for ``condition``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


# --- refusals ---


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        text = serve_fails("--port", port, "--data-dir", str(tmp_path / "data"))
    assert port in text
    assert "taken" in text
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_a_host_others_can_reach_needs_a_word(tmp_path: Path, host: str) -> None:
    text = serve_fails("--host", host, "--port", str(free_port()), "--data-dir", str(tmp_path / "data"))
    assert host in text
    assert "--allow-insecure" in text
    assert not (tmp_path / "data").exists()


def test_without_standard_descriptors_no_log_line_ends_up_in_a_file(tmp_path: Path) -> None:
    """What a parent has closed would be the number of the first file that is opened, and the audit log writes to it."""
    data_dir, port = tmp_path / "data", free_port()
    serve = [sys.executable, "-m", "hounsfield", "serve", *QUIET, "--workers", "1", "--port", str(port)]
    closed = ["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *serve, "--data-dir", str(data_dir)]
    process = subprocess.Popen(closed, start_new_session=True)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:

            def is_ready() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return client.get("/health/check").status_code == 200
                return False

            until(is_ready, 60)
            standard = {os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)}
            assert standard == {"/dev/null"}
            ds = factories.dataset()
            for _ in range(3):
                dicomweb.store(client, ds)
                assert client.delete(study_path(ds)).status_code == 204
        process.terminate()
        assert process.wait(30) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or b"AuditEvent" not in file.read_bytes(), file


def test_settings_and_folders_that_cannot_be_used(tmp_path: Path) -> None:
    port = ("--port", str(free_port()))
    (tmp_path / "file").touch()
    assert str(tmp_path / "file") in serve_fails(*port, "--data-dir", str(tmp_path / "file" / "data"))
    settings = tmp_path / "settings.json"
    assert str(settings) in serve_fails(*port, "--data-dir", str(tmp_path / "a"), "--config", str(settings))
    settings.write_text('{"DicomServer": ')
    assert "JSON" in serve_fails(*port, "--data-dir", str(tmp_path / "a"), "--config", str(settings))
    for name, text in (
        ("DicomServer__Features__EnableFullDicomItemValidation", "perhaps"),
        ("DicomServer__Services__DeletedInstanceCleanup__DeleteDelay", "soon"),
        ("Database__Url", "mysql://root:geheim@localhost/x"),
        ("Database__Url", "postgresql://root:geheim[@localhost/x"),
        ("DicomServer__Cors__MaxAge", "an hour"),
        ("ObjectStore__Url", "ftp://root:geheim@localhost/x"),
        ("ObjectStore__Url", "s3:///prefix"),
        ("ObjectStore__Url", "file://server/share"),
    ):
        said = serve_fails(*port, "--data-dir", str(tmp_path / "a"), environment={name: text})
        assert name.replace("__", ":") in said
        assert "geheim" not in said
    said = serve_fails(*port, "--data-dir", str(tmp_path / "a"), "--cast", "--set", "Fhir:Endpoint=fhir.example.org/r4")
    assert "Fhir:Endpoint" in said


def test_a_database_that_cannot_be_reached(tmp_path: Path) -> None:
    database = f"127.0.0.1:{free_port()}"
    environment = {"Database__Url": f"postgresql://user:geheim@{database}/archive"}
    said = serve_fails("--port", str(free_port()), "--data-dir", str(tmp_path / "data"), environment=environment)
    assert "geheim" not in said
    assert f"archive at {database}" in said
    assert "Database:Url" in said


# --- stopping ---


def test_sigterm_finishes_the_request_under_way(tmp_path: Path) -> None:
    ds = factories.dataset(PixelData=bytes(3_000_000))
    body = factories.part10(ds)
    with running(tmp_path / "data") as server:
        assert server.process is not None
        process = server.process
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            head = "POST /v2/studies HTTP/1.1\r\nHost: h\r\nContent-Type: application/dicom\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:2_000_000])
            time.sleep(0.3)
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            time.sleep(1.5)
            connection.sendall(body[2_000_000:])
            answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 200")
        assert process.wait(STOP_SECONDS) == 0
        assert time.monotonic() - begun < STOP_SECONDS
        with server.start().client() as client:
            assert client.get(instance_path(ds), headers={"accept": ORIGINAL}).content == body
            # Ctrl-C reaches every process of the group; an open connection that is idle holds nothing up.
            os.killpg(server.process.pid, signal.SIGINT)
            assert server.process.wait(5) == 0


def test_whoever_can_connect_can_stop_the_server_in_good_order(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "hounsfield", "serve", *QUIET, "--no-worker", "--workers", "1"]
    process = subprocess.Popen([*command, "--port", str(port), "--data-dir", str(tmp_path / "data")])
    try:
        deadline = time.monotonic() + 60
        while True:
            with socket.socket() as connection:
                if connection.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert time.monotonic() < deadline and process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(STOP_SECONDS) == 0
    finally:
        process.kill()
        process.wait()


def test_a_stop_waits_for_nobody_too_long(tmp_path: Path) -> None:
    """One connection idles, one never ends its request, one never reads its answer: the stop takes under 20 s."""
    with running(tmp_path / "data") as server, contextlib.ExitStack() as connections:
        assert server.process is not None
        process = server.process
        client = connections.enter_context(server.client())
        ds = factories.dataset(PixelData=bytes(20_000_000))
        dicomweb.store(client, ds)

        def connect(text: str) -> None:
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", server.port), 30))
            connection.sendall(text.encode())

        connect("POST /v2/studies HTTP/1.1\r\nHost: h\r\nContent-Type: application/dicom\r\nContent-Length: 9\r\n\r\nx")
        connect(f"GET {study_path(ds)} HTTP/1.1\r\nHost: h\r\nAccept: */*\r\n\r\n")
        time.sleep(0.3)
        begun = time.monotonic()
        processes = server.processes()
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_SECONDS + 10)
        assert time.monotonic() - begun < STOP_SECONDS
        assert code == 0
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in processes), 5)


def commands(server: Server) -> dict[int, str]:
    found = {}
    for pid in server.processes():
        with contextlib.suppress(FileNotFoundError):
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def is_background(pid: int) -> bool:
    """It leaves processor time to everybody else."""
    try:
        return os.getpriority(os.PRIO_PROCESS, pid) == 19
    except ProcessLookupError:
        return False


def test_a_killed_main_process_leaves_nothing_behind(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--workers", "2") as server:
        assert server.process is not None
        others = [pid for pid in server.processes() if pid != server.process.pid]
        assert len(others) >= 3  # two API processes and the background one
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        with contextlib.suppress(AssertionError):
            until(lambda: not any(is_running(pid) for pid in others))
        left = {pid: line for pid, line in commands(server).items() if pid in others}
        assert left == {}
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", server.port))


PROCESSORS = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@pytest.mark.skipif(len(PROCESSORS) < 2, reason="needs two processors, and an operating system that tells of them")
def test_each_api_process_keeps_to_one_processor(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--workers", str(len(PROCESSORS))) as server, server.client() as client:
        dicomweb.store(client, ds := grey(np.zeros((1, 8, 8), np.uint8)))
        rendered = client.get(f"{instance_path(ds)}/rendered", headers={"Accept": "image/png"})
        assert rendered.status_code == 200
        own, codecs, others = [], [], []
        for pid, command in commands(server).items():
            allowed = sorted(os.sched_getaffinity(pid))
            if "codec_process" in command:
                codecs.append(allowed)
            elif server.process is not None and pid != server.process.pid and not is_background(pid):
                own.append(allowed)
            else:
                others.append(allowed)
    assert sorted(own) == [[each] for each in PROCESSORS]
    assert codecs and all(each == PROCESSORS for each in codecs)
    assert len(others) == 2 and all(each == PROCESSORS for each in others)


@pytest.mark.skipif(len(PROCESSORS) < 2, reason="needs two processors, and an operating system that tells of them")
def test_fewer_api_processes_than_processors_use_them_all(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--workers", "1") as server:
        assert all(sorted(os.sched_getaffinity(pid)) == PROCESSORS for pid in server.processes())


def test_processes_that_die_are_started_again(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server, server.client() as client:
        ds = factories.dataset()
        dicomweb.store(client, ds)
        assert server.process is not None
        before = set(commands(server)) - {server.process.pid}
        for pid in before:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        def is_whole() -> bool:
            if not any(is_background(pid) for pid in set(commands(server)) - before):
                return False
            try:
                return client.get(instance_path(ds)).status_code == 200
            except httpx.TransportError:
                return False

        until(is_whole)
        assert server.stop() == 0


# --- side by side ---


def test_a_restart_keeps_everything(tmp_path: Path) -> None:
    with running(tmp_path / "data") as server:
        ds, gone = factories.dataset(), factories.dataset()
        with server.client() as client:
            dicomweb.store(client, ds, gone)
            client.delete(study_path(gone))
            paths = [f"{study_path(ds)}/metadata", "/v1/studies", "/v2/instances", "/v1/changefeed"]
            before = [client.get(path).content for path in paths]
            etag = client.get(f"{study_path(ds)}/metadata").headers["etag"]
        assert server.stop() == 0
        with server.start().client() as client:
            assert [client.get(path).content for path in paths] == before
            assert client.get(f"{study_path(ds)}/metadata").headers["etag"] == etag
            assert client.get(instance_path(ds), headers={"accept": ORIGINAL}).content == factories.part10(ds)
            assert client.get(study_path(gone)).status_code == 404


def test_two_servers_on_one_data_directory(tmp_path: Path) -> None:
    with running(tmp_path / "data") as one, running(tmp_path / "data") as other:
        with one.client() as left, other.client() as right:
            first = factories.dataset()
            datasets = [first, *(dicomweb.sibling(first) for _ in range(40))]
            for number, ds in enumerate(datasets):
                writer, reader = (left, right) if number % 2 else (right, left)
                dicomweb.store(writer, ds)
                assert reader.get(instance_path(ds), headers={"accept": ORIGINAL}).content == factories.part10(ds)
                assert dicomweb.post(reader, [factories.part10(ds)]).status_code == 409
            entries = left.get("/v2/changefeed").json()
            assert entries == right.get("/v2/changefeed").json()
            assert [entry["sopInstanceUid"] for entry in entries] == [ds.SOPInstanceUID for ds in datasets]
            assert right.delete(study_path(first)).status_code == 204
            assert left.get(study_path(first)).status_code == 404
        assert one.stop() == 0
        assert other.stop() == 0


def test_a_worker_apart_cleans_up(tmp_path: Path) -> None:
    section = "DicomServer__Services__DeletedInstanceCleanup"
    environment = {f"{section}__DeleteDelay": "00:00:00", f"{section}__PollingInterval": "00:00:00.1"}
    with running(tmp_path / "data", "--no-worker", environment=environment) as server:
        ds = factories.dataset()
        with server.client() as client:
            dicomweb.store(client, ds)
            assert client.delete(study_path(ds)).status_code == 204
        assert not any(is_background(pid) for pid in commands(server))
        folder = server.data_dir / "dicom" / ds.StudyInstanceUID
        assert folder.exists()
        worker = subprocess.Popen(
            [sys.executable, "-m", "hounsfield", "worker", "--data-dir", str(server.data_dir)],
            env={**os.environ, **environment},
        )
        try:
            until(lambda: not folder.exists())
            worker.send_signal(signal.SIGTERM)
            assert worker.wait(STOP_SECONDS) == 0
        finally:
            worker.kill()
            worker.wait()
        assert server.stop() == 0


def test_a_host_others_can_reach_with_the_word(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--host", "0.0.0.0", "--allow-insecure") as server:
        ds = factories.dataset()
        with server.client() as client:
            dicomweb.store(client, ds)
        assert server.stop() == 0

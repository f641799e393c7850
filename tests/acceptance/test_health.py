"""GET /health/check with dependencies that really fail (server.md §5)."""

import contextlib
import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import ORIGINAL, instance_path, study_path
from tests.acceptance.test_lifecycle import running
from tests.peers.azurite import AzuriteServer
from tests.peers.postgres import postgres_server
from tests.server import Server, free_port

pytestmark = pytest.mark.acceptance

KEPT_SECONDS = 1.1
"""Results are kept for a second."""


def health(client: httpx.Client, *, overall: str) -> dict[str, str]:
    """Status by name of check."""
    time.sleep(KEPT_SECONDS)
    response = client.get("/health/check")
    body: dict[str, Any] = response.json()
    assert body["overallStatus"] == overall, body
    assert response.status_code == (503 if overall == "Unhealthy" else 200)
    return {check["name"]: check["status"] for check in body["details"]}


def description(client: httpx.Client, name: str) -> str:
    found: list[str] = [
        check["description"] for check in client.get("/health/check").json()["details"] if check["name"] == name
    ]
    assert len(found) == 1
    return found[0]


def until(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.2)


def test_one_entry_for_every_dependency(client: httpx.Client) -> None:
    response = client.get("/health/check")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    found = response.json()
    assert found["overallStatus"] == "Healthy"
    assert {check["name"] for check in found["details"]} == {"IndexDatabase", "ObjectStore", "OperationWorker"}
    for check in found["details"]:
        assert check.keys() == {"name", "status", "description", "data"}
        assert check["status"] == "Healthy"
        assert check["description"].endswith(".")
        assert check["data"] == {}
    for path in ("/health/check/", "/Health/Check", "/v2/health/check"):
        assert client.get(path).status_code == 404
    assert client.post("/health/check").status_code == 405


def test_nothing_stays_in_the_file_store(server: Server, client: httpx.Client) -> None:
    client.get("/health/check")
    assert not [path for path in (server.data_dir / "dicom" / "health").glob("**/*") if path.is_file()]


@pytest.fixture
def ailing(tmp_path: Path) -> Iterator[Server]:
    # No background process either: one that is still starting would make the folder again.
    with running(tmp_path / "data", "--no-worker") as server:
        yield server


def test_a_folder_that_is_gone(ailing: Server) -> None:
    with ailing.client() as client:
        assert health(client, overall="Degraded")["OperationWorker"] == "Degraded"
        folder = ailing.data_dir / "dicom"
        # As when a volume is not mounted any more: it must not be made again silently.
        folder.rename(folder.with_name("elsewhere"))
        found = health(client, overall="Unhealthy")
        assert found == {"IndexDatabase": "Healthy", "ObjectStore": "Unhealthy", "OperationWorker": "Degraded"}
        assert str(folder) not in client.get("/health/check").text
        assert not folder.exists()
        folder.with_name("elsewhere").rename(folder)
        assert health(client, overall="Degraded")["ObjectStore"] == "Healthy"
        dicomweb.store(client, factories.dataset())


def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    files = tmp_path / "files"
    files.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(files)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        environment = {"ObjectStore__Url": f"file://{files}"}
        with running(tmp_path / "data", "--no-worker", environment=environment) as server, server.client() as client:
            assert health(client, overall="Degraded")["ObjectStore"] == "Healthy"
            subprocess.run(["mount", "-o", "remount,ro", str(files)], check=True)
            assert health(client, overall="Unhealthy")["ObjectStore"] == "Unhealthy"
            assert description(client, "ObjectStore") == "The object store is mounted read-only."
            subprocess.run(["mount", "-o", "remount,rw", str(files)], check=True)
            assert health(client, overall="Degraded")["ObjectStore"] == "Healthy"
            # Once when it began and once when it was over, however often somebody asks.
            assert [line.count("Health check ObjectStore") for line in server.log().splitlines()].count(1) == 2
    finally:
        subprocess.run(["umount", "--lazy", str(files)], check=True)


def test_an_index_that_was_replaced(ailing: Server) -> None:
    with ailing.client() as client:
        index = ailing.data_dir / "index.db"
        index.rename(index.with_name("moved"))
        assert health(client, overall="Unhealthy")["IndexDatabase"] == "Unhealthy"
        index.write_bytes(b"")
        assert health(client, overall="Unhealthy")["IndexDatabase"] == "Unhealthy"
        index.with_name("moved").rename(index)
        assert health(client, overall="Degraded")["IndexDatabase"] == "Healthy"


def test_checks_that_are_left_out(tmp_path: Path) -> None:
    environment = {"HealthCheckPublisher__ExcludedHealthCheckNames": "operationWORKER, Other,ObjectStore"}
    with running(tmp_path / "data", "--no-worker", environment=environment) as server, server.client() as client:
        assert health(client, overall="Healthy") == {"IndexDatabase": "Healthy"}


@pytest.mark.slow
def test_a_worker_that_comes_goes_and_is_killed(tmp_path: Path) -> None:
    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen([sys.executable, "-m", "hounsfield", "worker", "--data-dir", str(server.data_dir)])

    with running(tmp_path / "data", "--no-worker") as server, server.client() as client:

        def is_alive() -> bool:
            return description(client, "OperationWorker") == "A worker is at work."

        first, second = start(), start()
        try:
            until(is_alive, 20)
            assert health(client, overall="Healthy")["OperationWorker"] == "Healthy"
            first.kill()
            second.kill()
            until(lambda: not is_alive(), 40)
            assert health(client, overall="Degraded")["OperationWorker"] == "Degraded"
            first.wait()
            first = start()
            until(is_alive, 30)
            first.terminate()
            assert first.wait(20) == 0
            assert health(client, overall="Degraded")["OperationWorker"] == "Degraded"
        finally:
            for process in (first, second):
                process.kill()
                process.wait()


# --- PostgreSQL ---


@pytest.mark.peer
def test_a_database_that_hangs_and_one_that_is_stopped(tmp_path: Path) -> None:
    with postgres_server() as postgres:
        environment = {"Database__Url": postgres.create_database()}
        with running(tmp_path / "data", environment=environment) as server, server.client() as client:
            ds = factories.dataset()
            dicomweb.store(client, ds)
            assert health(client, overall="Healthy")["IndexDatabase"] == "Healthy"
            frozen = postgres.processes()
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                for patience in (10, 5, 5):
                    begun = time.monotonic()
                    found = health(client, overall="Unhealthy")
                    assert time.monotonic() - begun < patience
                    assert found["IndexDatabase"] == "Unhealthy"
                    assert found["ObjectStore"] == "Healthy"
            finally:
                for pid in frozen:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)
            until(lambda: client.get("/health/check").status_code == 200, 30)
            assert client.get(instance_path(ds), headers={"accept": ORIGINAL}).status_code == 200

            postgres.process.send_signal(signal.SIGQUIT)
            postgres.process.wait(20)
            begun = time.monotonic()
            assert health(client, overall="Unhealthy")["IndexDatabase"] == "Unhealthy"
            assert time.monotonic() - begun < 10
            response = client.get(instance_path(ds))
            assert (response.status_code, response.headers["content-type"]) == (503, "text/plain; charset=utf-8")


# --- FHIR ---


class FhirPlace:
    """Something at an address, as a FHIR server would be."""

    def __init__(self) -> None:
        self.port = free_port()
        self.status = 200

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        place = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(place.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """It takes connections and says nothing."""
        with socket.create_server(("127.0.0.1", self.port)):
            yield


@pytest.mark.slow
def test_a_fhir_server_that_is_away(tmp_path: Path) -> None:
    place = FhirPlace()
    environment = {"Fhir__Endpoint": f"http://user:geheim@127.0.0.1:{place.port}/fhir"}
    data_dir = tmp_path / "data"
    # After QUIET, which running() adds.
    with running(data_dir, "--cast", environment=environment) as server, server.client() as client:

        def is_said(text: str) -> Callable[[], bool]:
            return lambda: description(client, "FhirStore") == text

        until(is_said("The FHIR server does not answer."), 20)
        assert health(client, overall="Degraded").items() >= {"FhirStore": "Degraded", "ObjectStore": "Healthy"}.items()
        with place.listening():
            until(is_said("The FHIR server answers."), 20)
            place.status = 401
            until(is_said("The FHIR server refuses our credentials."), 20)
            place.status = 503
            until(is_said("The FHIR server answers with an error."), 20)
        with place.silent():
            begun = time.monotonic()
            until(is_said("The FHIR server does not answer."), 20)
            assert time.monotonic() - begun < 20
        assert "geheim" not in client.get("/health/check").text + server.log()


# --- somebody else's container ---


@pytest.fixture
def external(azurite_endpoint: AzuriteServer) -> Mapping[str, str]:
    return {
        "DicomServer__Features__EnableExternalStore": "true",
        "ExternalBlobStore__ConnectionString": azurite_endpoint.connection_string,
        "ExternalBlobStore__ContainerName": azurite_endpoint.new_container_name(),
        "DicomServer__Services__DeletedInstanceCleanup__PollingInterval": "00:00:00.2",
    }


@pytest.mark.peer
def test_an_external_store_is_degraded_and_424(tmp_path: Path, external: Mapping[str, str]) -> None:
    with running(tmp_path / "data", environment=external) as server, server.client() as client:
        assert health(client, overall="Degraded")["ObjectStore"] == "Degraded"
        ds = factories.dataset()
        refused = dicomweb.post(client, [factories.part10(ds)])
        assert (refused.status_code, refused.headers["content-type"]) == (424, "text/plain; charset=utf-8")
        assert "does not exist" in refused.text
        make_container(external)
        assert health(client, overall="Healthy")["ObjectStore"] == "Healthy"
        dicomweb.store(client, ds)
        (name,) = [name for name in blobs(external) if not name.startswith("DICOM/health/")]
        assert name.startswith(f"DICOM/{ds.StudyInstanceUID}/")
        assert client.delete(study_path(ds)).status_code == 204
        # DeleteDelay is three days, but not in somebody else's container.
        until(lambda: not [name for name in blobs(external) if not name.startswith("DICOM/health/")], 20)
    assert not (tmp_path / "data" / "dicom").exists()


def make_container(settings: Mapping[str, str]) -> None:
    from hounsfield.storage.azure import create_container, parse_connection_string

    account = parse_connection_string(settings["ExternalBlobStore__ConnectionString"])
    create_container(account, settings["ExternalBlobStore__ContainerName"])


def blobs(settings: Mapping[str, str]) -> list[str]:
    import obstore
    from obstore.store import AzureStore

    from hounsfield.storage.azure import parse_connection_string

    account = parse_connection_string(settings["ExternalBlobStore__ConnectionString"])
    store = AzureStore(
        settings["ExternalBlobStore__ContainerName"],
        config={"account_name": account.name, "account_key": account.key, "endpoint": account.endpoint},
        client_options={"allow_http": True},
    )
    return [entry["path"] for batch in obstore.list(store) for entry in batch]

"""Settings as they reach a running server: file, environment, command line (server.md §14)."""

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINAL, instance_path
from tests.acceptance.test_lifecycle import running, serve_fails
from tests.server import Server, empty_index, free_port

pytestmark = pytest.mark.acceptance

REFERENCE = Path(__file__).parents[1] / "data" / "appsettings.json"


def test_a_settings_file_of_the_reference(tmp_path: Path) -> None:
    with running(tmp_path / "data", "--config", str(REFERENCE)) as server, server.client() as client:
        document = client.get("/v2/api.json").json()
        assert document["info"]["title"] == "Archive"
        assert document["servers"] == [{"url": "https://dicom.example.com"}]
        path = "/v2/partitions/a/studies"
        assert dicomweb.post(client, [factories.part10(factories.dataset())], path).status_code == 200
        preflight = {"origin": "https://viewer.example.com", "access-control-request-method": "DELETE"}
        answer = client.options("/v2/studies/1.2", headers=preflight)
        assert answer.headers["access-control-allow-methods"] == "GET,DELETE"
        assert answer.headers["access-control-max-age"] == "600"


def test_the_command_line_reaches_every_process_and_unknown_keys_are_told_once(tmp_path: Path) -> None:
    arguments = ("--DicomServer:Swagger:Title", "From here", "--set", "AllowedHosts=127.0.0.1", "/Patient:Oops=1")
    environment = {"DicomServer__Swagger__Title": "environment", "DicomServer__Nothing": "1"}
    with running(tmp_path / "data", "--workers", "2", *arguments, environment=environment) as server:
        for _ in range(8):
            with server.client() as client:  # a new connection, perhaps to the other process
                assert client.get("/v2/api.json").json()["info"]["title"] == "From here"
                assert client.get("/v2/studies", headers={"host": "example.com"}).status_code == 400
        server.stop()
        lines = server.log().splitlines()
        for key in ("patient:oops", "dicomserver:nothing"):
            assert lines.count(f"hounsfield: Unknown setting {key}.") == 1


def test_a_proxy_in_front_is_believed_where_that_is_asked_for(tmp_path: Path) -> None:
    told = {"x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.7", "host": "pacs.example"}
    for number, flag in enumerate(("true", "false")):
        environment = {"ASPNETCORE_FORWARDEDHEADERS_ENABLED": flag}
        with running(tmp_path / f"data{number}", environment=environment) as server, server.client() as client:
            body, headers = factories.multipart([factories.instance()])
            answer = client.post("/v2/studies", content=body, headers={**headers, **told})
            (item,) = dicomweb.referenced(answer)
            root = "https://pacs.example" if flag == "true" else "http://pacs.example"
            assert dicomweb.value(item, "00081190").startswith(f"{root}/v2/studies/")
            assert client.get("/v3/studies", headers=told).json()["error"]["message"].count(f"'{root}/v3/") == 1
            server.stop()
            assert (f'"RequestUri":"{root}/v2/studies"' in server.log()) and (
                ('"CallerIpAddress":"192.0.2.7"' in server.log()) == (flag == "true")
            )


def test_urls_of_the_reference_are_listened_on(tmp_path: Path) -> None:
    port = free_port()
    environment = {"ASPNETCORE_URLS": f"https://localhost:1;http://localhost:{port}"}
    command = [sys.executable, "-m", "hounsfield", "serve", *QUIET, "--no-worker", "--workers", "1"]
    process = subprocess.Popen([*command, "--data-dir", str(tmp_path / "data")], env={**os.environ, **environment})
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("localhost", port), 1).close()
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    said = serve_fails("--data-dir", str(tmp_path), environment={"ASPNETCORE_URLS": f"http://+:{port}"})
    assert "0.0.0.0" in said


def test_large_uploads_wait_where_the_reference_has_them_wait(tmp_path: Path) -> None:
    ds = factories.dataset(PixelData=bytes(3_000_000))
    body = factories.part10(ds)
    with running(tmp_path / "data", environment={"ASPNETCORE_TEMP": str(tmp_path / "temporary")}) as server:
        with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
            head = "POST /v2/studies HTTP/1.1\r\nHost: h\r\nContent-Type: application/dicom\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:2_500_000])
            deadline = time.monotonic() + 20
            while not [*(tmp_path / "temporary").rglob(".tmp-*")]:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            connection.sendall(body[2_500_000:])
            assert connection.recv(1000).startswith(b"HTTP/1.1 200")
        with server.client() as client:
            assert client.get(instance_path(ds), headers={"accept": ORIGINAL}).content == body
        assert not (server.data_dir / "spool").exists()
        assert not [*(tmp_path / "temporary").rglob(".tmp-*")]


def test_a_schema_is_made_and_updated_only_where_that_is_allowed(tmp_path: Path) -> None:
    data, port = str(tmp_path / "data"), ("--port", str(free_port()))
    said = serve_fails(*port, "--data-dir", data, environment={"SqlServer__Initialize": "false"})
    assert "SqlServer:Initialize" in said
    with running(tmp_path / "data") as server:
        assert server.stop() == 0
    with running(tmp_path / "data", environment={"SqlServer__Initialize": "false"}) as server:
        assert server.stop() == 0
    with sqlite3.connect(tmp_path / "data" / "index.db") as index:
        index.execute("UPDATE alembic_version SET version_num = '0000'")
    index.close()
    key = "SqlServer:SchemaOptions:AutomaticUpdatesEnabled"
    assert key in serve_fails(*port, "--data-dir", data, environment={key.replace(":", "__"): "false"})


def test_a_schema_of_somebody_else_or_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    arguments = ("--port", str(free_port()), "--data-dir", str(tmp_path))
    with sqlite3.connect(tmp_path / "index.db") as index:
        index.execute("CREATE TABLE study (number INTEGER)")
    index.close()
    assert "study already exists" in serve_fails(*arguments)
    shutil.copy(empty_index(), tmp_path / "index.db")
    with sqlite3.connect(tmp_path / "index.db") as index:
        index.execute("UPDATE alembic_version SET version_num = '9999'")
    index.close()
    assert "newer version" in serve_fails(*arguments)


def test_a_database_of_the_reference_is_told_not_to_be_used(tmp_path: Path) -> None:
    environment = {"SqlServer__ConnectionString": "server=sql;Password=geheim"}
    server = Server(tmp_path / "data", [*QUIET, "--workers", "1", "--no-worker"], environment)
    try:
        server.start()
        assert server.stop() == 0
        assert server.log().count("Database:Url") == 1
        assert "geheim" not in server.log()
    finally:
        server.end()


def test_settings_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    arguments = ("--port", str(free_port()), "--data-dir", str(tmp_path / "data"))
    for name, value in (
        ("DicomServer:Features:EnableExternalStore", "true"),
        ("BlobStore:Retry:Mode", "perhaps"),
        ("DicomServer:Services:DeletedInstanceCleanup:BatchSize", "0"),
        ("Logging:LogLevel:Default", "loud"),
    ):
        assert name in serve_fails(*arguments, "--set", f"{name}={value}")
    assert not (tmp_path / "data").exists()


def test_what_no_process_could_use_is_said_once_and_stops_the_start(tmp_path: Path) -> None:
    """What only shows when an API process is put together: each would die of it, and be started again for ever."""
    arguments = ("--port", str(free_port()), "--data-dir", str(tmp_path / "data"))
    file = tmp_path / "file"
    file.touch()
    for name, value, said in (
        ("BlobStore:ConnectionString", "AccountName=a;geheim", "Azure connection string"),
        ("Operations:EncryptionKey", "geheim", "Operations:EncryptionKey"),
        ("ObjectStore:Url", "az://container", "ObjectStore:Url"),
        ("ObjectStore:Url", f"file://{file}", str(file)),
        ("ASPNETCORE_TEMP", str(file), "ASPNETCORE_TEMP"),
    ):
        text = serve_fails(*arguments, environment={name.replace(":", "__"): value})
        assert said in text
        assert "geheim" not in text

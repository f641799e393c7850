"""Processes that die while something is exported: resumed, no file missing or counted twice, no secret left."""

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.exports import blob, body, files, finished, folder, identifier
from tests.acceptance.test_faults import fault
from tests.acceptance.test_lifecycle import running
from tests.peers.azure_sas import Container
from tests.peers.azurite import AzuriteServer

pytestmark = pytest.mark.acceptance

COUNT = 70
"""Instances: two steps."""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Dataset]]:
    """A data directory with one study, and what is in it."""
    first = factories.dataset()
    several = [first, *(dicomweb.sibling(first, InstanceNumber=number) for number in range(2, COUNT + 1))]
    data = tmp_path_factory.mktemp("archive") / "data"
    with running(data, "--no-worker") as server, server.client() as client:
        dicomweb.store(client, *several)
        assert server.stop() == 0
    return data, several


@pytest.mark.parametrize(
    ("point", "form"),
    [
        ("export: file written", "files"),
        ("export: log written", "files"),
        ("operation: step committed", "files"),
        ("export: page written", "zip"),
    ],
)
def test_a_worker_that_dies(study: tuple[Path, list[Dataset]], tmp_path: Path, point: str, form: str) -> None:
    stored, several = study
    data = shutil.copytree(stored, tmp_path / "data")
    target = tmp_path / "target"
    target.mkdir()
    allowed = {"Export__Sinks__Folder__AllowedDirectories__0": str(target)}
    # The requested identifier that does not exist comes first, so that there is something to log in the first step.
    sent = body(folder(target), "9.9", identifier(several[0], 1), format=form, deidentify={"retainUids": True})
    with running(data, environment=fault(point) | allowed) as server, server.client() as client:
        assert client.post("/v2/export", json=sent).status_code == 202
        deadline = time.monotonic() + 20
        while "the background process ended" not in server.log():
            assert time.monotonic() < deadline, server.log()
            time.sleep(0.05)
        server.kill()
    with closing(sqlite3.connect(data / "index.db")) as connection, connection:
        connection.execute("UPDATE operation_part SET due = 0 WHERE owner IS NOT NULL")  # as if its lease were over
    with running(data, environment=allowed) as server, server.client() as client:
        (operation,) = client.get("/v2/operations").json()
        operation = finished(client, f"/v2/operations/{operation['operationId']}")
        assert operation["status"] == "succeeded"
        assert (operation["results"]["exported"], operation["results"]["skipped"]) == (COUNT, 1)
        assert server.stop() == 0
    written = files(target / operation["operationId"])
    log = written.pop("errors.log")
    assert log.count(b'"9.9"') == log.count(b"\n") >= 1
    names = {f"{identifier(ds)}.dcm" for ds in several} if form == "files" else {f"{identifier(several[0], 1)}.zip"}
    assert set(written) == {f"results/{name}" for name in names}
    with closing(sqlite3.connect(data / "index.db")) as connection:
        assert connection.execute("SELECT count(*) FROM operation WHERE secret IS NOT NULL").fetchone() == (0,)


@pytest.mark.peer
def test_a_destination_whose_rights_are_lost(
    study: tuple[Path, list[Dataset]], tmp_path: Path, azurite_endpoint: AzuriteServer
) -> None:
    """The export fails, says so, and forgets the signature; the files before stay."""
    stored, several = study
    data = shutil.copytree(stored, tmp_path / "data")
    container = Container(azurite_endpoint, azurite_endpoint.new_container_name()).create()
    with running(data, "--no-worker") as server, server.client() as client:
        reference = client.post("/v2/export", json=body(blob(container), identifier(several[0], 1))).json()
        assert server.stop() == 0
    container.delete()
    with closing(sqlite3.connect(data / "index.db")) as connection, connection:
        assert connection.execute("SELECT count(*) FROM operation WHERE secret IS NOT NULL").fetchone() == (1,)
        connection.execute("UPDATE operation_part SET attempt = 2")
    with running(data) as server, server.client() as client:
        deadline = time.monotonic() + 60
        while (operation := client.get(f"/v2/operations/{reference['id']}?details=true")).status_code == 202:
            with closing(sqlite3.connect(data / "index.db", timeout=20)) as connection, connection:
                connection.execute("UPDATE operation_part SET due = 0 WHERE owner IS NULL AND due IS NOT NULL")
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert operation.json()["status"] == "failed"
        assert "does not exist" in operation.json()["error"] and "4 times" in operation.json()["error"]
        assert server.stop() == 0
    with closing(sqlite3.connect(data / "index.db")) as connection:
        assert connection.execute("SELECT count(*) FROM operation WHERE secret IS NOT NULL").fetchone() == (0,)

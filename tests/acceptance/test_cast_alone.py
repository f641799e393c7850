"""``hounsfield cast`` alone between two servers: the partitions it is told to cast, and what it says of itself."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.test_cast_rebuild import hounsfield
from tests.acceptance.test_lifecycle import until
from tests.server import Server, free_port

pytestmark = pytest.mark.acceptance

FAILED = "DicomFailToStoreExceptionTable"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An archive with data partitions, and the FHIR store that is written to."""
    settings = {"DicomServer__Features__EnableDataPartitions": "true"}
    server = Server(tmp_path_factory.mktemp("alone") / "data", ["--no-cast", "--workers", "1"], settings)
    try:
        yield server.start()
    finally:
        server.end()


@contextmanager
def casting(directory: Path, archive: Server, *arguments: str, **settings: str) -> Iterator[httpx.Client]:
    """A ``hounsfield cast`` of its own data directory, and a client of its port."""
    environment = {
        "DicomWeb__Endpoint": archive.root,
        "Fhir__Endpoint": f"{archive.root}/fhir",
        "DicomCastWorker__PollInterval": "00:00:00.2",
        **settings,
    }
    port = free_port()
    command = [sys.executable, "-m", "hounsfield", "cast", "--data-dir", str(directory / "cast"), "--port", str(port)]
    with (directory / "cast.log").open("wb") as log:
        process = subprocess.Popen([*command, *arguments], env={**os.environ, **environment}, stdout=log, stderr=log)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, verify=False) as client:
            until(lambda: answers(client), 30)
            yield client
        assert process.poll() is None, (directory / "cast.log").read_text()
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, (directory / "cast.log").read_text()
    finally:
        process.kill()
        process.wait()


def answers(client: httpx.Client) -> bool:
    try:
        return client.get("/health/check").is_success
    except httpx.TransportError:
        return False


def status(client: httpx.Client) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/cast/status").raise_for_status().json()
    return found


def test_chosen_partitions_are_cast_and_the_port_tells_how_it_goes(tmp_path: Path, archive: Server) -> None:
    stored = {name: factories.dataset(PatientID=dicomweb.patient()) for name in ("Microsoft.Default", "clinic", "else")}
    unfit = factories.dataset(PatientID=dicomweb.patient())
    del unfit.Modality
    with archive.client() as client:
        for name, dataset in [*stored.items(), ("clinic", unfit)]:
            path = f"/v2/partitions/{name}/studies"
            assert dicomweb.post(client, [factories.part10(dataset)], path).status_code == 200
        partitions = {"DicomCast__Partitions__0": "Microsoft.Default", "DicomCast__Partitions__1": "clinic"}
        with casting(tmp_path, archive, **partitions) as alone:
            until(lambda: status(alone)["syncedSequence"] == 4, 30)
            bundle = client.get("/fhir/ImagingStudy").json()
            cast = {entry["resource"]["identifier"][0]["value"] for entry in bundle["entry"]}
            wanted = {f"urn:oid:{stored[name].StudyInstanceUID}" for name in ("Microsoft.Default", "clinic")}
            assert cast == wanted

            until(lambda: status(alone)["state"] == "idle", 10)
            found = status(alone)
            assert (found["latestSequence"], found["lag"], found["errorCounts"][FAILED]) == (4, 0, 1)
            assert found["fhirEndpoint"] == f"{archive.root}/fhir"
            figures = alone.get("/metrics").raise_for_status().text
            assert "hounsfield_cast_synced_sequence 4.0" in figures
            assert f'hounsfield_cast_errors{{table="{FAILED}"}} 1.0' in figures
            assert "hounsfield_instances" not in figures, "the archive's figures are the archive's"
            checks = alone.get("/health/check").json()
            assert [one["name"] for one in checks["details"]] == ["IndexDatabase", "DicomCast"]
            assert checks["overallStatus"] == "Healthy"

            (row,) = alone.get("/cast/errors", params={"table": FAILED}).json()["entries"]
            assert row["instanceUid"] == str(unfit.SOPInstanceUID)
            assert alone.post("/cast/retry").json()["entries"] == 1
            until(lambda: not status(alone)["retries"], 20)
            shown = hounsfield("cast", "status", "--at", str(alone.base_url))
            assert shown.returncode == 0 and "idle" in shown.stdout, shown.stderr

            assert alone.get("/cast/nothing").status_code == 404
            assert alone.post("/cast/status").status_code == 405
            assert alone.get("/v2/studies").status_code == 404
            assert alone.get("/cast/status").headers["x-content-type-options"] == "nosniff"

            archive.kill()
            assert status(alone)["latestSequence"] == 4, "what was known stays known"


def test_other_machines_are_not_let_in_by_accident(tmp_path: Path) -> None:
    done = hounsfield(
        *("cast", "--data-dir", str(tmp_path / "cast"), "--port", str(free_port()), "--host", "0.0.0.0"),
        DicomWeb__Endpoint="http://127.0.0.1:9",
        Fhir__Endpoint="http://127.0.0.1:9/fhir",
    )
    assert done.returncode == 2 and "--allow-insecure" in done.stderr

"""``hounsfield cast verify`` and ``rebuild`` as a person uses them: beside a server, and for a cast that runs alone."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.test_lifecycle import until
from tests.server import Server, empty_index

pytestmark = pytest.mark.acceptance


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("cast") / "data", ["--cast", "--fhir", "--workers", "1"])
    try:
        yield server.start()
    finally:
        server.end()


def hounsfield(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "hounsfield", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


def studies(client: httpx.Client) -> dict[str, dict[str, Any]]:
    bundle = client.get("/fhir/ImagingStudy").json()
    return {one["resource"]["identifier"][0]["value"]: one["resource"] for one in bundle.get("entry", [])}


def test_drift_is_found_mended_and_gone(server: Server, tmp_path: Path) -> None:
    with server.client() as client:
        _drift_is_mended(client, server, tmp_path)


def _drift_is_mended(client: httpx.Client, server: Server, tmp_path: Path) -> None:
    stored = [factories.dataset(PatientName="Secret^Patient", StudyDescription="Chest") for _ in range(3)]
    for dataset in stored:
        dicomweb.store(client, dataset)
    until(lambda: len(studies(client)) == 3, 30)
    directory = str(server.data_dir)
    found = hounsfield("cast", "verify", "--data-dir", directory)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout
    assert "3 studies compared: no drift." in found.stdout

    changed, lost = (studies(client)[f"urn:oid:{dataset.StudyInstanceUID}"] for dataset in stored[:2])
    changed["note"] = [{"text": "Secret"}]
    assert client.put(f"/fhir/ImagingStudy/{changed['id']}", json=changed).status_code == 200
    assert client.delete(f"/fhir/ImagingStudy/{lost['id']}").is_success
    found = hounsfield("cast", "verify", "--data-dir", directory, "--json")
    assert found.returncode == 1 and "Secret" not in found.stdout and "Chest" not in found.stdout
    *drift, summary = (json.loads(line) for line in found.stdout.splitlines())
    assert {(one["studyInstanceUid"], one["problem"]) for one in drift} == {
        (str(stored[0].StudyInstanceUID), "different"),
        (str(stored[1].StudyInstanceUID), "missing"),
    }
    assert summary == {"studies": 3, "drift": 2, "refusedEntries": 0, "behind": 0}
    told = hounsfield("cast", "verify", "--data-dir", directory, "--values").stdout
    assert '"Chest"' in told and '"Secret"' in told

    done = hounsfield("cast", "rebuild", "--at", f"{server.root}/v2", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"]["written"] == 2
    assert set(studies(client)) == {f"urn:oid:{dataset.StudyInstanceUID}" for dataset in stored}
    assert hounsfield("cast", "verify", "--data-dir", directory).returncode == 0

    # The same for a cast that runs alone, which here is not running: the command does it itself.
    alone = {"DicomWeb__Endpoint": server.root, "Fhir__Endpoint": f"{server.root}/fhir"}
    data = str(tmp_path / "alone")
    assert client.delete(f"/fhir/ImagingStudy/{changed['id']}").is_success
    done = hounsfield("cast", "rebuild", "--data-dir", data, **alone)
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout
    found = hounsfield("cast", "verify", "--data-dir", data, **alone)
    assert (found.returncode, found.stderr) == (0, ""), found.stdout


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    found = hounsfield("cast", "verify", "--data-dir", str(tmp_path / "misspelt"))
    assert found.returncode == 2
    assert found.stderr.startswith("hounsfield: There is no index in ")
    assert not (tmp_path / "misspelt").exists()
    shutil.copy(empty_index(), tmp_path / "index.db")
    found = hounsfield("cast", "verify", "--data-dir", str(tmp_path))
    assert found.returncode == 2
    assert found.stderr.startswith("hounsfield: Nothing was ever cast from this data directory.")

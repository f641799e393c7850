"""Two DICOM servers and a `hounsfield cast` for each, into one FHIR server that nobody here wrote."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import instance_path
from tests.acceptance.test_lifecycle import until
from tests.peers.fhir_server import FhirServer
from tests.server import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.peer]


@contextmanager
def casting(directory: Path, archive: Server, fhir: FhirServer) -> Iterator[None]:
    """``hounsfield cast`` with a data directory of its own."""
    settings = {
        "DicomWeb__Endpoint": archive.root,
        "Fhir__Endpoint": fhir.url,
        "DicomCastWorker__PollInterval": "00:00:00.2",
    }
    with (directory / "cast.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hounsfield", "cast", "--data-dir", str(directory / "cast")],
            env={**os.environ, **settings},
            stdout=log,
            stderr=log,
        )
    try:
        yield
        assert process.poll() is None, (directory / "cast.log").read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        finally:
            process.kill()


@contextmanager
def archive(directory: Path) -> Iterator[Server]:
    server = Server(directory / "data", ["--no-cast", "--no-fhir", "--workers", "1"])
    try:
        yield server.start()
    finally:
        server.end()


def test_a_study_in_two_archives(tmp_path: Path, fhir_peer: FhirServer) -> None:
    for name in ("north", "south"):
        (tmp_path / name).mkdir()
    first = factories.dataset(PatientID=dicomweb.patient())
    second = dicomweb.sibling(first, PatientID=first.PatientID)
    alone = factories.dataset(PatientID=first.PatientID)
    with ExitStack() as stack:
        north, south = (stack.enter_context(archive(tmp_path / name)) for name in ("north", "south"))
        clients = [stack.enter_context(server.client()) for server in (north, south)]
        fhir = stack.enter_context(httpx.Client(base_url=fhir_peer.url))
        dicomweb.store(clients[0], first, second)
        dicomweb.store(clients[1], first, alone)
        for name, server in (("north", north), ("south", south)):
            stack.enter_context(casting(tmp_path / name, server, fhir_peer))

        def found(path: str, **parameters: str) -> list[dict[str, Any]]:
            answer = fhir.get(f"{fhir_peer.url}/{path}", params=parameters).raise_for_status().json()
            return [entry["resource"] for entry in answer.get("entry", [])]

        def study(uid: str) -> tuple[set[str], set[str]]:
            """Roots of its Endpoints, and its instances."""
            resources = found("ImagingStudy", identifier=f"urn:dicom:uid|urn:oid:{uid}")
            if not resources:
                return set(), set()
            [resource] = resources
            roots = {f"Endpoint/{one['id']}": one["address"] for one in found("Endpoint")}
            instances = {one["uid"] for series in resource.get("series", []) for one in series["instance"]}
            return {roots[one["reference"]] for one in resource["endpoint"]}, instances

        both = {f"{north.root}/", f"{south.root}/"}
        shared = str(first.StudyInstanceUID)
        pair = {str(first.SOPInstanceUID), str(second.SOPInstanceUID)}
        until(lambda: study(shared) == (both, pair), 30)
        lonely = str(alone.StudyInstanceUID)
        until(lambda: study(lonely) == ({f"{south.root}/"}, {str(alone.SOPInstanceUID)}), 10)
        assert len(found("Patient")) == 1

        for instance in (first, second):
            assert clients[0].delete(instance_path(instance)).status_code == 204
        until(lambda: study(shared) == ({f"{south.root}/"}, {str(first.SOPInstanceUID)}), 10)
        assert clients[1].delete(instance_path(first)).status_code == 204
        until(lambda: study(shared) == (set(), set()), 10)
        assert study(lonely)[1]

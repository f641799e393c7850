"""Workitems become Tasks in the embedded FHIR store, through HTTP and through kill -9."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.test_lifecycle import until
from tests.acceptance.test_workitems import send
from tests.cast import full_workitem as full
from tests.server import Server
from tests.worklist.make import element, new_uid, to_state

pytestmark = pytest.mark.acceptance

SYNC = ("--set", "DicomCast:Features:SyncWorkitems=true")
LOCK = "1.2.3"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("tasks") / "data", SYNC)
    yield server.start()
    server.end()


def create(client: httpx.Client, **changes: Any) -> str:
    uid = new_uid()
    assert send(client, "POST", f"?{uid}", full.scheduled(**changes)).status_code == 201
    return uid


def claim(client: httpx.Client, uid: str) -> None:
    assert send(client, "PUT", f"{uid}/state", to_state("IN PROGRESS", LOCK)).status_code == 200


def tasks(client: httpx.Client, query: str) -> list[dict[str, Any]]:
    answer = client.get(f"/fhir/Task?{query}")
    assert answer.status_code == 200, answer.text
    return [entry["resource"] for entry in answer.json().get("entry", [])]


def of(client: httpx.Client, uid: str) -> dict[str, Any]:
    """The one Task of a workitem; empty while there is none."""
    found = tasks(client, f"identifier=urn:dicom:uid|urn:oid:{uid}")
    assert len(found) <= 1
    return found[0] if found else {}


def has_status(client: httpx.Client, uid: str, status: str) -> Callable[[], bool]:
    return lambda: of(client, uid).get("status") == status


def test_a_workitem_from_order_to_result(server: Server) -> None:
    with server.client() as client:
        dataset = factories.dataset()
        study = str(dataset.StudyInstanceUID)
        uid = create(client, t00404021={"vr": "SQ", "Value": [full.study(study)]}, t00100020=element("LO", "W1"))
        until(has_status(client, uid, "ready"))
        patient = client.get("/fhir/Patient?identifier=W1").json()["entry"][0]["resource"]
        assert of(client, uid)["for"] == {"reference": f"Patient/{patient['id']}"}
        dicomweb.store(client, dataset)
        until(lambda: "reference" in of(client, uid)["focus"])
        found = client.get(f"/fhir/Task?patient={patient['id']}&_include=Task:focus").json()["entry"]
        assert [one["resource"]["resourceType"] for one in found] == ["Task", "ImagingStudy"]
        claim(client, uid)
        assert send(client, "POST", f"{uid}?{LOCK}", full.performed()).status_code == 200
        assert send(client, "PUT", f"{uid}/state", to_state("COMPLETED", LOCK)).status_code == 200
        until(has_status(client, uid, "completed"))
        assert [one["id"] for one in tasks(client, f"patient={patient['id']}&period=2026-01-10")] == [
            of(client, uid)["id"]
        ]
        # A study that somebody refers to cannot be deleted: its Task lets it go.
        assert client.delete(f"/v2/studies/{study}").status_code == 204
        until(lambda: "reference" not in of(client, uid)["focus"])
        until(lambda: client.get(f"/fhir/ImagingStudy?identifier=urn:dicom:uid|urn:oid:{study}").json()["total"] == 0)
        canceled = create(client)
        reason = {"00741238": element("LT", "Not needed")}
        assert send(client, "POST", f"{canceled}/cancelrequest", reason).status_code == 202
        until(has_status(client, canceled, "cancelled"))
        assert of(client, canceled)["statusReason"]["text"] == "Not needed"
        status = client.get("/cast/status").json()
        assert status["workitems"] == {"lag": 0, "lagSeconds": 0.0, "lastError": None}
        assert set(status["errorCounts"].values()) == {0}
        assert "hounsfield_cast_workitem_lag 0.0" in client.get("/metrics").text


def test_what_was_acknowledged_before_a_kill_is_in_fhir_after_it(server: Server) -> None:
    with server.client() as client:
        uids = [create(client) for _ in range(12)]
        until(has_status(client, uids[0], "ready"))
        for uid in uids[:6]:
            claim(client, uid)
    server.kill()
    with server.start().client() as client:
        for number, uid in enumerate(uids):
            until(has_status(client, uid, "in-progress" if number < 6 else "ready"))
        assert set(client.get("/cast/status").json()["errorCounts"].values()) == {0}


def test_a_cast_without_the_worklist_is_refused(tmp_path: Path) -> None:
    settings = ("--set", "DicomWeb:Endpoint=http://127.0.0.1:1", "--set", "Fhir:Endpoint=http://127.0.0.1:1")
    command = [sys.executable, "-m", "hounsfield", "cast", "--data-dir", str(tmp_path / "cast"), *SYNC, *settings]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "Database:Url" in done.stderr.replace("\n", " ")
    assert not (tmp_path / "cast").exists()

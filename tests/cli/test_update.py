import json
from typing import Any

import pytest

from hounsfield.cli import operation_progress
from tests.cli.conftest import Hounsfield
from tests.cli.dicomweb_server import DicomWebServer, Handler

ID = "4853cda8c05c44e497d2bc071f8e92c4"
URL = "/studies/$bulkUpdate"

Sent = list[dict[str, Any]]


def record(status: str = "succeeded", **results: Any) -> dict[str, Any]:
    counts = {"studyProcessed": 2, "studyUpdated": 2, "studyFailed": 0, "instanceUpdated": 7, **results}
    return {"operationId": ID, "type": "update", "status": status, "percentComplete": 100, "results": counts}


@pytest.fixture(autouse=True)
def documents(server: DicomWebServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, Any]]:
    monkeypatch.setattr(operation_progress, "LOOK_SECONDS", 0.05)
    server.documents = {f"/operations/{ID}": (200, record())}
    return server.documents


@pytest.fixture(autouse=True)
def sent(server: DicomWebServer) -> Sent:
    """The bodies of updates."""
    found: Sent = []

    def take(handler: Handler) -> bool:
        if handler.path != URL:
            return False
        found.append(json.loads(handler.rfile.read(int(handler.headers["Content-Length"]))))
        return handler.answer(202, json.dumps({"id": ID}).encode(), "application/json")

    server.interfere = take
    return found


def test_what_is_sent_and_said(server: DicomWebServer, hounsfield: Hounsfield, sent: Sent) -> None:
    run = hounsfield(
        "update", "1.2", "1.3", "--at", server.root, "--set", "PatientName=Yamada^T=山田", "--set", "00100020=A=B",
        "--set", "OtherPatientIDs=A\\B", "--set", "PatientComments=",
    )  # fmt: skip
    assert (run.code, run.out) == (0, "2 of 2 studies updated, 7 instances.\n")
    dataset = {
        "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Yamada^T", "Ideographic": "山田"}]},
        "00100020": {"vr": "LO", "Value": ["A=B"]},
        "00101000": {"vr": "LO", "Value": ["A", "B"]},
        "00104000": {"vr": "LT"},
    }
    assert sent == [{"studyInstanceUids": ["1.2", "1.3"], "changeDataset": dataset}]


def test_a_study_that_failed(
    server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]]
) -> None:
    errors = ["Failed to update instances for study 1.2"]
    documents[f"/operations/{ID}"] = (200, record("failed", studyUpdated=1, studyFailed=1, errors=errors))
    run = hounsfield("update", "1.2", "1.3", "--at", server.root, "--set", "PatientID=X")
    assert run.code == 1
    assert run.out == f"1 of 2 studies updated, 7 instances.\n{errors[0]}\n"


def test_without_waiting_and_for_programs(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    run = hounsfield("update", "1.2", "--at", server.root, "--set", "PatientID=X", "--no-wait")
    assert run.code == 0 and ID in run.out
    run = hounsfield("update", "1.2", "--at", server.root, "--set", "PatientID=X", "--no-wait", "--json")
    assert json.loads(run.out) == {"id": ID}
    run = hounsfield("update", "1.2", "--at", server.root, "--set", "PatientID=X", "--json")
    assert [json.loads(line)["status"] for line in run.out.splitlines()] == ["succeeded"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("1.x", "--set", "PatientID=X"), "is no UID"),
        (("1.2", "--set", "PatientID"), "is no attribute"),
        (("1.2", "--set", "PatientIdd=X"), "is no attribute"),
        (("1.2", "--set", "Modality=CT"), "cannot be updated"),
        (("1.2", "--set", "PatientBirthDate=then"), "DICOM100: (0010,0030)"),
        (("1.2",) * 51 + ("--set", "PatientID=X"), "No more than 50"),
    ],
)
def test_refusals_before_anything_is_sent(
    server: DicomWebServer, hounsfield: Hounsfield, sent: Sent, arguments: tuple[str, ...], words: str
) -> None:
    run = hounsfield("update", *arguments, "--at", server.root)
    assert run.code == 2
    assert words in " ".join(run.err.replace("│", " ").split())
    assert sent == []

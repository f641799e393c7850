import json
from typing import Any

import pytest

from tests.cli.conftest import CONTROL, Hounsfield, Start
from tests.cli.dicomweb_server import DicomWebServer

HEALTH = {
    "overallStatus": "Healthy",
    "details": [{"name": "index", "status": "Healthy", "description": "SQLite answers."}],
}
CAST = {
    "enabled": True, "state": "retrying", "fhirEndpoint": "https://fhir.example.org/r4", "lag": 17,
    "lastError": {"type": "Timeout", "message": "no \x1b[31manswer", "date": "2024-01-31T10:00:00Z"},
    "errorCounts": {"DicomFailToStoreInFhir": 3, "TransientRetry": 0},
}  # fmt: skip
OPERATIONS = [
    {"operationId": "a" * 32, "type": "reindex", "status": "running", "percentComplete": 42},
    {"operationId": "b" * 32, "type": "export", "status": "notStarted"},
    {"operationId": "c" * 32, "type": "update", "status": "failed", "percentComplete": 9},
]


@pytest.fixture(autouse=True)
def documents(server: DicomWebServer) -> dict[str, tuple[int, Any]]:
    server.documents = {
        "/health/check": (200, HEALTH),
        "/statistics": (200, {"studies": 3, "series": 5, "instances": 7000, "bytes": 123456789}),
        "/v2/changefeed/latest": (200, {"sequence": 7012}),
        "/cast/status": (200, CAST),
        "/v2/operations": (200, OPERATIONS),
    }
    return server.documents


def test_everything_is_shown(server: DicomWebServer, start: Start) -> None:
    run = start("status", server.root)
    out, err = run.communicate(timeout=20)
    assert (run.returncode, err) == (0, "")
    assert not CONTROL.search(out)
    for text in ("Healthy", "SQLite answers.", "7000", "123 MB", "sequence 7012", "retrying, 17 behind",
                 "https://fhir.example.org/r4", "DicomFailToStoreInFhir",
                 "reindex running, 42 %", "export notStarted"):  # fmt: skip
        assert text in out
    assert "TransientRetry" not in out and "update" not in out


@pytest.mark.parametrize("suffix", ["", "/", "/v2", "/v2/"])
def test_json_and_forms_of_the_url(server: DicomWebServer, hounsfield: Hounsfield, suffix: str) -> None:
    run = hounsfield("status", server.root + suffix, "--json")
    found = json.loads(run.out)
    assert found["healthy"] is True
    assert found["statistics"]["instances"] == 7000
    assert found["latestSequence"] == 7012
    assert found["cast"]["state"] == "retrying"
    assert [each["type"] for each in found["operations"]] == ["reindex", "export"]


def test_version_of_the_url_is_used(
    server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]]
) -> None:
    documents["/v1/changefeed/latest"] = (200, {"sequence": 9})
    assert json.loads(hounsfield("status", server.root + "/v1", "--json").out)["latestSequence"] == 9


@pytest.mark.parametrize(
    ("path", "answer", "code", "shown"),
    [
        ("/health/check", (503, {"overallStatus": "Unhealthy", "details": []}), 1, "Unhealthy"),
        ("/health/check", (200, {"overallStatus": "Degraded", "details": []}), 1, "Degraded"),
        ("/health/check", (404, {}), 1, "unknown"),
        ("/statistics", (404, {}), 0, "unknown"),
        ("/statistics", (401, {}), 0, "--token"),
        ("/cast/status", (200, {"enabled": True, "state": "faulted"}), 1, "faulted"),
        ("/cast/status", (200, {"enabled": False, "state": "stopped"}), 0, "off"),
        ("/cast/status", (404, {}), 0, "unknown"),
        ("/v2/changefeed/latest", (204, None), 0, "sequence 0"),
        ("/v2/changefeed/latest", (404, None), 0, "unknown"),
        ("/cast/status", (200, ["not", "an", "object"]), 0, "unknown"),
    ],
)
def test_exit_code_and_what_is_absent(
    server: DicomWebServer,
    hounsfield: Hounsfield,
    documents: dict[str, tuple[int, Any]],
    path: str,
    answer: tuple[int, Any],
    code: int,
    shown: str,
) -> None:
    documents[path] = answer
    run = hounsfield("status", server.root)
    assert run.code == code
    assert shown in run.out


def test_unreachable(hounsfield: Hounsfield) -> None:
    run = hounsfield("status", "http://127.0.0.1:1")
    assert run.code == 2
    assert "cannot be reached" in run.err

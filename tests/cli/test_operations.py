import json
import signal
from typing import Any

import pytest

from hounsfield.cli import operation_progress
from tests.cli.conftest import CONTROL, Hounsfield, Start, wait_until
from tests.cli.dicomweb_server import DicomWebServer, Handler

FIRST, SECOND = "4853cda8c05c44e497d2bc071f8e92c4", "0f8fad5bd9cb469fa16570867728950e"


def record(operation_id: str = FIRST, status: str = "running", percent: int = 42, **more: Any) -> dict[str, Any]:
    return {
        "operationId": operation_id, "type": "reindex", "status": status, "percentComplete": percent,
        "createdTime": "2024-02-29T16:00:00.123456Z", "lastUpdatedTime": "2024-02-29T16:01:07.123456Z",
        "cancelRequested": False, **more,
    }  # fmt: skip


def targets(server: DicomWebServer) -> list[str]:
    """What was asked for."""
    return [target for _, target, _ in server.requests]


@pytest.fixture(autouse=True)
def documents(server: DicomWebServer, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[int, Any]]:
    monkeypatch.setattr(operation_progress, "LOOK_SECONDS", 0.05)
    failed = record(SECOND, "failed", 7, error="A step failed. \x1b[31m")
    server.documents = {
        "/operations": (200, [record(), failed]),
        f"/operations/{FIRST}": (202, record(resources=["http://localhost/v2/extendedquerytags/00101010"])),
        f"/operations/{SECOND}": (200, failed),
    }
    return server.documents


def test_the_list_for_people(server: DicomWebServer, start: Start) -> None:
    run = start("operations", "list", "--at", server.root)
    out, err = run.communicate(timeout=20)
    assert (run.returncode, err) == (0, "")
    assert not CONTROL.search(out)
    for text in (FIRST, SECOND, "reindex", "running", "42 %", "failed", "2024-02-29 16:00:00", "1 min 07 s"):
        assert text in out


def test_the_list_for_programs(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    run = hounsfield("operations", "list", "--at", server.root, "--json", "--limit", "5", "--offset", "3")
    assert [json.loads(line)["operationId"] for line in run.out.splitlines()] == [FIRST, SECOND]
    assert "/operations?limit=5&offset=3" in targets(server)


def test_an_empty_list(server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]]) -> None:
    documents["/operations"] = (200, [])
    assert hounsfield("operations", "list", "--at", server.root) == (0, "no operation\n", "")
    run = hounsfield("operations", "watch", "--at", server.root)
    assert (run.code, run.err) == (2, "hounsfield: There is no operation on record there.\n")


def test_one_is_shown_with_everything(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    out = hounsfield("operations", "show", SECOND, "--at", server.root).out
    assert "A step failed. \N{REPLACEMENT CHARACTER}" in out
    assert f"/operations/{SECOND}?details=true" in targets(server)
    newest = hounsfield("operations", "show", "--at", server.root).out
    assert FIRST in newest and "extendedquerytags/00101010" in newest


def test_results_are_shown(
    server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]]
) -> None:
    results = {"studyUpdated": 3, "errors": ["one", "two"]}
    documents[f"/operations/{FIRST}"] = (200, record(results=results, cancelRequested=True))
    out = hounsfield("operations", "show", FIRST, "--at", server.root).out
    assert [line.split() for line in out.splitlines()[-3:]] == [
        ["studyUpdated", "3"],
        ["errors", "one"],
        ["errors", "two"],
    ]
    assert "running, to be cancelled" in out


@pytest.mark.parametrize(("status", "code"), [("succeeded", 0), ("completed", 0), ("failed", 1), ("canceled", 1)])
def test_watching_goes_on_to_the_end(
    server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]], status: str, code: int
) -> None:
    coming = [record(), record(), record(percent=50), record(status=status, percent=100)]

    def advance(_: Handler) -> bool:
        documents[f"/operations/{FIRST}"] = (202, coming.pop(0))
        return False

    server.interfere = advance
    run = hounsfield("operations", "watch", FIRST, "--at", server.root, "--json")
    assert (run.code, run.err, coming) == (code, "", [])
    found = [json.loads(line) for line in run.out.splitlines()]
    assert [each["percentComplete"] for each in found] == [42, 50, 100]
    assert found[-1]["status"] == status


def test_watching_for_people_ends_with_everything(
    server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]]
) -> None:
    documents["/operations"] = (200, [record(SECOND, "failed")])
    run = hounsfield("operations", "watch", "--at", server.root)
    assert run.code == 1
    assert "A step failed." in run.out


def test_interrupting_ends_the_watching_only(server: DicomWebServer, start: Start) -> None:
    run = start("operations", "watch", FIRST, "--at", server.root)
    wait_until(lambda: any(FIRST in target for target in targets(server)))
    run.send_signal(signal.SIGINT)
    assert "Traceback" not in run.communicate(timeout=20)[1]
    assert run.returncode != 0
    assert not any("cancelrequest" in target for target in targets(server))


def test_cancelling(server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]]) -> None:
    documents[f"/operations/{FIRST}/cancelrequest"] = (202, {"id": FIRST, "href": "http://localhost"})
    run = hounsfield("operations", "cancel", FIRST, "--at", server.root)
    assert (run.code, run.err) == (0, "") and FIRST in run.out
    documents[f"/operations/{FIRST}/cancelrequest"] = (409, "The operation has ended already.")
    run = hounsfield("operations", "cancel", FIRST, "--at", server.root)
    assert run.code == 2 and "HTTP 409" in run.err


@pytest.mark.parametrize(
    "arguments", [("list", FIRST), ("cancel",), ("show", "../studies"), ("show", "12"), ("explain",)]
)
def test_what_makes_no_sense_is_refused(server: DicomWebServer, hounsfield: Hounsfield, arguments: tuple[str]) -> None:
    run = hounsfield("operations", *arguments, "--at", server.root)
    assert run.code == 2
    assert targets(server) == []


def test_a_server_that_has_no_operations(
    server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]]
) -> None:
    documents.clear()
    run = hounsfield("operations", "list", "--at", server.root)
    assert run.code == 2 and "HTTP 404" in run.err

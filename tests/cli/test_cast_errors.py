"""``hounsfield cast status``, ``errors``, ``retry`` against a server, and ``cast`` itself, which stays what it was."""

import json
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from hounsfield.cli import cast_errors
from tests.cli.conftest import CONTROL, Hounsfield, Start
from tests.cli.dicomweb_server import DicomWebServer, Handler

FHIR_FAIL = "FhirFailToStoreExceptionTable"
TRANSIENT = "TransientRetryExceptionTable"
STATUS = {
    "enabled": True, "state": "retrying", "fhirEndpoint": "https://fhir.example.org/r4",
    "dicomWebEndpoint": "https://dicom.example.org/", "syncedSequence": 83, "latestSequence": 100, "lag": 17,
    "lagSeconds": 187.0, "rate": 12.34, "syncedDate": "2024-02-29T16:00:01.5Z",
    "current": {"sequence": 84, "studyInstanceUid": "1.2.3", "attempt": 4, "nextAttemptDate": "2024-02-29T16:00:30Z"},
    "lastError": {"type": "RetryableException", "message": "The FHIR server \x1b[31mdoes not answer.",
                  "advice": "Nothing is lost.", "date": "2024-02-29T16:00:02Z"},
    "errorCounts": {FHIR_FAIL: 3, TRANSIENT: 0},
    "retries": [{"table": FHIR_FAIL, "studyUid": None, "date": "2024-02-29T16:00:02Z"}],
    "tableStore": {"waiting": 5, "lastError": None},
    "workitems": {"lag": 2, "lagSeconds": 61.0, "lastError": None},
}  # fmt: skip


def error(sequence: int, **more: Any) -> dict[str, Any]:
    return {
        "partitionKey": "TransactionFailedException", "rowKey": "r", "timestamp": "2024-02-29T16:00:01Z",
        "studyUid": "1.2.3", "seriesUid": "1.2.3.4", "instanceUid": f"1.2.3.4.{sequence}",
        "changeFeedSequence": sequence, "exception": "TransactionFailedException: no \x1b[31m", **more,
    }  # fmt: skip


class Tables:
    """Answers as /cast/errors does, in pages."""

    def __init__(self, server: DicomWebServer, rows: dict[str, list[dict[str, Any]]]) -> None:
        self._rows = rows
        self.asked: list[dict[str, str]] = []
        self._documents = server.documents
        server.interfere = self._answer

    def _answer(self, handler: Handler) -> bool:
        parts = urllib.parse.urlsplit(handler.path)
        if parts.path == "/cast/errors":
            query = dict(urllib.parse.parse_qsl(parts.query))
            self.asked.append(query)
            found = self._rows.get(query["table"], [])
            start, limit = int(query.get("continuationToken", 0)), min(int(query["limit"]), cast_errors.PAGE)
            following = str(start + limit) if start + limit < len(found) else None
            self._documents["/cast/errors"] = (
                200, {"table": query["table"], "entries": found[start:start + limit], "continuationToken": following},
            )  # fmt: skip
        return False


@pytest.fixture(autouse=True)
def documents(server: DicomWebServer) -> dict[str, tuple[int, Any]]:
    server.documents = {"/cast/status": (200, STATUS), "/cast/retry": (202, {"tables": [FHIR_FAIL], "entries": 3})}
    return server.documents


def test_the_status_for_people(server: DicomWebServer, start: Start) -> None:
    run = start("cast", "status", "--at", server.url)
    out, err = run.communicate(timeout=20)
    assert (run.returncode, err) == (1, "")
    assert not CONTROL.search(out)
    for text in ("retrying: waits to try again", "83 of 100", "17 entries, the oldest for 3 min 07 s",
                 "12.3 entries/s", "entry 84 of study 1.2.3, attempt 4", "does not answer.", "Nothing is lost.",
                 f"{FHIR_FAIL}, all studies", "5 rows to be copied", "https://fhir.example.org/r4"):  # fmt: skip
        assert text in out
    counts = {line.split()[0]: line.split()[-1] for line in out.splitlines() if line.split()}
    assert (counts[FHIR_FAIL], counts[TRANSIENT]) == ("3", "0")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"state": "idle", "lag": 0}, 0),
        ({"state": "running"}, 0),
        ({"state": "faulted"}, 1),
        ({"state": "stopped"}, 1),
        ({"state": "stopped", "enabled": False}, 0),
    ],
)
def test_the_exit_code_of_the_status(
    server: DicomWebServer,
    hounsfield: Hounsfield,
    documents: dict[str, tuple[int, Any]],
    changes: dict[str, Any],
    code: int,
) -> None:
    documents["/cast/status"] = (200, STATUS | changes)
    assert hounsfield("cast", "status", "--at", server.root).code == code
    run = hounsfield("cast", "status", "--at", server.root, "--json")
    assert (run.code, json.loads(run.out)) == (code, STATUS | changes)


def test_a_status_of_an_older_server(
    server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]]
) -> None:
    documents["/cast/status"] = (200, {"enabled": True, "state": "idle", "syncedSequence": 1, "latestSequence": 1})
    run = hounsfield("cast", "status", "--at", server.root)
    assert run.code == 0
    assert "nothing" in run.out


def test_errors_for_people_table_by_table(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    tables = Tables(server, {FHIR_FAIL: [error(9), error(7)], TRANSIENT: [error(8, retryNumber=2)]})
    run = hounsfield("cast", "errors", "--at", server.url)
    assert run.code == 0
    assert not CONTROL.search(run.out)
    assert [query["table"] for query in tables.asked] == [table.value for table in cast_errors.TableName]
    assert f"{FHIR_FAIL}: 2 rows" in run.out and f"{TRANSIENT}: 1 row" in run.out
    assert "attempt 2: TransactionFailedException" in run.out
    assert "2024-02-29 16:00:01" in run.out
    assert "Dicom" not in run.out  # nothing of tables without rows


def test_pages_are_followed_up_to_the_limit(
    server: DicomWebServer, hounsfield: Hounsfield, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cast_errors, "PAGE", 4)
    tables = Tables(server, {FHIR_FAIL: [error(number) for number in range(10, 0, -1)]})
    run = hounsfield("cast", "errors", "--at", server.url, "--table", FHIR_FAIL, "--json")
    assert [json.loads(line)["changeFeedSequence"] for line in run.out.splitlines()] == list(range(10, 0, -1))
    assert json.loads(run.out.splitlines()[0])["table"] == FHIR_FAIL
    assert [query.get("continuationToken") for query in tables.asked] == [None, "4", "8"]
    tables.asked.clear()
    run = hounsfield("cast", "errors", "--at", server.url, "--table", FHIR_FAIL, "--limit", "6")
    assert f"{FHIR_FAIL}: 6 rows or more" in run.out
    assert [query["limit"] for query in tables.asked] == ["4", "2"]


def test_errors_of_a_study_since_a_time(server: DicomWebServer, hounsfield: Hounsfield) -> None:
    tables = Tables(server, {})
    options = ("--study", "1.2.3", "--since", "2024-02-29T16:00:00+01:00")
    assert hounsfield("cast", "errors", "--at", server.root, *options) == (0, "no error\n", "")
    assert all((query["study"], query["since"]) == ("1.2.3", "2024-02-29T16:00:00+01:00") for query in tables.asked)
    assert len(tables.asked) == 5


@pytest.mark.parametrize(
    ("options", "target"),
    [
        ([], "/cast/retry"),
        (["--table", FHIR_FAIL], f"/cast/retry?table={FHIR_FAIL}"),
        (["--study", "1.2.3"], "/cast/retry?study=1.2.3"),
    ],
)
def test_retry(server: DicomWebServer, hounsfield: Hounsfield, options: list[str], target: str) -> None:
    assert hounsfield("cast", "retry", "--at", server.url, *options) == (0, "3 entries will be tried again.\n", "")
    ((method, asked, _),) = server.requests
    assert (method, asked) == ("POST", target)


def test_retry_with_nothing_to_do_and_without_permission(
    server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]]
) -> None:
    documents["/cast/retry"] = (202, {"tables": [], "entries": 0})
    assert hounsfield("cast", "retry", "--at", server.url).out == "There is nothing to try again.\n"
    documents["/cast/retry"] = (403, {})
    run = hounsfield("cast", "retry", "--at", server.url)
    assert run.code == 2
    assert "administrator" in run.err


@pytest.mark.parametrize("command", ["status", "errors", "retry"])
def test_what_is_no_hounsfield_server(
    server: DicomWebServer, hounsfield: Hounsfield, documents: dict[str, tuple[int, Any]], command: str
) -> None:
    documents.clear()
    assert hounsfield("cast", command, "--at", server.root).code == 2
    for path in ("/cast/status", "/cast/errors", "/cast/retry"):
        documents[path] = (200, ["not", "an", "object"])
    run = hounsfield("cast", command, "--at", server.root)
    assert (run.code, "is it a Hounsfield server?" in run.err) == (2, True)


@pytest.mark.parametrize("words", [["cast"], ["cast", "run"], ["cast", "--data-dir", "errors"]])
def test_cast_itself_still_is_the_process(
    hounsfield: Hounsfield, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DicomWeb__Endpoint", "Fhir__Endpoint"):
        monkeypatch.delenv(name, raising=False)
    run = hounsfield(*words, "--DicomWeb:Endpoint", "http://127.0.0.1:1/")
    assert run.code == 2
    assert run.err == "hounsfield: Fhir:Endpoint is not set; give it in the settings file or as Fhir__Endpoint.\n"


def test_unusable_tables_are_refused_at_start(hounsfield: Hounsfield) -> None:
    run = hounsfield(
        "cast", "run", "--DicomWeb:Endpoint", "http://127.0.0.1:1/", "--Fhir:Endpoint", "http://127.0.0.1:1/",
        "--TableStore:ConnectionString", "AccountName=x",
    )  # fmt: skip
    assert run.code == 2
    assert "TableStore:ConnectionString needs AccountName and AccountKey" in run.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["cast", "--Fhir:Endpoint", "http://127.0.0.1:1/", "--Fhir:Version", "R3"],
            "Fhir:Version must be one of R4, R5",
        ),
        (["serve", "--Fhir:Version", "R5"], "The embedded FHIR store is R4: Fhir:Version=R5 needs Fhir:Endpoint"),
    ],
)
def test_a_fhir_version_that_cannot_be_written_is_refused_at_start(
    hounsfield: Hounsfield, words: list[str], said: str, tmp_path: Path
) -> None:
    run = hounsfield(*words, "--DicomWeb:Endpoint", "http://127.0.0.1:1/", "--data-dir", str(tmp_path / "data"))
    assert run.code == 2
    assert said in run.err

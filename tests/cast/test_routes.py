"""GET /cast/status and /cast/errors (dicom-cast.md §5.1), and cast's entry in the health check."""

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.cast.advice import advice
from hounsfield.cast.error_tables import ErrorRow
from hounsfield.cast.failure import Table
from hounsfield.cast.state import Activity, Attempt, CastState, LastError, Outcome, Progress
from hounsfield.cast.step import Remove
from hounsfield.database.engine import Database
from hounsfield.errors import HounsfieldError
from hounsfield.operations import records
from hounsfield.web import cast_status
from hounsfield.web.cast import cast_routes
from hounsfield.web.cast_status import CastReport, cast_check
from hounsfield.web.errors import render

STANDSTILLS = [
    "CastToFhirForbidden",
    "DicomToCastForbidden",
    "CastMIUnavailable",
    "CastingFailedForOtherReasons",
]
TABLES = [
    "FhirFailToStoreExceptionTable",
    "DicomFailToStoreExceptionTable",
    "InvalidDicomTagExceptionTable",
    "TransientRetryExceptionTable",
    "TransientFailureExceptionTable",
]
STEP = Remove(7, "1.1", "1.2", "1.3")
IDLE = Activity("idle", "http://fhir.example/r4", "https://dicom.example.com/")


async def refuse(request: Request, error: Exception) -> Response:
    return render(error)


async def nine() -> int:
    return 9


@pytest.fixture(params=[True])
async def client(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    report = CastReport(database, nine, enabled=request.param)
    routes = cast_routes(database, report, enabled=request.param)
    app = Starlette(routes=routes, exception_handlers={HounsfieldError: refuse})
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        yield client


async def status(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/cast/status")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found: dict[str, Any] = answer.json()
    return found


async def test_before_anything_happened(client: httpx.AsyncClient) -> None:
    assert await status(client) == {
        "enabled": True,
        "state": "stopped",
        "fhirEndpoint": None,
        "dicomWebEndpoint": None,
        "syncedSequence": 0,
        "latestSequence": 9,
        "lag": 9,
        "lagSeconds": None,
        "rate": 0.0,
        "syncedDate": None,
        "current": None,
        "lastError": None,
        "errorCounts": dict.fromkeys(TABLES, 0),
        "failures": dict.fromkeys(STANDSTILLS, 0),
        "retries": [],
        "tableStore": None,
        "workitems": None,
    }


async def test_at_work(client: httpx.AsyncClient, state: CastState) -> None:
    current = Attempt(7, "1.1", "1.2", "1.3", 3, 1_700_000_000_500_000)
    activity = Activity(
        "retrying", IDLE.fhir_endpoint, IDLE.dicom_web_endpoint, current, LastError("RetryableException", "y", 0), 2.5
    )
    await state.save(Progress(6), [Outcome([ErrorRow(Table.TRANSIENT_RETRY, STEP, "X", "y", 1)])], activity)
    found = await status(client)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", found.pop("syncedDate"))
    assert found == {
        "enabled": True,
        "state": "retrying",
        "fhirEndpoint": "http://fhir.example/r4",
        "dicomWebEndpoint": "https://dicom.example.com/",
        "syncedSequence": 6,
        "latestSequence": 9,
        "lag": 3,
        "lagSeconds": None,
        "rate": 2.5,
        "current": {
            "sequence": 7,
            "studyInstanceUid": "1.1",
            "seriesInstanceUid": "1.2",
            "sopInstanceUid": "1.3",
            "attempt": 3,
            "nextAttemptDate": "2023-11-14T22:13:20.500000Z",
        },
        "lastError": {
            "type": "RetryableException",
            "message": "y",
            "advice": advice("RetryableException"),
            "date": "1970-01-01T00:00:00.000000Z",
        },
        "errorCounts": dict.fromkeys(TABLES, 0) | {"TransientRetryExceptionTable": 1},
        "failures": dict.fromkeys(STANDSTILLS, 0),
        "retries": [],
        "tableStore": None,
        "workitems": None,
    }


async def test_a_dead_worker_is_stopped(
    client: httpx.AsyncClient, state: CastState, monkeypatch: pytest.MonkeyPatch
) -> None:
    await state.report(Activity("running", "f", "d", Attempt(7, "1.1", "1.2", "1.3")))
    assert (await status(client))["state"] == "running"
    monkeypatch.setattr("hounsfield.cast.state.STALE_SECONDS", -1.0)
    found = await status(client)
    assert (found["state"], found["current"]) == ("stopped", None)


@pytest.mark.parametrize("client", [False], indirect=True)
async def test_switched_off(client: httpx.AsyncClient, state: CastState) -> None:
    await state.report(IDLE)
    found = await status(client)
    assert (found["enabled"], found["state"]) == (False, "stopped")


@pytest.mark.parametrize("table", TABLES)
async def test_rows(client: httpx.AsyncClient, state: CastState, table: str) -> None:
    number = 2 if table == "TransientRetryExceptionTable" else None
    await state.save(Progress(0), [Outcome([ErrorRow(Table(table), STEP, "SomeException", "text", number)])], IDLE)
    answer = await client.get("/cast/errors", params={"table": table})
    found = answer.json()
    assert answer.status_code == 200
    assert (found["table"], found["continuationToken"]) == (table, None)
    (row,) = found["entries"]
    assert re.fullmatch(r"[0-9a-f-]{36}", row.pop("rowKey"))
    assert row.pop("timestamp").endswith("Z")
    expected = {
        "partitionKey": "SomeException",
        "studyUid": "1.1",
        "seriesUid": "1.2",
        "instanceUid": "1.3",
        "changeFeedSequence": 7,
        "exception": "SomeException: text",
    }
    assert row == expected | ({"retryNumber": 2} if number else {})


async def test_pages(client: httpx.AsyncClient, state: CastState) -> None:
    rows = [ErrorRow(Table.FHIR_FAIL, Remove(number, "1.1", "1.2", "1.3"), "X", "y") for number in range(150)]
    await state.save(Progress(0), [Outcome(rows)], IDLE)
    parameters = {"table": "FhirFailToStoreExceptionTable"}
    first = (await client.get("/cast/errors", params=parameters)).json()
    assert len(first["entries"]) == 100
    following = parameters | {"continuationToken": first["continuationToken"], "limit": "1000"}
    second = (await client.get("/cast/errors", params=following)).json()
    assert [row["changeFeedSequence"] for row in second["entries"]] == list(range(49, -1, -1))
    assert second["continuationToken"] is None


async def test_rows_of_a_study_and_since_a_time(client: httpx.AsyncClient, state: CastState) -> None:
    for number, study in enumerate(["1.1", "1.2", "1.1"], 1):
        row = ErrorRow(Table.FHIR_FAIL, Remove(number, study, "1.2", "1.3"), "X", "y")
        await state.save(Progress(0), [Outcome([row])], IDLE)
    every = (await client.get("/cast/errors", params={"table": TABLES[0]})).json()["entries"]
    times = {row["changeFeedSequence"]: row["timestamp"] for row in every}

    async def found(**choice: str) -> list[int]:
        answer = await client.get("/cast/errors", params={"table": TABLES[0], **choice})
        return [row["changeFeedSequence"] for row in answer.json()["entries"]]

    assert await found(study="1.1") == [3, 1]
    assert await found(study="1") == []
    assert await found(since=times[2]) == [3, 2]
    assert await found(since=times[2].replace("Z", "")) == [3, 2]
    assert await found(study="1.2", since=times[3]) == []
    assert await found(since="2000-01-01") == [3, 2, 1]
    page = (await client.get("/cast/errors", params={"table": TABLES[0], "study": "1.1", "limit": "1"})).json()
    assert await found(study="1.1", continuationToken=page["continuationToken"]) == [1]


async def test_emptying_a_table(client: httpx.AsyncClient, state: CastState) -> None:
    await state.save(Progress(0), [Outcome([ErrorRow(table, STEP, "X", "y") for table in Table])], IDLE)
    answer = await client.delete("/cast/errors", params={"table": TABLES[2]})
    assert (answer.status_code, answer.content) == (204, b"")
    counts = (await status(client))["errorCounts"]
    assert counts == dict.fromkeys(TABLES, 1) | {TABLES[2]: 0}


async def test_asking_for_another_try(client: httpx.AsyncClient, state: CastState) -> None:
    await state.save(Progress(0), [Outcome([ErrorRow(table, STEP, "X", "y") for table in Table])], IDLE)
    answer = await client.post("/cast/retry")
    assert (answer.status_code, answer.json()) == (202, {"tables": [TABLES[0], TABLES[1], TABLES[4]], "entries": 3})
    assert {each["table"] for each in (await status(client))["retries"]} == {TABLES[0], TABLES[1], TABLES[4]}
    answer = await client.post("/cast/retry", params={"table": TABLES[1], "study": "1.1"})
    assert answer.json() == {"tables": [TABLES[1]], "entries": 1}
    assert "1.1" in [each["studyUid"] for each in (await status(client))["retries"]]
    assert (await client.post("/cast/retry", params={"study": "7.7"})).json()["entries"] == 0


@pytest.mark.parametrize(
    ("method", "path", "named"),
    [
        ("DELETE", "/cast/errors", "table"),
        ("DELETE", "/cast/errors?table=Nonsense", "table"),
        ("POST", "/cast/retry?table=", "table"),
        ("POST", "/cast/retry?table=TransientRetryExceptionTable", "table"),
        ("POST", "/cast/retry?table=InvalidDicomTagExceptionTable", "table"),
        ("POST", "/cast/retry?study=", "study"),
        ("POST", "/cast/retry?study=x", "study"),
        ("POST", "/cast/rebuild?fromSequence=first", "fromSequence"),
        ("POST", "/cast/rebuild?fromSequence=-1", "fromSequence"),
    ],
)
async def test_refusals_of_changes(
    client: httpx.AsyncClient, state: CastState, method: str, path: str, named: str
) -> None:
    await state.save(Progress(0), [Outcome([ErrorRow(table, STEP, "X", "y") for table in Table])], IDLE)
    answer = await client.request(method, path)
    assert answer.status_code == 400
    assert f"'{named}'" in answer.text
    found = await status(client)
    assert (found["errorCounts"], found["retries"]) == (dict.fromkeys(TABLES, 1), [])


async def test_asking_for_a_rebuild(client: httpx.AsyncClient, database: Database) -> None:
    answer = await client.post("/cast/rebuild", params={"fromSequence": "7"})
    assert answer.status_code == 202
    found = answer.json()
    assert answer.headers["location"] == found["href"]
    assert found["href"].endswith(f"/v2/operations/{found['id']}")
    operation = await records.find(database, found["id"])
    assert operation is not None and (operation.kind, operation.arguments) == ("rebuild-cast", {"fromSequence": 7})
    again = await client.post("/cast/rebuild")
    assert (again.status_code, again.headers["location"]) == (409, found["href"])
    assert found["id"] in again.text


async def test_every_error_that_is_named_has_its_advice() -> None:
    names = {
        "InvalidFhirServerException", "FhirClientException", "FailToRetrieveTokenException", "RetryableException",
        "ServerTooBusyException", "ResourceConflictException", "TimeoutRejectedException", "TransactionFailedException",
        "InvalidFhirResponseException", "MultipleMatchingResourcesException", "FhirResourceValidationException",
        "MissingRequiredDicomTagException", "InvalidDicomTagValueException", "FeedUnavailable", "FeedUnreadable",
        "DicomWebException", "FeedReplaced",
        "TableStoreUnavailable",
    }  # fmt: skip
    assert all(advice(name) != advice("KeyError") for name in names)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("", "table"),
        ("table=", "table"),
        ("table=Nonsense", "table"),
        ("table=fhirfailtostoreexceptiontable", "table"),
        ("table=FhirFailToStoreExceptionTable&limit=0", "limit"),
        ("table=FhirFailToStoreExceptionTable&limit=1001", "limit"),
        ("table=FhirFailToStoreExceptionTable&limit=-1", "limit"),
        ("table=FhirFailToStoreExceptionTable&limit=", "limit"),
        ("table=FhirFailToStoreExceptionTable&limit=ten", "limit"),
        ("table=FhirFailToStoreExceptionTable&limit=1.5", "limit"),
        ("table=FhirFailToStoreExceptionTable&continuationToken=x", "continuationToken"),
        ("table=FhirFailToStoreExceptionTable&study=", "study"),
        ("table=FhirFailToStoreExceptionTable&study=1.2;x", "study"),
        ("table=FhirFailToStoreExceptionTable&since=", "since"),
        ("table=FhirFailToStoreExceptionTable&since=yesterday", "since"),
        ("table=FhirFailToStoreExceptionTable&since=99999-01-01", "since"),
    ],
)
async def test_refusals_name_the_parameter(client: httpx.AsyncClient, query: str, named: str) -> None:
    answer = await client.get(f"/cast/errors?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert f"'{named}'" in answer.text


@pytest.mark.parametrize(
    ("activity", "enabled", "health"),
    [
        (None, True, "Degraded"),
        (None, False, "Healthy"),
        ("idle", True, "Healthy"),
        ("running", True, "Healthy"),
        ("retrying", True, "Degraded"),
        ("faulted", True, "Degraded"),
        ("stopped", True, "Degraded"),
    ],
)
async def test_health(
    database: Database,
    state: CastState,
    monkeypatch: pytest.MonkeyPatch,
    activity: str | None,
    enabled: bool,
    health: str,
) -> None:
    monkeypatch.setattr(cast_status, "STARTING_SECONDS", 0)
    if activity:
        await state.report(Activity(activity, "f", "d"))
    found = await cast_check(database, nine, enabled=enabled)()
    assert found.status == health
    assert found.data == {"state": activity or "stopped", "lag": 9}


async def test_health_while_the_server_starts(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    check = cast_check(database, nine, enabled=True)
    assert (await check()).status == "Healthy"
    monkeypatch.setattr(cast_status, "STARTING_SECONDS", 0)
    assert (await check()).status == "Degraded"

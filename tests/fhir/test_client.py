"""The HTTP client of a FHIR server: requests, paging, errors."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.target import FhirError, FhirUnreachable

BASE = "http://fhir.example/r4"
Handler = Callable[[httpx.Request], httpx.Response]


class Server:
    """Answers with a function; records what was asked."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answer: Handler = lambda request: httpx.Response(200, json=bundle())

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer(request)

    def says(self, status: int, body: Any = None, headers: Any = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.answer = lambda request: httpx.Response(status, content=content, headers=headers)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
async def target(server: Server) -> AsyncIterator[HttpFhirTarget]:
    target = HttpFhirTarget(BASE + "/", transport=httpx.MockTransport(server))
    yield target
    await target.close()


def bundle(*resources: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    links = [{"relation": "self", "url": BASE}] + ([{"relation": "next", "url": following}] if following else [])
    entries = [{"resource": resource, "search": {"mode": "match"}} for resource in resources]
    return {"resourceType": "Bundle", "type": "searchset", "link": links, "entry": entries}


async def test_requests(server: Server, target: HttpFhirTarget) -> None:
    await target.capabilities()
    await target.search("Patient", [("identifier", "urn:x|a b&c+d\\|"), ("name:exact", "é")])
    await target.transaction({"resourceType": "Bundle"})
    metadata, search, transaction = server.requests
    assert target.endpoint == BASE
    assert (metadata.method, str(metadata.url)) == ("GET", f"{BASE}/metadata")
    assert search.url.raw_path == b"/r4/Patient?identifier=urn:x%7Ca%20b%26c%2Bd%5C%7C&name:exact=%C3%A9"
    assert (transaction.method, str(transaction.url)) == ("POST", BASE)
    assert json.loads(transaction.content) == {"resourceType": "Bundle"}
    assert transaction.headers["Content-Type"] == "application/fhir+json"
    assert {request.headers["Accept"] for request in server.requests} == {"application/fhir+json"}


async def test_all_pages_and_modes(server: Server, target: HttpFhirTarget) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        page = int(request.url.params.get("page", "1"))
        found = bundle({"id": str(page)}, following=f"{BASE}/Observation?page={page + 1}" if page < 3 else None)
        if page == 2:
            found["entry"] = [{"resource": {"id": "o"}, "search": {"mode": "outcome"}}, {"resource": {"id": "2"}}]
        if page == 3:
            del found["entry"]
        return httpx.Response(200, json=found)

    server.answer = answer
    found = await target.search("Observation", [])
    assert [(match.resource["id"], match.mode) for match in found] == [("1", "match"), ("o", "outcome"), ("2", "match")]


async def test_a_relative_next_link(server: Server, target: HttpFhirTarget) -> None:
    pages = [bundle(following="?page=2"), bundle({"id": "x"})]
    server.answer = lambda request: httpx.Response(200, json=pages.pop(0))
    assert len(await target.search("Patient", [])) == 1
    assert str(server.requests[1].url) == f"{BASE}/Patient?page=2"


@pytest.mark.parametrize(
    "url", ["http://elsewhere.example/r4/Patient?page=2", "https://fhir.example/r4", "http://[", "//x"]
)
async def test_a_next_link_to_another_server_is_not_followed(server: Server, target: HttpFhirTarget, url: str) -> None:
    server.says(200, bundle(following=url))
    with pytest.raises(FhirError) as error:
        await target.search("Patient", [])
    assert error.value.status == 200
    assert len(server.requests) == 1


async def test_next_links_in_a_circle_end(
    server: Server, target: HttpFhirTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hounsfield.fhir.client.MAX_PAGES", 5)
    server.says(200, bundle(following=f"{BASE}/Patient?page=1"))
    with pytest.raises(FhirError, match="does not end"):
        await target.search("Patient", [])
    assert len(server.requests) == 5


@pytest.mark.parametrize(
    "body", [{}, {"resourceType": "Patient"}, [], b"<html>", b"", {"resourceType": "Bundle", "entry": [{}]}]
)
async def test_an_answer_that_is_no_searchset(server: Server, target: HttpFhirTarget, body: Any) -> None:
    server.says(200, body)
    with pytest.raises(FhirError) as error:
        await target.search("Patient", [])
    assert error.value.status == 200


@pytest.mark.parametrize("status", [301, 400, 401, 404, 409, 412, 429, 500, 503])
async def test_refusals_carry_status_and_diagnostics(server: Server, target: HttpFhirTarget, status: int) -> None:
    issues = [{"diagnostics": "first"}, {"details": {"text": "second"}}, {"code": "third"}]
    server.says(status, {"resourceType": "OperationOutcome", "issue": issues})
    with pytest.raises(FhirError) as error:
        await target.transaction({})
    assert not isinstance(error.value, FhirUnreachable)
    assert (error.value.status, str(error.value)) == (status, "first second third")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"issue": 5}'])
async def test_refusals_without_an_outcome(server: Server, target: HttpFhirTarget, body: bytes) -> None:
    server.says(500, body)
    with pytest.raises(FhirError, match="No OperationOutcome") as error:
        await target.capabilities()
    assert error.value.status == 500


FAR_OFF = "Mon, 01 Jan 2020 00:00:00 +9999999999999"
"""A date in a time zone no clock has."""


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (" 7 ", 7.0),
        ("soon", None),
        ("-5", None),
        (FAR_OFF, None),
        ("", None),
        ("²", None),
        (None, None),
    ],
)
async def test_retry_after_in_seconds(
    server: Server, target: HttpFhirTarget, header: str | None, seconds: float | None
) -> None:
    server.says(503, {}, {} if header is None else {b"Retry-After": header.encode("latin-1")})
    with pytest.raises(FhirError) as error:
        await target.capabilities()
    assert error.value.retry_after == seconds


async def test_retry_after_as_a_date(server: Server, target: HttpFhirTarget) -> None:
    for delta, low, high in ((30, 25, 30), (-30, 0, 0)):
        moment = format_datetime(datetime.now(UTC) + timedelta(seconds=delta), usegmt=True)
        server.says(503, {}, {"Retry-After": moment})
        with pytest.raises(FhirError) as error:
            await target.capabilities()
        assert error.value.retry_after is not None
        assert low <= error.value.retry_after <= high


@pytest.mark.parametrize("raised", [httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.ReadError("x")])
async def test_no_answer_is_unreachable(server: Server, target: HttpFhirTarget, raised: Exception) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise raised

    server.answer = fail
    with pytest.raises(FhirUnreachable, match=type(raised).__name__) as error:
        await target.search("Patient", [])
    assert error.value.status is None

"""The v1 change feed over HTTP: what is asked, what is understood, what is retried (dicom-cast.md §2, §3)."""

import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from hounsfield.cast import http_feed
from hounsfield.cast.feed import Action, FeedUnavailable, FeedUnreadable, State
from hounsfield.cast.http_feed import RETRY_SECONDS, HttpFeedReader
from tests.cast.memory_archive import ct

Handler = Callable[[httpx.Request], httpx.Response]


class Server:
    """Answers from a list; records what was asked."""

    def __init__(self) -> None:
        self.requests: list[httpx.Request] = []
        self.answers: list[httpx.Response | Exception] = []
        self.otherwise: Handler = lambda request: httpx.Response(200, json=[])

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if not self.answers:
            return self.otherwise(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def server() -> Server:
    return Server()


Reader = Callable[..., HttpFeedReader]


@pytest.fixture
async def reader(server: Server) -> AsyncIterator[Reader]:
    """Makes readers that talk to ``server``."""
    made: list[HttpFeedReader] = []
    transport = httpx.MockTransport(server)

    def make(endpoint: str = "http://dicom.example:8080", **options: Any) -> HttpFeedReader:
        made.append(HttpFeedReader(endpoint, transport=transport, **({"retry_seconds": (0.0,) * 8} | options)))
        return made[-1]

    yield make
    for one in made:
        await one.close()


def entry(sequence: object, **changes: Any) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "partitionName": "Microsoft.Default",
        "studyInstanceUid": "1.1",
        "seriesInstanceUid": "1.2",
        "sopInstanceUid": f"1.3.{sequence}",
        "action": "Create",
        "timestamp": "2023-05-10T16:00:00+00:00",
        "state": "Current",
        "metadata": ct(),
    } | changes


@pytest.mark.parametrize("endpoint", ["http://dicom.example:8080", "http://dicom.example:8080/"])
async def test_what_is_asked(server: Server, reader: Reader, endpoint: str) -> None:
    feed = reader(endpoint)
    await feed.page(20, 10)
    server.otherwise = lambda request: httpx.Response(200, json=entry(42))
    assert await feed.latest() == 42
    assert [str(request.url) for request in server.requests] == [
        "http://dicom.example:8080/v1/changefeed?offset=20&limit=10&includeMetadata=true",
        "http://dicom.example:8080/v1/changefeed/latest?includeMetadata=false",
    ]


async def test_an_empty_feed(server: Server, reader: Reader) -> None:
    server.otherwise = lambda request: httpx.Response(204)
    assert await reader().latest() == 0
    page = await reader().page(5, 10)
    assert (page.entries, page.through) == ([], 15)


async def test_entries(server: Server, reader: Reader) -> None:
    deleted = entry(3, action="delete", state="deleted", partitionName=None)
    del deleted["metadata"]
    server.answers = [httpx.Response(200, json=[entry(1), entry(2, action="Update", state="Replaced"), deleted])]
    page = await reader().page(0, 10)
    assert page.through == 10
    assert [(one.sequence, one.action, one.state) for one in page.entries] == [
        (1, Action.CREATE, State.CURRENT),
        (2, Action.UPDATE, State.REPLACED),
        (3, Action.DELETE, State.DELETED),
    ]
    assert page.entries[0].metadata == ct()
    assert page.entries[2].metadata is None
    assert page.entries[2].partition == "Microsoft.Default"
    assert (page.entries[0].study_uid, page.entries[0].series_uid, page.entries[0].sop_uid) == ("1.1", "1.2", "1.3.1")


def test_pauses() -> None:
    assert RETRY_SECONDS == (1, 2, 3, 5, 5, 5, 5, 5)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_transient_answers_are_retried_eight_times(server: Server, reader: Reader, status: int) -> None:
    server.answers = [httpx.Response(status)] * 8
    assert (await reader().page(0, 10)).entries == []
    assert len(server.requests) == 9
    server.answers = [httpx.Response(status)] * 9
    with pytest.raises(FeedUnavailable, match=str(status)):
        await reader().page(0, 10)


async def test_longer_pauses_that_the_server_asks_for(
    server: Server, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr(http_feed, "sleep", sleep)
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)
    asked = ["7", soon, "3600", "nonsense", None]
    server.answers = [httpx.Response(429, headers={"Retry-After": each} if each else {}) for each in asked]
    assert (await reader(retry_seconds=RETRY_SECONDS).page(0, 10)).entries == []
    first, second, *others = pauses
    assert first == 7 and 35 <= second <= 40 and others == [60, 5, 5]


@pytest.mark.parametrize("error", [httpx.ConnectError("x"), httpx.ReadTimeout("x"), httpx.RemoteProtocolError("x")])
async def test_lost_connections_are_retried(server: Server, reader: Reader, error: Exception) -> None:
    server.answers = [error] * 8
    assert (await reader().page(0, 10)).entries == []
    server.answers = [error] * 9
    with pytest.raises(FeedUnavailable, match=type(error).__name__):
        await reader().latest()


@pytest.mark.parametrize("status", [301, 400, 401, 403, 404])
async def test_refusals_are_not_retried(server: Server, reader: Reader, status: int) -> None:
    server.otherwise = lambda request: httpx.Response(status)
    with pytest.raises(FeedUnavailable, match=str(status)):
        await reader().page(0, 10)
    assert len(server.requests) == 1


UNREADABLE: list[Any] = [
    b"<html>",
    b"",
    b"{}",
    b"[1]",
    b'[{"sequence": 1}]',
    json.dumps([entry(1, action="Move")]).encode(),
    json.dumps([entry(1, state="Lost")]).encode(),
    json.dumps([entry("1")]).encode(),
    json.dumps([entry(1, studyInstanceUid=None)]).encode(),
    json.dumps([entry(1, metadata=[])]).encode(),
    json.dumps([entry(1, metadata={"PatientID": {"vr": "LO"}})]).encode(),
    json.dumps([entry(1, metadata={"0010002X": {"vr": "LO"}})]).encode(),
    json.dumps([entry(1, metadata={"0x100020": {"vr": "LO"}})]).encode(),
    json.dumps([entry(1, metadata={"00100020": {}})]).encode(),
    json.dumps([entry(1, metadata={"00100020": {"vr": "LO", "Value": "P1"}})]).encode(),
    json.dumps([entry(1, metadata={"00100020": {"vr": "long", "Value": []}})]).encode(),
    json.dumps([entry(1, metadata={"0040A730": {"vr": "SQ", "Value": [5]}})]).encode(),
]


@pytest.mark.parametrize("body", UNREADABLE)
async def test_unreadable_pages(server: Server, reader: Reader, body: bytes) -> None:
    server.otherwise = lambda request: httpx.Response(200, content=body)
    with pytest.raises(FeedUnreadable, match="from 1 to 10"):
        await reader().page(0, 10)


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"sequence": "x"}', b'{"sequence": -1}'])
async def test_an_unreadable_newest_entry(server: Server, reader: Reader, body: bytes) -> None:
    server.otherwise = lambda request: httpx.Response(200, content=body)
    with pytest.raises(FeedUnreadable):
        await reader().latest()


async def test_ignoring_parsing_errors_reads_entry_by_entry(server: Server, reader: Reader) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        found = [entry(number) for number in range(offset + 1, min(offset + limit, 8) + 1)]
        body = json.dumps(found)
        if offset < 3 <= offset + limit:
            body = body.replace('"vr"', '"vr', 1)
        return httpx.Response(200, text=body)

    server.otherwise = answer
    page = await reader(ignore_json_parsing_errors=True).page(0, 10)
    assert [one.sequence for one in page.entries] == [1, 2, 4, 5, 6, 7, 8]
    assert page.through == 10
    with pytest.raises(FeedUnreadable):
        await reader().page(0, 10)


def windows(server: Server) -> list[tuple[int, int]]:
    return [(int(one.url.params["offset"]), int(one.url.params["limit"])) for one in server.requests]


def feed_of(length: int, size: int = 0) -> Handler:
    """A feed of so many entries, each with so many characters more than it would have."""

    def answer(request: httpx.Request) -> httpx.Response:
        offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
        metadata = ct() | {"00204000": {"vr": "LT", "Value": ["x" * size]}}
        numbers = range(offset + 1, min(offset + limit, length) + 1)
        return httpx.Response(200, json=[entry(number, metadata=metadata) for number in numbers])

    return answer


async def test_wide_pages_are_read_in_windows_the_server_allows(server: Server, reader: Reader) -> None:
    server.otherwise = feed_of(1000)
    feed = reader()
    page = await feed.page(5, 300)
    assert [one.sequence for one in page.entries] == list(range(6, 306))
    assert page.through == 305
    assert windows(server) == [(5, 10), (15, 100), (115, 100), (215, 90)]


async def test_large_metadata_make_small_pages(server: Server, reader: Reader) -> None:
    server.otherwise = feed_of(40, size=1_000_000)
    feed = reader()
    page = await feed.page(0, 500)
    assert 16 <= len(page.entries) < 24
    assert page.through == len(page.entries)
    assert windows(server)[1][1] < 6
    following = await feed.page(page.through, 500)
    assert following.entries[0].sequence == page.through + 1


async def test_gaps_are_passed_in_ever_wider_windows(server: Server, reader: Reader) -> None:
    page = await reader().page(0, 500)
    assert (page.entries, page.through) == ([], 500)
    assert len(server.requests) <= 8


async def test_what_was_read_before_a_failure_is_not_lost(server: Server, reader: Reader) -> None:
    ten = [entry(number) for number in range(1, 11)]
    server.answers = [httpx.Response(200, json=ten)]
    server.otherwise = lambda request: httpx.Response(403)
    feed = reader()
    page = await feed.page(0, 500)
    assert (len(page.entries), page.through) == (10, 10)
    with pytest.raises(FeedUnavailable, match="403"):
        await feed.page(10, 500)

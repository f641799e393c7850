"""Signing in at both servers: what a refusal or an outage of who gives tokens means for casting (dicom-cast.md §5)."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from hounsfield.cast.failure import Table
from hounsfield.cast.feed import FeedAway, FeedRefused
from hounsfield.cast.http_feed import HttpFeedReader
from hounsfield.cast.state import CastState
from hounsfield.cast.worker import CastWorker
from hounsfield.database.engine import Database
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.target import FhirError, FhirTokenRefused, FhirTokenUnavailable
from hounsfield.security.access_tokens import AccessToken, AccessTokens, BearerAuth, TokenRefused, TokenUnavailable
from tests.cast.conftest import OPTIONS
from tests.cast.faulty_target import FaultyTarget
from tests.cast.memory_archive import MemoryArchive
from tests.cast.test_worker import in_state, running, store, synced, until


class Tokens:
    """Who gives tokens: good ones, bad ones (``bad`` first), or none."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.bad = 0
        self.asked = 0

    async def __call__(self) -> AccessToken:
        self.asked += 1
        if self.failure is not None:
            raise self.failure
        return AccessToken("bad" if self.asked <= self.bad else "good", 3600.0)


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def auth(tokens: Tokens) -> BearerAuth:
    return BearerAuth(AccessTokens(tokens))


def answer(request: httpx.Request) -> httpx.Response:
    """Both servers: 401 without a good token."""
    if request.headers.get("authorization") != "Bearer good":
        return httpx.Response(401, headers={"WWW-Authenticate": "Bearer"})
    if request.url.path.startswith("/v1/"):
        return httpx.Response(204)
    return httpx.Response(200, json={"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})


@pytest.fixture
async def feed(auth: BearerAuth) -> AsyncIterator[HttpFeedReader]:
    reader = HttpFeedReader(
        "https://dicom.example", auth=auth, retry_seconds=(0.0,) * 3, transport=httpx.MockTransport(answer)
    )
    yield reader
    await reader.close()


@pytest.fixture
async def fhir(auth: BearerAuth) -> AsyncIterator[HttpFhirTarget]:
    target = HttpFhirTarget("https://fhir.example", auth=auth, transport=httpx.MockTransport(answer))
    yield target
    await target.close()


@pytest.mark.parametrize(("bad", "asked"), [(0, 1), (1, 2)])
async def test_a_good_token_or_a_second_one_that_is(
    tokens: Tokens, feed: HttpFeedReader, fhir: HttpFhirTarget, bad: int, asked: int
) -> None:
    tokens.bad = bad
    assert await feed.latest() == 0
    assert (await fhir.capabilities())["fhirVersion"] == "4.0.1"
    assert tokens.asked == asked, "one for both, as they share the account in this test"


async def test_a_feed_that_takes_no_token(tokens: Tokens, feed: HttpFeedReader) -> None:
    tokens.bad = 10
    with pytest.raises(FeedRefused, match=r"401.*DicomWeb:Authentication") as refusal:
        await feed.latest()
    assert refusal.value.name == "DicomWebException"
    assert tokens.asked == 2


async def test_a_fhir_server_that_takes_no_token(tokens: Tokens, fhir: HttpFhirTarget) -> None:
    tokens.bad = 10
    with pytest.raises(FhirError) as refusal:
        await fhir.capabilities()
    assert refusal.value.status == 401
    assert tokens.asked == 2


async def test_no_token_for_wrong_credentials(tokens: Tokens, feed: HttpFeedReader, fhir: HttpFhirTarget) -> None:
    tokens.failure = TokenRefused("ClientSecret is wrong.")
    with pytest.raises(FeedRefused, match="ClientSecret is wrong") as refusal:
        await feed.page(0, 10)
    assert refusal.value.name == "FailToRetrieveTokenException"
    with pytest.raises(FhirTokenRefused, match="ClientSecret is wrong"):
        await fhir.search("Patient", [("identifier", "|P1")])
    assert tokens.asked == 1, "not asked again at once"


async def test_no_token_now(
    tokens: Tokens, feed: HttpFeedReader, fhir: HttpFhirTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hounsfield.security.access_tokens.FAILURE_PAUSE", 0.0)
    tokens.failure = TokenUnavailable("The token endpoint does not answer.")
    with pytest.raises(FeedAway, match="token endpoint does not answer"):
        await feed.latest()
    assert tokens.asked == 4, "tried again like an outage of the server"
    tokens.failure = TokenUnavailable("The token endpoint is busy.", retry_after=7.0)
    with pytest.raises(FhirTokenUnavailable, match="is busy") as failure:
        await fhir.transaction({"resourceType": "Bundle"})
    assert failure.value.retry_after == 7.0


@pytest.mark.parametrize("line", ["GET", "POST"])
async def test_a_refused_sign_in_is_a_fault_that_loses_nothing(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState, line: str
) -> None:
    store(archive, 1)
    faulty.failures, faulty.match = [lambda: FhirTokenRefused("ClientSecret is wrong.")] * 10**4, line
    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(in_state(state, "faulted"))
        found = await state.status()
        assert found.activity is not None
        assert found.activity.last_error is not None
        assert found.activity.last_error.type == "FailToRetrieveTokenException"
        assert found.activity.last_error.message == "ClientSecret is wrong."
        assert found.synced_sequence == 0
        assert sum(found.error_counts.values()) == 0
        faulty.failures.clear()
        await until(synced(state, 1))


async def test_an_outage_longer_than_the_budget_loses_nothing(
    archive: MemoryArchive, faulty: FaultyTarget, database: Database, state: CastState
) -> None:
    """Nobody gives tokens, so that not even ``GET metadata`` is answered (D6)."""
    store(archive, 1)
    async with running(CastWorker(archive, faulty, database, OPTIONS)):
        await until(synced(state, 1))
        faulty.failures, faulty.match = [lambda: FhirTokenUnavailable("The token endpoint is away.")] * 10**4, ""
        store(archive, 2)
        await until(in_state(state, "retrying"))
        await asyncio.sleep(2 * OPTIONS.total_retry_duration.total_seconds())
        found = await state.status()
        assert found.activity is not None
        assert found.activity.last_error is not None
        assert found.activity.last_error.message == "The token endpoint is away."
        assert found.activity.state == "retrying"
        faulty.failures.clear()
        await until(synced(state, 2))
    assert (await state.status()).error_counts[Table.TRANSIENT_FAILURE] == 0


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (FeedRefused("FailToRetrieveTokenException", "ClientSecret is wrong."), "FailToRetrieveTokenException"),
        (FeedRefused("DicomWebException", "403"), "DicomWebException"),
    ],
)
async def test_a_feed_that_refuses_is_a_fault_by_its_name(
    archive: MemoryArchive,
    target: EmbeddedTarget,
    database: Database,
    state: CastState,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    name: str,
) -> None:
    async def refuse(*_: Any) -> int:
        raise error

    store(archive, 1)
    with monkeypatch.context() as refusing:
        refusing.setattr(archive, "latest", refuse)
        async with running(CastWorker(archive, target, database, OPTIONS)):
            await until(in_state(state, "faulted"))
            activity = (await state.status()).activity
            assert activity is not None
            assert activity.last_error is not None
            assert (activity.last_error.type, activity.last_error.message) == (name, str(error))


async def test_a_feed_that_is_away_is_waited_for(
    archive: MemoryArchive,
    target: EmbeddedTarget,
    database: Database,
    state: CastState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def away(*_: Any) -> int:
        raise FeedAway("The token endpoint does not answer.")

    store(archive, 1)
    async with running(CastWorker(archive, target, database, OPTIONS)):
        await until(synced(state, 1))
        monkeypatch.setattr(archive, "latest", away)
        await until(in_state(state, "retrying"))
        activity = (await state.status()).activity
        assert activity is not None
        assert activity.last_error is not None
        assert activity.last_error.message == "The token endpoint does not answer."
        monkeypatch.undo()
        store(archive, 2)
        await until(synced(state, 2))


@pytest.mark.parametrize(("code", "said"), [(401, "wants a token"), (403, "lacks a permission")])
async def test_refused_credentials_name_the_settings(
    archive: MemoryArchive, database: Database, state: CastState, auth: BearerAuth, code: int, said: str
) -> None:
    store(archive, 1)
    transport = httpx.MockTransport(lambda request: httpx.Response(code))
    target = HttpFhirTarget("https://fhir.example", auth=auth, transport=transport)
    async with running(CastWorker(archive, target, database, OPTIONS)):
        await until(in_state(state, "faulted"))
        activity = (await state.status()).activity
        assert activity is not None
        assert activity.last_error is not None
        assert activity.last_error.type == "FhirClientException"
        assert "Fhir:Authentication" in activity.last_error.message
        assert said in activity.last_error.message
    await target.close()

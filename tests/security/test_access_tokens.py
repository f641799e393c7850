"""Tokens we present: kept, renewed, shared by all who ask, replaced after a 401 (dicom-cast.md §7.2)."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace

import httpx
import pytest

from hounsfield.security import access_tokens, sign_in
from hounsfield.security.access_tokens import AccessToken, AccessTokens, BearerAuth, TokenRefused, TokenUnavailable
from hounsfield.security.credentials import Credential


class Provider:
    """Gives ``token-1``, ``token-2`` and so on, or fails; a clock that tests set."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.life: float | None = 3600.0
        self.failure: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def __call__(self) -> AccessToken:
        self.asked += 1
        number = self.asked
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        return AccessToken(f"token-{number}", self.life)


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Provider:
    provider = Provider()
    monkeypatch.setattr(access_tokens, "time", SimpleNamespace(monotonic=lambda: provider.now))
    return provider


@pytest.fixture
async def tokens(provider: Provider) -> AsyncIterator[AccessTokens]:
    tokens = AccessTokens(provider)
    yield tokens
    await tokens.close()


async def settled() -> None:
    """Until a renewal in the background is done."""
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize(("life", "kept"), [(3600, 3300), (700, 400), (600, 300), (400, 200), (10, 5)])
async def test_a_token_is_renewed_five_minutes_before_its_end_or_at_half_its_life(
    provider: Provider, tokens: AccessTokens, life: float, kept: float
) -> None:
    provider.life = life
    assert await tokens.current() == "token-1"
    provider.now += kept - 0.1
    assert await tokens.current() == "token-1"
    await settled()
    assert provider.asked == 1
    provider.now += 0.2
    # Who asks meanwhile goes on with the old one.
    assert await tokens.current() == "token-1"
    await settled()
    assert await tokens.current() == "token-2"
    assert provider.asked == 2


async def test_a_token_that_has_ended_is_not_used(provider: Provider, tokens: AccessTokens) -> None:
    await tokens.current()
    provider.now += 3600
    assert await tokens.current() == "token-2"


async def test_a_token_nobody_knows_the_end_of_is_kept_until_it_is_refused(
    provider: Provider, tokens: AccessTokens
) -> None:
    provider.life = None
    await tokens.current()
    provider.now += 1e9
    assert await tokens.current() == "token-1"
    assert await tokens.instead_of("token-1") == "token-2"


@pytest.mark.parametrize("life", [0.0, -5.0])
async def test_a_token_that_comes_too_late_is_used_once(provider: Provider, tokens: AccessTokens, life: float) -> None:
    provider.life = life
    assert [await tokens.current() for _ in range(2)] == ["token-1", "token-2"]


async def test_all_who_ask_at_once_share_one_request(provider: Provider, tokens: AccessTokens) -> None:
    assert set(await asyncio.gather(*(tokens.current() for _ in range(50)))) == {"token-1"}
    assert provider.asked == 1
    assert set(await asyncio.gather(*(tokens.instead_of("token-1") for _ in range(50)))) == {"token-2"}
    assert provider.asked == 2
    assert await tokens.instead_of("token-1") == "token-2", "somebody has replaced it already"
    assert provider.asked == 2


async def test_they_share_a_failure_too(provider: Provider, tokens: AccessTokens) -> None:
    provider.failure = TokenUnavailable("away")
    found = await asyncio.gather(*(tokens.current() for _ in range(50)), return_exceptions=True)
    assert {str(one) for one in found} == {"away"}
    assert provider.asked == 1


async def test_who_gives_up_waiting_does_not_end_it_for_the_others(provider: Provider, tokens: AccessTokens) -> None:
    provider.gate = asyncio.Event()
    impatient, patient = (asyncio.create_task(tokens.current()) for _ in range(2))
    await settled()
    impatient.cancel()
    await settled()
    provider.gate.set()
    assert await patient == "token-1"
    assert impatient.cancelled()


async def test_a_failure_in_the_background_is_no_complaint_of_asyncio(provider: Provider, tokens: AccessTokens) -> None:
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    await tokens.current()
    provider.now += 3400
    provider.failure = TokenUnavailable("away")
    await tokens.current()
    await settled()
    tokens._failure = None
    provider.failure = None
    gc.collect()
    assert provider.asked == 2
    assert complaints == []


async def test_an_outage_shorter_than_what_is_left_of_a_token_is_not_noticed(
    provider: Provider, tokens: AccessTokens
) -> None:
    await tokens.current()
    provider.failure = TokenUnavailable("away")
    provider.now += 3400
    for _ in range(10):
        assert await tokens.current() == "token-1"
        await settled()
    assert provider.asked == 2, "not again at every request"
    provider.now += access_tokens.FAILURE_PAUSE
    assert await tokens.current() == "token-1"
    await settled()
    assert provider.asked == 3
    provider.now += 200
    with pytest.raises(TokenUnavailable):
        await tokens.current()
    provider.failure = None
    provider.now += access_tokens.FAILURE_PAUSE
    assert await tokens.current() == "token-5"


@pytest.mark.parametrize(
    ("failure", "pause"),
    [
        (TokenUnavailable("away"), 2),
        (TokenUnavailable("busy", retry_after=20), 20),
        (TokenUnavailable("busy", retry_after=0), 2),
        (TokenUnavailable("busy", retry_after=3600), 60),
        (TokenRefused("wrong secret"), 2),
    ],
)
async def test_pauses_after_a_failure(
    provider: Provider, tokens: AccessTokens, failure: Exception, pause: float
) -> None:
    provider.failure = failure
    for after, asked in ((0, 1), (pause - 0.1, 1), (0.1, 2)):
        provider.now += after
        with pytest.raises(type(failure), match=str(failure)):
            await tokens.current()
        assert provider.asked == asked
    provider.failure = None
    provider.now += pause
    assert await tokens.current() == "token-3"


@pytest.mark.parametrize(("kind", "pause"), [("OAuth2ClientCredential", 2), ("OAuth2UserPasswordCredential", 60)])
async def test_a_wrong_password_is_not_repeated_often_enough_to_lock_an_account(
    provider: Provider, monkeypatch: pytest.MonkeyPatch, kind: str, pause: float
) -> None:
    provider.failure = TokenRefused("wrong")
    monkeypatch.setattr(sign_in, "TokenEndpoint", lambda credential: SimpleNamespace(request=provider))
    auth = sign_in.bearer_auth(Credential(kind, "Fhir:Authentication"))
    async with httpx.AsyncClient(auth=auth, transport=httpx.MockTransport(lambda _: httpx.Response(200))) as http:
        for after, asked in ((0, 1), (pause - 0.1, 1), (0.1, 2)):
            provider.now += after
            with pytest.raises(TokenRefused):
                await http.get("https://fhir.example")
            assert provider.asked == asked


async def test_closing_ends_what_is_under_way(provider: Provider, tokens: AccessTokens) -> None:
    provider.gate = asyncio.Event()
    waiting = asyncio.create_task(tokens.current())
    await settled()
    await tokens.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting


def test_a_token_is_not_printed() -> None:
    assert "secret" not in repr(AccessToken("secret", 1.0))


Handler = Callable[[httpx.Request], httpx.Response]


def client(tokens: AccessTokens, handler: Handler) -> httpx.AsyncClient:
    return httpx.AsyncClient(auth=BearerAuth(tokens), transport=httpx.MockTransport(handler))


async def test_every_request_carries_the_token(provider: Provider, tokens: AccessTokens) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["authorization"])
        return httpx.Response(200)

    async with client(tokens, answer) as http:
        for _ in range(3):
            await http.get("https://fhir.example/metadata")
    assert seen == ["Bearer token-1"] * 3


@pytest.mark.parametrize("refused", [1, 2])
async def test_after_a_401_once_more_with_a_new_token(provider: Provider, tokens: AccessTokens, refused: int) -> None:
    seen = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append((request.headers["authorization"], request.content))
        return httpx.Response(401 if len(seen) <= refused else 200)

    async with client(tokens, answer) as http:
        answered = await http.post("https://fhir.example", content=b"bundle")
    assert answered.status_code == (200 if refused == 1 else 401)
    assert seen == [("Bearer token-1", b"bundle"), ("Bearer token-2", b"bundle")]


async def test_many_refused_at_once_get_one_new_token(provider: Provider, tokens: AccessTokens) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(401 if request.headers["authorization"] == "Bearer token-1" else 200)

    async with client(tokens, answer) as http:
        answers = await asyncio.gather(*(http.get("https://fhir.example") for _ in range(20)))
    assert {one.status_code for one in answers} == {200}
    assert provider.asked == 2


async def test_other_refusals_keep_the_token(provider: Provider, tokens: AccessTokens) -> None:
    async with client(tokens, lambda request: httpx.Response(403)) as http:
        for _ in range(2):
            assert (await http.get("https://fhir.example")).status_code == 403
    assert provider.asked == 1


async def test_a_redirect_is_not_followed_with_a_token(provider: Provider, tokens: AccessTokens) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(307, headers={"location": "https://elsewhere.example/"})

    async with client(tokens, answer) as http:
        assert (await http.get("https://fhir.example")).status_code == 307
    assert asked == ["https://fhir.example"]

"""Which tokens are good (server.md §9)."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.errors import SettingsError
from hounsfield.security import keys, tokens
from hounsfield.security.claims import Claims, InvalidToken
from hounsfield.security.keys import Provider
from hounsfield.security.tokens import TokenVerifier
from tests.security.provider import (
    AUDIENCE,
    EC_KEYS,
    OTHER_RSA_KEY,
    RSA_KEY,
    FakeProvider,
    fake_provider,
    public_jwk,
)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    with fake_provider() as found:
        yield found


def verifier(provider: FakeProvider, *audiences: str) -> TokenVerifier:
    return TokenVerifier(Provider(provider.authority), audiences or [AUDIENCE])


async def reason(provider: FakeProvider, token: str, *audiences: str) -> str:
    """Why a token is refused."""
    with pytest.raises(InvalidToken) as refused:
        await verifier(provider, *audiences).verify(token)
    return str(refused.value)


def part(content: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(content).encode()).rstrip(b"=").decode()


# --- good ones ---


@pytest.mark.parametrize("algorithm", ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])
async def test_rsa(provider: FakeProvider, algorithm: str) -> None:
    claims = await verifier(provider).verify(provider.token(algorithm=algorithm, roles=["reader"]))
    assert claims["roles"] == ["reader"]


@pytest.mark.parametrize("algorithm", EC_KEYS)
async def test_elliptic_curves(provider: FakeProvider, algorithm: str) -> None:
    provider.keys = {"keys": [public_jwk(EC_KEYS[algorithm], "curve")]}
    token = provider.token(EC_KEYS[algorithm], algorithm, "curve")
    assert (await verifier(provider).verify(token))["aud"] == AUDIENCE


async def test_a_token_without_key_id_is_tried_with_every_key_that_fits(provider: FakeProvider) -> None:
    provider.keys = {
        "keys": [public_jwk(OTHER_RSA_KEY, "a"), public_jwk(EC_KEYS["ES256"], "b"), public_jwk(RSA_KEY, None)]
    }
    assert await verifier(provider).verify(provider.token(key_id=None))


async def test_one_of_several_audiences_is_enough(provider: FakeProvider) -> None:
    assert await verifier(provider, "x", "y").verify(provider.token(aud=["z", "y"]))


@pytest.mark.parametrize(
    "claims",
    [{"exp": -200}, {"nbf": 200}, {"iat": 10_000}, {"sub": 7}, {"jti": 7}],
    ids=["expired within the skew", "early within the skew", "issued in the future", "odd sub", "odd jti"],
)
async def test_what_does_not_matter(provider: FakeProvider, claims: dict[str, int]) -> None:
    now = int(time.time())
    moved: dict[str, Any] = {name: value if name in ("sub", "jti") else now + value for name, value in claims.items()}
    assert await verifier(provider).verify(provider.token(**moved))


# --- forged and spoiled ones ---


async def test_no_signature(provider: FakeProvider) -> None:
    good = provider.token()
    header = part({"alg": "none", "kid": "one", "typ": "JWT"})
    assert await reason(provider, f"{header}.{good.split('.')[1]}.") == "The signature algorithm is not allowed"
    assert await reason(provider, good.rpartition(".")[0] + ".") == "The signature is invalid"


async def test_the_public_key_as_a_shared_secret(provider: FakeProvider) -> None:
    secret = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    signed = f"{part({'alg': 'HS256', 'kid': 'one', 'typ': 'JWT'})}.{provider.token().split('.')[1]}"
    signature = base64.urlsafe_b64encode(hmac.new(secret, signed.encode(), hashlib.sha256).digest()).rstrip(b"=")
    assert await reason(provider, f"{signed}.{signature.decode()}") == "The signature algorithm is not allowed"


async def test_the_wrong_key_under_the_right_id(provider: FakeProvider) -> None:
    assert await reason(provider, provider.token(OTHER_RSA_KEY)) == "The signature is invalid"
    assert await reason(provider, provider.token(OTHER_RSA_KEY, key_id=None)) == "The signature is invalid"


async def test_an_unknown_key_id(provider: FakeProvider) -> None:
    assert await reason(provider, provider.token(key_id="two")) == "The signature key was not found"


async def test_the_key_is_never_taken_from_the_token(provider: FakeProvider) -> None:
    with fake_provider() as attacker:
        attacker.keys = {"keys": [public_jwk(OTHER_RSA_KEY, "mine")]}
        for header in (
            {"jwk": public_jwk(OTHER_RSA_KEY, "mine")},
            {"jku": f"{attacker.authority}/keys"},
            {"x5u": f"{attacker.authority}/keys"},
        ):
            for key_id, expected in (("mine", "The signature key was not found"), ("one", "The signature is invalid")):
                token = provider.token(OTHER_RSA_KEY, key_id=key_id, header=header)
                assert await reason(provider, token) == expected
        assert attacker.requests == []


async def test_an_algorithm_of_another_family_or_curve(provider: FakeProvider) -> None:
    provider.keys = {"keys": [public_jwk(EC_KEYS["ES256"], "one")]}
    assert await reason(provider, provider.token()) == "The signature key was not found"
    assert await reason(provider, provider.token(EC_KEYS["ES384"], "ES384")) == "The signature key was not found"


async def test_an_algorithm_the_key_is_not_for(provider: FakeProvider) -> None:
    provider.keys = {"keys": [public_jwk(RSA_KEY, "one", alg="PS256")]}
    assert await reason(provider, provider.token()) == "The signature key was not found"
    assert await verifier(provider).verify(provider.token(algorithm="PS256"))


@pytest.mark.parametrize("members", [{"use": "enc"}, {"key_ops": ["encrypt"]}])
async def test_keys_that_are_not_for_signatures(provider: FakeProvider, members: dict[str, object]) -> None:
    provider.keys = {"keys": [public_jwk(RSA_KEY, "one", **members)]}
    assert await reason(provider, provider.token()) == "The signature key was not found"


async def test_weak_and_broken_keys_are_passed_over(provider: FakeProvider) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    shared = {"kty": "oct", "k": "AAAA", "kid": "one", "alg": "HS256"}
    broken = {"kty": "RSA", "n": "!", "e": 3, "kid": "one"}
    provider.keys = {"keys": [public_jwk(weak, "one"), shared, broken, None, 7, {"kty": "EC", "crv": ["P-256"]}]}
    assert await reason(provider, provider.token()) == "The signature key was not found"
    provider.keys["keys"].append(public_jwk(RSA_KEY, "one"))
    assert await verifier(provider).verify(provider.token())


async def test_times(provider: FakeProvider) -> None:
    now = int(time.time())
    assert (await reason(provider, provider.token(exp=now - 301))).startswith("The token expired at '")
    assert (await reason(provider, provider.token(nbf=now + 400))).startswith("The token is not valid before '")
    assert await reason(provider, provider.token(without=("exp",))) == "The token has no exp"


@pytest.mark.parametrize("value", [float("inf"), float("nan"), 1e400, "soon", None, [], 10**400])
@pytest.mark.parametrize("claim", ["exp", "nbf"])
async def test_times_that_are_none(provider: FakeProvider, claim: str, value: object) -> None:
    content = {"iss": provider.authority, "aud": AUDIENCE, "exp": int(time.time()) + 60, claim: value}
    signed = jwt.PyJWS().encode(
        json.dumps(content).encode(), RSA_KEY, algorithm="RS256", headers={"kid": "one", "typ": "JWT"}
    )
    found = verifier(provider)
    if (claim, value) in (("nbf", None), ("exp", 10**400)):
        return  # not there, and not yet
    with pytest.raises(InvalidToken):
        await found.verify(signed)


async def test_audience_and_issuer(provider: FakeProvider) -> None:
    assert await reason(provider, provider.token(aud="elsewhere")) == "The audience is invalid"
    assert await reason(provider, provider.token(aud=[])) == "The token has no aud"
    assert await reason(provider, provider.token(aud=7)) == "The audience is invalid"
    assert await reason(provider, provider.token(without=("aud",))) == "The token has no aud"
    assert await reason(provider, provider.token(iss="https://elsewhere.example")) == "The issuer is invalid"
    assert await reason(provider, provider.token(without=("iss",))) == "The token has no iss"


async def test_without_an_audience_every_token_is_refused(provider: FakeProvider) -> None:
    with pytest.raises(InvalidToken):
        await TokenVerifier(Provider(provider.authority), []).verify(provider.token())


async def test_huge_and_deep_ones(provider: FakeProvider) -> None:
    assert await reason(provider, provider.token(x="y" * tokens.MAX_TOKEN_CHARACTERS)) == "The token is too long"
    deep = base64.urlsafe_b64encode(b'{"alg":' + b"[" * 9000).rstrip(b"=").decode()
    assert await reason(provider, f"{deep}.e30.AAAA") == "The token is malformed"
    nested = jwt.PyJWS().encode(b'{"exp":' + b"[" * 9000, RSA_KEY, algorithm="RS256", headers={"kid": "one"})
    assert await reason(provider, nested) == "The token is malformed"


async def test_critical_extensions_are_refused(provider: FakeProvider) -> None:
    token = provider.token(header={"crit": ["http://example.com/unknown"], "http://example.com/unknown": 1})
    assert await reason(provider, token) == "The token is malformed"


@pytest.fixture(scope="module")
def steady() -> Iterator[tuple[FakeProvider, TokenVerifier]]:
    with fake_provider() as found:
        yield found, verifier(found)


@settings(max_examples=50, deadline=None)
@given(token=st.text() | st.from_regex(r"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*", fullmatch=True))
async def test_nothing_but_a_refusal_comes_of_any_text(steady: tuple[FakeProvider, TokenVerifier], token: str) -> None:
    with pytest.raises(InvalidToken):
        await steady[1].verify(token)


@settings(max_examples=50, deadline=None)
@given(place=st.integers(0, 5000), character=st.characters(codec="ascii"))
async def test_no_character_of_a_token_can_be_changed(
    steady: tuple[FakeProvider, TokenVerifier], place: int, character: str
) -> None:
    provider, found = steady
    token = provider.token()
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]

    def content(text: str) -> object:
        # The last character of a part holds bits that mean nothing.
        return [base64.urlsafe_b64decode(piece + "==") for piece in text.split(".")]

    try:
        await found.verify(changed)
    except InvalidToken:
        return
    assert content(changed) == content(token)


async def test_a_token_that_is_remembered_ends_when_it_expires(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, now = verifier(provider), int(time.time())
    token = provider.token(exp=now + 60)
    checks = []
    check = found._verify

    async def counted(token: str) -> Claims:
        checks.append(token)
        return await check(token)

    monkeypatch.setattr(found, "_verify", counted)
    for later in (0, 60 + tokens.CLOCK_SKEW_SECONDS - 1):
        monkeypatch.setattr(tokens, "time", SimpleNamespace(time=lambda later=later: now + later))
        await found.verify(token)
    assert len(checks) == 1
    monkeypatch.setattr(tokens, "time", SimpleNamespace(time=lambda: now + 60 + tokens.CLOCK_SKEW_SECONDS))
    await found.verify(token)
    assert len(checks) == 2


# --- keys: discovery, rotation, outages ---


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it to let the pause between two fetches be over."""

    def over() -> None:
        monkeypatch.setattr(keys, "PAUSE_SECONDS", 0.0)

    return over


async def test_a_new_key_is_found_when_a_token_names_it(provider: FakeProvider, impatient: Callable[[], None]) -> None:
    found = verifier(provider)
    await found.verify(provider.token())
    provider.keys = {"keys": [public_jwk(OTHER_RSA_KEY, "two")]}
    impatient()
    assert await found.verify(provider.token(OTHER_RSA_KEY, key_id="two"))
    # The key is gone, and with it what was verified by it.
    with pytest.raises(InvalidToken):
        await found.verify(provider.token())


@pytest.fixture
def due(monkeypatch: pytest.MonkeyPatch, impatient: Callable[[], None]) -> Callable[[], None]:
    """Call it to let the life of the fetched keys be over."""

    def over() -> None:
        impatient()
        monkeypatch.setattr(keys, "LIFETIME_SECONDS", 0.0)

    return over


async def until_refused(found: TokenVerifier, token: str) -> None:
    deadline = time.monotonic() + 10
    with pytest.raises(InvalidToken):
        while time.monotonic() < deadline:
            await found.verify(token)
            await asyncio.sleep(0.01)
    await found.provider.close()


async def test_a_withdrawn_key_ends_with_the_life_of_the_fetched_ones(
    provider: FakeProvider, due: Callable[[], None]
) -> None:
    found, token = verifier(provider), provider.token()
    await found.verify(token)
    provider.keys = {"keys": []}
    assert await found.verify(token)
    due()
    await until_refused(found, token)


async def test_after_a_long_rest_a_withdrawn_key_is_not_good_even_once(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, due: Callable[[], None]
) -> None:
    found, token = verifier(provider), provider.token()
    await found.verify(token)
    provider.keys = {"keys": []}
    due()
    monkeypatch.setattr(keys, "OVERDUE_SECONDS", 0.0)
    answers = await asyncio.gather(*(found.verify(token) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [InvalidToken] * 3


async def test_a_provider_that_hangs_holds_up_no_good_token(
    provider: FakeProvider, due: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    found, token = verifier(provider), provider.token()
    await found.verify(token)
    due()
    provider.answers.clear()
    provider.keys = {"keys": [public_jwk(OTHER_RSA_KEY, "two")]}
    async with asyncio.timeout(2):
        for number in range(5):
            assert await found.verify(token)
            assert await found.verify(provider.token(jti=f"new {number}"))
            await asyncio.sleep(0.02)
    # One renewal at a time; it ends when the provider is back, and its keys count.
    assert provider.requests.count("/.well-known/openid-configuration") == 2
    provider.answers.set()
    await until_refused(found, token)
    assert await found.verify(provider.token(OTHER_RSA_KEY, key_id="two"))
    await found.provider.close()
    assert caplog.records == []


async def test_an_unknown_key_waits_for_a_provider_that_hangs_once_in_the_pause(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The pause begins when the failure ends: it can take longer than the pause."""
    found, token = verifier(provider), provider.token()
    await found.verify(token)
    monkeypatch.setattr(keys, "TIMEOUT_SECONDS", 0.6)
    monkeypatch.setattr(keys, "PAUSE_SECONDS", 0.0)
    provider.answers.clear()
    waiting = asyncio.create_task(found.verify(provider.token(key_id="two")))
    await asyncio.sleep(0.1)
    monkeypatch.setattr(keys, "PAUSE_SECONDS", 0.5)
    with pytest.raises(InvalidToken):
        await waiting
    with pytest.raises(InvalidToken):
        await found.verify(provider.token(key_id="three"))
    assert await found.verify(token)
    assert len(provider.requests) == 3
    assert len(caplog.records) == 1


async def test_a_server_that_stops_waits_for_no_renewal(provider: FakeProvider, due: Callable[[], None]) -> None:
    found = verifier(provider)
    await found.verify(provider.token())
    due()
    provider.answers.clear()
    await found.verify(provider.token())
    while len(provider.requests) < 3:
        await asyncio.sleep(0.01)
    async with asyncio.timeout(2):
        await found.provider.close()
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_unknown_keys_cause_one_fetch_in_the_pause(provider: FakeProvider) -> None:
    found = verifier(provider)
    await found.verify(provider.token())
    for number in range(20):
        with pytest.raises(InvalidToken):
            await found.verify(provider.token(key_id=f"no {number}"))
    assert provider.requests == ["/.well-known/openid-configuration", "/keys"]


async def test_while_the_provider_is_away_known_keys_count(
    provider: FakeProvider, monkeypatch: pytest.MonkeyPatch, due: Callable[[], None]
) -> None:
    found = verifier(provider)
    await found.verify(provider.token())
    provider.status = 503
    due()
    assert await found.verify(provider.token(jti="another"))
    await found.provider.close()
    monkeypatch.setattr(keys, "OVERDUE_SECONDS", 0.0)
    assert await found.verify(provider.token(jti="waits for the failure"))
    provider.answers.clear()
    async with asyncio.timeout(2):
        assert await found.verify(provider.token(jti="does not wait for the next one"))
    await found.provider.close()


@pytest.mark.parametrize(
    "discovery",
    [
        b"not json",
        b"[]",
        b"\xff",
        {"issuer": "x"},
        {"issuer": "", "jwks_uri": "https://x.example"},
        {"issuer": "x", "jwks_uri": "http://keys.example/jwks"},
        {"issuer": "x", "jwks_uri": "file:///etc/passwd"},
        {"issuer": "x", "jwks_uri": "http://[bad/"},
        b" " * (keys.MAX_DOCUMENT_BYTES + 1),
    ],
)
async def test_a_provider_that_answers_nonsense(provider: FakeProvider, discovery: object) -> None:
    provider.discovery = discovery
    assert await reason(provider, provider.token()) == "The signature key was not found"


async def test_a_provider_that_is_not_there() -> None:
    with fake_provider() as provider:
        token = provider.token()
    assert await reason(provider, token) == "The signature key was not found"


@pytest.mark.parametrize("document", [b"{}", b'{"keys": 1}', b"nothing"])
async def test_keys_that_are_none(provider: FakeProvider, document: bytes) -> None:
    provider.keys = document
    assert await reason(provider, provider.token()) == "The signature key was not found"


@pytest.mark.parametrize("url", ["http://login.example", "ftp://127.0.0.1", "127.0.0.1", "https://", "http://10.0.0.1"])
def test_an_authority_must_be_https_unless_it_is_here(url: str) -> None:
    with pytest.raises(SettingsError, match="https"):
        Provider(url)


@pytest.mark.parametrize("url", ["https://login.example/t", "http://localhost:1", "http://[::1]:1", "http://127.1.2.3"])
def test_authorities_that_may_be(url: str) -> None:
    assert Provider(url).authority == url

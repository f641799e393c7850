"""Token endpoints: what is asked (RFC 6749 §4), what is understood (§5), what is said of a refusal."""

import asyncio
import base64
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.errors import SettingsError
from hounsfield.security import client_certificate, token_endpoint
from hounsfield.security.access_tokens import AccessToken, TokenRefused, TokenUnavailable
from hounsfield.security.credentials import Credential, credential
from hounsfield.security.token_endpoint import TokenEndpoint, lifetime
from hounsfield.settings import load
from tests.peers.oidc_provider import AUDIENCE, OidcProvider

URL = "https://login.example/tenant/oauth2/token"
SECRET = "Client-Secret/+&=ä"
PASSWORD = "User-Password"
CLIENT = Credential(
    "OAuth2ClientCredential", "Fhir:Authentication:OAuth2ClientCredential",
    client_id="client", client_secret=SECRET, token_uri=URL,
)  # fmt: skip
USER = Credential(
    "OAuth2UserPasswordCredential", "Fhir:Authentication:OAuth2UserPasswordCredential",
    client_id="client", username="Ann", password=PASSWORD, token_uri=URL,
)  # fmt: skip
GOOD = {"access_token": "token", "token_type": "Bearer", "expires_in": 3600}


class Endpoint:
    """Answers one thing, and keeps the forms it was sent."""

    def __init__(self, status: int = 200, content: Any = GOOD, headers: dict[str, str] | None = None) -> None:
        self.forms: list[dict[str, list[str]]] = []
        self.requests: list[httpx.Request] = []
        self._status, self._headers = status, headers
        self._body = content if isinstance(content, bytes) else json.dumps(content).encode()

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.forms.append(parse_qs(request.content.decode(), keep_blank_values=True, strict_parsing=True))
        return httpx.Response(self._status, content=self._body, headers=self._headers)

    async def ask(self, asked: Credential = CLIENT) -> AccessToken:
        return await TokenEndpoint(asked, transport=httpx.MockTransport(self)).request()


@pytest.fixture(scope="module", autouse=True)
def _quick_contexts() -> Iterator[None]:
    """Reading the certificates of all authorities takes longer than the tests."""
    context = httpx.create_ssl_context()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx, "create_ssl_context", lambda: context)
        yield


async def refusal(endpoint: Endpoint, asked: Credential = CLIENT) -> str:
    with pytest.raises(TokenRefused) as refused:
        await endpoint.ask(asked)
    return str(refused.value)


async def test_a_client_asks() -> None:
    endpoint = Endpoint()
    found = await endpoint.ask(
        Credential(CLIENT.kind, "", "https://fhir.example", "a b", "client", token_uri=URL, client_secret=SECRET)
    )
    assert found.value == "token"
    assert found.seconds == 3600
    (request,) = endpoint.requests
    assert (request.method, str(request.url)) == ("POST", URL)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert endpoint.forms == [
        {
            "client_id": ["client"],
            "client_secret": [SECRET],
            "grant_type": ["client_credentials"],
            "scope": ["a b"],
            "resource": ["https://fhir.example"],
        }
    ]


async def test_a_user_asks_without_what_is_not_set() -> None:
    endpoint = Endpoint()
    await endpoint.ask(USER)
    assert endpoint.forms == [
        {"client_id": ["client"], "grant_type": ["password"], "username": ["Ann"], "password": [PASSWORD]}
    ]


def test_secrets_are_not_printed() -> None:
    assert SECRET not in repr(CLIENT)
    assert PASSWORD not in repr(USER)


def signed(**claims: Any) -> str:
    return jwt.encode(claims, "x" * 32, "HS256")


@pytest.mark.parametrize(
    ("answer", "token", "seconds"),
    [
        ({"expires_in": 3599}, "opaque", 3599),
        ({"expires_in": "3599"}, "opaque", 3599),
        ({"expires_in": 10.5}, "opaque", 10.5),
        ({"expires_in": 60, "expires_on": 0}, "opaque", 60),
        ({}, "opaque", None),
        ({}, "a.b.c", None),
        ({}, signed(), None),
        ({}, signed(exp="soon"), None),
        ({"expires_in": None}, "opaque", None),
        ({"expires_in": "soon", "expires_on": "tomorrow"}, "opaque", None),
        ({"expires_in": True}, "opaque", None),
        ({"expires_in": "inf"}, "opaque", None),
        ({"expires_in": "9" * 400}, "opaque", None),
    ],
)
def test_how_long_a_token_lives(answer: dict[str, Any], token: str, seconds: float | None) -> None:
    assert lifetime(answer, token, 5.0) == seconds


@pytest.mark.parametrize("as_text", [False, True])
def test_ends_given_as_a_moment_are_counted_from_before_the_request(as_text: bool) -> None:
    end: Any = int(time.time()) + 1000
    for answer, token in (({"expires_on": str(end) if as_text else end}, "opaque"), ({}, signed(exp=end))):
        found = lifetime(answer, token, 5.0)
        assert found is not None
        assert 1003 < found <= 1005


@given(st.dictionaries(st.sampled_from(["expires_in", "expires_on"]), st.from_type(object) | st.text() | st.floats()))
def test_no_lifetime_is_a_surprise(answer: dict[str, Any]) -> None:
    found = lifetime(answer, "opaque", 0.0)
    assert found is None or isinstance(found, float)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
async def test_an_endpoint_in_trouble_is_waited_for(status: int) -> None:
    with pytest.raises(TokenUnavailable, match=str(status)) as failure:
        await Endpoint(status, {"error": "invalid_client"}, {"Retry-After": "7"}).ask()
    assert failure.value.retry_after == 7


@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error"])
async def test_trouble_it_tells_of_itself(error: str) -> None:
    with pytest.raises(TokenUnavailable):
        await Endpoint(400, {"error": error}).ask()


@pytest.mark.parametrize("error", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
async def test_lost_connections(error: type[Exception]) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise error(f"{SECRET} {request.content!r}")

    with pytest.raises(TokenUnavailable, match=error.__name__) as failure:
        await TokenEndpoint(CLIENT, transport=httpx.MockTransport(fail)).request()
    assert SECRET not in str(failure.value)


@pytest.mark.parametrize(
    ("status", "error", "description", "said"),
    [
        (401, "invalid_client", "", "ClientId or ClientSecret is wrong"),
        (401, "invalid_client", "AADSTS7000215: Invalid client secret provided.", "ClientSecret is wrong"),
        (401, "invalid_client", "AADSTS7000222: The provided client secret keys are expired", "has expired"),
        (400, "unauthorized_client", "AADSTS700016: Application not found in the directory", "does not know ClientId"),
        (400, "invalid_request", "AADSTS90002: Tenant 'x' not found.", "no such tenant"),
        (400, "invalid_grant", "", "name or password is wrong"),
        (400, "invalid_grant", "AADSTS50126: Error validating credentials", "Username or Password is wrong"),
        (400, "invalid_scope", "", "Scope"),
        (400, "invalid_target", "", "Resource"),
        (400, "something_else", "AADSTS1234567: new", "(something_else, AADSTS1234567)"),
    ],
)
async def test_refusals_say_what_to_look_at(status: int, error: str, description: str, said: str) -> None:
    answer = {"error": error, "error_description": f"{description} Trace of Ann {SECRET} {PASSWORD}"}
    for asked in (CLIENT, USER):
        text = await refusal(Endpoint(status, answer), asked)
        assert said in text
        assert error in text
        assert asked.section in text
        assert URL in text
        for hidden in (SECRET, PASSWORD, "Ann", "Trace"):
            assert hidden not in text


async def test_an_error_that_is_no_code_is_not_repeated() -> None:
    for error in (SECRET, "a" * 51, 5, None, ["x"]):
        text = await refusal(Endpoint(400, {"error": error}))
        assert "400" in text
        assert str(error) not in text.replace("OAuth2", "").replace("425", "") or error in (5, None)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(status: int) -> None:
    endpoint = Endpoint(status, b"", {"Location": "https://elsewhere.example/token"})
    assert "not followed" in await refusal(endpoint)
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"<html>",
        b"",
        b"[]",
        b"null",
        b'"token"',
        b"\xff",
        b"[" * 100_000,
        {"token": "x"},
        {"access_token": 5},
        {"access_token": ""},
        {"access_token": "two words"},
        {"access_token": "line\r\nHost: elsewhere"},
        {**GOOD, "token_type": "DPoP"},
    ],
)
async def test_answers_that_are_no_token(content: Any) -> None:
    assert URL in await refusal(Endpoint(200, content))


async def test_token_types_are_read_in_any_case_and_may_be_missing() -> None:
    for changes in ({"token_type": "bearer"}, {"token_type": "BEARER"}):
        assert (await Endpoint(200, GOOD | changes).ask()).value == "token"
    assert (await Endpoint(200, {"access_token": "a.b-c_d~+/=="}).ask()).value == "a.b-c_d~+/=="


async def test_an_endless_answer_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_endpoint, "MAX_ANSWER_BYTES", 1000)
    assert "more than 1000 bytes" in await refusal(Endpoint(200, {**GOOD, "x": "y" * 1000}))


async def test_what_is_secret_in_the_address_is_not_said() -> None:
    url = "https://user:pass@login.example/token?code=1234"
    asked = Credential(CLIENT.kind, CLIENT.section, client_id="client", client_secret=SECRET, token_uri=url)
    text = await refusal(Endpoint(404), asked)
    assert "https://login.example/token " in text
    assert "pass" not in text
    assert "1234" not in text


async def test_an_endpoint_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that goes on sending a byte now and then."""
    monkeypatch.setattr(token_endpoint, "TIMEOUT_SECONDS", 0.2)

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await asyncio.sleep(0.02)
        writer.close()
        left.set()

    left = asyncio.Event()
    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    asked = Credential(CLIENT.kind, "", client_id="c", client_secret="s", token_uri=f"http://127.0.0.1:{port}/token")
    clock = asyncio.get_running_loop().time
    began = clock()
    with pytest.raises(TokenUnavailable, match="does not answer"):
        await TokenEndpoint(asked).request()
    assert clock() - began < 2
    await left.wait()
    server.close()


# --- a real provider ---


@contextmanager
def trusted(provider: OidcProvider) -> Iterator[Callable[[str], dict[str, Any]]]:
    """Reads a token of the provider, whose signature must be good."""
    keys = jwt.PyJWKClient(f"{provider.authority}/jwks", cache_keys=False)

    def claims(token: str) -> dict[str, Any]:
        found: dict[str, Any] = jwt.decode(
            token, keys.get_signing_key_from_jwt(token).key, ["RS256"], audience=AUDIENCE, issuer=provider.authority
        )
        return found

    yield claims


def by_settings(kind: str, **keys: str) -> Credential:
    """What settings make of it."""
    section = "DicomWeb:Authentication"
    given = {f"{section}:Enabled": "true", f"{section}:AuthenticationType": kind}
    given |= {f"{section}:{kind}:{key}": value for key, value in keys.items()}
    found = credential(load(environment={key.replace(":", "__"): value for key, value in given.items()})[0], "DicomWeb")
    assert found is not None
    return found


@pytest.mark.peer
async def test_tokens_of_a_real_provider(
    oidc_provider_process: OidcProvider, certificate: tuple[Path, dict[str, Any]]
) -> None:
    provider = oidc_provider_process
    file, jwk = certificate
    provider.know(jwk)
    where = {"TokenUri": f"{provider.authority}/token", "Resource": f"urn:audience:{AUDIENCE}"}
    with trusted(provider) as claims:
        for asked, client in (
            (by_settings("OAuth2ClientCredential", ClientId="fhir", ClientSecret="fhir", **where), "fhir"),
            (
                by_settings(
                    "OAuth2UserPasswordCredential",
                    ClientId="person", ClientSecret="person", Username="Ann", Password="anns", **where,
                ),
                "person",
            ),
            (
                by_settings("OAuth2ClientCertificateCredential", ClientId="signer", Certificate=str(file), **where),
                "signer",
            ),
        ):  # fmt: skip
            token = await TokenEndpoint(asked).request()
            assert claims(token.value)["client_id"] == client
            assert token.seconds == 3600


@pytest.mark.peer
async def test_refusals_of_a_real_provider(oidc_provider_process: OidcProvider, tmp_path: Path) -> None:
    where = {"TokenUri": f"{oidc_provider_process.authority}/token"}
    other, _ = make_certificate()
    file = tmp_path / "other.pem"
    file.write_bytes(other)
    for asked, said in (
        (by_settings("OAuth2ClientCredential", ClientId="fhir", ClientSecret="wrong", **where), "Secret is wrong"),
        (by_settings("OAuth2ClientCredential", ClientId="other", ClientSecret="fhir", **where), "ClientId or"),
        (
            by_settings(
                "OAuth2UserPasswordCredential",
                ClientId="person", ClientSecret="person", Username="Ann", Password="wrong", **where,
            ),
            "password is wrong",
        ),
        (by_settings("OAuth2ClientCertificateCredential", ClientId="signer", Certificate=str(file), **where), "Certif"),
        (
            by_settings("OAuth2ClientCredential", TokenUri=where["TokenUri"] + "s", ClientId="f", ClientSecret="f"),
            "404",
        ),
    ):  # fmt: skip
        with pytest.raises(TokenRefused, match=said):
            await TokenEndpoint(asked).request()


# --- certificates ---


def make_certificate(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """Key and certificate as PEM, and the public key as JWK (of RSA)."""
    key = key or rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cast")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1))
    ).sign(key, hashes.SHA256())  # fmt: skip
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(serialization.Encoding.PEM)
    jwk = {}
    if isinstance(key, rsa.RSAPrivateKey):
        jwk = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"use": "sig", "alg": "RS256"}
    return pem, jwk


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    pem, jwk = make_certificate()
    file = tmp_path_factory.mktemp("certificate") / "cast.pem"
    file.write_bytes(pem)
    return file, jwk


async def test_a_certificate_asks(certificate: tuple[Path, dict[str, Any]]) -> None:
    file, jwk = certificate
    found = client_certificate.load(str(file), "Certificate")
    endpoint = Endpoint()
    asked = Credential(
        "OAuth2ClientCertificateCredential", "", scope="s", client_id="client", token_uri=URL, certificate=found
    )
    for _ in range(2):
        await endpoint.ask(asked)
    first, second = endpoint.forms
    (assertion,) = first.pop("client_assertion")
    assert first == {
        "client_id": ["client"],
        "grant_type": ["client_credentials"],
        "scope": ["s"],
        "client_assertion_type": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"],
    }
    claims = jwt.decode(assertion, jwt.PyJWK(jwk).key, ["RS256"], audience=URL, issuer="client")
    assert claims["sub"] == "client"
    assert claims["exp"] - claims["iat"] == 600
    assert claims["jti"] not in second["client_assertion"][0]
    assert second["client_assertion"] != [assertion]
    der = found.certificate.fingerprint(hashes.SHA1())
    assert base64.urlsafe_b64decode(jwt.get_unverified_header(assertion)["x5t"] + "==") == der


def test_forms_a_certificate_may_have(certificate: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    file, _ = certificate
    pem = file.read_bytes()
    found = client_certificate.load(str(file), "Certificate")
    bag = pkcs12.serialize_key_and_certificates(
        b"cast", found.key, found.certificate, None, serialization.NoEncryption()
    )
    (tmp_path / "cast.pfx").write_bytes(bag)
    for text in (pem.decode(), str(tmp_path / "cast.pfx"), base64.encodebytes(bag).decode()):
        assert client_certificate.load(text, "Certificate").certificate == found.certificate


def test_what_is_no_certificate_with_a_key(certificate: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    file, _ = certificate
    pem = file.read_text()
    found = client_certificate.load(str(file), "Certificate")
    locked = pkcs12.serialize_key_and_certificates(
        b"cast", found.key, found.certificate, None, serialization.BestAvailableEncryption(b"password")
    )
    curve, _ = make_certificate(ec.generate_private_key(ec.SECP256R1()))
    for text in (
        "",
        "no/such/file.pem",
        "x" * 5000,
        "\0",
        str(tmp_path),
        "QUJD",
        pem[pem.index("-----BEGIN CERTIFICATE") :],
        pem[: pem.index("-----BEGIN CERTIFICATE")],
        pem[:300],
        base64.b64encode(locked).decode(),
        curve.decode(),
    ):
        with pytest.raises(SettingsError, match="TheSetting must be a certificate") as refusal:
            client_certificate.load(text, "TheSetting")
        assert "PRIVATE" not in str(refusal.value)

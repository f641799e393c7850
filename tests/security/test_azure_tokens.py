"""Managed identities: IMDS and App Service on this machine by the documented protocols, asked by Azure's library."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Iterator
from email.message import Message
from urllib.parse import parse_qs, urlsplit

import pytest

from hounsfield.security import azure_tokens
from hounsfield.security.access_tokens import TokenRefused, TokenUnavailable
from hounsfield.security.azure_tokens import AzureIdentity
from hounsfield.security.credentials import Credential
from tests.answering import Answer, answering

RESOURCE = "https://fhir.example"
SECRET = "identity-header-secret"


class FakeAzure:
    """The identity endpoints of a virtual machine (``/metadata/…``, 2018-02-01) and of App Service (2019-08-01)."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[dict[str, str]] = []
        self.identities = {"", "user-assigned"}
        self.status = 200
        self.gate = threading.Event()
        self.gate.set()

    def answer(self, path: str, headers: Message) -> Answer:
        """What a GET is answered."""
        self.gate.wait(10)
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/msi/token":
            known = query["api-version"] == "2019-08-01" and headers.get("X-IDENTITY-HEADER") == SECRET
        else:
            known = parts.path == "/metadata/identity/oauth2/token" and query["api-version"] == "2018-02-01"
            known = known and headers.get("Metadata") == "true"
        if not known:
            return self._error(400, "invalid_request")
        if self.status != 200:
            return self._error(self.status, "unknown")
        if query.get("client_id", "") not in self.identities:
            return self._error(400, "invalid_request", "Identity not found")
        self.asked.append(query)
        answer = {"access_token": f"token-{len(self.asked)}", "resource": query["resource"], "token_type": "Bearer"}
        answer |= {"expires_in": "3600", "expires_on": str(int(time.time()) + 3600)}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()

    @staticmethod
    def _error(status: int, code: str, description: str = "") -> Answer:
        content = {"error": code, "error_description": description}
        return status, {"Content-Type": "application/json"}, json.dumps(content).encode()


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAzure]:
    """Only a managed identity is tried, so that nothing else on this machine is."""
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    monkeypatch.setattr("azure.identity._credentials.imds.PIPELINE_SETTINGS", {"retry_total": 0})
    fake = FakeAzure()
    with answering(fake.answer) as fake.url:
        yield fake
        fake.gate.set()


@pytest.fixture
def imds(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> FakeAzure:
    monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", azure.url)
    return azure


def identity(resource: str = RESOURCE, client_id: str = "", tenant_id: str = "") -> AzureIdentity:
    section = "Fhir:Authentication:ManagedIdentityCredential"
    return AzureIdentity(
        Credential("ManagedIdentityCredential", section, resource=resource, client_id=client_id, tenant_id=tenant_id)
    )


@pytest.mark.parametrize(
    ("resource", "asked"),
    [
        (RESOURCE, RESOURCE),
        (f"{RESOURCE}/", f"{RESOURCE}/"),
        (f"{RESOURCE}/.default", RESOURCE),
        ("api://application", "api://application"),
    ],
)
async def test_a_virtual_machine(imds: FakeAzure, resource: str, asked: str) -> None:
    token = await identity(resource=resource).request()
    assert token.value == "token-1"
    assert token.seconds is not None
    assert 3590 < token.seconds <= 3600
    assert imds.asked == [{"api-version": "2018-02-01", "resource": asked}]


async def test_app_service(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{azure.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", SECRET)
    token = await identity(client_id="user-assigned", tenant_id="a-tenant").request()
    assert token.value == "token-1"
    assert azure.asked == [{"api-version": "2019-08-01", "resource": RESOURCE, "client_id": "user-assigned"}]


async def test_the_same_token_is_not_handed_out_again(imds: FakeAzure) -> None:
    """Whoever asks again does so because the first has been refused or ends; keeping tokens is not done here."""
    source = identity()
    assert [(await source.request()).value for _ in range(2)] == ["token-1", "token-2"]


async def test_an_identity_that_there_is_not(imds: FakeAzure) -> None:
    with pytest.raises(TokenRefused, match="managed identity") as refusal:
        await identity(client_id="unknown").request()
    assert "Fhir:Authentication:ManagedIdentityCredential" in str(refusal.value)


async def test_a_wrong_header_is_not_repeated(
    azure: FakeAzure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{azure.url}/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", "another-secret")
    caplog.set_level(logging.DEBUG)
    with pytest.raises(TokenRefused) as refusal:
        await identity().request()
    assert "another-secret" not in str(refusal.value) + caplog.text


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_an_outage_after_it_has_worked_is_waited_for(imds: FakeAzure, status: int) -> None:
    source = identity()
    await source.request()
    imds.status = status
    with pytest.raises(TokenUnavailable):
        await source.request()
    imds.status = 200
    assert (await source.request()).value == "token-2"


async def test_an_endpoint_that_hangs(imds: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(azure_tokens, "TIMEOUT_SECONDS", 0.2)
    imds.gate.clear()
    with pytest.raises(TokenUnavailable, match="in time"):
        await identity().request()
    imds.gate.set()
    await asyncio.to_thread(_until_no_thread)


async def test_what_entra_itself_refuses_is_a_refusal(imds: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    source = identity()
    await source.request()

    def refuse() -> tuple[str, float]:
        raise ValueError("AADSTS700016: Application with a secret name was not found")

    monkeypatch.setattr(source, "_ask", refuse)
    with pytest.raises(TokenRefused, match="AADSTS700016") as refusal:
        await source.request()
    assert "secret name" not in str(refusal.value)


def _until_no_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "azure-identity":
            thread.join(10)


def test_the_end_of_the_loop_does_not_wait_for_it(imds: FakeAzure) -> None:
    async def ask() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(identity().request(), 0.1)

    imds.gate.clear()
    began = time.monotonic()
    asyncio.run(ask())
    assert time.monotonic() - began < 5
    imds.gate.set()
    _until_no_thread()

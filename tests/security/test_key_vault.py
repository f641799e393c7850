"""Settings kept in Azure Key Vault: a vault and an identity endpoint on this machine, by the documented protocol."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from email.message import Message
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hounsfield.errors import SettingsError
from hounsfield.security import key_vault
from tests.answering import Answer, answering

TOKEN = "token-of-the-identity"
RESOURCE = "https://vault.azure.net"


class FakeAzure:
    """``/secrets`` of a vault, and ``/identity`` of App Service (2019-08-01)."""

    def __init__(self) -> None:
        self.url = ""
        self.secrets: dict[str, str] = {}
        self.disabled: set[str] = set()
        self.challenge = f'Bearer authorization="https://login.example/tenant", resource="{RESOURCE}"'
        self.status = 200
        self.next_link = ""
        self.read: list[str] = []
        self.asked_for: list[str] = []

    def answer(self, path: str, headers: Message) -> Answer:
        """What a GET is answered."""
        status, added, content = self._answer(path, headers)
        return status, added, json.dumps(content).encode()

    def _answer(self, path: str, headers: Message) -> tuple[int, dict[str, str], Any]:
        parts = urlsplit(path)
        query = parse_qs(parts.query)
        if parts.path == "/identity":
            if headers.get("X-IDENTITY-HEADER") != "secret-header":
                return 400, {}, {}
            self.asked_for += query["resource"]
            return 200, {}, {"access_token": TOKEN, "expires_on": "4102444800", "resource": RESOURCE}
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"WWW-Authenticate": self.challenge}, {}
        if self.status != 200:
            return self.status, {}, {}
        assert query["api-version"] == ["7.4"]
        if parts.path == "/secrets":
            names = sorted(self.secrets)
            start = int(query.get("$skiptoken", ["0"])[0])
            listed = [
                {"id": f"{self.url}/secrets/{name}", "attributes": {"enabled": name not in self.disabled}}
                for name in names[start : start + 2]
            ]
            more = f"{self.url}/secrets?api-version=7.4&$skiptoken={start + 2}" if start + 2 < len(names) else None
            return 200, {}, {"value": listed, "nextLink": self.next_link or more}
        name = parts.path.removeprefix("/secrets/")
        self.read.append(name)
        return 200, {}, {"value": self.secrets[name], "id": f"{self.url}/secrets/{name}/0123"}


@pytest.fixture
def azure() -> Iterator[FakeAzure]:
    fake = FakeAzure()
    with answering(fake.answer) as fake.url:
        yield fake


class Identity:
    """A credential that has the token."""

    def __init__(self) -> None:
        self.scopes: list[str] = []

    def get_token(self, *scopes: str) -> Any:
        self.scopes += scopes
        return SimpleNamespace(token=TOKEN)


def read(azure: FakeAzure, identity: Identity | None = None) -> dict[str, str]:
    return key_vault.read_secrets(azure.url, lambda key: not key.startswith("Other"), identity or Identity())


def test_secrets_of_all_pages_by_key(azure: FakeAzure) -> None:
    azure.secrets = {
        "DicomServer--Security--Enabled": "true",
        "BlobStore--ConnectionString": "a;b=c",
        "DicomServer--Cors--Origins--0": "https://one.example",
        "AllowedHosts": "*",
        "Other--Password": "not ours",
        "Database--Url": "off",
    }
    azure.disabled = {"Database--Url"}
    identity = Identity()
    assert read(azure, identity) == {
        "AllowedHosts": "*",
        "BlobStore:ConnectionString": "a;b=c",
        "DicomServer:Cors:Origins:0": "https://one.example",
        "DicomServer:Security:Enabled": "true",
    }
    assert identity.scopes == [f"{RESOURCE}/.default"]
    assert "Other--Password" not in azure.read
    assert "Database--Url" not in azure.read


def test_an_empty_vault(azure: FakeAzure) -> None:
    assert read(azure) == {}


@pytest.mark.parametrize("status", [403, 404, 429, 500])
def test_a_vault_that_refuses(azure: FakeAzure, status: int) -> None:
    azure.status = status
    with pytest.raises(SettingsError, match=f"KeyVault:Endpoint.*{status}"):
        read(azure)


def test_a_list_that_goes_on_elsewhere(azure: FakeAzure) -> None:
    azure.next_link = "http://127.0.0.1:1/secrets"
    with pytest.raises(SettingsError, match="another address"):
        read(azure)


def test_a_vault_without_a_challenge(azure: FakeAzure) -> None:
    azure.challenge = "Bearer"
    with pytest.raises(SettingsError, match="sign in"):
        read(azure)


def test_no_token_for_anything_but_vaults(azure: FakeAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever can set the address must not get a token that opens Azure itself."""
    monkeypatch.setattr(key_vault, "is_loopback", lambda host: False)
    azure.challenge = 'Bearer resource="https://management.azure.com"'
    identity = Identity()
    with pytest.raises(SettingsError, match="not for vaults"):
        read(azure, identity)
    assert identity.scopes == []


@pytest.mark.parametrize("url", ["http://vault.example", "ftp://x", "vault", ""])
def test_addresses_that_are_no_vaults(url: str) -> None:
    with pytest.raises(SettingsError, match="KeyVault:Endpoint"):
        key_vault.read_secrets(url, lambda key: True, Identity())


def test_a_vault_that_is_not_there() -> None:
    with pytest.raises(SettingsError, match="KeyVault:Endpoint"):
        key_vault.read_secrets("http://127.0.0.1:1", lambda key: True, Identity())


def config_show(azure: FakeAzure, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "hounsfield", "config", "show", "--changed"],
        env={
            **os.environ,
            "KeyVault__Endpoint": azure.url,
            "IDENTITY_ENDPOINT": f"{azure.url}/identity",
            "IDENTITY_HEADER": "secret-header",
            "COLUMNS": "300",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_with_a_managed_identity(azure: FakeAzure) -> None:
    """Azure's own library signs in; the vault counts more than the environment; nothing of it is shown."""
    azure.secrets = {
        "DicomServer--Swagger--Title": "From-The-Vault",
        "Dicomserver--Nonsense": "Secret-Value",
        "Fhir--Authentication--OAuth2ClientCredential--ClientSecret": "Client-Secret",
    }
    done = config_show(azure, DicomServer__Swagger__Title="From-The-Environment")
    assert done.returncode == 0, done.stderr
    assert azure.asked_for == [RESOURCE]
    for key in ("Swagger:Title", "Fhir:Authentication:OAuth2ClientCredential:ClientSecret"):
        row = next(line for line in done.stdout.splitlines() if key in line)
        assert "key vault" in row
        assert "(set, not shown)" in row
    assert "Unknown setting dicomserver:nonsense" in done.stderr
    for text in ("From-The-Vault", "From-The-Environment", "Secret-Value", "Client-Secret", TOKEN):
        assert text not in done.stdout + done.stderr


def test_without_any_identity(azure: FakeAzure) -> None:
    done = config_show(azure, IDENTITY_HEADER="wrong")
    assert done.returncode == 2
    # Before it, Azure's library lists what it tried.
    assert done.stderr.splitlines()[-1].startswith("hounsfield: KeyVault:Endpoint: signing in"), done.stderr
    assert "Traceback" not in done.stderr

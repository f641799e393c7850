"""Azure tables of an account that takes access tokens: TableStore:EndpointUri and TableStore:ClientId."""

import base64
import json
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import Message
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hounsfield import settings
from hounsfield.cast.table_store import TableStore, TableStoreUnavailable, parse_endpoint_uri
from hounsfield.cli import casting
from hounsfield.errors import SettingsError
from tests.answering import Answer, answering
from tests.peers.azurite import azurite_tables_with_tokens

IDENTITY = "the-identity"


def token(audience: str) -> str:
    """As Microsoft Entra ID writes it; nobody here can check a signature of Microsoft's."""
    now = int(time.time())
    claims = {"aud": audience, "iss": "https://sts.windows.net/tenant/", "iat": now, "nbf": now - 60, "exp": now + 3600}
    parts = [json.dumps({"alg": "RS256", "typ": "JWT"}), json.dumps(claims), "signature"]
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


class Machine:
    """The identity endpoint of a virtual machine with one user-assigned identity."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def answer(self, path: str, headers: Message) -> Answer:
        """What a GET is answered."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
        if headers.get("Metadata") != "true":
            return 400, {}, b'{"error": "invalid_request"}'
        if query.get("client_id") != IDENTITY:
            return 400, {}, b'{"error": "invalid_request", "error_description": "Identity not found"}'
        self.asked.append((query["resource"], query["client_id"]))
        answer = {"access_token": token(query["resource"]), "expires_in": "3600", "token_type": "Bearer"}
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
    monkeypatch.setattr("azure.identity._credentials.imds.PIPELINE_SETTINGS", {"retry_total": 0})
    machine = Machine()
    with answering(machine.answer) as url:
        monkeypatch.setenv("AZURE_POD_IDENTITY_AUTHORITY_HOST", url)
        yield machine


def store_of(**given: str) -> TableStore:
    found, warnings = settings.load(
        environment={}, overrides={f"TableStore:{name}": value for name, value in given.items()}
    )
    assert not warnings
    store = casting.table_store(found)
    assert store is not None
    return store


async def test_every_request_has_a_token_of_the_identity(machine: Machine) -> None:
    seen: list[dict[str, Any]] = []

    def tables(path: str, headers: Message) -> Answer:
        seen.append({"path": path, **dict(headers)})
        return 200, {"Content-Type": "application/json"}, b'{"SyncedSequence": "7"}'

    with answering(tables) as url:
        store = store_of(EndpointUri=f"{url}/", ClientId=IDENTITY, TableNamePrefix="mine")
        assert await store.get("SyncStateTable", "p", "r") == {"SyncedSequence": "7"}
        assert await store.get("SyncStateTable", "p", "r") == {"SyncedSequence": "7"}
        await store.close()
    assert machine.asked == [("https://storage.azure.com", IDENTITY)]
    assert seen[0]["path"] == "/mineSyncStateTable(PartitionKey='p',RowKey='r')"
    assert seen[0]["Authorization"].startswith("Bearer ey")
    assert seen[0]["x-ms-date"]


async def test_an_identity_that_is_not_there_is_told(machine: Machine) -> None:
    store = store_of(EndpointUri="http://127.0.0.1:9", ClientId="somebody-else")
    with pytest.raises(TableStoreUnavailable) as refused:
        await store.get("SyncStateTable", "p", "r")
    assert "storage.azure.com" in refused.value.message
    assert "managed identity" in refused.value.message
    assert "Identity not found" not in refused.value.message
    await store.close()


async def test_an_identity_without_the_role_is_told(machine: Machine) -> None:
    with answering(lambda path, headers: (403, {}, b"{}")) as url:
        store = store_of(EndpointUri=url, ClientId=IDENTITY)
        with pytest.raises(TableStoreUnavailable, match=r"TableStore:EndpointUri.*Storage Table Data Contributor"):
            await store.get("SyncStateTable", "p", "r")
        await store.close()


@pytest.mark.parametrize(
    "address",
    [
        "http://tables.example",
        "account.table.core.windows.net",
        "https://a.example/?sv=2019&sig=secret",
        "https://u:p@a",
    ],
)
def test_addresses_that_cannot_be_meant(address: str) -> None:
    with pytest.raises(SettingsError, match="TableStore:EndpointUri") as refused:
        parse_endpoint_uri(address)
    assert "secret" not in str(refused.value)


async def test_a_connection_string_goes_first() -> None:
    store = store_of(ConnectionString="UseDevelopmentStorage=true", EndpointUri="https://a.example")
    assert store._auth is None
    await store.close()


def certificate(directory: Path) -> tuple[Path, Path]:
    """One for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    encoding = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    paths[1].write_bytes(key.private_bytes(*encoding))
    return paths


@pytest.mark.peer
async def test_azurite_takes_the_tokens(machine: Machine, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    with azurite_tables_with_tokens(tmp_path, cert, key) as url:
        store = store_of(EndpointUri=url, ClientId=IDENTITY)
        # What SSL_CERT_FILE would do for a whole process.
        trusting = httpx.AsyncHTTPTransport(verify=ssl.create_default_context(cafile=str(cert)))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(store._client, "_transport", trusting)
            await store.make("SyncStateTable")
            await store.put(
                "SyncStateTable", {"PartitionKey": "p", "RowKey": "r", "SyncedSequence": 7}, longs=frozenset()
            )
            found = await store.get("SyncStateTable", "p", "r")
            assert found is not None
            assert found["SyncedSequence"] == 7
            await store.delete("SyncStateTable", "p", "r")
            assert await store.get("SyncStateTable", "p", "r") is None
        await trusting.aclose()
        await store.close()
    assert machine.asked == [("https://storage.azure.com", IDENTITY)]

"""DICOM Cast between two servers that want tokens of a real OpenID Connect provider (dicom-cast.md §7.2)."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from hounsfield.cast.state import Activity, CastState
from hounsfield.database.connect import open_database
from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.test_lifecycle import until
from tests.acceptance.test_security import ROLES, bearer, security
from tests.answering import Answer, answering
from tests.peers.oidc_provider import AUDIENCE, OidcProvider
from tests.server import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.peer]

FEED, FHIR = "DicomWeb__Authentication__", "Fhir__Authentication__"
RESOURCE = f"urn:audience:{AUDIENCE}"


@pytest.fixture(scope="module")
def provider(oidc_provider_process: OidcProvider) -> OidcProvider:
    return oidc_provider_process


def guarded(directory: Path, provider: OidcProvider) -> Server:
    directory.mkdir()
    (directory / "roles.json").write_text(ROLES)
    return Server(directory, ["--no-cast", "--workers", "1"], security(provider.authority, roles=True))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, provider: OidcProvider) -> Iterator[tuple[Server, Server]]:
    """An archive, and a server whose FHIR store is written to. Both let nobody in without a token."""
    base = tmp_path_factory.mktemp("guarded")
    archive, fhir = guarded(base / "archive", provider), guarded(base / "fhir", provider)
    try:
        yield archive.start(), fhir.start()
    finally:
        archive.end()
        fhir.end()


class CastProcess:
    """``hounsfield cast`` and what it says."""

    def __init__(self, directory: Path, servers: tuple[Server, Server], environment: Mapping[str, str]) -> None:
        self.data_dir = directory / "cast"
        self._log = directory / "cast.log"
        archive, fhir = servers
        settings = {
            "DicomWeb__Endpoint": archive.root,
            "Fhir__Endpoint": f"{fhir.root}/fhir",
            "DicomCastWorker__PollInterval": "00:00:01",
            "Logging__LogLevel__Default": "Debug",
            **environment,
        }
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "hounsfield", "cast", "--data-dir", str(self.data_dir)],
                env={**os.environ, **settings},
                stdout=log,
                stderr=log,
            )

    def activity(self) -> Activity | None:
        """What ``/cast/status`` would show of it."""
        assert self._process.poll() is None, self.log()

        async def read() -> Activity | None:
            database = open_database(f"sqlite:///{self.data_dir / 'index.db'}")
            try:
                return (await CastState(database).status()).activity
            finally:
                await database.close()

        try:
            return asyncio.run(read())
        except Exception:
            return None  # not there yet

    def state(self) -> str:
        found = self.activity()
        return "" if found is None else found.state

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def end(self) -> float:
        """SIGTERM; how long it took to end."""
        began = time.monotonic()
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(30)
        finally:
            self._process.kill()
        return time.monotonic() - began


@contextmanager
def casting(directory: Path, servers: tuple[Server, Server], environment: Mapping[str, str]) -> Iterator[CastProcess]:
    process = CastProcess(directory, servers, environment)
    try:
        yield process
    finally:
        took = process.end()
    assert took < 10
    log = process.log()
    # Azure's own library logs tracebacks of identities there are not, at Debug.
    assert "starts again after an error" not in log, log
    assert "eyJ" not in log, "no token in any log"


def oauth(section: str, kind: str, provider: OidcProvider, **keys: str) -> dict[str, str]:
    """Environment that signs in by the provider's token endpoint."""
    keys = {"TokenUri": f"{provider.authority}/token", "Resource": RESOURCE, **keys}
    return {
        f"{section}Enabled": "true",
        f"{section}AuthenticationType": kind,
        **{f"{section}{kind}__{name}": value for name, value in keys.items()},
    }


def client_credential(section: str, provider: OidcProvider, client: str) -> dict[str, str]:
    return oauth(section, "OAuth2ClientCredential", provider, ClientId=client, ClientSecret=client)


def store(servers: tuple[Server, Server], provider: OidcProvider) -> str:
    """Store a study in the archive; its Study Instance UID."""
    dataset = factories.dataset(PatientID=dicomweb.patient())
    with servers[0].client() as client:
        client.headers.update(bearer(provider.token("writer")))
        dicomweb.store(client, dataset)
    return str(dataset.StudyInstanceUID)


def is_cast(servers: tuple[Server, Server], provider: OidcProvider, study_uid: str) -> Callable[[], bool]:
    """Whether the study is in FHIR."""
    headers = bearer(provider.token("reader"))

    def holds() -> bool:
        with servers[1].client() as client:
            answer = client.get(
                "/fhir/ImagingStudy", params={"identifier": f"urn:dicom:uid|urn:oid:{study_uid}"}, headers=headers
            )
        return bool(answer.raise_for_status().json().get("entry"))

    return holds


def lets_in(server: Server, headers: dict[str, str]) -> Callable[[], bool]:
    """Whether the server takes a token."""

    def holds() -> bool:
        with server.client() as client:
            return client.get("/v2/studies", headers=headers).is_success

    return holds


def test_a_client_at_the_feed_and_a_user_at_fhir_through_a_change_of_keys(
    tmp_path: Path, servers: tuple[Server, Server], provider: OidcProvider
) -> None:
    """The user's password comes from a mounted file, the rest from the environment."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "Fhir__Authentication__OAuth2UserPasswordCredential__Password").write_text("anns\n")
    environment = {
        **client_credential(FEED, provider, "feed"),
        **oauth(
            FHIR, "OAuth2UserPasswordCredential", provider, ClientId="person", ClientSecret="person", Username="Ann"
        ),
        "Secrets__Directory": str(secrets),
    }
    first = store(servers, provider)
    with casting(tmp_path, servers, environment) as process:
        until(is_cast(servers, provider, first))
        asked = provider.token_requests()
        second = store(servers, provider)
        until(is_cast(servers, provider, second))
        assert provider.token_requests() - asked <= 4, "the tokens of the test itself"

        provider.rotate()
        # The servers take the new key, and thereby no old token, when they see the first one signed with it.
        headers = bearer(provider.token("admin"))
        for server in servers:
            until(lets_in(server, headers))
        third = store(servers, provider)
        until(is_cast(servers, provider, third))
        activity = process.activity()
        assert activity is not None
        assert activity.last_error is None
        assert "standstill" not in process.log()


class Imds:
    """``/metadata/identity/oauth2/token`` of a virtual machine (2018-02-01); its tokens are the provider's."""

    def __init__(self, provider: OidcProvider) -> None:
        self._provider = provider
        self.resources: list[str] = []

    def answer(self, path: str, headers: Message) -> Answer:
        """What a GET is answered."""
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path != "/metadata/identity/oauth2/token" or query.get("api-version") != "2018-02-01":
            return 404, {}, b"{}"
        if headers.get("Metadata") != "true":
            # As the real one does; Azure's library finds out so whether there is one.
            return 400, {}, json.dumps({"error": "invalid_request"}).encode()
        if query.get("client_id") != "the-identity":
            return 400, {}, json.dumps({"error": "invalid_request", "error_description": "Identity not found"}).encode()
        self.resources.append(query["resource"])
        token = self._provider.token("admin")
        answer = {"access_token": token, "expires_in": "3599", "resource": query["resource"], "token_type": "Bearer"}
        return 200, {}, json.dumps(answer).encode()


def test_a_managed_identity_at_both(tmp_path: Path, servers: tuple[Server, Server], provider: OidcProvider) -> None:
    imds = Imds(provider)
    study = store(servers, provider)
    with answering(imds.answer) as root:
        environment = {"AZURE_POD_IDENTITY_AUTHORITY_HOST": root}
        for section, resource in ((FEED, "https://dicom.example"), (FHIR, "https://fhir.example/.default")):
            environment |= {
                f"{section}Enabled": "true",
                f"{section}AuthenticationType": "ManagedIdentity",
                f"{section}ManagedIdentityCredential__Resource": resource,
                f"{section}ManagedIdentityCredential__ClientId": "the-identity",
            }
        with casting(tmp_path, servers, environment):
            until(is_cast(servers, provider, study))
    assert sorted(imds.resources) == ["https://dicom.example", "https://fhir.example"]


def test_an_outage_of_the_provider_is_waited_for(
    tmp_path: Path, servers: tuple[Server, Server], provider: OidcProvider
) -> None:
    study = store(servers, provider)
    cast_before_the_end = is_cast(servers, provider, study)
    provider.stop_answering()
    try:
        environment = {**client_credential(FEED, provider, "feed"), **client_credential(FHIR, provider, "fhir")}
        with casting(tmp_path, servers, environment) as process:
            until(lambda: process.state() == "retrying")
            activity = process.activity()
            assert activity is not None
            assert activity.last_error is not None
            assert "token endpoint" in activity.last_error.message
            assert "does not answer" in activity.last_error.message
            provider.answer_again()
            until(cast_before_the_end)
            assert "standstill" not in process.log()
    finally:
        provider.answer_again()


def test_a_feed_that_is_refused_is_a_fault(
    tmp_path: Path, servers: tuple[Server, Server], provider: OidcProvider
) -> None:
    """A client without a role gets a token, and 403 with it."""
    environment = {
        **oauth(FEED, "OAuth2ClientCredential", provider, ClientId="stranger", ClientSecret="stranger"),
        **client_credential(FHIR, provider, "fhir"),
    }
    with casting(tmp_path, servers, environment) as process:
        until(lambda: process.state() == "faulted")
        activity = process.activity()
        assert activity is not None
        assert activity.last_error is not None
        assert activity.last_error.type == "DicomWebException"
        assert "403" in activity.last_error.message
        assert "DicomWeb:Authentication" in activity.last_error.message


def test_a_wrong_secret_is_shown_by_the_server_that_casts(
    tmp_path: Path, servers: tuple[Server, Server], provider: OidcProvider
) -> None:
    secret = "Secret-that-is-wrong"
    environment = {
        "Fhir__Endpoint": f"{servers[1].root}/fhir",
        "Logging__LogLevel__Default": "Debug",
        **oauth(FHIR, "OAuth2ClientCredential", provider, ClientId="fhir", ClientSecret=secret),
    }
    server = Server(tmp_path / "data", ["--workers", "1"], environment)
    status: dict[str, Any] = {}
    try:
        with server.start().client() as client:

            def is_faulted() -> bool:
                status.update(client.get("/cast/status").json())
                return bool(status["state"] == "faulted")

            until(is_faulted)
            checks: dict[str, str] = {}

            def is_degraded() -> bool:
                details = client.get("/health/check").json()["details"]
                checks.update({check["name"]: check["status"] for check in details})
                return checks["DicomCast"] == "Degraded"

            until(is_degraded)
            assert checks["FhirStore"] == "Healthy"
            asked = provider.token_requests()
            time.sleep(0.5)
            assert provider.token_requests() == asked, "a wrong secret is not tried again and again"
    finally:
        server.end()
    assert status["lastError"]["type"] == "FailToRetrieveTokenException"
    assert "invalid_client" in status["lastError"]["message"]
    assert "Fhir:Authentication:OAuth2ClientCredential" in status["lastError"]["message"]
    assert secret not in server.log() + json.dumps(status)


@pytest.mark.parametrize("command", ["serve", "cast"])
def test_settings_that_cannot_work_stop_the_start(tmp_path: Path, command: str) -> None:
    """Before anything is made; which ones they are: tests/security/test_credentials.py."""
    environment = {
        "DicomWeb__Endpoint": "https://dicom.example",
        "Fhir__Endpoint": "http://fhir.example",
        **{f"{section}Enabled": "true" for section in (FEED, FHIR)},
        **{f"{section}AuthenticationType": "OAuth2ClientCredential" for section in (FEED, FHIR)},
        f"{FHIR}OAuth2ClientCredential__TokenUri": "http://login.example/token",
        f"{FEED}OAuth2ClientCredential__TokenUri": "http://login.example/token",
        **{f"{section}OAuth2ClientCredential__ClientId": "client" for section in (FEED, FHIR)},
        **{f"{section}OAuth2ClientCredential__ClientSecret": "Secret-Value" for section in (FEED, FHIR)},
    }
    done = subprocess.run(
        [sys.executable, "-m", "hounsfield", command, "--data-dir", str(tmp_path / "data")],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done
    assert "OAuth2ClientCredential:TokenUri must be an https URL" in done.stderr
    assert "Secret-Value" not in done.stderr + done.stdout
    assert not (tmp_path / "data").exists()


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    environment = {
        f"{FHIR}OAuth2ClientCredential__ClientSecret": "Secret-One",
        f"{FEED}OAuth2UserPasswordCredential__Password": "Secret-Two",
        f"{FEED}OAuth2ClientCertificateCredential__Certificate": "Secret-Three",
        f"{FEED}OAuth2UserPasswordCredential__Username": "Ann",
        "COLUMNS": "300",
    }
    done = subprocess.run(
        [sys.executable, "-m", "hounsfield", "config", "show", "--changed"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    assert done.stdout.count("(set, not shown)") == 3
    assert "Ann" in done.stdout
    assert "Secret-" not in done.stdout + done.stderr

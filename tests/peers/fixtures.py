"""The peers as fixtures. Each server runs once a session, started by the first test that wants it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.peers.azurite import AzuriteServer, azurite_server
from tests.peers.fhir_server import FhirServer, fhir_server
from tests.peers.oidc_provider import OidcProvider, oidc_provider
from tests.peers.postgres import PostgresServer, postgres_server
from tests.peers.s3 import S3Server, s3_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL cluster; ``create_database`` gives URLs."""
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def postgres_database(postgres: PostgresServer) -> Iterator[Callable[[], str]]:
    """Call for the URL of a new, empty database, dropped after the module."""
    created: list[str] = []

    def create() -> str:
        created.append(postgres.create_database())
        return created[-1]

    yield create
    for url in created:
        postgres.drop_database(url)


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The URL of a database that only this test has."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """The S3 server; ``create_bucket`` gives buckets."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture(scope="session")
def azurite_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AzuriteServer]:
    """The Azure Blob server."""
    with azurite_server(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(scope="session")
def fhir_server_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FhirServer]:
    """The FHIR server as other tests left it; tests want ``fhir_peer``."""
    with fhir_server(tmp_path_factory.mktemp("fhir")) as server:
        yield server


@pytest.fixture
def fhir_peer(fhir_server_process: FhirServer) -> Iterator[FhirServer]:
    """The FHIR server, empty and without outages; also after the test, so that nothing hangs on a pause."""
    fhir_server_process.reset()
    yield fhir_server_process
    fhir_server_process.reset()


@pytest.fixture
def fhir_server_url(fhir_peer: FhirServer) -> str:
    """The FHIR base of ``fhir_peer``."""
    return fhir_peer.url


@pytest.fixture(scope="session")
def oidc_provider_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OidcProvider]:
    """The OpenID Connect provider, for tests that leave it as it is."""
    with oidc_provider(tmp_path_factory.mktemp("oidc")) as provider:
        yield provider


@pytest.fixture
def changing_provider(tmp_path: Path) -> Iterator[OidcProvider]:
    """One whose keys change, or which goes away: tokens of another test would not be good any more."""
    directory = tmp_path / "oidc"
    directory.mkdir()
    with oidc_provider(directory) as provider:
        yield provider

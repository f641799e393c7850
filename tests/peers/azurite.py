"""An Azure server of blobs or of tables (Azurite)."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.peers.process import accepts, node_program, running
from tests.server import free_port

# Published by Microsoft for the emulator.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True, slots=True)
class AzuriteServer:
    """A running server with the emulator's account."""

    endpoint: str

    @property
    def connection_string(self) -> str:
        """As BlobStore:ConnectionString takes it."""
        endpoint = f"{self.endpoint}/{ACCOUNT}"
        return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"

    @staticmethod
    def new_container_name() -> str:
        """A name no container has."""
        return f"test-{secrets.token_hex(6)}"


@contextmanager
def azurite_server(directory: Path) -> Iterator[AzuriteServer]:
    """Azurite's blob service, without telemetry."""
    port = free_port()
    command = [
        *node_program("azurite/dist/src/blob/main.js"),
        *("--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(directory / "azurite")),
        *("--silent", "--skipApiVersionCheck", "--disableTelemetry"),
    ]
    with running(command, directory / "azurite.log", lambda: accepts(port)):
        yield AzuriteServer(f"http://127.0.0.1:{port}")


@contextmanager
def azurite_tables(directory: Path, port: int | None = None) -> Iterator[str]:
    """Azurite's table service, without telemetry; its connection string as TableStore:ConnectionString takes it."""
    port = port or free_port()
    with _tables(directory, port):
        endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
        yield f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};TableEndpoint={endpoint};"


@contextmanager
def azurite_tables_with_tokens(directory: Path, certificate: Path, key: Path) -> Iterator[str]:
    """The same over TLS, where it takes access tokens of Microsoft Entra ID; the address of its account."""
    port = free_port()
    with _tables(directory, port, "--oauth", "basic", "--cert", str(certificate), "--key", str(key)):
        yield f"https://127.0.0.1:{port}/{ACCOUNT}"


@contextmanager
def _tables(directory: Path, port: int, *further: str) -> Iterator[None]:
    command = [
        *node_program("azurite/dist/src/table/main.js"),
        *("--tableHost", "127.0.0.1", "--tablePort", str(port), "--location", str(directory / "azurite-tables")),
        *("--silent", "--skipApiVersionCheck", "--disableTelemetry", *further),
    ]
    with running(command, directory / "azurite-tables.log", lambda: accepts(port)):
        yield

"""The three kinds of object store, and a spool."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest

from hounsfield.storage.local import LocalStore
from hounsfield.storage.object_store import ObjectStore
from hounsfield.storage.options import StoreOptions
from hounsfield.storage.spool import Spool
from hounsfield.storage.urls import open_store
from tests.peers.azurite import AzuriteServer
from tests.peers.s3 import S3Server


def open_s3(server: S3Server, bucket: str, directory: Path) -> ObjectStore:
    options = StoreOptions(
        endpoint=server.url,
        region=server.region,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        allow_http=True,
    )
    return open_store(f"s3://{bucket}/pre/fix", options, directory)


def open_azure(server: AzuriteServer, directory: Path) -> ObjectStore:
    options = StoreOptions(connection_string=server.connection_string)
    return open_store(f"az://{server.new_container_name()}/pre/fix", options, directory)


@pytest.fixture(
    params=["local", pytest.param("s3", marks=pytest.mark.peer), pytest.param("azure", marks=pytest.mark.peer)]
)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    """An empty store of each kind."""
    opened: ObjectStore
    match request.param:
        case "s3":
            server = cast("S3Server", request.getfixturevalue("s3_endpoint"))
            opened = open_s3(server, server.create_bucket(), tmp_path)
        case "azure":
            opened = open_azure(cast("AzuriteServer", request.getfixturevalue("azurite_endpoint")), tmp_path)
            await opened.check()  # creates the container
        case _:
            opened = LocalStore(tmp_path / "files")
    yield opened
    await opened.close()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    """A spool that keeps 1000 bytes of one upload and 5000 of all in memory."""
    opened = Spool(tmp_path / "spool", memory_limit=1000, total_memory_limit=5000)
    yield opened
    opened.close()

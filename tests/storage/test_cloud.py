"""What differs from cloud to cloud, and what happens when one is away."""

import asyncio
import time
from pathlib import Path

import pytest

from hounsfield.errors import StoreUnavailable
from hounsfield.storage import cloud
from hounsfield.storage.object_store import ObjectStore
from hounsfield.storage.options import StoreOptions
from hounsfield.storage.spool import Spool
from hounsfield.storage.urls import open_store
from tests.peers.azurite import KEY, AzuriteServer
from tests.peers.s3 import S3Server
from tests.server import free_port
from tests.storage.conftest import open_azure, open_s3

pytestmark = pytest.mark.peer


async def use(store: ObjectStore, what: str) -> None:
    match what:
        case "put":
            await store.put("a/b", b"x")
        case "get":
            _ = [chunk async for chunk in store.get("a/b")]
        case "range":
            await store.get_range("a/b", 0, 1)
        case "many":
            await store.get_many(["a/b"])
        case "missing":
            await store.missing(["a/b"])
        case "size":
            await store.size("a/b")
        case "delete":
            await store.delete_many(["a/b"])
        case "list":
            _ = [found async for found in store.list()]
        case "check":
            await store.check()


@pytest.mark.parametrize("what", ["put", "get", "range", "many", "missing", "size", "delete", "list", "check"])
@pytest.mark.parametrize("scheme", ["s3", "az"])
async def test_a_store_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, what: str) -> None:
    monkeypatch.setattr(cloud, "RETRIES", 1)
    options = StoreOptions(
        endpoint=f"http://127.0.0.1:{free_port()}/account",
        access_key_id="account",
        secret_access_key=KEY,
        region="x",
        allow_http=True,
    )
    store = open_store(f"{scheme}://bucket", options, tmp_path)
    start = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        await use(store, what)
    assert time.monotonic() - start < 10
    assert "127.0.0.1" not in caught.value.message


async def test_a_missing_bucket(s3_endpoint: S3Server, tmp_path: Path) -> None:
    store = open_s3(s3_endpoint, "no-such-bucket", tmp_path)
    with pytest.raises(StoreUnavailable, match="does not exist"):
        await store.put("a/b", b"x")
    with pytest.raises(StoreUnavailable):
        await store.check()


async def test_the_container_of_a_connection_string_is_created(azurite_endpoint: AzuriteServer, tmp_path: Path) -> None:
    """As the reference server does; also with many first puts at once."""
    options = StoreOptions(
        connection_string=azurite_endpoint.connection_string, container=azurite_endpoint.new_container_name()
    )
    store = open_store("", options, tmp_path)
    await asyncio.gather(*(store.put(f"a/{number}", b"x") for number in range(5)))
    assert [found.key async for found in store.list()] == [f"a/{number}" for number in range(5)]


async def test_wrong_credentials(azurite_endpoint: AzuriteServer, tmp_path: Path) -> None:
    text = azurite_endpoint.connection_string.replace(KEY, "A" * 88)
    store = open_store("az://container", StoreOptions(connection_string=text), tmp_path)
    with pytest.raises(StoreUnavailable, match="credentials"):
        await store.put("a/b", b"x")


async def test_a_large_upload_goes_in_parts(s3_endpoint: S3Server, spool: Spool, tmp_path: Path) -> None:
    store = open_s3(s3_endpoint, s3_endpoint.create_bucket(), tmp_path)
    data = bytes(range(256)) * 60_000
    upload = spool.receive()
    await upload.write(data)
    await upload.finish()
    await store.put("a/b", upload)
    upload.discard()
    assert await store.get_many(["a/b"]) == [data]


async def test_stores_with_prefixes_do_not_see_each_other(azurite_endpoint: AzuriteServer, tmp_path: Path) -> None:
    options = StoreOptions(connection_string=azurite_endpoint.connection_string)
    container = azurite_endpoint.new_container_name()
    one, other, whole = (open_store(f"az://{container}{prefix}", options, tmp_path) for prefix in ("/a", "/ab/", ""))
    await one.put("k", b"1")
    await other.put("k", b"2")
    assert [found.key async for found in one.list()] == ["k"]
    assert await other.get_many(["k"]) == [b"2"]
    assert [found.key async for found in whole.list()] == ["a/k", "ab/k"]


async def test_every_azure_store_starts_empty(azurite_endpoint: AzuriteServer, tmp_path: Path) -> None:
    await open_azure(azurite_endpoint, tmp_path).put("a", b"x")
    store = open_azure(azurite_endpoint, tmp_path)
    await store.check()
    assert [found async for found in store.list()] == []

"""Which object store the settings mean."""

from datetime import timedelta
from pathlib import Path

import pytest

from hounsfield.cli.store_settings import delete_delay, object_store
from hounsfield.errors import SettingsError
from hounsfield.settings import load
from hounsfield.storage.cloud import CloudStore
from hounsfield.storage.options import StoreOptions, Tuning
from hounsfield.storage.urls import open_store

ON = {"DicomServer:Features:EnableExternalStore": "true"}


def meant(**given: str) -> tuple[str, StoreOptions]:
    return object_store(
        load(environment={}, overrides={key.replace("__", ":"): text for key, text in given.items()})[0]
    )


def external(**given: str) -> tuple[str, StoreOptions]:
    return meant(**ON, **{f"ExternalBlobStore:{key}": text for key, text in given.items()})


def test_ours_and_the_blob_account() -> None:
    assert meant() == ("", StoreOptions())
    url, options = meant(ObjectStore__Url="s3://b", ObjectStore__Region="r", ObjectStore__AllowHttp="true")
    assert (url, options) == ("s3://b", StoreOptions(region="r", allow_http=True))
    url, options = meant(BlobStore__ConnectionString="c", DicomWeb__DicomStore__ContainerName="n")
    assert (url, options) == ("", StoreOptions(connection_string="c", container="n"))


def test_tuning(tmp_path: Path) -> None:
    url, options = meant(
        **{
            "ObjectStore:Url": "s3://b",
            "ObjectStore:Region": "r",
            "BlobStore:Retry:MaxRetries": "6",
            "BlobStore:Retry:Delay": "00:00:04",
            "BlobStore:Retry:Mode": "fixed",
            "BlobStore:Retry:NetworkTimeout": "00:02:00",
            "BlobStore:TransportOverride:ConnectTimeout": "00:00:02",
            "BlobStore:Operations:Upload:MaximumConcurrency": "5",
            "BlobStore:Operations:Download:MaximumConcurrency": "7",
        }
    )
    four, two, long = timedelta(seconds=4), timedelta(seconds=2), timedelta(minutes=2)
    assert options.tuning == Tuning(6, four, True, long, two, 5, 7)
    assert isinstance(open_store(url, options, tmp_path), CloudStore)
    with pytest.raises(SettingsError, match="BlobStore:Retry:Mode"):
        meant(BlobStore__Retry__Mode="now and then")


@pytest.mark.parametrize(
    ("uri", "url", "options"),
    [
        (
            "https://account.blob.core.windows.net/files",
            "az://files/DICOM",
            StoreOptions(endpoint="https://account.blob.core.windows.net", access_key_id="account", external=True),
        ),
        (
            "http://127.0.0.1:10000/account/files/",
            "az://files/DICOM",
            StoreOptions(endpoint="http://127.0.0.1:10000/account", access_key_id="account", external=True),
        ),
        (
            "https://account.blob.core.windows.net/files?sv=1&sig=x",
            "az://files/DICOM",
            StoreOptions(
                connection_string="BlobEndpoint=https://account.blob.core.windows.net;SharedAccessSignature=sv=1&sig=x",
                external=True,
            ),
        ),
    ],
)
def test_an_external_store_by_address(tmp_path: Path, uri: str, url: str, options: StoreOptions) -> None:
    assert external(BlobContainerUri=uri) == (url, options)
    assert isinstance(open_store(url, options, tmp_path), CloudStore)


def test_an_external_store_by_connection_string() -> None:
    url, options = external(ConnectionString="c", ContainerName="n", StorageDirectory="/a/b/")
    assert (url, options) == ("az://n/a/b", StoreOptions(connection_string="c", external=True))
    settings, _ = load(environment={}, overrides=ON)
    assert delete_delay(settings) == timedelta(0)
    assert delete_delay(load(environment={})[0]) == timedelta(days=3)


def test_an_external_store_that_is_not_said() -> None:
    for given in ({}, {"ConnectionString": "geheim"}, {"ContainerName": "n"}):
        with pytest.raises(SettingsError, match="ExternalBlobStore:BlobContainerUri") as refusal:
            external(**given)
        assert "geheim" not in refusal.value.message
    for uri in ("files", "https://account", "ftp://account/files", "https:///files"):
        with pytest.raises(SettingsError, match="ExternalBlobStore:BlobContainerUri"):
            external(BlobContainerUri=uri)
    with pytest.raises(SettingsError, match="two places"):
        meant(**ON, ObjectStore__Url="s3://b", ExternalBlobStore__BlobContainerUri="https://a/b")

"""Which store the settings mean."""

import subprocess
import sys
from pathlib import Path

import pytest

from hounsfield.errors import SettingsError
from hounsfield.storage.cloud import CloudStore
from hounsfield.storage.local import LocalStore
from hounsfield.storage.options import StoreOptions
from hounsfield.storage.urls import open_store
from tests.peers.azurite import KEY

ACCOUNT = StoreOptions(connection_string=f"AccountName=account;AccountKey={KEY}")


async def test_files_in_the_data_directory_are_the_default(tmp_path: Path) -> None:
    store = open_store("", StoreOptions(), tmp_path / "files")
    await store.put("a", b"x")
    assert (tmp_path / "files/a").exists()
    await store.close()


@pytest.mark.parametrize("host", ["", "localhost"])
async def test_a_file_address(tmp_path: Path, host: str) -> None:
    store = open_store(f"file://{host}{tmp_path}/with%20blank", ACCOUNT, tmp_path / "files")
    assert isinstance(store, LocalStore)
    await store.put("a", b"x")
    assert (tmp_path / "with blank/a").exists()
    assert not (tmp_path / "files").exists()
    await store.close()


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("s3://bucket", StoreOptions()),
        ("s3://bucket/a/prefix/", StoreOptions(endpoint="http://host:9000", allow_http=True)),
        ("az://container/prefix", ACCOUNT),
        ("az://container", StoreOptions(access_key_id="account", secret_access_key=KEY)),
        ("az://container", StoreOptions(connection_string="UseDevelopmentStorage=true")),
        ("", ACCOUNT),
        ("gs://bucket/prefix", StoreOptions()),
    ],
)
def test_a_cloud_address(tmp_path: Path, url: str, options: StoreOptions) -> None:
    assert isinstance(open_store(url, options, tmp_path / "files"), CloudStore)
    assert not (tmp_path / "files").exists()


@pytest.mark.parametrize(
    "url",
    ["files", "/data", "http://host/bucket", "file:data", "file://data/x", "file:///", "s3://", "s3:///prefix", "az:c"],
)
def test_an_address_nobody_can_mean(tmp_path: Path, url: str) -> None:
    with pytest.raises(SettingsError, match="ObjectStore:Url"):
        open_store(url, StoreOptions(), tmp_path)


def test_an_azure_address_without_an_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(SettingsError, match="account"):
        open_store("az://container", StoreOptions(), tmp_path)


def test_a_malformed_key_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        open_store("az://container", StoreOptions(access_key_id="account", secret_access_key="not-a-key!"), tmp_path)
    assert "not-a-key" not in caught.value.message


def test_local_stores_do_not_load_the_cloud(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from hounsfield.storage.urls import open_store;"
        "from hounsfield.storage.options import StoreOptions;"
        f"open_store('', StoreOptions(), Path({str(tmp_path)!r}));"
        "print('obstore' in sys.modules, 'httpx' in sys.modules)"
    )
    output = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout
    assert output.split() == ["False", "False"]

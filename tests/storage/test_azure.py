"""Connection strings."""

import pytest

from hounsfield.errors import SettingsError, StoreUnavailable
from hounsfield.storage.azure import AzureAccount, create_container, parse_connection_string
from tests.peers.azurite import ACCOUNT, KEY, AzuriteServer
from tests.server import free_port


@pytest.mark.parametrize(
    ("text", "account"),
    [
        (
            "DefaultEndpointsProtocol=https;AccountName=name;AccountKey=a2V5PQ==;EndpointSuffix=core.windows.net",
            AzureAccount("name", "https://name.blob.core.windows.net", key="a2V5PQ=="),
        ),
        ("accountname=name; ACCOUNTKEY = k= ;", AzureAccount("name", "https://name.blob.core.windows.net", key="k=")),
        (
            "AccountName=name;AccountKey=k;EndpointSuffix=core.chinacloudapi.cn",
            AzureAccount("name", "https://name.blob.core.chinacloudapi.cn", key="k"),
        ),
        (
            "BlobEndpoint=https://name.blob.core.windows.net/;SharedAccessSignature=?sv=1&sig=a%3D",
            AzureAccount("name", "https://name.blob.core.windows.net", sas="sv=1&sig=a%3D"),
        ),
        (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
            f"BlobEndpoint=http://azurite:10000/{ACCOUNT};QueueEndpoint=http://azurite:10001/{ACCOUNT};",
            AzureAccount(ACCOUNT, f"http://azurite:10000/{ACCOUNT}", key=KEY),
        ),
        (
            "BlobEndpoint=http://127.0.0.1:10000/name;SharedAccessSignature=s",
            AzureAccount("name", "http://127.0.0.1:10000/name", sas="s"),
        ),
        ("UseDevelopmentStorage=true", AzureAccount(ACCOUNT, f"http://127.0.0.1:10000/{ACCOUNT}", key=KEY)),
    ],
    ids=[
        "as the portal prints it",
        "any case and blanks",
        "national cloud",
        "sas",
        "azurite",
        "sas by address",
        "emulator",
    ],
)
def test_connection_strings(text: str, account: AzureAccount) -> None:
    assert parse_connection_string(text) == account


@pytest.mark.parametrize(
    "text", ["", "nonsense", "AccountName=name", "AccountKey=secret", "UseDevelopmentStorage=false", "a=b;secret"]
)
def test_what_is_not_a_connection_string(text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_connection_string(text)
    assert "secret" not in caught.value.message


@pytest.mark.peer
def test_a_container_is_created_once(azurite_endpoint: AzuriteServer) -> None:
    account = parse_connection_string(azurite_endpoint.connection_string)
    name = azurite_endpoint.new_container_name()
    create_container(account, name)
    create_container(account, name)
    with pytest.raises(StoreUnavailable, match="400"):
        create_container(account, "X")


def test_an_account_that_is_away() -> None:
    account = AzureAccount("name", f"http://127.0.0.1:{free_port()}/name", key=KEY)
    with pytest.raises(StoreUnavailable):
        create_container(account, "container")

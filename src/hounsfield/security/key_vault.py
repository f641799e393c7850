"""Settings kept as secrets in Azure Key Vault (dicom-cast.md §7.3).

Its REST interface is asked directly: Azure's own client cannot be pointed at a vault that stands in for it on this
machine. Signing in is Azure's library.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx

from hounsfield.errors import SettingsError
from hounsfield.security.urls import is_loopback, require_safe_url

API_VERSION = "7.4"
TIMEOUT_SECONDS = 30.0
MAX_PAGES = 1000
"""A vault lists 25 secrets a page."""
SETTING = "KeyVault:Endpoint"

_RESOURCE = re.compile(r'(?:resource|scope)="([^"]+)"')


class _Credential(Protocol):
    def get_token(self, *scopes: str) -> Any:
        """An object with the ``token``."""


def read_secrets(vault: str, is_wanted: Callable[[str], bool], credential: _Credential | None = None) -> dict[str, str]:
    """The values of a vault's enabled secrets by setting key: ``A--B`` is ``A:B``. Others than wanted are not read.

    Signs in as DefaultAzureCredential does: environment, workload or managed identity, the Azure command line. Raises
    SettingsError naming what failed, never a value.
    """
    require_safe_url(vault, SETTING)
    with httpx.Client(timeout=TIMEOUT_SECONDS) as client:
        try:
            return _Vault(client, vault.rstrip("/"), credential or _default_credential()).secrets(is_wanted)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SettingsError(f"{SETTING}: the vault cannot be read ({type(error).__name__}).") from error


def _default_credential() -> _Credential:
    # A third of a second to load, which only those pay who have a vault.
    from azure.identity import DefaultAzureCredential

    credential: _Credential = DefaultAzureCredential()
    return credential


class _Vault:
    def __init__(self, client: httpx.Client, url: str, credential: _Credential) -> None:
        self._client = client
        self._url = url
        self._credential = credential
        self._token = ""

    def secrets(self, is_wanted: Callable[[str], bool]) -> dict[str, str]:
        found = {}
        page = f"{self._url}/secrets?api-version={API_VERSION}"
        for _ in range(MAX_PAGES):
            content = self._get(page)
            for item in content["value"]:
                name = str(item["id"]).rstrip("/").rpartition("/")[2]
                key = name.replace("--", ":")
                if is_wanted(key) and item.get("attributes", {}).get("enabled", True):
                    found[key] = str(self._get(f"{self._url}/secrets/{name}?api-version={API_VERSION}")["value"])
            page = content.get("nextLink") or ""
            if not page:
                return found
            if urlsplit(page)[:2] != urlsplit(self._url)[:2]:
                raise SettingsError(f"{SETTING}: the vault's list goes on at another address, which is not followed.")
        raise SettingsError(f"{SETTING}: the vault's list does not end.")

    def _get(self, url: str) -> Mapping[str, Any]:
        answer = self._ask(url)
        if answer.status_code == 401:
            self._sign_in(answer.headers.get("www-authenticate", ""))
            answer = self._ask(url)
        if answer.status_code != 200:
            raise SettingsError(
                f"{SETTING}: the vault answers {answer.status_code}. This identity needs to list and get its secrets."
            )
        content: Mapping[str, Any] = answer.json()
        return content

    def _ask(self, url: str) -> httpx.Response:
        return self._client.get(url, headers={"Authorization": f"Bearer {self._token}"} if self._token else {})

    def _sign_in(self, challenge: str) -> None:
        """Get a token for whom the vault names, if the vault may name it."""
        found = _RESOURCE.search(challenge)
        if found is None:
            raise SettingsError(f"{SETTING}: the vault does not say how to sign in.")
        resource = found[1].removesuffix("/.default")
        host, asked = urlsplit(self._url).hostname or "", urlsplit(resource).hostname or ""
        # Or else any server could ask for a token that opens something else.
        if not is_loopback(host) and not host.endswith(f".{asked}"):
            raise SettingsError(f"{SETTING}: the vault asks for a token that is not for vaults.")
        from azure.core.exceptions import ClientAuthenticationError

        try:
            self._token = self._credential.get_token(f"{resource}/.default").token
        except ClientAuthenticationError as error:
            raise SettingsError(
                f"{SETTING}: signing in to Azure failed. Give the process a managed identity or AZURE_CLIENT_ID, "
                "AZURE_TENANT_ID and AZURE_CLIENT_SECRET."
            ) from error

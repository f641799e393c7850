"""Azure Storage connection strings, and the one call obstore has no word for: creating a container."""

import base64
import hashlib
import hmac
from dataclasses import dataclass
from email.utils import formatdate
from urllib.parse import urlsplit

import httpx

from hounsfield.errors import SettingsError, StoreUnavailable

API_VERSION = "2021-08-06"
"""Of the Blob service's REST interface; old enough for every emulator."""

_EMULATOR_ACCOUNT = "devstoreaccount1"
# Published by Microsoft, the same on every machine: it protects nothing.
_EMULATOR_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
_EMULATOR_ENDPOINT = "http://127.0.0.1:10000/devstoreaccount1"


@dataclass(frozen=True, slots=True)
class AzureAccount:
    """An account and how to sign in: by ``key``, by ``sas`` (a query string), or neither (the environment decides)."""

    name: str
    endpoint: str
    """Of the Blob service, without a trailing slash."""
    key: str = ""
    sas: str = ""


def parse_connection_string(text: str) -> AzureAccount:
    """The account a connection string names, as Azure's tools print it; also ``UseDevelopmentStorage=true``.

    Raises SettingsError, without the string in the message.
    """
    values: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(";"))):
        name, equals, value = part.partition("=")
        if not equals:
            raise SettingsError("The Azure connection string is malformed: every part must read Name=value.")
        values[name.strip().lower()] = value.strip()
    if values.get("usedevelopmentstorage", "").lower() == "true":
        return AzureAccount(_EMULATOR_ACCOUNT, _EMULATOR_ENDPOINT, key=_EMULATOR_KEY)
    endpoint = values.get("blobendpoint", "").rstrip("/")
    account = values.get("accountname") or _account_in(endpoint)
    if not account:
        raise SettingsError("The Azure connection string names no account (AccountName or BlobEndpoint).")
    if not endpoint:
        scheme = values.get("defaultendpointsprotocol", "https")
        endpoint = f"{scheme}://{account}.blob.{values.get('endpointsuffix', 'core.windows.net')}"
    key, sas = values.get("accountkey", ""), values.get("sharedaccesssignature", "").removeprefix("?")
    if not key and not sas:
        raise SettingsError("The Azure connection string holds neither AccountKey nor SharedAccessSignature.")
    return AzureAccount(account, endpoint, key, sas)


def create_container(account: AzureAccount, container: str) -> None:
    """Create ``container`` if it does not exist. Raises StoreUnavailable, also when signing in is not allowed to."""
    url = f"{account.endpoint}/{container}?restype=container"
    if account.key:
        headers = _signed(account, container)
    else:
        url += f"&{account.sas}"
        headers = {"x-ms-version": API_VERSION}
    try:
        answer = httpx.put(url, headers=headers)
    except httpx.HTTPError:
        raise StoreUnavailable("The object store does not answer.") from None
    if answer.status_code not in (201, 409):
        raise StoreUnavailable(f"The container of the object store cannot be created: status {answer.status_code}.")


def _account_in(endpoint: str) -> str:
    """The account in ``https://account.blob…`` or ``http://host:port/account``."""
    parts = urlsplit(endpoint)
    return parts.path.strip("/") or (parts.hostname or "").partition(".")[0]


def _signed(account: AzureAccount, container: str) -> dict[str, str]:
    """Headers of a Shared Key request: method, eleven empty standard headers, ours, the resource."""
    date = formatdate(usegmt=True)
    resource = f"/{account.name}{urlsplit(account.endpoint).path}/{container}\nrestype:container"
    text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{API_VERSION}\n{resource}"
    digest = hmac.new(base64.b64decode(account.key), text.encode(), hashlib.sha256).digest()
    signature = base64.b64encode(digest).decode()
    return {
        "Authorization": f"SharedKey {account.name}:{signature}",
        "x-ms-date": date,
        "x-ms-version": API_VERSION,
    }

"""Azure Table Storage, as far as cast needs it: make a table, put, get and delete an entity.

Its documented REST interface (version 2019-02-02) with shared key, shared access signature, or an access token: four
requests, for which Azure's client would be a dependency of its own.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import httpx
import msgspec

from hounsfield.errors import SettingsError
from hounsfield.security.access_tokens import BearerAuth, TokenRefused, TokenUnavailable
from hounsfield.security.urls import require_safe_url

API_VERSION = "2019-02-02"
TIMEOUT_SECONDS = 30.0
SETTING = "TableStore:ConnectionString"
ENDPOINT_SETTING = "TableStore:EndpointUri"
RESOURCE = "https://storage.azure.com"
"""What an access token for any storage account is for."""
MAX_STRING_BYTES = 65_536
"""What a string property holds, in UTF-16."""

# Published by Microsoft for its emulator.
_EMULATOR = {
    "accountname": "devstoreaccount1",
    "accountkey": "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
    "tableendpoint": "http://127.0.0.1:10002/devstoreaccount1",
}
_PREFIX = re.compile("[A-Za-z][A-Za-z0-9]{0,29}|")
_JSON = "application/json;odata=nometadata"

Entity = Mapping[str, str | int]
"""Properties by name, PartitionKey and RowKey among them; integers are Edm.Int32 but for those said to be long."""


class TableStoreUnavailable(Exception):
    """The table store does not answer, or not now; ``status`` is that of its answer. Never names a value."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class EntityRefused(Exception):
    """The table store will not have this entity, now or later."""


@dataclass(frozen=True, slots=True)
class TableAccount:
    """Where the tables are and how to sign. ``endpoint`` has no slash at its end.

    ``key`` or ``signature`` is set, or neither, for an account where an access token signs in. ``setting`` names it.
    """

    endpoint: str
    name: str
    key: bytes = field(default=b"", repr=False)
    signature: str = field(default="", repr=False)
    setting: str = SETTING


def parse_connection_string(text: str) -> TableAccount:
    """The account that ``TableStore:ConnectionString`` names. Raises SettingsError saying what is missing."""
    parts: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.strip().partition("=")
        if part.strip() and not equals:
            raise SettingsError(f"{SETTING} is not Name=Value;Name=Value;….")
        parts[name.strip().lower()] = value.strip()
    if parts.get("usedevelopmentstorage", "").lower() == "true":
        parts = _EMULATOR
    name = parts.get("accountname", "")
    endpoint = parts.get("tableendpoint", "")
    if not endpoint and name:
        scheme, suffix = parts.get("defaultendpointsprotocol", "https"), parts.get("endpointsuffix", "core.windows.net")
        endpoint = f"{scheme}://{name}.table.{suffix}"
    try:
        usable = urlsplit(endpoint).scheme in ("http", "https") and bool(urlsplit(endpoint).hostname)
        key = base64.b64decode(parts.get("accountkey", ""), validate=True)
    except binascii.Error as error:
        raise SettingsError(f"The AccountKey of {SETTING} is not Base64.") from error
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(f"{SETTING} names no table service: give AccountName or TableEndpoint.")
    signature = parts.get("sharedaccesssignature", "").removeprefix("?")
    if not signature and not (name and key):
        raise SettingsError(f"{SETTING} needs AccountName and AccountKey, or SharedAccessSignature.")
    return TableAccount(endpoint.rstrip("/"), name, key, signature)


def parse_endpoint_uri(text: str) -> TableAccount:
    """The account that ``TableStore:EndpointUri`` names. Raises SettingsError for any other, or an unsafe one."""
    require_safe_url(text, ENDPOINT_SETTING)
    parts = urlsplit(text)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise SettingsError(
            f"{ENDPOINT_SETTING} is the address of a table service and nothing else, as in "
            f"https://account.table.core.windows.net; for a shared access signature there is {SETTING}."
        )
    return TableAccount(text.rstrip("/"), "", setting=ENDPOINT_SETTING)


class TableStore:
    """The tables of one account. ``prefix`` goes before every table's name; ``transport`` replaces the network.

    ``auth`` signs in every request to an account that has neither key nor signature; it is closed with the store.
    """

    def __init__(
        self,
        account: TableAccount,
        prefix: str = "",
        *,
        auth: BearerAuth | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        if _PREFIX.fullmatch(prefix) is None:
            raise SettingsError("TableStore:TableNamePrefix may hold at most 30 letters and digits, a letter first.")
        self._account = account
        self._prefix = prefix
        self._auth = auth
        self._client = httpx.AsyncClient(auth=auth, timeout=TIMEOUT_SECONDS, transport=transport)

    async def make(self, table: str) -> None:
        """Make a table that may exist already. Raises TableStoreUnavailable."""
        body = msgspec.json.encode({"TableName": f"{self._prefix}{table}"})
        await self._ask("POST", "/Tables", (201, 204, 409), body, {"Prefer": "return-no-content"})

    async def put(self, table: str, entity: Entity, *, longs: frozenset[str] = frozenset()) -> None:
        """Write an entity, whatever is there. ``longs``: names of the properties that are Edm.Int64.

        Raises TableStoreUnavailable, EntityRefused.
        """
        body: dict[str, Any] = {}
        for name, value in entity.items():
            if name in longs:
                body[f"{name}@odata.type"] = "Edm.Int64"
            body[name] = str(value) if name in longs else _cut(value) if isinstance(value, str) else value
        await self._ask("PUT", self._path(table, entity), (204,), msgspec.json.encode(body))

    async def get(self, table: str, partition_key: str, row_key: str) -> dict[str, Any] | None:
        """An entity, None if there is none, or no such table. Raises TableStoreUnavailable."""
        path = self._path(table, {"PartitionKey": partition_key, "RowKey": row_key})
        answer = await self._ask("GET", path, (200, 404))
        if answer.status_code == 404:
            return None
        try:
            found = msgspec.json.decode(answer.content)
        except ValueError as error:
            raise TableStoreUnavailable("The table store's answer is not JSON.", answer.status_code) from error
        if not isinstance(found, dict):
            raise TableStoreUnavailable("The table store's answer is not an entity.", answer.status_code)
        return found

    async def delete(self, table: str, partition_key: str, row_key: str) -> None:
        """Remove an entity that may be gone. Raises TableStoreUnavailable."""
        path = self._path(table, {"PartitionKey": partition_key, "RowKey": row_key})
        await self._ask("DELETE", path, (204, 404), headers={"If-Match": "*"})

    async def close(self) -> None:
        """Give the connections up."""
        await self._client.aclose()
        if self._auth is not None:
            await self._auth.close()

    def _path(self, table: str, entity: Entity) -> str:
        keys = ",".join(f"{name}='{_quoted(str(entity[name]))}'" for name in ("PartitionKey", "RowKey"))
        return f"/{self._prefix}{table}({keys})"

    async def _ask(
        self,
        method: str,
        path: str,
        expected: tuple[int, ...],
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        url = f"{self._account.endpoint}{path}"
        if self._account.signature:
            url += f"?{self._account.signature}"
        sent = {"Accept": _JSON, "x-ms-version": API_VERSION, "DataServiceVersion": "3.0", **(headers or {})}
        if body is not None:
            sent["Content-Type"] = "application/json"
        sent |= self._signed(method, url, sent.get("Content-Type", ""))
        try:
            answer = await self._client.request(method, url, content=body, headers=sent)
        except (TokenUnavailable, TokenRefused) as error:
            raise TableStoreUnavailable(str(error)) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TableStoreUnavailable(
                f"The table store cannot be reached ({type(error).__name__}). "
                f"Check {self._account.setting} and the network."
            ) from error
        status = answer.status_code
        if status in expected:
            return answer
        if status in (401, 403):
            check = self._account.setting
            if self._auth is not None:
                check += ", and that the identity has the role Storage Table Data Contributor"
            raise TableStoreUnavailable(f"The table store refused the credentials ({status}): check {check}.", status)
        if method == "PUT" and status in (400, 413):
            raise EntityRefused(f"The table store refused an entity with status {status}.")
        raise TableStoreUnavailable(f"The table store answered with status {status}.", status)

    def _signed(self, method: str, url: str, content_type: str) -> dict[str, str]:
        """Headers that say when, and by whose key (Shared Key for the table service)."""
        date = format_datetime(datetime.now(UTC), usegmt=True)
        if not self._account.key or self._account.signature:
            return {"x-ms-date": date}
        resource = f"/{self._account.name}{httpx.URL(url).raw_path.decode().partition('?')[0]}"
        text = f"{method}\n\n{content_type}\n{date}\n{resource}"
        digest = hmac.new(self._account.key, text.encode(), hashlib.sha256).digest()
        signature = base64.b64encode(digest).decode()
        return {"x-ms-date": date, "Authorization": f"SharedKey {self._account.name}:{signature}"}


def _quoted(key: str) -> str:
    """A key in an address: apostrophes doubled, the rest percent-encoded."""
    return quote(key.replace("'", "''"), safe="'")


def _cut(text: str) -> str:
    """As much of a text as a string property holds; characters outside the first plane take twice the room."""
    return text.encode("utf-16-le", "surrogatepass")[:MAX_STRING_BYTES].decode("utf-16-le", "ignore")

"""A container of Azure Blob Storage, as far as an export needs it, over its documented REST interface.

Nothing is asked of the container itself: a shared access signature that may only create, write and append blobs is
enough. obstore, which the archive's own files go through, has no append blobs and does not tell statuses apart.
"""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from urllib.parse import parse_qsl, quote, urlsplit

import httpx

from hounsfield.operations.export.destinations import ERRORS, Content, DestinationRefused, FileRefused, split_lines
from hounsfield.storage.azure import API_VERSION
from hounsfield.storage.object_store import Buffer

BLOCK_BYTES = 8 << 20
"""Blobs up to this size are sent at once, larger ones in blocks of it: 50,000 of them, 390 GB."""
APPENDED_BYTES = 4 << 20
"""Most one append takes."""
CONNECT_SECONDS = 3.0
TIMEOUT_SECONDS = 60.0
PROBE_SECONDS = 8.0
"""A request that starts an export waits no longer for its destination."""
ATTEMPTS = 3
"""How often a request is sent while the service is busy or broken, before the file is given up."""
PAUSE_SECONDS = 0.5

Token = Callable[[], Awaitable[str]]
"""Gives an access token for the storage service."""


@dataclass(frozen=True, slots=True)
class AzureContainer:
    """A container and how to sign in: by ``sas`` (a query string), by ``key`` (the emulator's), by token, or not."""

    url: str
    """Without a slash at its end, and without a query."""
    account: str
    sas: str = field(default="", repr=False)
    key: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """The container's."""
        return self.url.rpartition("/")[2]


class AzureDestination:
    """The folder of one export in a container; see Destination."""

    def __init__(self, container: AzureContainer, folder: str, token: Token | None = None) -> None:
        self._container = container
        self._folder = folder
        self._token = token
        timeout = httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS)
        # Loading certificates takes longer than many an export to an emulator.
        self._client = httpx.AsyncClient(timeout=timeout, verify=container.url.startswith("https:"))

    @property
    def errors_href(self) -> str:
        """See Destination."""
        return f"{self._container.url}/{self._folder}/{ERRORS}"

    async def begin(self) -> None:
        """See Destination. Fails within seconds."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                await self._sent(ERRORS, {}, b"", {"x-ms-blob-type": "AppendBlob"}, attempts=1)
        except TimeoutError:
            raise self._refused("Cannot connect to") from None
        except FileRefused:
            raise self._refused("Failed to write to") from None

    async def put(self, name: str, content: Content) -> None:
        """See Destination: a large blob appears when its list of blocks is there."""
        if content.size is not None and content.size <= BLOCK_BYTES:
            body = b"".join([chunk async for chunk in content.chunks()])
            await self._sent(name, {}, body, {"x-ms-blob-type": "BlockBlob", "content-type": _media_type(name)})
            return
        names: list[str] = []
        async for block in _blocks(content.chunks()):
            identifier = base64.b64encode(b"%08d" % len(names)).decode()
            await self._sent(name, {"comp": "block", "blockid": identifier}, block, {})
            names.append(identifier)
        listed = "".join(f"<Latest>{identifier}</Latest>" for identifier in names)
        document = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listed}</BlockList>'.encode()
        await self._sent(name, {"comp": "blocklist"}, document, {"x-ms-blob-content-type": _media_type(name)})

    async def append(self, place: str, lines: bytes) -> None:
        """See Destination."""
        for piece in split_lines(lines, APPENDED_BYTES):
            try:
                await self._sent(ERRORS, {"comp": "appendblock"}, piece, {})
            except FileRefused as error:
                raise DestinationRefused(error.message) from error

    async def settle(self) -> None:
        """See Destination: what was acknowledged is durable."""

    async def close(self) -> None:
        """See Destination."""
        await self._client.aclose()

    async def _sent(
        self, name: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str], *, attempts: int = ATTEMPTS
    ) -> None:
        """Put something. Raises DestinationRefused, and FileRefused for what the service does not manage."""
        for attempt in range(1, attempts + 1):
            if attempt > 1:
                await asyncio.sleep(PAUSE_SECONDS * 2 ** (attempt - 2))
            try:
                answer = await self._asked(name, query, body, headers)
            except (httpx.HTTPError, httpx.InvalidURL):
                if attempt == attempts:
                    raise self._refused("Cannot connect to") from None
                continue
            status = answer.status_code
            if status in (200, 201):
                return
            if answer.headers.get("x-ms-error-code") == "UnauthorizedBlobOverwrite":
                return  # the signature may only create, and before a crash this was: names here are ours alone
            if status in (401, 403):
                raise self._refused("Unable to authenticate for")
            if status == 404:
                raise DestinationRefused(
                    f"Azure Blob Storage container '{self._container.name}' does not exist in account "
                    f"'{self._container.account}'."
                )
            if status < 500 and status not in (408, 429):
                raise self._refused("Failed to write to", status)
        raise FileRefused(f"The destination answered with status {status}.")

    async def _asked(
        self, name: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
    ) -> httpx.Response:
        blob = quote(f"{self._folder}/{name}")
        parameters = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
        url = f"{self._container.url}/{blob}"
        asked = "&".join(part for part in (parameters, self._container.sas) if part)
        if asked:
            url += f"?{asked}"
        sent = {**headers, "x-ms-version": API_VERSION, "x-ms-date": formatdate(usegmt=True)}
        if self._container.key:
            sent["authorization"] = self._signature(url, query, sent, len(body))
        elif self._token is not None:
            sent["authorization"] = f"Bearer {await self._token()}"
        return await self._client.put(url, content=body, headers=sent)

    def _signature(self, url: str, query: Mapping[str, str], headers: Mapping[str, str], length: int) -> str:
        """Shared Key: method, eleven standard headers, ours, the resource."""
        standard = ["", "", str(length or ""), "", headers.get("content-type", ""), *[""] * 6]
        ours = [f"{name}:{headers[name]}" for name in sorted(headers) if name.startswith("x-ms-")]
        resource = f"/{self._container.account}{urlsplit(url).path}"
        text = "\n".join(["PUT", *standard, *ours, resource, *(f"{key}:{query[key]}" for key in sorted(query))])
        digest = hmac.new(base64.b64decode(self._container.key), text.encode(), hashlib.sha256).digest()
        return f"SharedKey {self._container.account}:{base64.b64encode(digest).decode()}"

    def _refused(self, what: str, status: int | None = None) -> DestinationRefused:
        told = "" if status is None else f" It answered with status {status}."
        name, account = self._container.name, self._container.account
        return DestinationRefused(f"{what} Azure Blob Storage container '{name}' in account '{account}'.{told}")


def signature_in(query: str) -> bool:
    """Whether the query of an address holds a shared access signature."""
    return any(name.lower() == "sig" for name, _ in parse_qsl(query, keep_blank_values=True))


def _media_type(name: str) -> str:
    return {"dcm": "application/dicom", "zip": "application/zip", "gz": "application/gzip"}.get(
        name.rpartition(".")[2], "application/octet-stream"
    )


async def _blocks(chunks: AsyncIterator[Buffer]) -> AsyncIterator[bytes]:
    """The same bytes in pieces of BLOCK_BYTES; at least one, which may be empty."""
    gathered = bytearray()
    first = True
    async for chunk in chunks:
        gathered += chunk
        while len(gathered) >= BLOCK_BYTES:
            yield bytes(gathered[:BLOCK_BYTES])
            first = False
            del gathered[:BLOCK_BYTES]
    if gathered or first:
        yield bytes(gathered)

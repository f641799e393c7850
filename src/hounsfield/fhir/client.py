"""A FHIR R4 server over HTTP as cast's target (dicom-cast.md §4.2)."""

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import msgspec

from hounsfield.fhir.target import (
    FhirError,
    FhirTokenRefused,
    FhirTokenUnavailable,
    FhirUnreachable,
    Match,
    Resource,
)
from hounsfield.security.access_tokens import BearerAuth, TokenRefused, TokenUnavailable
from hounsfield.security.retry_after import retry_after

# It logs whole URLs, and those of searches hold patient ids.
logging.getLogger("httpx").setLevel(logging.WARNING)

FHIR_JSON = "application/fhir+json"
TIMEOUT_SECONDS = 100.0
"""The default of the reference's HTTP client; a server busy with a large transaction may need long."""
STATUS_SECONDS = 4.0
"""How long a health check waits, which must be shorter than that of the whole endpoint."""
MAX_PAGES = 1_000
"""Pages of one search: a server whose ``next`` leads round in circles must end somewhere."""


class HttpFhirTarget:
    """See :class:`~hounsfield.fhir.target.FhirTarget`. ``endpoint`` with or without slash at its end.

    ``auth`` signs in every request; it is closed with the target. ``transport`` replaces the network.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        auth: BearerAuth | None = None,
        timeout: float = TIMEOUT_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._base = endpoint.rstrip("/")
        self._auth = auth
        headers = {"Accept": FHIR_JSON}
        # Redirects are not followed: token and patient data are for this server alone.
        self._client = httpx.AsyncClient(auth=auth, timeout=timeout, transport=transport, headers=headers)

    @property
    def endpoint(self) -> str:
        url = httpx.URL(self._base)
        # Shown to people and kept in the database, where a password has no business.
        return str(url.copy_with(userinfo=b"")) if url.userinfo else self._base

    async def capabilities(self) -> Resource:
        return await self._exchange("GET", f"{self._base}/metadata")

    async def status(self) -> int:
        """The HTTP status of ``GET metadata``, whose body is not read. Raises FhirUnreachable."""
        try:
            async with self._client.stream("GET", f"{self._base}/metadata", timeout=STATUS_SECONDS) as response:
                return response.status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FhirUnreachable(f"GET failed: {type(error).__name__}.") from error

    async def search(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        found: list[Match] = []
        number = 0
        async for page in self.pages(resource_type, parameters):
            found += page
            number += 1
            if number == MAX_PAGES:
                raise FhirError(f"The search for {resource_type} does not end after {MAX_PAGES} pages.")
        return found

    async def pages(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> AsyncIterator[list[Match]]:
        asked = urlencode(list(parameters), quote_via=quote, safe=":/")
        url: httpx.URL | None = httpx.URL(f"{self._base}/{resource_type}?{asked}")
        while url is not None:
            bundle = await self._exchange("GET", str(url))
            yield _matches(bundle)
            url = self._next(url, bundle)

    async def transaction(self, bundle: Resource) -> Resource:
        return await self._exchange("POST", self._base, bundle)

    async def close(self) -> None:
        await self._client.aclose()
        if self._auth is not None:
            await self._auth.close()

    async def _exchange(self, method: str, url: str, body: Resource | None = None) -> Resource:
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if body is None else {"Content-Type": FHIR_JSON}
        try:
            response = await self._client.request(method, url, content=content, headers=headers)
        except TokenUnavailable as error:
            raise FhirTokenUnavailable(str(error), retry_after=error.retry_after) from error
        except TokenRefused as error:
            raise FhirTokenRefused(str(error)) from error
        except httpx.TransportError as error:
            raise FhirUnreachable(f"{method} failed: {type(error).__name__}.") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise FhirError(f"{method} failed: {type(error).__name__}.") from error
        try:
            answer = msgspec.json.decode(response.content)
        except (ValueError, RecursionError):
            answer = None
        if not response.is_success:
            raise FhirError(
                _diagnostics(answer),
                status=response.status_code,
                retry_after=retry_after(response.headers.get("Retry-After")),
            )
        if not isinstance(answer, dict):
            raise FhirError("The answer is not a JSON object.", status=response.status_code)
        return answer

    @staticmethod
    def _next(current: httpx.URL, bundle: Resource) -> httpx.URL | None:
        """The next page; only on the server that was asked, so that nothing is sent elsewhere."""
        for link in _list(bundle.get("link")):
            if link.get("relation") == "next":
                try:
                    url = current.join(str(link.get("url")))
                except httpx.InvalidURL as error:
                    raise FhirError("The link to the next page is not a URL.", status=200) from error
                if (url.scheme, url.host, url.port) != (current.scheme, current.host, current.port):
                    raise FhirError("The link to the next page leads to another server.", status=200)
                return url
        return None


def _matches(bundle: Resource) -> list[Match]:
    if bundle.get("resourceType") != "Bundle":
        raise FhirError("The answer to a search is not a Bundle.", status=200)
    found = []
    for entry in _list(bundle.get("entry")):
        resource = entry.get("resource")
        if not isinstance(resource, dict):
            raise FhirError("A search entry has no resource.", status=200)
        search = entry.get("search")
        mode = search.get("mode", "match") if isinstance(search, dict) else "match"
        found.append(Match(resource, mode))
    return found


def _list(value: object) -> list[dict[str, Any]]:
    """A JSON array of objects, or none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _diagnostics(answer: object) -> str:
    """What an OperationOutcome says, as one line."""
    if not isinstance(answer, dict):
        return "No OperationOutcome."
    texts = []
    for issue in _list(answer.get("issue")):
        details = issue.get("details")
        said = issue.get("diagnostics") or (details.get("text") if isinstance(details, dict) else None)
        texts.append(str(said or issue.get("code")))
    return " ".join(texts) or "No OperationOutcome."

"""The embedded store as cast's target, without HTTP between them."""

from collections.abc import AsyncIterator, Sequence

import msgspec

from hounsfield.errors import HounsfieldError
from hounsfield.fhir.capability import capability_statement
from hounsfield.fhir.content import copied, encode_json
from hounsfield.fhir.outcomes import FhirRefusal
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirError, Match, Resource


class EmbeddedTarget:
    """See :class:`~hounsfield.fhir.target.FhirTarget`. Statuses are those the REST API would have answered with."""

    def __init__(self, store: FhirStore, endpoint: str) -> None:
        self._store = store
        self._endpoint = endpoint

    @property
    def endpoint(self) -> str:
        return self._endpoint

    async def capabilities(self) -> Resource:
        return capability_statement(self._store.base_url)

    async def search(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        try:
            matches, included = await self._store.find(resource_type, parameters)
        except HounsfieldError as error:
            raise _fhir_error(error) from error
        found = [Match(msgspec.json.decode(stored.json), "match") for stored in matches]
        return found + [Match(msgspec.json.decode(stored.json), "include") for stored in included]

    async def pages(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> AsyncIterator[list[Match]]:
        try:
            async for matches in self._store.pages(resource_type, parameters):
                yield [Match(msgspec.json.decode(stored.json), "match") for stored in matches]
        except HounsfieldError as error:
            raise _fhir_error(error) from error

    async def transaction(self, bundle: Resource) -> Resource:
        try:
            if any(str(entry.get("fullUrl", "")).startswith("urn:") for entry in bundle.get("entry", ())):
                # The store writes the final references into what it is given; the caller's bundle stays as it is.
                bundle = copied(bundle)
            answer = await self._store.bundle(bundle)
        except HounsfieldError as error:
            raise _fhir_error(error) from error
        response: Resource = msgspec.json.decode(encode_json(answer))
        return response

    async def close(self) -> None:
        """Nothing to release: the store belongs to whoever made it."""


def _fhir_error(error: HounsfieldError) -> FhirError:
    texts = [issue.text for issue in error.issues] if isinstance(error, FhirRefusal) else [error.message]
    return FhirError(" ".join(texts), status=error.status)

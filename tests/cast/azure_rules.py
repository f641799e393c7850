"""The rules by which Azure's FHIR servers differ from patient ones, before a target: what it refuses is refused.

After "FHIR REST API capabilities" and "Supported FHIR features" of Azure Health Data Services: a transaction takes 500
entries and each resource once, conditional creates that find several are 412, a busy server says 429 with
``Retry-After``. There is no ``_history`` to be asked; references are to what exists, to an entry, or conditional.
"""

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from urllib.parse import parse_qsl

from hounsfield.fhir.target import FhirError, FhirTarget, Match, Resource

TYPES = {"Patient", "Endpoint", "ImagingStudy", "Observation", "Device", "DiagnosticReport", "DocumentReference"}


class AzureRules:
    """``busy`` of all requests are refused with 429. ``bundles`` are the transactions that were carried out."""

    def __init__(self, inner: FhirTarget, *, busy: float = 0, max_entries: int = 500) -> None:
        self._inner = inner
        self._busy = busy
        self._max_entries = max_entries
        self._random = random.Random(1)
        self.endpoint = inner.endpoint
        self.capabilities = inner.capabilities
        self.close = inner.close
        self.bundles: list[Resource] = []

    async def search(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        self._admit()
        assert resource_type in TYPES | {"ServiceRequest"}
        return await self._inner.search(resource_type, parameters)

    async def pages(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> AsyncIterator[list[Match]]:
        self._admit()
        async for page in self._inner.pages(resource_type, parameters):
            yield page

    async def transaction(self, bundle: Resource) -> Resource:
        self._admit()
        entries = bundle["entry"]
        if not 0 < len(entries) <= self._max_entries:
            raise FhirError(f"The number of entries must be 1 to {self._max_entries}.", status=400)
        touched = [name for entry in entries if (name := await self._touched(entry)) is not None]
        if len(touched) != len(set(touched)):
            raise FhirError("The bundle contains several entries that refer to the same resource.", status=400)
        names = {entry.get("fullUrl") for entry in entries}
        for entry in entries:
            for reference in _references(entry.get("resource")):
                target = reference.partition("/")[0].partition("?")[0]
                if target not in TYPES | {"ServiceRequest"} and reference not in names:
                    raise FhirError("A reference leads nowhere.", status=400)
        answer = await self._inner.transaction(bundle)
        self.bundles.append(bundle)
        # A status is a number there, without the reason phrase.
        for entry in answer["entry"]:
            entry["response"]["status"] = entry["response"]["status"][:3]
        return answer

    async def _touched(self, entry: Resource) -> str | None:
        """The resource an entry is about, None where it makes one."""
        request = entry["request"]
        assert request["method"] in ("POST", "PUT", "DELETE") and "_history" not in request["url"]
        if request["method"] != "POST":
            assert request["ifMatch"].startswith('W/"')
            if request["method"] == "PUT":
                assert entry["resource"]["id"] == request["url"].partition("/")[2]
            return str(request["url"])
        assert "id" not in entry["resource"]
        found = await self._inner.search(request["url"], parse_qsl(request["ifNoneExist"]))
        if len(found) > 1:
            raise FhirError("The criteria find several.", status=412)
        return f"{request['url']}/{found[0].resource['id']}" if found else None

    def _admit(self) -> None:
        if self._random.random() < self._busy:
            raise FhirError("Too many requests.", status=429, retry_after=0.01)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for child in value.values():
            yield from _references(child)
    elif isinstance(value, list):
        for child in value:
            yield from _references(child)

"""A FHIR server in memory that takes only what two independent models of its version take.

R4 is judged by fhir.resources' R4B models, R5 by fhir.resources' and by those fhirpy generates from the structure
definitions.
"""

import uuid
import warnings
from collections.abc import AsyncIterator, Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any
from urllib.parse import parse_qsl

import fhir.resources
import fhir.resources.R4B

from hounsfield.fhir.target import FhirError, Match, Resource
from tests.cast.fhir_content import check_not_empty


def check(resource: Resource, version: str) -> None:
    """Raises unless ``resource`` is valid in that version."""
    models = fhir.resources.R4B if version == "R4" else fhir.resources
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        models.get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    if version == "R5":
        getattr(_fhirpy(), resource["resourceType"]).model_validate(resource)
    check_not_empty(resource)


@cache
def _fhirpy() -> Any:
    return import_module("fhirpy_types_r5")


class MemoryFhir:
    """A :class:`~hounsfield.fhir.target.FhirTarget`; ``resources`` by ``Type/id``, ``bundles`` as they came.

    ``written`` is every resource as it was ever written.
    """

    endpoint = "memory:fhir"

    def __init__(self, version: str = "R4") -> None:
        self.version = version
        self.resources: dict[str, Resource] = {}
        self.bundles: list[Resource] = []
        self.written: list[Resource] = []

    async def capabilities(self) -> Resource:
        number = {"R4": "4.0.1", "R5": "5.0.0"}[self.version]
        return {"fhirVersion": number, "rest": [{"interaction": [{"code": "transaction"}]}]}

    async def search(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Match]:
        return [Match(one, "match") for one in self._find(resource_type, parameters)]

    async def pages(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> AsyncIterator[list[Match]]:
        yield await self.search(resource_type, parameters)

    async def transaction(self, bundle: Resource) -> Resource:
        self.bundles.append(bundle)
        names: dict[str, str] = {}
        before, answers = dict(self.resources), []
        for entry in bundle["entry"]:
            request = entry["request"]
            if request["method"] == "POST":
                found = self._find(request["url"], parse_qsl(request["ifNoneExist"]))
                name = _name(found[0]) if found else f"{request['url']}/{uuid.uuid4()}"
                names[entry["fullUrl"]] = name
                answers.append((name, "200" if found else "201"))
                continue
            if request["ifMatch"] != f'W/"{before[request["url"]]["meta"]["versionId"]}"':
                raise FhirError("changed meanwhile", status=412)
            answers.append((request["url"], "204" if request["method"] == "DELETE" else "200"))
        for entry, (name, status) in zip(bundle["entry"], answers, strict=True):
            if entry["request"]["method"] == "DELETE":
                del self.resources[name]
            elif status == "201" or entry["request"]["method"] == "PUT":
                self._write(name, _renamed(entry["resource"], names))
        return {"resourceType": "Bundle", "entry": [{"response": {"status": status}} for _, status in answers]}

    async def close(self) -> None:
        """Nothing to release."""

    def all(self, resource_type: str) -> list[Resource]:
        """The resources of a type."""
        return [one for one in self.resources.values() if one["resourceType"] == resource_type]

    def only(self, resource_type: str) -> Resource:
        """The one resource of a type."""
        (found,) = self.all(resource_type)
        return found

    def put(self, resource: Resource) -> str:
        """Write as somebody else would; ``Type/id``."""
        name = f"{resource['resourceType']}/{resource['id']}"
        self._write(name, resource)
        return name

    def _write(self, name: str, resource: Resource) -> None:
        check(resource, self.version)
        self.written.append(resource)
        version = int(self.resources.get(name, {}).get("meta", {}).get("versionId", 0)) + 1
        meta = resource.get("meta", {}) | {"versionId": str(version)}
        self.resources[name] = resource | {"id": name.partition("/")[2], "meta": meta}

    def _find(self, resource_type: str, parameters: Sequence[tuple[str, str]]) -> list[Resource]:
        tests = [_TESTS[name](value) for name, value in parameters]
        return [one for one in self.all(resource_type) if all(test(one) for test in tests)]


def _name(resource: Resource) -> str:
    return f"{resource['resourceType']}/{resource['id']}"


def _by_identifier(value: str) -> Callable[[Resource], bool]:
    wanted = {text.rpartition("|")[::2] if "|" in text else (None, text) for text in value.split(",")}

    def test(resource: Resource) -> bool:
        found = resource.get("identifier", [])
        return any({(one.get("system", ""), one["value"]), (None, one["value"])} & wanted for one in found)

    return test


_TESTS: dict[str, Callable[[str], Callable[[Resource], bool]]] = {
    "identifier": _by_identifier,
    "name:exact": lambda value: lambda resource: resource["name"] == value,
    "connection-type": lambda value: lambda resource: True,
}


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_renamed(item, names) for item in value]
    if isinstance(value, dict):
        return {key: _renamed(item, names) for key, item in value.items()}
    return names.get(value, value) if isinstance(value, str) else value

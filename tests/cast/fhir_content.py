"""What a FHIR server holds, made comparable: identities instead of ids; every resource checked against R4B models."""

import warnings
from typing import Any

from fhir.resources.R4B import get_fhir_model_class

from hounsfield.cast import document, observation
from hounsfield.cast.expected import normal
from hounsfield.fhir.target import FhirTarget, Resource

TYPES = (
    *("Patient", "Endpoint", "ImagingStudy", "Observation"),
    *("Device", "DiagnosticReport", "DocumentReference", "ServiceRequest"),
)


async def resources(target: FhirTarget, resource_type: str) -> list[Resource]:
    """All resources of a type, each valid."""
    found = [match.resource for match in await target.search(resource_type, [("_count", "1000")])]
    for resource in found:
        check(resource)
    return found


async def only(target: FhirTarget, resource_type: str) -> Resource:
    """The one resource of a type."""
    found = await resources(target, resource_type)
    assert len(found) == 1, found
    return found[0]


async def content(target: FhirTarget) -> dict[str, Resource]:
    """Everything, by identity, without what a server adds: ids, versions, times."""
    everything = [resource for resource_type in TYPES for resource in await resources(target, resource_type)]
    names = {f"{resource['resourceType']}/{resource['id']}": _identity(resource) for resource in everything}
    assert len(set(names.values())) == len(everything), f"twice the same: {sorted(names.values())}"
    return {names[f"{resource['resourceType']}/{resource['id']}"]: _plain(resource, names) for resource in everything}


async def unordered_content(target: FhirTarget) -> Any:
    """The same, with lists of objects in one order: what is equal in FHIR is equal here."""
    return normal(await content(target))


def check(resource: Resource) -> None:
    """Raises unless ``resource`` is valid, as fhir.resources sees R4B, and holds nothing empty."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        get_fhir_model_class(resource["resourceType"]).model_validate(resource)
    check_not_empty(resource)


def check_not_empty(value: Any) -> None:
    """Raises if there is anything empty in a resource."""
    assert value not in ("", [], {}, None), value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_not_empty(child)


def _identity(resource: Resource) -> str:
    if resource["resourceType"] == "Endpoint":
        return f"Endpoint {resource['address']}"
    key = observation.key(resource) or document.key(resource) or resource["identifier"][0]["value"]
    return f"{resource['resourceType']} {resource['identifier'][0].get('system')} {key}"


def _plain(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, list):
        return [_plain(item, names) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: _plain(item, names) for key, item in value.items() if key not in ("id", "text")}
    if "meta" in plain:
        plain["meta"] = {"source": plain["meta"]["source"].partition("#")[0]} if "source" in plain["meta"] else {}
    if "reference" in plain:
        plain["reference"] = names[plain["reference"]]
    return plain


def instances(study: Resource) -> list[str]:
    """SOP Instance UIDs of an ImagingStudy."""
    return [instance["uid"] for series in study.get("series", []) for instance in series["instance"]]


async def keys(target: FhirTarget) -> list[str]:
    """What tells the observations apart."""
    return [one["identifier"][-1]["value"] for one in await resources(target, "Observation")]

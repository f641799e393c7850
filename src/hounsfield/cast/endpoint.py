"""Endpoint: where the images of a study can be fetched (dicom-cast.md §6.2). One per root URL, never updated."""

from hounsfield.cast.failure import fhir_refusal
from hounsfield.cast.reference import Parameters, escape
from hounsfield.fhir.target import Resource

CONNECTION_TYPE_SYSTEM = "http://terminology.hl7.org/CodeSystem/endpoint-connection-type"
CONNECTION_TYPE = "dicom-wado-rs"


def name(root: str) -> str:
    """The name by which the Endpoint of ``root`` is found."""
    return f"DICOM WADO-RS endpoint {root}"


def search(root: str) -> Parameters:
    """How the Endpoint of ``root`` is looked up; exactly by name, which else is a prefix search (D8)."""
    return [("name:exact", escape(name(root))), ("connection-type", f"{CONNECTION_TYPE_SYSTEM}|{CONNECTION_TYPE}")]


def create(root: str) -> Resource:
    """A new Endpoint."""
    return {
        "resourceType": "Endpoint",
        "status": "active",
        "connectionType": {"system": CONNECTION_TYPE_SYSTEM, "code": CONNECTION_TYPE},
        "name": name(root),
        "payloadType": [{"text": "DICOM WADO-RS"}],
        "payloadMimeType": ["application/dicom"],
        "address": root,
    }


def check(found: Resource, root: str) -> None:
    """Raises EntryRefused if an Endpoint of our name leads elsewhere."""
    if found.get("address") != root:
        raise fhir_refusal(
            "FhirResourceValidationException", "The endpoint already exists but the address does not match."
        )

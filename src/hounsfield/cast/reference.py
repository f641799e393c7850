"""Names of FHIR resources: references, search parameters, entity tags."""

import uuid
from collections.abc import Iterable, Sequence
from urllib.parse import quote, urlencode

from hounsfield.cast.failure import fhir_refusal
from hounsfield.fhir.target import Resource

STUDY_IDENTIFIER_SYSTEM = "urn:dicom:uid"
IDENTIFIER_TYPE_SYSTEM = "http://terminology.hl7.org/CodeSystem/v2-0203"

Parameters = Sequence[tuple[str, str]]
"""A search: parameter names and values, values FHIR-escaped."""
VALUES_OF_A_SEARCH = 50
"""Alternatives in one search: URLs have limits."""


def batches(values: Iterable[str]) -> list[list[str]]:
    """Alternatives as one search takes them, in order."""
    ordered = sorted(values)
    return [ordered[start : start + VALUES_OF_A_SEARCH] for start in range(0, len(ordered), VALUES_OF_A_SEARCH)]


def escape(value: str) -> str:
    r"""``value`` with the characters that FHIR searches give a meaning escaped (FHIR R4, Search, "Escaping").

    >>> escape("a|b,c$d")
    'a\\|b\\,c\\$d'
    """
    for character in "\\|,$":
        value = value.replace(character, "\\" + character)
    return value


def query(parameters: Parameters) -> str:
    """A search as ``ifNoneExist`` wants it: percent-encoded, without question mark."""
    return urlencode(list(parameters), quote_via=quote, safe=":/")


def identifier_parameter(system: str | None, value: str) -> tuple[str, str]:
    """The search parameter for an identifier; one without system is ``|value``."""
    return "identifier", f"{escape(system or '')}|{escape(value)}"


def study_identifier(study_uid: str) -> Resource:
    """ImagingStudy's (and Observation's) identifier for a StudyInstanceUID."""
    return {"system": STUDY_IDENTIFIER_SYSTEM, "value": f"urn:oid:{study_uid}"}


def accession_identifier(accession_number: str) -> Resource:
    """An accession number as an identifier: typed, without system."""
    return typed_identifier("ACSN", accession_number)


def typed_identifier(code: str, value: str) -> Resource:
    """An identifier whose type is a code of HL7 table 0203, without system."""
    return {"type": {"coding": [{"system": IDENTIFIER_TYPE_SYSTEM, "code": code}]}, "value": value}


def local_reference(resource: Resource) -> str:
    """``Type/id`` of a found resource. Raises EntryRefused if it has no id or no version (dicom-cast.md §4.2)."""
    etag(resource)
    return f"{resource['resourceType']}/{resource['id']}"


def new_name() -> str:
    """What a resource is called in the transaction that creates it."""
    return f"urn:uuid:{uuid.uuid4()}"


def etag(resource: Resource) -> str:
    """The weak entity tag of a found resource. Raises EntryRefused if it has no id or no version."""
    if not resource.get("id"):
        raise fhir_refusal("FhirResourceValidationException", "The id of the resource is missing.")
    version = resource.get("meta", {}).get("versionId")
    if not version:
        raise fhir_refusal("FhirResourceValidationException", "The version id of the resource is missing.")
    return f'W/"{version}"'


def refers_to(reference: object, target: str) -> bool:
    """Whether a Reference names ``target``, as it is or as an absolute URL of it."""
    text = reference.get("reference") if isinstance(reference, dict) else None
    return isinstance(text, str) and (text == target or text.endswith("/" + target))

"""Coded concepts of DICOM (PS3.3 §8) as FHIR CodeableConcepts, and the systems behind coding scheme designators."""

from collections.abc import Iterator

from hounsfield.cast.structured_report import CODE_MEANING, CODE_VALUE, CODING_SCHEME_DESIGNATOR
from hounsfield.cast.values import Values
from hounsfield.fhir.target import Resource

CODING_SCHEME_UID = "0008010C"
LONG_CODE_VALUE = "00080119"

DCM_SYSTEM = "http://dicom.nema.org/resources/ontology/DCM"
LOINC_SYSTEM = "http://loinc.org"
SNOMED_SYSTEM = "http://snomed.info/sct"
UCUM_SYSTEM = "http://unitsofmeasure.org"
_SYSTEMS = {
    "DCM": DCM_SYSTEM,
    "SCT": SNOMED_SYSTEM,
    "LN": LOINC_SYSTEM,
    "UCUM": UCUM_SYSTEM,
    "RADLEX": "http://radlex.org",
    "C4": "http://www.ama-assn.org/go/cpt",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "FMA": "http://purl.org/sig/ont/fma",
}
"""PS3.16 table 8-1 and FHIR R4 §4.3.0."""


def concepts(items: Iterator[Values]) -> tuple[Resource, ...]:
    """The concepts of a code sequence, each once."""
    found: list[Resource] = []
    for item in items:
        concept = codeable_concept(item)
        if concept is not None and concept not in found:
            found.append(concept)
    return tuple(found)


def codeable_concept(item: Values) -> Resource | None:
    """The concept of a code sequence item; None without a code.

    A scheme that is private and names no UID gives a coding without system: its designator is no URI.
    """
    code = item.code(CODE_VALUE) or item.code(LONG_CODE_VALUE)
    if code is None:
        return None
    coding: Resource = {}
    uid = item.code(CODING_SCHEME_UID)
    system = _SYSTEMS.get(item.code(CODING_SCHEME_DESIGNATOR) or "") or (f"urn:oid:{uid}" if uid else None)
    if system:
        coding["system"] = system
    coding["code"] = code
    meaning = item.text(CODE_MEANING)
    if meaning is None:
        return {"coding": [coding]}
    return {"coding": [coding | {"display": meaning}], "text": meaning}

"""The types of the store and their search parameters, each with its number in the index tables."""

from dataclasses import dataclass, replace
from typing import Literal

Kind = Literal["token", "string", "date", "reference", "id", "updated"]

TYPES = {
    "Patient": 1,
    "Endpoint": 2,
    "ImagingStudy": 3,
    "Observation": 4,
    "Device": 5,
    "DiagnosticReport": 6,
    "DocumentReference": 7,
    "ServiceRequest": 8,
    "Task": 9,
}
"""The types the store holds, and their numbers in the tables."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One search parameter; ``number`` is its key in the tables and must never change its meaning."""

    number: int
    name: str
    kind: Kind
    targets: tuple[str, ...] = ()
    """Types a bare id may mean."""
    paths: tuple[str, ...] = ()
    """Where the values are, for types without extraction of their own: element names joined by dots."""
    system: str = ""
    """Of tokens that are plain codes: the system their binding implies."""

    @property
    def identifier_number(self) -> int:
        """Where the tokens of ``:identifier`` on a reference are filed."""
        return self.number + 1000


def _of(base: int, *rows: tuple[str, Kind] | tuple[str, Kind, tuple[str, ...]]) -> dict[str, Parameter]:
    common: list[Parameter] = [Parameter(0, "_id", "id"), Parameter(0, "_lastUpdated", "updated")]
    own = [Parameter(base + place, *row) for place, row in enumerate(rows, 1)]
    return {parameter.name: parameter for parameter in common + own}


def _by_path(base: int, *own: Parameter) -> dict[str, Parameter]:
    """Parameters that say where their values are; their numbers follow from their order."""
    common = _of(base)
    return common | {one.name: replace(one, number=base + place) for place, one in enumerate(own, 1)}


def _token(name: str, *paths: str, system: str = "") -> Parameter:
    return Parameter(0, name, "token", paths=paths or (name,), system=system)


def _date(name: str, *paths: str) -> Parameter:
    return Parameter(0, name, "date", paths=paths)


def _string(name: str, *paths: str) -> Parameter:
    return Parameter(0, name, "string", paths=paths)


def _reference(name: str, path: str, *targets: str) -> Parameter:
    return Parameter(0, name, "reference", targets, (path,))


_SUBJECT = ("Patient", "Group", "Device")
_PEOPLE = ("Practitioner", "PractitionerRole", "Organization")

PARAMETERS: dict[str, dict[str, Parameter]] = {
    "Patient": _of(
        100,
        ("identifier", "token"),
        ("name", "string"),
        ("family", "string"),
        ("given", "string"),
        ("gender", "token"),
        ("birthdate", "date"),
    ),
    "Endpoint": _of(
        200, ("identifier", "token"), ("name", "string"), ("connection-type", "token"), ("status", "token")
    ),
    "ImagingStudy": _of(
        300,
        ("identifier", "token"),
        ("patient", "reference", ("Patient",)),
        ("subject", "reference", _SUBJECT),
        ("modality", "token"),
        ("started", "date"),
        ("status", "token"),
        ("endpoint", "reference", ("Endpoint",)),
        ("series", "token"),
        ("instance", "token"),
        ("dicom-class", "token"),
    ),
    "Observation": _of(
        400,
        ("identifier", "token"),
        ("patient", "reference", ("Patient",)),
        ("subject", "reference", (*_SUBJECT, "Location")),
        ("code", "token"),
        (
            "part-of",
            "reference",
            (
                "ImagingStudy",
                "Immunization",
                "MedicationAdministration",
                "MedicationDispense",
                "MedicationStatement",
                "Procedure",
            ),
        ),
        ("date", "date"),
    ),
    "Device": _by_path(
        500,
        _token("identifier"),
        _string("device-name", "deviceName.name", "type.coding.display", "type.text"),
        _string("manufacturer", "manufacturer"),
        _string("model", "modelNumber"),
        _token("status", system="http://hl7.org/fhir/device-status"),
        _token("type"),
        _reference("patient", "patient", "Patient"),
    ),
    "DiagnosticReport": _by_path(
        600,
        _token("identifier"),
        _reference("patient", "subject", "Patient"),
        _reference("subject", "subject", *_SUBJECT, "Location"),
        _token("status", system="http://hl7.org/fhir/diagnostic-report-status"),
        _token("code"),
        _token("category"),
        _date("date", "effectiveDateTime", "effectivePeriod"),
        _date("issued", "issued"),
        _reference(
            *("based-on", "basedOn"),
            *("CarePlan", "ImmunizationRecommendation", "MedicationRequest", "NutritionOrder", "ServiceRequest"),
        ),
        _reference("result", "result", "Observation"),
        _reference("results-interpreter", "resultsInterpreter", *_PEOPLE, "CareTeam"),
    ),
    "DocumentReference": _by_path(
        700,
        _token("identifier", "identifier", "masterIdentifier"),
        _reference("patient", "subject", "Patient"),
        _reference("subject", "subject", *_SUBJECT, "Practitioner"),
        _token("status", system="http://hl7.org/fhir/document-reference-status"),
        _token("type"),
        _token("category"),
        _date("date", "date"),
        _string("description", "description"),
        _token("contenttype", "content.attachment.contentType", system="urn:ietf:bcp:13"),
        _reference("related", "context.related", "ImagingStudy", "Observation", "DiagnosticReport", "ServiceRequest"),
    ),
    "ServiceRequest": _by_path(
        800,
        _token("identifier"),
        _reference("patient", "subject", "Patient"),
        _reference("subject", "subject", *_SUBJECT, "Location"),
        _token("status", system="http://hl7.org/fhir/request-status"),
        _token("intent", system="http://hl7.org/fhir/request-intent"),
        _token("code"),
        _token("category"),
        _token("requisition"),
        _date("authored", "authoredOn"),
        _date("occurrence", "occurrenceDateTime", "occurrencePeriod"),
        _reference("based-on", "basedOn", "CarePlan", "MedicationRequest", "ServiceRequest"),
        _reference("requester", "requester", *_PEOPLE, "Device", "Patient", "RelatedPerson"),
    ),
    "Task": _by_path(
        900,
        _token("identifier"),
        _reference("patient", "for", "Patient"),
        _reference("subject", "for", *_SUBJECT, "Location"),
        _token("status", system="http://hl7.org/fhir/task-status"),
        _token("business-status", "businessStatus"),
        _token("intent", system="http://hl7.org/fhir/task-intent"),
        _token("priority", system="http://hl7.org/fhir/request-priority"),
        _token("code"),
        _token("performer", "performerType"),
        _token("group-identifier", "groupIdentifier"),
        _date("authored-on", "authoredOn"),
        _date("modified", "lastModified"),
        _date("period", "executionPeriod"),
        _reference("based-on", "basedOn", "ServiceRequest", "CarePlan", "MedicationRequest"),
        _reference("focus", "focus", "ImagingStudy", "ServiceRequest", "DiagnosticReport", "DocumentReference"),
        _reference("part-of", "partOf", "Task"),
        _reference("encounter", "encounter", "Encounter"),
        _reference("requester", "requester", *_PEOPLE, "Device", "Patient", "RelatedPerson"),
        _reference("owner", "owner", *_PEOPLE, "CareTeam", "Device", "HealthcareService", "Patient", "RelatedPerson"),
    ),
}

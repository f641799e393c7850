"""The CapabilityStatement of the embedded store (``GET metadata``)."""

from typing import Any

from hounsfield import __version__
from hounsfield.fhir.search_parameters import PARAMETERS, Parameter

FHIR_VERSION = "4.0.1"
_DATE = "2025-01-01"
_INTERACTIONS = (
    "read",
    "vread",
    "update",
    "delete",
    "history-instance",
    "history-type",
    "create",
    "search-type",
)
# Parameters that several types share are defined once, under these names (R4 search-parameters.json).
_SHARED = {
    "Patient": {
        "family": "individual-family",
        "given": "individual-given",
        "gender": "individual-gender",
        "birthdate": "individual-birthdate",
    },
    "Endpoint": {},
    "ImagingStudy": {"identifier": "clinical-identifier", "patient": "clinical-patient"},
    "Observation": {
        "identifier": "clinical-identifier",
        "patient": "clinical-patient",
        "code": "clinical-code",
        "date": "clinical-date",
    },
    "Device": {},
    "DiagnosticReport": {
        "identifier": "clinical-identifier",
        "patient": "clinical-patient",
        "code": "clinical-code",
        "date": "clinical-date",
    },
    "DocumentReference": {
        "identifier": "clinical-identifier",
        "patient": "clinical-patient",
        "type": "clinical-type",
    },
    "ServiceRequest": {
        "identifier": "clinical-identifier",
        "patient": "clinical-patient",
        "code": "clinical-code",
    },
    "Task": {},
}
_KINDS = {"id": "token", "updated": "date"}


def capability_statement(base: str) -> dict[str, Any]:
    """What the store at ``base`` can do."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": _DATE,
        "kind": "instance",
        "software": {"name": "Hounsfield", "version": __version__},
        "implementation": {"description": "Embedded FHIR store of Hounsfield", "url": base},
        "fhirVersion": FHIR_VERSION,
        "format": ["json"],
        "rest": [
            {
                "mode": "server",
                "resource": [_resource(name) for name in PARAMETERS],
                "interaction": [{"code": code} for code in ("transaction", "batch", "history-system")],
            }
        ],
    }


def _resource(resource_type: str) -> dict[str, Any]:
    parameters = PARAMETERS[resource_type].values()
    resource = {
        "type": resource_type,
        "profile": f"http://hl7.org/fhir/StructureDefinition/{resource_type}",
        "interaction": [{"code": code} for code in _INTERACTIONS],
        "versioning": "versioned-update",
        "readHistory": True,
        "updateCreate": True,
        "conditionalCreate": True,
        "conditionalRead": "full-support",
        "conditionalUpdate": True,
        "conditionalDelete": "single",
        "referencePolicy": ["literal", "logical", "enforced", "local"],
        "searchInclude": [f"{resource_type}:{p.name}" for p in parameters if p.kind == "reference"],
        "searchRevInclude": [
            f"{source}:{p.name}"
            for source, others in PARAMETERS.items()
            for p in others.values()
            if resource_type in p.targets
        ],
        "searchParam": [_parameter(resource_type, parameter) for parameter in parameters],
    }
    return {key: value for key, value in resource.items() if value != []}


def _parameter(resource_type: str, parameter: Parameter) -> dict[str, str]:
    owner = "Resource" if parameter.name.startswith("_") else resource_type
    own = f"{owner}-{parameter.name.removeprefix('_')}"
    return {
        "name": parameter.name,
        "definition": "http://hl7.org/fhir/SearchParameter/" + _SHARED[resource_type].get(parameter.name, own),
        "type": _KINDS.get(parameter.kind, parameter.kind),
    }

"""R5 outside, R4 within: what cast writes and reads back is the same, and what others wrote stays."""

import copy

import pytest

from hounsfield.fhir.target import Resource
from hounsfield.fhir.versions import from_r5, to_r5

CT = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "CT"}
CHEST = {"system": "http://snomed.info/sct", "code": "816094009", "display": "Chest"}
STUDY = {
    "resourceType": "ImagingStudy",
    "status": "available",
    "subject": {"reference": "Patient/p"},
    "modality": [CT],
    "interpreter": [{"display": "House"}],
    "procedureCode": [{"text": "Chest CT"}],
    "reasonCode": [{"text": "Pain"}],
    "series": [{"uid": "1.2", "modality": CT, "bodySite": CHEST, "laterality": {"code": "7771000"}}],
}
REPORT = {"resourceType": "DiagnosticReport", "imagingStudy": [{"reference": "ImagingStudy/s"}]}
DOCUMENT = {
    "resourceType": "DocumentReference",
    "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2"},
    "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.1"}],
    "context": {"related": [{"reference": "ImagingStudy/s"}]},
}
TASK = {
    "resourceType": "Task",
    "status": "failed",
    "statusReason": {"text": "Broken"},
    "performerType": [{"text": "Workstation"}],
    "reasonCode": {"text": "Pain"},
    "restriction": {"period": {"start": "2026-01-10"}},
}
PATIENT = {"resourceType": "Patient", "gender": "female"}


@pytest.mark.parametrize("resource", [STUDY, REPORT, DOCUMENT, TASK, PATIENT])
def test_there_and_back(resource: Resource) -> None:
    before = copy.deepcopy(resource)
    assert from_r5(to_r5(resource)) == resource
    assert resource == before


FOREIGN: list[Resource] = [
    {
        "resourceType": "ImagingStudy",
        "extension": [{"url": "urn:mine", "valueString": "x"}],
        "partOf": [{"reference": "Procedure/1"}],
        "modality": [{"coding": [CT, {"system": "urn:local", "code": "X"}], "text": "CT"}, {"text": "unknown"}],
        "procedure": [{"reference": {"reference": "PlanDefinition/1"}}, {"concept": {"text": "Chest CT"}}],
        "reason": [{"reference": {"reference": "Condition/1"}, "concept": {"text": "Pain"}}],
        "series": [
            {
                "uid": "1.2",
                "modality": {"coding": [CT], "text": "CT"},
                "bodySite": {"reference": {"reference": "BodyStructure/1"}, "concept": {"coding": [CHEST]}},
                "laterality": {"text": "left"},
            }
        ],
    },
    {
        "resourceType": "DocumentReference",
        "identifier": [{"system": "urn:mine", "value": "1"}],
        "context": [{"reference": "Encounter/1"}],
        "event": [{"concept": {"text": "scan"}}],
    },
    {"resourceType": "DiagnosticReport", "study": [{"reference": "GenomicStudy/1"}], "note": [{"text": "n"}]},
    {
        "resourceType": "Task",
        "statusReason": {"concept": {"text": "Broken"}, "reference": {"reference": "Observation/1"}},
        "reason": [{"concept": {"text": "Pain"}}, {"reference": {"reference": "Condition/1"}}],
        "requestedPerformer": [{"concept": {"text": "Nurse"}}, {"reference": {"reference": "Device/1"}}],
        "requestedPeriod": {"start": "2026-01-10"},
        "restriction": {"repetitions": 1, "period": {"end": "2026-01-11"}},
    },
]


@pytest.mark.parametrize("resource", FOREIGN, ids=lambda one: one["resourceType"])
def test_what_r4_cannot_say_stays(resource: Resource) -> None:
    assert to_r5(from_r5(resource)) == resource


def test_a_changed_coding_is_written() -> None:
    study = from_r5(FOREIGN[0])
    study["modality"][0]["code"] = "MR"
    study["series"][0]["bodySite"] = CHEST
    written = to_r5(study)
    assert written["modality"][0] == {"coding": [CT | {"code": "MR"}]}
    assert written["series"][0]["bodySite"] == {"concept": {"coding": [CHEST]}}

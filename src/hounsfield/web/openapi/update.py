"""Bulk update in the OpenAPI documents."""

from collections.abc import Iterator

from hounsfield.web.openapi.components import (
    DICOM_JSON,
    JSON,
    TEXT,
    UNAVAILABLE,
    json_content,
    operation,
    problem,
    response,
)
from hounsfield.web.openapi.schemas import Json, ref

_ID = "4853cda8c05c44e497d2bc071f8e92c4"
_STUDY = "1.2.826.0.1.3680043.8.498.1"

UPDATE_SCHEMAS: Json = {
    "UpdateSpecification": {
        "type": "object",
        "description": "What is to be set, and in which studies.",
        "properties": {
            "studyInstanceUids": {
                "type": "array",
                "minItems": 1,
                "maxItems": 50,
                "items": {"type": "string", "maxLength": 64, "pattern": "^[0-9.]*[0-9] *$"},
                "description": "StudyInstanceUIDs. One that is not there is no error.",
            },
            "changeDataset": {
                **ref("Dataset"),
                "description": "Attributes of patient and study with their new values.",
            },
        },
        "required": ["studyInstanceUids", "changeDataset"],
    },
}


def update_operations() -> Iterator[tuple[str, str, Json]]:
    """The one of it."""
    refused = {
        "00741048": {
            "vr": "SQ",
            "Value": [
                {"00000902": {"vr": "LO", "Value": ["DICOM100: (0020,000d) - Updating the tag is not supported"]}}
            ],
        }
    }
    href = f"https://dicom.example.com/v2/operations/{_ID}"
    responses = {
        "202": response(
            "It will be done by an operation.",
            json_content(JSON, ref("OperationReference"), {"id": _ID, "href": href}),
            {"Location": "Location"},
        ),
        "400": {
            "description": "The body is invalid, or operations are disabled: one sentence. An attribute cannot be "
            "set, or not to this value: a dataset that names all of them.",
            "content": {
                DICOM_JSON: {"schema": ref("Dataset"), "example": refused},
                "text/plain": TEXT,
            },
        },
        "409": problem("Another update is under way; its id is named."),
        "413": problem("The body is larger than this server reads."),
        "415": problem("The body is not application/json."),
        **UNAVAILABLE,
    }
    sent = {
        "studyInstanceUids": [_STUDY],
        "changeDataset": {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane"}]}},
    }
    more: Json = {
        "description": "All instances of a study change at once. What they were first remains retrievable with the "
        "header `msdicom-request-original: true`.",
        "requestBody": {"required": True, "content": json_content(JSON, ref("UpdateSpecification"), sent)},
    }
    summary = "Set attributes of studies anew"
    yield "/studies/$bulkUpdate", "post", operation("Update", "BulkUpdateStudies", summary, responses, **more)

"""Long-running operations in the OpenAPI documents."""

from collections.abc import Iterator

from hounsfield.web.openapi.components import (
    JSON,
    UNAVAILABLE,
    json_content,
    operation,
    parameter,
    problem,
    query,
    response,
)
from hounsfield.web.openapi.schemas import Json, array, ref

_ID = "4853cda8c05c44e497d2bc071f8e92c4"
_STATUSES = ["notStarted", "running", "succeeded", "failed", "canceled", "completed"]

OPERATION_SCHEMAS: Json = {
    "Operation": {
        "type": "object",
        "description": "A long-running operation.",
        "properties": {
            "operationId": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "Its identifier."},
            "type": {"type": "string", "description": "What it does.", "example": "reindex"},
            "createdTime": {"type": "string", "format": "date-time", "description": "When it was started."},
            "lastUpdatedTime": {"type": "string", "format": "date-time", "description": "When it last went on."},
            "status": {
                "type": "string",
                "enum": _STATUSES,
                "description": "Where it is; version 1 says `completed` for `succeeded`.",
            },
            "percentComplete": {
                "type": "integer",
                "minimum": 0,
                "maximum": 100,
                "description": "How much is done; it never falls. Absent where nobody can know.",
            },
            "resources": {
                "type": "array",
                "items": {"type": "string", "format": "uri"},
                "description": "What it is about, where that has addresses.",
            },
            "results": {"type": "object", "description": "What came of it so far, where there is something to tell."},
            "cancelRequested": {"type": "boolean", "description": "Whether somebody asked that it be cancelled."},
            "error": {"type": "string", "description": "Why it failed."},
        },
        "required": ["operationId", "type", "createdTime", "lastUpdatedTime", "status"],
    },
    "OperationReference": {
        "type": "object",
        "description": "Where to look how far an operation is.",
        "properties": {
            "id": {"type": "string", "pattern": "^[0-9a-f]{32}$", "description": "Its identifier."},
            "href": {"type": "string", "format": "uri", "description": "Its address."},
        },
        "required": ["id", "href"],
    },
}


def operation_operations(major: int) -> Iterator[tuple[str, str, Json]]:
    """The three of them."""
    example = {
        "operationId": _ID,
        "type": "reindex",
        "createdTime": "2024-02-29T16:00:00.123456Z",
        "lastUpdatedTime": "2024-02-29T16:04:10.654321Z",
        "status": "completed" if major == 1 else "succeeded",
        "percentComplete": 100,
        "resources": [f"https://dicom.example.com/v{major}/extendedquerytags/00101010"],
    }
    href = f"https://dicom.example.com/v{major}/operations/{_ID}"
    one = json_content(JSON, ref("Operation"), example)
    location = {"Location": "Location"}
    unknown = {"404": problem("There is no such operation, or its record has been removed.")}
    tag = "Operations"

    several = json_content(JSON, array("Operation", "Newest first."), [{**example, "cancelRequested": False}])
    responses = {
        "200": response("The operations, perhaps none.", several),
        "400": problem("A query parameter is invalid."),
        **UNAVAILABLE,
    }
    more: Json = {"parameters": [parameter("limit"), parameter("offset")]}
    yield "/operations", "get", operation(tag, "ListOperations", "List the operations", responses, **more)

    responses = {
        "200": response("It has ended.", one),
        "202": response("It has not ended.", one, location),
        **unknown,
        **UNAVAILABLE,
    }
    more = {"parameters": [query("details", "Whether to tell `cancelRequested` and `error`, too.", type="boolean")]}
    summary = "Look how far an operation is"
    yield "/operations/{operationId}", "get", operation(tag, "OperationStatus", summary, responses, **more)

    reference = json_content(JSON, ref("OperationReference"), {"id": _ID, "href": href})
    responses = {
        "202": response("It will be, once the batch at hand is done with.", reference, location),
        **unknown,
        "409": problem("It has ended already."),
        **UNAVAILABLE,
    }
    more = {"description": "Takes the permission that starting such an operation takes. What is done stays done."}
    summary = "Ask that an operation be cancelled"
    path = "/operations/{operationId}/cancelrequest"
    yield path, "post", operation(tag, "CancelOperation", summary, responses, **more)

"""Extended query tags in the OpenAPI documents."""

from collections.abc import Iterator

from hounsfield.index.tag_keys import SUPPORTED_VRS
from hounsfield.web.openapi.components import (
    JSON,
    UNAVAILABLE,
    json_content,
    operation,
    parameter,
    problem,
    response,
)
from hounsfield.web.openapi.schemas import Json, array, ref

_ID = "4853cda8c05c44e497d2bc071f8e92c4"
_HREF = {"type": "string", "format": "uri", "description": "Its address."}
_PATH = {"type": "string", "description": "The attribute: its keyword, or eight hexadecimal digits."}
_VR = {"type": "string", "description": "Value representation.", "enum": sorted(SUPPORTED_VRS)}
_CREATOR = {"type": "string", "maxLength": 64, "description": "Of a private attribute: its private creator."}
_QUERY_STATUS = {
    "type": "string",
    "enum": ["enabled", "disabled"],
    "description": "Whether searches may name it. Errors of the re-index disable it.",
}

TAG_SCHEMAS: Json = {
    "AddExtendedQueryTagEntry": {
        "type": "object",
        "description": "An attribute that is to be made searchable.",
        "properties": {
            "path": _PATH,
            "vr": {**_VR, "description": "Value representation; of a standard attribute the first it may have."},
            "privateCreator": _CREATOR,
            "level": {
                "type": "string",
                "enum": ["Study", "Series", "Instance"],
                "description": "What has one value of it.",
            },
        },
        "required": ["path", "level"],
    },
    "GetExtendedQueryTagEntry": {
        "type": "object",
        "description": "An attribute that was made searchable.",
        "properties": {
            "path": {"type": "string", "pattern": "^[0-9A-F]{8}$", "description": "The attribute's tag."},
            "vr": _VR,
            "privateCreator": _CREATOR,
            "level": {
                "type": "string",
                "enum": ["study", "series", "instance"],
                "description": "What has one value of it.",
            },
            "status": {
                "type": "string",
                "enum": ["adding", "ready", "deleting"],
                "description": "Searches may name it when it is ready.",
            },
            "queryStatus": _QUERY_STATUS,
            "errors": {
                "type": "object",
                "description": "Instances whose value could not be indexed, where there are any.",
                "properties": {"count": {"type": "integer", "format": "int64", "minimum": 1}, "href": _HREF},
                "required": ["count", "href"],
            },
            "operation": ref("OperationReference"),
        },
        "required": ["path", "vr", "level", "status", "queryStatus"],
    },
    "UpdateExtendedQueryTagEntry": {
        "type": "object",
        "description": "Whether searches may name it.",
        "properties": {"queryStatus": {"type": "string", "enum": ["Enabled", "Disabled"]}},
        "required": ["queryStatus"],
        "additionalProperties": False,
    },
    "ExtendedQueryTagError": {
        "type": "object",
        "description": "An instance whose value could not be indexed.",
        "properties": {
            "partitionName": {"type": "string", "description": "Data partition."},
            "studyInstanceUid": {"type": "string", "description": "StudyInstanceUID."},
            "seriesInstanceUid": {"type": "string", "description": "SeriesInstanceUID."},
            "sopInstanceUid": {"type": "string", "description": "SOPInstanceUID."},
            "createdTime": {"type": "string", "description": "When that was found, in UTC."},
            "errorMessage": {"type": "string", "description": "What is wrong with the value."},
        },
        "required": [
            "partitionName",
            "studyInstanceUid",
            "seriesInstanceUid",
            "sopInstanceUid",
            "createdTime",
            "errorMessage",
        ],
    },
}

_ERROR: Json = {
    "partitionName": "Microsoft.Default",
    "studyInstanceUid": "1.2.826.0.1.3680043.8.498.1",
    "seriesInstanceUid": "1.2.826.0.1.3680043.8.498.1.1",
    "sopInstanceUid": "1.2.826.0.1.3680043.8.498.1.1.1",
    "createdTime": "2024-02-29T16:00:00.123456",
    "errorMessage": "Value length is not 4.",
}
_LIST = "/extendedquerytags"
_ONE = "/extendedquerytags/{tagPath}"


def tag_operations(major: int) -> Iterator[tuple[str, str, Json]]:
    """The six of them."""
    root = f"https://dicom.example.com/v{major}"
    example: Json = {"path": "00101010", "vr": "AS", "level": "study", "status": "ready", "queryStatus": "enabled"}
    with_errors = example | {
        "queryStatus": "disabled",
        "errors": {"count": 1, "href": f"{root}/extendedquerytags/00101010/errors"},
    }
    paged: Json = {"parameters": [parameter("limit"), parameter("offset")]}
    bad_path = {"400": problem("The path names no attribute.")}
    unknown = {"404": problem("There is no such extended query tag.")}
    one = json_content(JSON, ref("GetExtendedQueryTagEntry"), example)
    tag = "ExtendedQueryTag"

    def body(schema: Json, sent: object) -> Json:
        return {"requestBody": {"required": True, "content": json_content(JSON, schema, sent)}}

    refused = {
        "413": problem("The body is larger than this server reads."),
        "415": problem("The body is not application/json."),
    }
    responses = {
        "202": response(
            "They are there, and what is stored is being indexed by an operation.",
            json_content(JSON, ref("OperationReference"), {"id": _ID, "href": f"{root}/operations/{_ID}"}),
            {"Location": "Location"},
        ),
        "400": problem("An entry is invalid, there would be too many tags, or operations are disabled."),
        "409": problem("One of them is there already, or tags are being added.")
        | {"headers": {"Location": {"$ref": "#/components/headers/RunningOperation"}}},
        **refused,
        **UNAVAILABLE,
    }
    description = (
        "All of them or none. From here on stores index them; searches may use them when the operation has ended."
    )
    sent = [{"path": "PatientAge", "level": "Study"}]
    more = {"description": description, **body(array("AddExtendedQueryTagEntry", "The tags."), sent)}
    yield _LIST, "post", operation(tag, "AddExtendedQueryTags", "Make attributes searchable", responses, **more)

    several = json_content(JSON, array("GetExtendedQueryTagEntry", "In the order they were added."), [with_errors])
    responses = {
        "200": response("The tags, perhaps none.", several),
        "400": problem("A query parameter is invalid."),
        **UNAVAILABLE,
    }
    yield _LIST, "get", operation(tag, "GetExtendedQueryTags", "List extended query tags", responses, **paged)

    responses = {"200": response("The tag.", one), **bad_path, **unknown, **UNAVAILABLE}
    yield _ONE, "get", operation(tag, "GetExtendedQueryTag", "Look at an extended query tag", responses)

    responses = {
        "200": response("The tag as it is now.", one),
        "400": problem("The body is invalid, or the path names no attribute."),
        **unknown,
        **refused,
        **UNAVAILABLE,
    }
    more = body(ref("UpdateExtendedQueryTagEntry"), {"queryStatus": "Enabled"})
    summary = "Allow or forbid searches by an extended query tag"
    yield _ONE, "patch", operation(tag, "UpdateExtendedQueryTag", summary, responses, **more)

    responses = {"204": response("It is gone, with everything indexed for it."), **bad_path, **unknown, **UNAVAILABLE}
    yield _ONE, "delete", operation(tag, "DeleteExtendedQueryTag", "Remove an extended query tag", responses)

    listed = json_content(JSON, array("ExtendedQueryTagError", "Oldest first."), [_ERROR])
    responses = {
        "200": response("The errors, perhaps none.", listed),
        "400": problem("A query parameter is invalid, or the path names no attribute."),
        **unknown,
        **UNAVAILABLE,
    }
    summary = "List what could not be indexed"
    yield f"{_ONE}/errors", "get", operation(tag, "GetExtendedQueryTagErrors", summary, responses, **paged)

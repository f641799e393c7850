"""What the operations of the OpenAPI documents are made of: parameters, headers, and answers that many have."""

from collections.abc import Mapping
from typing import Any

from hounsfield.web.openapi.schemas import Json
from hounsfield.web.request_body import CONTENT_CODINGS

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
JSON = "application/json"

STUDY = "/studies/{studyInstanceUid}"
SERIES = STUDY + "/series/{seriesInstanceUid}"
INSTANCE = SERIES + "/instances/{sopInstanceUid}"

BINARY = {"type": "string", "format": "binary"}


def _uid(name: str, keyword: str) -> Json:
    schema = {"type": "string", "maxLength": 64, "pattern": "^[0-9.]*[0-9]$"}
    return {"name": name, "in": "path", "required": True, "description": f"{keyword}.", "schema": schema}


def query(name: str, description: str, **schema: Any) -> Json:
    """A parameter of the query string."""
    return {"name": name, "in": "query", "description": description, "schema": schema}


PARAMETERS: Json = {
    "studyInstanceUid": _uid("studyInstanceUid", "StudyInstanceUID"),
    "seriesInstanceUid": _uid("seriesInstanceUid", "SeriesInstanceUID"),
    "sopInstanceUid": _uid("sopInstanceUid", "SOPInstanceUID"),
    "workitemInstanceUid": _uid("workitemInstanceUid", "The workitem's SOPInstanceUID"),
    "aetitle": {
        "name": "aetitle",
        "in": "path",
        "required": True,
        "description": "AE title of the subscriber.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 16},
        "example": "READING1",
    },
    "frames": {
        "name": "frames",
        "in": "path",
        "required": True,
        "description": "Frame numbers from 1, separated by commas; frames come in this order.",
        "schema": {"type": "string", "pattern": "^[0-9]+(,[0-9]+)*$"},
        "example": "1,3",
    },
    "attribute": {
        "name": "attribute",
        "in": "path",
        "required": True,
        "description": "Where the value is: its tag, or tag/item/tag (with slashes) with items from 1. Of encapsulated "
        "pixel data, frames may be chosen: 7FE00010/frames/1,3.",
        "schema": {"type": "string", "pattern": "^([0-9A-F]{8}/[0-9]+/)*[0-9A-F]{8}(/frames/[0-9]+(,[0-9]+)*)?$"},
        "example": "7FE00010",
    },
    "operationId": {
        "name": "operationId",
        "in": "path",
        "required": True,
        "description": "A GUID: 32 hexadecimal digits, or dashed, or in braces; in any case.",
        "schema": {"type": "string"},
    },
    "tagPath": {
        "name": "tagPath",
        "in": "path",
        "required": True,
        "description": "The attribute: its keyword, or eight hexadecimal digits.",
        "schema": {"type": "string"},
        "example": "PatientAge",
    },
    "accept": query(
        "accept", "Media types that are accepted, in place of the Accept header (PS3.18 §8.3.3.1).", type="string"
    )
    | {"example": "application/zip"},
    "bulkData": query(
        "bulkdata",
        "Whether binary values are given: `uri` for a BulkDataURI of all above 1 KiB, `inline` for InlineBinary of "
        "all up to 1 MiB. Otherwise they are left out.",
        type="string",
        enum=["uri", "inline"],
    ),
    "range": {
        "name": "Range",
        "in": "header",
        "description": "A range of bytes of what comes as one part: `bytes=0-999`, `bytes=1000-`, `bytes=-500`.",
        "schema": {"type": "string"},
    },
    "ifNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETag of an earlier answer, as it was sent or quoted, several, or *.",
        "schema": {"type": "string"},
    },
    "requestOriginal": {
        "name": "msdicom-request-original",
        "in": "header",
        "description": "`true` for what instances were before any bulk update.",
        "schema": {"type": "boolean", "default": False},
    },
    "contentEncoding": {
        "name": "Content-Encoding",
        "in": "header",
        "description": "How the body is compressed, if it is.",
        "schema": {"type": "string", "enum": ["gzip", "deflate", "zstd"]},
    },
    "limit": query("limit", "Largest number of results.", type="integer", minimum=1, maximum=200, default=100),
    "offset": query("offset", "Results to skip.", type="integer", format="int64", minimum=0, default=0),
    "cursor": {
        **query(
            "cursor",
            "`first`, or what the Link header of the page before names: pages that nothing shifts, at the same cost "
            "however far down. Not together with offset.",
            type="string",
        ),
        "example": "first",
    },
    "count": query(
        "count", "Whether a header X-Total-Count says how many matches there are in all.", type="boolean", default=False
    ),
    "fuzzyMatching": query(
        "fuzzymatching",
        "Person names match when the words asked for are beginnings of consecutive words of the name. A name with wild "
        "cards is matched by them.",
        type="boolean",
        default=False,
    ),
    "emptyValueMatching": query(
        "emptyvaluematching",
        "Whether a filter without a value, or with two quotation marks, finds what has no value (PS3.18 §8.3.4.5).",
        type="boolean",
        default=False,
    ),
    "multipleValueMatching": query(
        "multiplevaluematching",
        "Whether backslashes part the values of a filter, any of which may match (PS3.18 §8.3.4.6).",
        type="boolean",
        default=False,
    ),
    "includeField": {
        **query(
            "includefield",
            "Further attributes to return, by keyword or eight hexadecimal digits, those in sequences by a path "
            "with dots, or `all`; comma lists and repetition are allowed.",
            type="array",
            items={"type": "string"},
        ),
        "example": ["SeriesDescription"],
    },
    "includeMetadata": query(
        "includeMetadata", "Whether entries carry the metadata of the live version.", type="boolean", default=True
    ),
}

HEADERS: Json = {
    "ApiSupportedVersions": {
        "description": "The API versions of this server.",
        "schema": {"type": "string"},
        "example": "1.0-prerelease, 1, 2",
    },
    "ETag": {
        "description": "Changes when an instance is added, replaced or removed. Unquoted.",
        "schema": {"type": "string"},
        "example": "15-2",
    },
    "ContentRange": {
        "description": "Which bytes these are, or how many there are.",
        "schema": {"type": "string"},
        "example": "bytes 0-999/52428",
    },
    "ErroneousDicomAttributes": {
        "description": "Attributes filtered by whose index is incomplete, as the client wrote them, comma separated.",
        "schema": {"type": "string"},
    },
    "Location": {
        "description": "Where to look how far the operation is.",
        "schema": {"type": "string", "format": "uri"},
    },
    "RunningOperation": {
        "description": "The operation that is under way, where that is the reason.",
        "schema": {"type": "string", "format": "uri"},
    },
    "AcceptEncoding": {
        "description": "Sent when the Content-Encoding of the request is not supported: those that are.",
        "schema": {"type": "string"},
        "example": CONTENT_CODINGS,
    },
    "Warning": {
        "description": "Sent when an indexed attribute of a stored instance has several values.",
        "schema": {"type": "string"},
        "example": '299 dicom.example.com: "One or more indexed Dicom tag(s) have multiple values, only first value is '
        'indexed."',
    },
}


PARTITION_PARAMETERS: Json = {
    "partitionName": {
        "name": "partitionName",
        "in": "path",
        "required": True,
        "description": "Data partition. Storing to one that does not exist makes it.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
}
"""Further parameters of a server with data partitions."""


def parameter(name: str) -> Json:
    """A reference to one of PARAMETERS."""
    return {"$ref": f"#/components/parameters/{name}"}


def header(name: str) -> Json:
    """A reference to one of HEADERS."""
    return {"$ref": f"#/components/headers/{name}"}


def response(description: str, content: Json | None = None, headers: Mapping[str, str] | None = None) -> Json:
    """An answer; ``headers`` are names of HEADERS by those they are sent under."""
    named = {name: header(component) for name, component in (headers or {}).items()}
    return (
        {"description": description} | ({"headers": named} if named else {}) | ({"content": content} if content else {})
    )


def json_content(media_type: str, schema: Json, example: Any) -> Json:
    """The content of an answer in JSON."""
    return {media_type: {"schema": schema, "example": example}}


TEXT = {"schema": {"type": "string"}}


def problem(description: str) -> Json:
    """An answer that says what is wrong."""
    # The server sends text/plain; the reference's documents say application/json, and clients were generated from that.
    return {"description": f"{description} The body is one sentence.", "content": {"text/plain": TEXT, JSON: TEXT}}


BAD_UID = {"400": problem("A UID in the path is not one.")}
BAD_QUERY = {"400": problem("A query parameter is unknown, invalid or given twice, or a UID in the path is not one.")}
NOT_FOUND = {"404": problem("There is no such study, series, instance or frame.")}
NO_DICOM_JSON = {"406": {"description": "Accept does not allow application/dicom+json. The body is empty."}}
EXTERNAL = {"424": problem("The files are in somebody else's container, which does not exist or refuses this server.")}
UNAVAILABLE = {"503": problem("The database or the file store cannot be reached. The request may be repeated.")}


ANNOUNCED: Json = {"api-supported-versions": header("ApiSupportedVersions")}
"""Headers of every answer below a version."""


def operation(tag: str, operation_id: str, summary: str, responses: Json, **more: Any) -> Json:
    """One operation below a version; all its answers name the versions."""
    announced = {
        status: {**answer, "headers": {**answer.get("headers", {}), **ANNOUNCED}}
        for status, answer in responses.items()
    }
    return {"tags": [tag], "operationId": operation_id, "summary": summary, **more, "responses": announced}

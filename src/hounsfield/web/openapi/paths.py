"""The operations of the OpenAPI documents, with their parameters, answers and headers."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hounsfield.index.attributes import SEARCHABLE
from hounsfield.index.instances import Level
from hounsfield.web.openapi import schemas
from hounsfield.web.openapi.schemas import CAST_TABLES, Json, array, ref
from hounsfield.web.request_body import CONTENT_CODINGS

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
JSON = "application/json"

_STUDIES = "/studies"
_STUDY = "/studies/{studyInstanceUid}"
_SERIES = _STUDY + "/series/{seriesInstanceUid}"
_INSTANCE = _SERIES + "/instances/{sopInstanceUid}"

_BINARY = {"type": "string", "format": "binary"}

PARTITION_TAGS = {"Partitions": "Separate sets of studies on one server."}
"""Further tags of a server with data partitions."""

TAGS = {
    "Store": "STOW-RS: instances into the archive.",
    "Query": "QIDO-RS: searches.",
    "Retrieve": "WADO-RS: files, frames and metadata.",
    "Delete": "Studies, series and instances out of the archive.",
    "ChangeFeed": "The ordered log of everything stored and deleted.",
    "Cast": "DICOM Cast: the copy of the metadata in a FHIR server.",
    "Capabilities": "What the service can do (PS3.18 §8.9).",
    "Health": "The state of the server.",
}


def _uid(name: str, keyword: str) -> Json:
    schema = {"type": "string", "maxLength": 64, "pattern": "^[0-9.]*[0-9]$"}
    return {"name": name, "in": "path", "required": True, "description": f"{keyword}.", "schema": schema}


def _query(name: str, description: str, **schema: Any) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


PARAMETERS: Json = {
    "studyInstanceUid": _uid("studyInstanceUid", "StudyInstanceUID"),
    "seriesInstanceUid": _uid("seriesInstanceUid", "SeriesInstanceUID"),
    "sopInstanceUid": _uid("sopInstanceUid", "SOPInstanceUID"),
    "frames": {
        "name": "frames",
        "in": "path",
        "required": True,
        "description": "Frame numbers from 1, separated by commas; frames come in this order.",
        "schema": {"type": "string", "pattern": "^[0-9]+(,[0-9]+)*$"},
        "example": "1,3",
    },
    "ifNoneMatch": {
        "name": "If-None-Match",
        "in": "header",
        "description": "ETag of an earlier answer, as it was sent or quoted, several, or *.",
        "schema": {"type": "string"},
    },
    "contentEncoding": {
        "name": "Content-Encoding",
        "in": "header",
        "description": "How the body is compressed, if it is.",
        "schema": {"type": "string", "enum": ["gzip", "deflate", "zstd"]},
    },
    "limit": _query("limit", "Largest number of results.", type="integer", minimum=1, maximum=200, default=100),
    "offset": _query("offset", "Results to skip.", type="integer", format="int64", minimum=0, default=0),
    "fuzzyMatching": _query(
        "fuzzymatching",
        "Person names match when the words asked for are beginnings of consecutive words of the name.",
        type="boolean",
        default=False,
    ),
    "includeField": {
        **_query(
            "includefield",
            "Further attributes to return, by keyword or eight hexadecimal digits, or `all`; comma lists and "
            "repetition are allowed.",
            type="array",
            items={"type": "string"},
        ),
        "example": ["SeriesDescription"],
    },
    "includeMetadata": _query(
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
    "ErroneousDicomAttributes": {
        "description": "Attributes filtered by whose index is incomplete, as the client wrote them, comma separated.",
        "schema": {"type": "string"},
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


def _parameter(name: str) -> Json:
    return {"$ref": f"#/components/parameters/{name}"}


def _header(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


def _response(description: str, content: Json | None = None, headers: Mapping[str, str] | None = None) -> Json:
    named = {name: _header(component) for name, component in (headers or {}).items()}
    return (
        {"description": description} | ({"headers": named} if named else {}) | ({"content": content} if content else {})
    )


def _json(media_type: str, schema: Json, example: Any) -> Json:
    return {media_type: {"schema": schema, "example": example}}


_TEXT = {"schema": {"type": "string"}}


def _problem(description: str) -> Json:
    # The server sends text/plain; the reference's documents say application/json, and clients were generated from that.
    return {"description": f"{description} The body is one sentence.", "content": {"text/plain": _TEXT, JSON: _TEXT}}


_BAD_UID = {"400": _problem("A UID in the path is not one.")}
_BAD_QUERY = {"400": _problem("A query parameter is unknown, invalid or given twice, or a UID in the path is not one.")}
_NOT_FOUND = {"404": _problem("There is no such study, series, instance or frame.")}
_NO_DICOM_JSON = {"406": {"description": "Accept does not allow application/dicom+json. The body is empty."}}
_EXTERNAL = {
    "424": _problem("The files are in somebody else's container, which does not exist or refuses this server.")
}
_UNAVAILABLE = {"503": _problem("The database or the file store cannot be reached. The request may be repeated.")}


ANNOUNCED: Json = {"api-supported-versions": _header("ApiSupportedVersions")}
"""Headers of every answer below a version."""


def _operation(tag: str, operation_id: str, summary: str, responses: Json, **more: Any) -> Json:
    """One operation below a version; all its answers name the versions."""
    announced = {
        status: {**answer, "headers": {**answer.get("headers", {}), **ANNOUNCED}}
        for status, answer in responses.items()
    }
    return {"tags": [tag], "operationId": operation_id, "summary": summary, **more, "responses": announced}


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


def partitioned_paths(major: int) -> Json:
    """What versioned_paths becomes where data partitions are on (server.md §4)."""
    paths: Json = {}
    for path, item in versioned_paths(major).items():
        if path == "/" or path.startswith("/changefeed"):
            paths[path] = item
        else:
            parameters = [_parameter("partitionName"), *item.get("parameters", ())]
            paths[f"/partitions/{{partitionName}}{path}"] = item | {"parameters": parameters}
    content = _json(JSON, array("Partition", "Oldest first."), [schemas.PARTITION])
    responses = {"200": _response("All of them.", content), **_UNAVAILABLE}
    paths["/partitions"] = {
        "get": _operation("Partitions", "GetPartitions", "List the data partitions", responses),
    }
    return paths


def versioned_paths(major: int) -> Json:
    """Path items of API version 1 (also 1.0-prerelease) or 2, paths without the version segment."""
    paths: dict[str, Json] = {}
    groups = (
        _store(major),
        _search(major),
        _files(),
        _metadata(major),
        _delete(),
        _change_feed(major),
        _capabilities(),
    )
    for operations in groups:
        for path, method, operation in operations:
            item = paths.setdefault(path, {})
            names = re.findall(r"{(\w+)}", path)
            if names:
                item["parameters"] = [_parameter(name) for name in names]
            item[method] = operation
    return paths


_Operations = Iterator[tuple[str, str, Json]]


def _store(major: int) -> _Operations:
    def answer(description: str, *, stored: bool, failed: bool) -> Json:
        example = schemas.store_response(major, stored=stored, failed=failed)
        content = _json(DICOM_JSON, ref("Dataset"), example)
        return _response(description, content, {"Warning": "Warning"} if stored else None)

    warned = "" if major == 1 else ", or all were and some with a warning"
    common: Json = {
        "parameters": [_parameter("contentEncoding")],
        "requestBody": {
            "required": True,
            "description": "One DICOM file; or several, as parts of type application/dicom; or metadata and bulk data "
            f'(`multipart/related; type="{DICOM_JSON}"`): the first part is an array of datasets in the DICOM JSON '
            "Model, and each BulkDataURI in it the Content-Location of another part. Those are application/"
            "octet-stream, or for Pixel Data of the media type of a transfer syntax; frames of compressed Pixel Data "
            "are parts of their own, at the BulkDataURI followed by `/frames/1` and so on.",
            "content": {
                "multipart/related": {"schema": _BINARY},
                DICOM: {"schema": _BINARY},
            },
        },
    }
    for path, operation_id, summary in (
        (_STUDIES, "StoreInstance", "Store instances"),
        (_STUDY, "StoreInstancesInStudy", "Store instances of one study"),
    ):
        responses = {
            "200": answer("All instances were stored.", stored=True, failed=False),
            "202": answer(f"Some instances were stored{warned}.", stored=True, failed=True),
            "204": _response("The request held no instance."),
            "400": _problem(
                "The body is malformed or incomplete, its metadata and parts do not fit together, or the UID in the "
                "path is not one."
            ),
            **_NO_DICOM_JSON,
            "409": answer("No instance was stored.", stored=False, failed=True),
            "413": _problem("An instance is larger than this server accepts, or the body grows too much when decoded."),
            "415": _problem(
                "The body, or a part of it, is of a type or encoding that is not supported; the body of the answer may "
                "be empty."
            )
            | {"headers": {"Accept-Encoding": _header("AcceptEncoding")}},
            **_EXTERNAL,
            **_UNAVAILABLE,
        }
        yield path, "post", _operation("Store", operation_id, summary, responses, **common)


def _search(major: int) -> _Operations:
    defaults = "a wide default set of attributes" if major == 1 else "a short default set of attributes"
    description = (
        f"Newest first. A result has {defaults}, those filtered by, the UIDs of the path, and those named by "
        "includefield. Attributes may also be named by eight hexadecimal digits. All filters must match; dates may be "
        "ranges (`20240101-20240131`, `20240101-`, `-20240131`)."
    )
    for path, level, operation_id, summary in (
        (_STUDIES, Level.STUDY, "QueryStudies", "Search for studies"),
        ("/series", Level.SERIES, "QuerySeries", "Search for series"),
        ("/instances", Level.INSTANCE, "QueryInstances", "Search for instances"),
        (_STUDY + "/series", Level.SERIES, "QuerySeriesInStudy", "Search for series of a study"),
        (_STUDY + "/instances", Level.INSTANCE, "QueryInstancesInStudy", "Search for instances of a study"),
        (_SERIES + "/instances", Level.INSTANCE, "QueryInstancesInSeries", "Search for instances of a series"),
    ):
        taken = {"StudyInstanceUID": "studyInstanceUid" in path, "SeriesInstanceUID": "seriesInstanceUid" in path}
        parameters = [_parameter(name) for name in ("limit", "offset", "fuzzyMatching", "includeField")]
        parameters += [
            _query(attribute.keyword, f"Filter on ({attribute.tag[:4]},{attribute.tag[4:]}).", type="string")
            for attribute in SEARCHABLE
            if attribute.level.value <= level.value and not taken.get(attribute.keyword)
        ]
        header = {"erroneous-dicom-attributes": "ErroneousDicomAttributes"}
        found = _json(DICOM_JSON, array("Dataset", "The matches."), [schemas.DATASET])
        responses = {
            "200": _response("There are matches.", found, header),
            "204": _response("There are none.", headers=header),
            **_BAD_QUERY,
            **_NO_DICOM_JSON,
            **_UNAVAILABLE,
        }
        more = {"description": description, "parameters": parameters}
        yield path, "get", _operation("Query", operation_id, summary, responses, **more)


def _files() -> _Operations:
    multipart = {"multipart/related": {"schema": _BINARY}}
    syntaxes = (
        "`transfer-syntax=*` in Accept asks for files as they were stored, a UID for that syntax; without it "
        "Explicit VR Little Endian is sent. "
    )
    refused = {"406": _problem("Accept allows nothing that can be sent, or an instance cannot be transcoded.")}
    for path, operation_id, what, content, description in (
        (_STUDY, "RetrieveStudy", "the instances of a study", multipart, syntaxes),
        (_SERIES, "RetrieveSeries", "the instances of a series", multipart, syntaxes),
        (_INSTANCE, "RetrieveInstance", "an instance", {DICOM: {"schema": _BINARY}, **multipart}, syntaxes),
        (
            _INSTANCE + "/frames/{frames}",
            "RetrieveFrame",
            "frames of an instance",
            {**multipart, "application/octet-stream": {"schema": _BINARY}},
            "`application/octet-stream` in Accept asks for uncompressed samples, with `transfer-syntax=*` for the "
            "bytes as they were stored. A single part holds one frame. ",
        ),
    ):
        responses = {
            "200": _response("Each part names its transfer syntax in its Content-Type.", content),
            **_BAD_UID,
            **_NOT_FOUND,
            **refused,
            **_EXTERNAL,
            **_UNAVAILABLE,
        }
        more = {"description": description + "`*/*`, or no Accept, gets what was stored, as multipart/related."}
        yield path, "get", _operation("Retrieve", operation_id, f"Retrieve {what}", responses, **more)


def _metadata(major: int) -> _Operations:
    dropped = "" if major == 1 else " Attributes that were invalid when stored through v2 are left out."
    for path, operation_id, level in (
        (_STUDY, "RetrieveStudyMetadata", "study"),
        (_SERIES, "RetrieveSeriesMetadata", "series"),
        (_INSTANCE, "RetrieveInstanceMetadata", "instance"),
    ):
        content = _json(DICOM_JSON, array("Dataset", "One dataset for each instance."), [schemas.METADATA])
        responses = {
            "200": _response("The datasets without bulk data.", content, {"ETag": "ETag"}),
            "304": _response("Unchanged since the answer with that ETag."),
            **_BAD_UID,
            **_NOT_FOUND,
            **_NO_DICOM_JSON,
            **_UNAVAILABLE,
        }
        more = {
            "description": f"Attributes of VR OB, OD, OF, OL, OV, OW and UN are left out.{dropped}",
            "parameters": [_parameter("ifNoneMatch")],
        }
        summary = f"Retrieve the metadata of {'an' if level == 'instance' else 'a'} {level}"
        yield path + "/metadata", "get", _operation("Retrieve", operation_id, summary, responses, **more)


def _delete() -> _Operations:
    for path, operation_id, what in (
        (_STUDY, "DeleteStudy", "a study"),
        (_SERIES, "DeleteSeries", "a series"),
        (_INSTANCE, "DeleteInstance", "an instance"),
    ):
        responses = {"204": _response("Deleted."), **_BAD_UID, **_NOT_FOUND, **_UNAVAILABLE}
        yield path, "delete", _operation("Delete", operation_id, f"Delete {what}", responses)


def _change_feed(major: int) -> _Operations:
    entries = _json(JSON, array("ChangeFeedEntry", "In order of sequence."), [schemas.CHANGE])
    big = {"type": "integer", "format": "int64", "minimum": 0, "default": 0}
    if major == 1:
        description = "The entries with `offset < sequence <= offset + limit`. Fewer than `limit` do not mean the end."
        window = [
            _query("offset", "Sequence after which to begin.", **big),
            _query("limit", "Width of the window.", type="integer", minimum=1, maximum=100, default=10),
        ]
    else:
        description = "The entries of a span of time. Fewer than `limit` mean that the span holds no more."
        window = [
            _query("startTime", "Begin, included. With a time zone.", type="string", format="date-time"),
            _query("endTime", "End, excluded. With a time zone.", type="string", format="date-time"),
            _query("offset", "Entries of the span to skip.", **big),
            _query("limit", "Largest number of entries.", type="integer", minimum=1, maximum=200, default=100),
        ]
    bad = {"400": _problem("A query parameter is invalid.")}
    responses = {"200": _response("The entries, perhaps none.", entries), **bad, **_UNAVAILABLE}
    more = {"description": description, "parameters": [*window, _parameter("includeMetadata")]}
    yield "/changefeed", "get", _operation("ChangeFeed", "GetChangeFeed", "Read changes", responses, **more)

    newest = _json(JSON, ref("ChangeFeedEntry"), schemas.CHANGE)
    responses = {
        "200": _response("The newest entry.", newest),
        "204": _response("The feed is empty."),
        **bad,
        **_UNAVAILABLE,
    }
    more = {"parameters": [_parameter("includeMetadata")]}
    summary = "Read the newest change"
    yield (
        "/changefeed/latest",
        "get",
        _operation("ChangeFeed", "GetLatestChange", summary, responses, **more),
    )


def _capabilities() -> _Operations:
    described = _response(
        "A WADL document, or the same tree as JSON.",
        {
            "application/vnd.sun.wadl+xml": {"schema": {"type": "string"}},
            JSON: {"schema": {"type": "object", "required": ["application"]}},
        },
    )
    responses = {"200": described, "406": {"description": "Accept allows neither. The body is empty."}}
    description = "OPTIONS of any other resource describes that one and what is below it."
    for method, operation_id in (("get", "RetrieveCapabilities"), ("options", "RetrieveCapabilitiesByOptions")):
        summary = "Describe what this service can do"
        more = {"description": description}
        yield "/", method, _operation("Capabilities", operation_id, summary, responses, **more)


def unversioned_paths() -> Json:
    """Path items outside the versions."""
    report = _json(JSON, ref("HealthReport"), schemas.HEALTH)
    table = _query("table", "Which errors.", type="string", enum=CAST_TABLES) | {"required": True}

    def get(tag: str, operation_id: str, summary: str, responses: Json, **more: Any) -> Json:
        return {"get": {"tags": [tag], "operationId": operation_id, "summary": summary, **more, "responses": responses}}

    return {
        "/health/check": get(
            "Health",
            "CheckHealth",
            "Whether the server can work",
            {"200": _response("Healthy or degraded.", report), "503": _response("Unhealthy.", report)},
        ),
        "/statistics": get(
            "Health",
            "GetStatistics",
            "How much the archive holds",
            {"200": _response("The figures.", _json(JSON, ref("Statistics"), schemas.STATISTICS)), **_UNAVAILABLE},
        ),
        "/metrics": get(
            "Health",
            "GetMetrics",
            "Figures for Prometheus",
            {"200": _response("The figures.", {"text/plain": _TEXT}), **_UNAVAILABLE},
        ),
        "/cast/status": get(
            "Cast",
            "GetCastStatus",
            "How far the FHIR server has been brought",
            {"200": _response("The state.", _json(JSON, ref("CastStatus"), schemas.CAST_STATUS)), **_UNAVAILABLE},
        ),
        "/cast/errors": get(
            "Cast",
            "ListCastErrors",
            "Entries that could not be written to FHIR",
            {
                "200": _response("One page.", _json(JSON, ref("CastErrors"), schemas.CAST_ERRORS)),
                "400": _problem("The table is missing or unknown, or the limit or token is invalid."),
                **_UNAVAILABLE,
            },
            parameters=[
                table,
                _query("limit", "Largest number of errors.", type="integer", minimum=1, maximum=1000, default=100),
                _query("continuationToken", "From the page before.", type="string"),
            ],
        ),
    }

"""The operations of the OpenAPI documents below a version."""

import re
from collections.abc import Iterator

from hounsfield.index.attributes import SEARCHABLE
from hounsfield.index.instances import Level
from hounsfield.web.openapi import schemas
from hounsfield.web.openapi.components import (
    BAD_QUERY,
    BAD_UID,
    BINARY,
    DICOM,
    DICOM_JSON,
    EXTERNAL,
    INSTANCE,
    JSON,
    NO_DICOM_JSON,
    NOT_FOUND,
    SERIES,
    STUDY,
    UNAVAILABLE,
    header,
    json_content,
    operation,
    parameter,
    problem,
    query,
    response,
)
from hounsfield.web.openapi.export import export_operations
from hounsfield.web.openapi.extended_query_tags import tag_operations
from hounsfield.web.openapi.operations import operation_operations
from hounsfield.web.openapi.rendered import rendered_operations, wado_uri_operation
from hounsfield.web.openapi.retrieval import retrieve_operations
from hounsfield.web.openapi.schemas import Json, array, ref
from hounsfield.web.openapi.update import update_operations
from hounsfield.web.openapi.workitem_subscriptions import subscription_operations
from hounsfield.web.openapi.workitems import workitem_operations

PARTITION_TAGS = {"Partitions": "Separate sets of studies on one server."}
"""Further tags of a server with data partitions."""

TAGS = {
    "Store": "STOW-RS: instances into the archive.",
    "Query": "QIDO-RS: searches.",
    "Retrieve": "WADO-RS: files, frames, metadata, bulk data and pictures; WADO-URI.",
    "Update": "Attributes of whole studies, set anew.",
    "Delete": "Studies, series and instances out of the archive.",
    "ChangeFeed": "The ordered log of everything stored and deleted.",
    "ExtendedQueryTag": "Attributes that are made searchable.",
    "Worklist": "UPS-RS: workitems (PS3.18 §11).",
    "Export": "Copies of files somewhere else.",
    "Operations": "Long-running work in the background.",
    "Cast": "DICOM Cast: the copy of the metadata in a FHIR server.",
    "Capabilities": "What the service can do (PS3.18 §8.9).",
    "Health": "The state of the server.",
}

_STUDIES = "/studies"


def is_since_1(path: str) -> bool:
    """Whether version 1.0-prerelease lacks a path."""
    return path.endswith("/export")


def partitioned_paths(major: int) -> Json:
    """What versioned_paths becomes where data partitions are on (server.md §4)."""
    paths: Json = {}
    for path, item in versioned_paths(major).items():
        if path == "/" or path.startswith(("/changefeed", "/extendedquerytags", "/operations")):
            paths[path] = item
        else:
            parameters = [parameter("partitionName"), *item.get("parameters", ())]
            paths[f"/partitions/{{partitionName}}{path}"] = item | {"parameters": parameters}
    content = json_content(JSON, array("Partition", "Oldest first."), [schemas.PARTITION])
    responses = {"200": response("All of them.", content), **UNAVAILABLE}
    paths["/partitions"] = {
        "get": operation("Partitions", "GetPartitions", "List the data partitions", responses),
    }
    return paths


def versioned_paths(major: int) -> Json:
    """Path items of API version 1 (also 1.0-prerelease) or 2, paths without the version segment."""
    paths: dict[str, Json] = {}
    groups = (
        _store(major),
        _search(major),
        retrieve_operations(major),
        rendered_operations(STUDY, SERIES, INSTANCE),
        wado_uri_operation(),
        update_operations() if major > 1 else iter(()),
        _delete(),
        _change_feed(major),
        tag_operations(major),
        export_operations(major),
        operation_operations(major),
        workitem_operations(),
        subscription_operations(),
        _capabilities(),
    )
    for operations in groups:
        for path, method, described in operations:
            item = paths.setdefault(path, {})
            names = re.findall(r"{(\w+)}", path)
            if names:
                item["parameters"] = [parameter(name) for name in names]
            item[method] = described
    return paths


_Operations = Iterator[tuple[str, str, Json]]


def _store(major: int) -> _Operations:
    def answer(description: str, *, stored: bool, failed: bool) -> Json:
        example = schemas.store_response(major, stored=stored, failed=failed)
        content = json_content(DICOM_JSON, ref("Dataset"), example)
        return response(description, content, {"Warning": "Warning"} if stored else None)

    warned = "" if major == 1 else ", or all were and some with a warning"
    common: Json = {
        "parameters": [parameter("contentEncoding")],
        "requestBody": {
            "required": True,
            "description": "One DICOM file; or several, as parts of type application/dicom; or metadata and bulk data "
            f'(`multipart/related; type="{DICOM_JSON}"`): the first part is an array of datasets in the DICOM JSON '
            "Model, and each BulkDataURI in it the Content-Location of another part. Those are application/"
            "octet-stream, or for Pixel Data of the media type of a transfer syntax; frames of compressed Pixel Data "
            "are parts of their own, at the BulkDataURI followed by `/frames/1` and so on.",
            "content": {
                "multipart/related": {"schema": BINARY},
                DICOM: {"schema": BINARY},
            },
        },
    }
    for path, operation_id, summary in (
        (_STUDIES, "StoreInstance", "Store instances"),
        (STUDY, "StoreInstancesInStudy", "Store instances of one study"),
    ):
        responses = {
            "200": answer("All instances were stored.", stored=True, failed=False),
            "202": answer(f"Some instances were stored{warned}.", stored=True, failed=True),
            "204": response("The request held no instance."),
            "400": problem(
                "The body is malformed or incomplete, its metadata and parts do not fit together, or the UID in the "
                "path is not one."
            ),
            **NO_DICOM_JSON,
            "409": answer("No instance was stored.", stored=False, failed=True),
            "413": problem("An instance is larger than this server accepts, or the body grows too much when decoded."),
            "415": problem(
                "The body, or a part of it, is of a type or encoding that is not supported; the body of the answer may "
                "be empty."
            )
            | {"headers": {"Accept-Encoding": header("AcceptEncoding")}},
            **EXTERNAL,
            **UNAVAILABLE,
        }
        yield path, "post", operation("Store", operation_id, summary, responses, **common)


_SEARCH_PARAMETERS = (
    "limit",
    "offset",
    "cursor",
    "count",
    "fuzzyMatching",
    "emptyValueMatching",
    "multipleValueMatching",
    "includeField",
)


def _numbers(path: str) -> str:
    """The tags of a path as the standard writes them."""
    return ", ".join(f"({tag[:4]},{tag[4:]})" for tag in path.split("."))


def _search(major: int) -> _Operations:
    defaults = "a wide default set of attributes" if major == 1 else "a short default set of attributes"
    description = (
        f"Newest first. A result has {defaults}, those filtered by, the UIDs of the path, and those named by "
        "includefield. Attributes may also be named by eight hexadecimal digits. All filters must match; dates and "
        "times may be ranges (`20240101-20240131`, `20240101-`, `-20240131`), `*` and `?` are wild cards in texts and "
        "names, UIDs and ModalitiesInStudy may be comma lists."
    )
    for path, level, operation_id, summary in (
        (_STUDIES, Level.STUDY, "QueryStudies", "Search for studies"),
        ("/series", Level.SERIES, "QuerySeries", "Search for series"),
        ("/instances", Level.INSTANCE, "QueryInstances", "Search for instances"),
        (STUDY + "/series", Level.SERIES, "QuerySeriesInStudy", "Search for series of a study"),
        (STUDY + "/instances", Level.INSTANCE, "QueryInstancesInStudy", "Search for instances of a study"),
        (SERIES + "/instances", Level.INSTANCE, "QueryInstancesInSeries", "Search for instances of a series"),
    ):
        taken = {"StudyInstanceUID": "studyInstanceUid" in path, "SeriesInstanceUID": "seriesInstanceUid" in path}
        parameters = [parameter(name) for name in _SEARCH_PARAMETERS]
        parameters += [
            query(attribute.keyword, f"Filter on {_numbers(attribute.tag)}.", type="string")
            for attribute in SEARCHABLE
            if attribute.level.value <= level.value and not taken.get(attribute.keyword)
        ]
        header = {"erroneous-dicom-attributes": "ErroneousDicomAttributes"}
        found = json_content(DICOM_JSON, array("Dataset", "The matches."), [schemas.DATASET])
        responses = {
            "200": response("There are matches.", found, header),
            "204": response("There are none.", headers=header),
            **BAD_QUERY,
            **NO_DICOM_JSON,
            **UNAVAILABLE,
        }
        more = {"description": description, "parameters": parameters}
        yield path, "get", operation("Query", operation_id, summary, responses, **more)


def _delete() -> _Operations:
    for path, operation_id, what in (
        (STUDY, "DeleteStudy", "a study"),
        (SERIES, "DeleteSeries", "a series"),
        (INSTANCE, "DeleteInstance", "an instance"),
    ):
        responses = {"204": response("Deleted."), **BAD_UID, **NOT_FOUND, **UNAVAILABLE}
        yield path, "delete", operation("Delete", operation_id, f"Delete {what}", responses)


def _change_feed(major: int) -> _Operations:
    entries = json_content(JSON, array("ChangeFeedEntry", "In order of sequence."), [schemas.CHANGE])
    big = {"type": "integer", "format": "int64", "minimum": 0, "default": 0}
    if major == 1:
        description = "The entries with `offset < sequence <= offset + limit`. Fewer than `limit` do not mean the end."
        window = [
            query("offset", "Sequence after which to begin.", **big),
            query("limit", "Width of the window.", type="integer", minimum=1, maximum=100, default=10),
        ]
    else:
        description = "The entries of a span of time. Fewer than `limit` mean that the span holds no more."
        window = [
            query("startTime", "Begin, included. With a time zone.", type="string", format="date-time"),
            query("endTime", "End, excluded. With a time zone.", type="string", format="date-time"),
            query("offset", "Entries of the span to skip.", **big),
            query("limit", "Largest number of entries.", type="integer", minimum=1, maximum=200, default=100),
        ]
    bad = {"400": problem("A query parameter is invalid.")}
    responses = {"200": response("The entries, perhaps none.", entries), **bad, **UNAVAILABLE}
    more = {"description": description, "parameters": [*window, parameter("includeMetadata")]}
    yield "/changefeed", "get", operation("ChangeFeed", "GetChangeFeed", "Read changes", responses, **more)

    newest = json_content(JSON, ref("ChangeFeedEntry"), schemas.CHANGE)
    responses = {
        "200": response("The newest entry.", newest),
        "204": response("The feed is empty."),
        **bad,
        **UNAVAILABLE,
    }
    more = {"parameters": [parameter("includeMetadata")]}
    summary = "Read the newest change"
    yield (
        "/changefeed/latest",
        "get",
        operation("ChangeFeed", "GetLatestChange", summary, responses, **more),
    )


def _capabilities() -> _Operations:
    described = response(
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
        yield "/", method, operation("Capabilities", operation_id, summary, responses, **more)

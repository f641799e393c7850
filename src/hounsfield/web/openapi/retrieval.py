"""The retrieval operations of the OpenAPI documents."""

from collections.abc import Iterator, Mapping

from hounsfield.web.openapi import schemas
from hounsfield.web.openapi.components import (
    BAD_UID,
    BINARY,
    DICOM,
    DICOM_JSON,
    EXTERNAL,
    INSTANCE,
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
    response,
)
from hounsfield.web.openapi.schemas import Json, array

Operations = Iterator[tuple[str, str, Json]]
"""Path, method and operation."""


def retrieve_operations(major: int) -> Operations:
    """Files, frames, metadata and bulk data."""
    yield from _files()
    yield from _metadata(major)
    yield from _bulk_data()


def _ranged(responses: Json, media_types: Mapping[str, Json]) -> Json:
    """The answers of an operation that serves ranges."""
    headers = {"Content-Range": "ContentRange"}
    unsatisfiable = problem("The range begins behind the last byte.")
    return responses | {
        "206": response("The range of bytes that was asked for.", dict(media_types), headers),
        "416": unsatisfiable | {"headers": {"Content-Range": header("ContentRange")}},
    }


_MULTIPART: Json = {"multipart/related": {"schema": BINARY}}
_ZIP: Json = {"application/zip": {"schema": BINARY}}
_OCTETS: Json = {"application/octet-stream": {"schema": BINARY}}


def _files() -> Operations:
    syntaxes = (
        "`transfer-syntax=*` in Accept asks for files as they were stored, a UID for that syntax; without it "
        "Explicit VR Little Endian is sent. "
    )
    zipped = "`application/zip` gets them as a zip file, as they were stored unless a syntax is named. "
    refused = {"406": problem("Accept allows nothing that can be sent, or an instance cannot be transcoded.")}
    file: Json = {DICOM: {"schema": BINARY}}
    for path, operation_id, what, content, ranged, description in (
        (STUDY, "RetrieveStudy", "the instances of a study", _MULTIPART | _ZIP, None, syntaxes + zipped),
        (SERIES, "RetrieveSeries", "the instances of a series", _MULTIPART | _ZIP, None, syntaxes + zipped),
        (INSTANCE, "RetrieveInstance", "an instance", file | _MULTIPART | _ZIP, file, syntaxes + zipped),
        (
            INSTANCE + "/frames/{frames}",
            "RetrieveFrame",
            "frames of an instance",
            _MULTIPART | _OCTETS,
            _OCTETS,
            "`application/octet-stream` in Accept asks for uncompressed samples, with `transfer-syntax=*` for the "
            "bytes as they were stored. A single part holds one frame. `multipart/related` of `image/jp2`, "
            "`image/jpeg`, `image/jls`, `image/jphc`, `image/jxl` and `image/dicom-rle` asks for compressed frames. ",
        ),
    ):
        responses = {
            "200": response("Each part names its transfer syntax in its Content-Type.", content),
            **BAD_UID,
            **NOT_FOUND,
            **refused,
            **EXTERNAL,
            **UNAVAILABLE,
        }
        parameters = [parameter("accept")] + ([parameter("range")] if ranged else [])
        parameters += [] if "frames" in path else [parameter("requestOriginal")]
        if ranged:
            responses = _ranged(responses, ranged)
        more = {
            "description": description + "`*/*`, or no Accept, gets what was stored, as multipart/related.",
            "parameters": parameters,
        }
        yield path, "get", operation("Retrieve", operation_id, f"Retrieve {what}", responses, **more)


def _bulk_data() -> Operations:
    refused = {"406": problem("Accept allows nothing that can be sent, or pixel data cannot be decoded.")}
    description = (
        "Values of OB, OD, OF, OL, OV, OW and UN. They come in little endian order; `transfer-syntax=*` asks for them "
        "as they were stored. Compressed pixel data have the media type of their transfer syntax, each frame in a part "
        "of its own. Each part has its address in its Content-Location."
    )
    for path, operation_id, what in (
        (STUDY, "RetrieveStudyBulkData", "a study"),
        (SERIES, "RetrieveSeriesBulkData", "a series"),
        (INSTANCE, "RetrieveInstanceBulkData", "an instance"),
    ):
        responses = {
            "200": response("All values.", _MULTIPART),
            **BAD_UID,
            "404": problem("There is no such study, series or instance, or no bulk data in it."),
            **refused,
            **EXTERNAL,
            **UNAVAILABLE,
        }
        more = {"description": description, "parameters": [parameter("accept")]}
        summary = f"Retrieve all bulk data of {what}"
        yield path + "/bulkdata", "get", operation("Retrieve", operation_id, summary, responses, **more)
    anything: Json = {"*/*": {"schema": BINARY}}
    answers = {
        "200": response("The value.", _OCTETS | _MULTIPART | anything),
        "400": problem("The path of the value, or a UID in the path, is not one."),
        "404": problem("There is no such instance, value or frame."),
        **refused,
        **EXTERNAL,
        **UNAVAILABLE,
    }
    more = {
        "description": f"{description} An encapsulated PDF comes as `application/pdf` to those who accept that.",
        "parameters": [parameter("accept"), parameter("range")],
    }
    responses = _ranged(answers, _OCTETS | anything)
    summary = "Retrieve a bulk data value"
    path = INSTANCE + "/bulkdata/{attribute}"
    yield path, "get", operation("Retrieve", "RetrieveBulkData", summary, responses, **more)


def _metadata(major: int) -> Operations:
    dropped = "" if major == 1 else " Attributes that were invalid when stored through v2 are left out."
    for path, operation_id, level in (
        (STUDY, "RetrieveStudyMetadata", "study"),
        (SERIES, "RetrieveSeriesMetadata", "series"),
        (INSTANCE, "RetrieveInstanceMetadata", "instance"),
    ):
        content = json_content(DICOM_JSON, array("Dataset", "One dataset for each instance."), [schemas.METADATA])
        responses = {
            "200": response("The datasets without bulk data.", content, {"ETag": "ETag"}),
            "304": response("Unchanged since the answer with that ETag."),
            **BAD_UID,
            **NOT_FOUND,
            **NO_DICOM_JSON,
            **UNAVAILABLE,
        }
        more = {
            "description": f"Attributes of VR OB, OD, OF, OL, OV, OW and UN are left out.{dropped}",
            "parameters": [parameter("bulkData"), parameter("ifNoneMatch"), parameter("requestOriginal")],
        }
        summary = f"Retrieve the metadata of {'an' if level == 'instance' else 'a'} {level}"
        yield path + "/metadata", "get", operation("Retrieve", operation_id, summary, responses, **more)

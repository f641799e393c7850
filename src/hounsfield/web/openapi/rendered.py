"""Rendered resources, thumbnails and WADO-URI in the OpenAPI documents."""

from collections.abc import Iterator

from hounsfield.dicom.rendering.options import DOCUMENTS, MAX_VIEWPORT, PDF, PICTURES, WindowFunction
from hounsfield.web.openapi.components import (
    BINARY,
    DICOM,
    EXTERNAL,
    NOT_FOUND,
    TEXT,
    UNAVAILABLE,
    operation,
    parameter,
    problem,
    query,
    response,
)
from hounsfield.web.openapi.schemas import Json

_UID = {"type": "string", "maxLength": 64, "pattern": "^[0-9.]*[0-9]$"}
_QUALITY: Json = {"type": "integer", "minimum": 1, "maximum": 100}
_SIDE: Json = {"type": "integer", "minimum": 1, "maximum": MAX_VIEWPORT}

RENDERED_PARAMETERS: Json = {
    "frame": {
        "name": "frame",
        "in": "path",
        "required": True,
        "description": "A frame number from 1.",
        "schema": {"type": "integer", "minimum": 1},
        "example": 1,
    },
    "quality": query("quality", "Quality of JPEG, WebP and JPEG XL.", **_QUALITY),
    "window": {
        **query(
            "window",
            "Values of a grey image to show: center, width and, if wanted, one of "
            f"{', '.join(function.value for function in WindowFunction)}. Otherwise the image's own window.",
            type="string",
        ),
        "example": "40,400",
    },
    "viewport": {
        **query(
            "viewport",
            "Width and height of a box for the picture to fit in; if wanted also left, top, width and height of the "
            "part of the image to show there, negative sizes mirroring it.",
            type="string",
        ),
        "example": "256,256",
    },
    "annotation": query(
        "annotation",
        "What to write into the picture: `patient`, `technique`. Overlays are drawn then, too.",
        type="string",
    ),
    "iccProfile": query(
        "iccprofile", "Whether a colour picture holds an ICC profile.", type="string", enum=["no", "yes", "srgb"]
    ),
    "charset": query("charset", "Character set of a text.", type="string", default="utf-8"),
}
"""Parameters of rendered resources."""

RENDERED_HEADERS: Json = {
    "ThumbnailETag": {
        "description": "Changes when another instance stands for the study or series.",
        "schema": {"type": "string"},
        "example": '"15"',
    },
}

_BAD = {"400": problem("A UID, frame or query parameter is invalid.")}
_REFUSED = {"406": problem("Accept allows nothing that can be sent, or the instance is too large or cannot be drawn.")}
_COMMON = {**_BAD, **NOT_FOUND, **_REFUSED, **EXTERNAL, **UNAVAILABLE}
_MULTIPART = {"multipart/related": {"schema": BINARY}}
_VIDEOS = {media_type: {"schema": BINARY} for media_type in ("video/mp4", "video/mpeg")}
_PICTURES = {media_type: {"schema": BINARY} for media_type in PICTURES}
_DOCUMENTS = {media_type: {"schema": BINARY} if media_type == PDF else TEXT for media_type in DOCUMENTS}

Operations = Iterator[tuple[str, str, Json]]


def rendered_operations(study: str, series: str, instance: str) -> Operations:
    """Operations at the paths of the levels and of a frame."""
    parameters = [parameter(name) for name in RENDERED_PARAMETERS if name != "frame"]
    frame = instance + "/frames/{frame}"
    for path, name, what in (
        (study, "Study", "a study"),
        (series, "Series", "a series"),
        (instance, "Instance", "an instance"),
        (frame, "Frame", "a frame"),
    ):
        if path in (study, series):
            description = (
                "One picture that stands for all; with `multipart/related` in Accept, every instance that can be drawn."
            )
            content = {**_PICTURES, **_DOCUMENTS, **_MULTIPART}
        else:
            description = (
                "Accept names one media type; `image/jpeg` is the default, of reports `text/html`, of encapsulated "
                "documents `application/pdf`. A GIF of an instance shows all its frames. A video comes as stored."
            )
            content = _PICTURES if path == frame else {**_PICTURES, **_DOCUMENTS, **_VIDEOS}
        responses = {"200": response("The picture.", content), **_COMMON}
        more = {"description": description, "parameters": parameters}
        yield (
            f"{path}/rendered",
            "get",
            operation("Retrieve", f"RetrieveRendered{name}", f"Draw {what}", responses, **more),
        )

    for path, name, what in (
        (study, "Study", "a study"),
        (series, "Series", "a series"),
        (instance, "Instance", "an instance"),
        (frame, "Frame", "a frame"),
    ):
        responses = {
            "200": response("The picture.", _PICTURES, {"ETag": "ThumbnailETag"}),
            "304": response("Unchanged since the answer with that ETag.", headers={"ETag": "ThumbnailETag"}),
            **_COMMON,
        }
        more = {
            "description": "At most 128 pixels a side unless a viewport is given. Shows nothing about the patient.",
            "parameters": [*parameters, parameter("ifNoneMatch")],
        }
        summary = f"Small picture that stands for {what}"
        yield f"{path}/thumbnail", "get", operation("Retrieve", f"Retrieve{name}Thumbnail", summary, responses, **more)


def wado_uri_operation() -> Operations:
    """WADO-URI."""
    parameters = [
        query("requestType", "Always WADO.", type="string", enum=["WADO"]) | {"required": True},
        *(
            query(name, f"{keyword}InstanceUID.", **_UID) | {"required": True}
            for name, keyword in (("studyUID", "Study"), ("seriesUID", "Series"), ("objectUID", "SOP"))
        ),
        query("contentType", "Media types that are wanted, best first.", type="string"),
        query("transferSyntax", f"Of {DICOM}: the UID of a transfer syntax.", type="string"),
        query("frameNumber", "A frame number from 1.", type="integer", minimum=1),
        query("imageQuality", "Quality of JPEG, WebP and JPEG XL.", **_QUALITY),
        query("windowCenter", "Middle of the values to show; with windowWidth.", type="number"),
        query("windowWidth", "Width of the values to show; with windowCenter.", type="number"),
        query("rows", "Height of the picture at most.", **_SIDE),
        query("columns", "Width of the picture at most.", **_SIDE),
        query("region", "Left, top, right and bottom of the part to show, as shares of the image.", type="string"),
        parameter("annotation"),
        parameter("charset"),
    ]
    content = {DICOM: {"schema": BINARY}, **_PICTURES, **_DOCUMENTS}
    responses = {"200": response("The picture, document or file.", content), **_COMMON}
    more = {
        "description": "Without contentType: a JPEG of a single-frame image, a page of a report, an encapsulated "
        "document itself, and else the file. Version 2 also answers at `/wado`, without a version.",
        "parameters": parameters,
    }
    yield (
        "/wado",
        "get",
        operation("Retrieve", "WadoUri", "Retrieve an instance by query parameters", responses, **more),
    )

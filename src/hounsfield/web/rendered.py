"""Rendered and thumbnail resources of studies, series, instances and frames (retrieve.md §8, PS3.18 §10.4)."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from hounsfield.archive import rendering, retrieve
from hounsfield.archive.archive import Archive
from hounsfield.dicom.rendering.options import DOCUMENTS, HTML, PICTURES, Options, Picture, Viewport
from hounsfield.errors import BadRequest, NotAcceptable
from hounsfield.index.instances import InstancePath, Level, StoredInstance
from hounsfield.security.roles import DataAction
from hounsfield.storage.object_store import Buffer
from hounsfield.web import accept_parameter
from hounsfield.web.api_route import ApiRoute, Handler
from hounsfield.web.bulk_data import video_stream, video_type
from hounsfield.web.etags import matches
from hounsfield.web.multipart_response import Framing, MultipartResponse, Part
from hounsfield.web.negotiation import ANY, MediaRange, parse_accept
from hounsfield.web.rendered_parameters import integer, options, parameter, quality
from hounsfield.web.uids import instance_path
from hounsfield.web.versions import service_root

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAME = _INSTANCE + "/frames/{frame}"

THUMBNAIL_SIDE = 128
"""Pixels of the longer side of a thumbnail, unless a viewport is given."""
THUMBNAIL_QUALITY = 85
"""JPEG quality of a thumbnail, unless one is given."""
_DEFAULT_QUALITY = 100
_WILDCARDS = (ANY, "image/*")
_VIDEOS = ("video/mp4", "video/mpeg", "video/*")
"""Of an instance that is stored as one. Nothing here decodes them, but browsers play what is in them."""
_LIST = 3
"""Media types of an Accept header that only a browser sends; two are a client's mistake (retrieve.md [H] 2)."""
_STYLES_ONLY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"


def rendered_routes(archive: Archive) -> list[ApiRoute]:
    """Routes of rendered resources and thumbnails at every level."""

    async def one(request: Request) -> ASGIApp:
        return await _rendered(archive, request)

    async def many(request: Request) -> ASGIApp:
        return await _all_rendered(archive, request)

    async def thumbnail(request: Request) -> ASGIApp:
        return await _thumbnail(archive, request)

    def route(path: str, handle: Handler, action: str) -> ApiRoute:
        return ApiRoute(
            path, handle, "GET", path[1:], data_action=DataAction.READ, audit_action=f"retrieve-{action}"
        )  # fmt: skip

    return [
        *(route(f"{path}/rendered", many, "rendered") for path in (_STUDY, _SERIES)),
        *(route(f"{path}/rendered", one, "rendered") for path in (_INSTANCE, _FRAME)),
        *(route(f"{path}/thumbnail", thumbnail, "thumbnail") for path in (_STUDY, _SERIES, _INSTANCE, _FRAME)),
    ]


async def _rendered(archive: Archive, request: Request) -> ASGIApp:
    path, number, wanted = _asked(request, _DEFAULT_QUALITY)
    accepted = accepted_media_types(parse_accept(accept_parameter.accepted(request)), *_VIDEOS)
    (instance,) = await retrieve.find(archive, path)
    video = video_type(instance)
    if video is not None and number is None and any(kind in (video, ANY, "video/*") for kind in accepted):
        return await video_stream(archive, request, instance, video)
    return answer(await rendering.picture(archive, instance, number, accepted, wanted))


async def _all_rendered(archive: Archive, request: Request) -> ASGIApp:
    path, _, wanted = _asked(request, _DEFAULT_QUALITY)
    ranges = parse_accept(accept_parameter.accepted(request))
    for entry in ranges:
        if entry.multipart and _is_wanted(entry.media_type):
            found = await retrieve.find(archive, path)
            framing = Framing()
            parts = _parts(archive, request, found, [entry.media_type], wanted)
            return MultipartResponse(framing, framing.around(parts), length=None)
    accepted = accepted_media_types(ranges)
    found = await rendering.representing(archive, path)
    return answer(await rendering.first_picture(archive, found, None, accepted, wanted))


async def _parts(
    archive: Archive, request: Request, found: Sequence[StoredInstance], accepted: Sequence[str], wanted: Options
) -> AsyncGenerator[Part, None]:
    root = service_root(request)
    async for instance, picture in rendering.pictures(archive, found, accepted, wanted):
        location = (
            f"{root}/studies/{instance.study_uid}/series/{instance.series_uid}/instances/{instance.sop_uid}/rendered"
        )
        yield Part(picture.content_type, _one(picture.body), len(picture.body), location)


async def _one(body: Buffer) -> AsyncIterator[Buffer]:
    yield body


async def _thumbnail(archive: Archive, request: Request) -> ASGIApp:
    path, number, wanted = _asked(request, THUMBNAIL_QUALITY)
    accepted = [entry.media_type for entry in parse_accept(accept_parameter.accepted(request)) if not entry.multipart]
    accepted = [kind for kind in accepted if kind in PICTURES or kind in _WILDCARDS]
    if not accepted:
        raise NotAcceptable("The specified Accept header is not supported.")
    box = wanted.viewport or Viewport(THUMBNAIL_SIDE, THUMBNAIL_SIDE)
    # Whoever may see that there is a study may not be one to know whose it is (PS3.18 §10.4.1.1.5).
    wanted = replace(wanted, viewport=box, annotation=frozenset(), icon=True)
    if path.level is Level.INSTANCE:
        found = await retrieve.find(archive, path)
    else:
        found = await rendering.representing(archive, path)
    etag = f'"{found[0].version}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache", "Vary": "Accept"}
    if matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    picture = await rendering.first_picture(
        archive, found, rendering.MIDDLE if number is None else number, accepted, wanted
    )
    return answer(picture, headers)


def _asked(request: Request, default_quality: int) -> tuple[InstancePath, int | None, Options]:
    """Path, frame number and options of a request, checked in the order of retrieve.md §2. Raises BadRequest."""
    frame = request.path_params.get("frame")
    number = None if frame is None else _frame_number(frame)
    given = parameter(request, "quality")
    percent = default_quality if given is None else integer("quality", given)
    path = instance_path(request)
    if number is not None and number < 1:
        raise BadRequest("The specified frame is not valid. Frame numbers begin with 1.")
    return path, number, options(request, quality("quality", percent))


def _frame_number(text: str) -> int:
    try:
        return integer("frame", text.strip(" "))
    except BadRequest:
        raise BadRequest("The specified frame is not valid. It must be one frame number.") from None


def accepted_media_types(ranges: Sequence[MediaRange], *others: str) -> list[str]:
    """What one rendered instance may be sent as, best first: pictures, documents and ``others``. Raises NotAcceptable.

    One media type, or a browser's list, which is long and ends with ``*/*`` (retrieve.md §8, [H] 2).
    """
    kinds = [entry.media_type for entry in ranges if not entry.multipart]
    kinds = [kind for kind in kinds if kind in others or _is_wanted(kind)]
    if len(ranges) > 1 and (len(ranges) < _LIST or ANY not in kinds):
        raise NotAcceptable("The specified Accept header is not supported. Name one media type.")
    if not kinds:
        raise NotAcceptable("The specified Accept header is not supported.")
    return kinds


def _is_wanted(media_type: str) -> bool:
    return media_type in PICTURES or media_type in DOCUMENTS or media_type in (*_WILDCARDS, "text/*")


def answer(picture: Picture, headers: dict[str, str] | None = None) -> Response:
    """The response that sends a picture or document."""
    headers = headers or {}
    if picture.content_type.startswith(HTML):
        headers["Content-Security-Policy"] = _STYLES_ONLY
    # Given as a header: Starlette would add a character set to text.
    return Response(picture.body, headers={"Content-Type": picture.content_type, **headers})

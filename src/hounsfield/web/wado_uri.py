"""WADO-URI: one instance, named by query parameters (PS3.18 §9)."""

from contextlib import suppress

from starlette.requests import Request
from starlette.types import ASGIApp

from hounsfield.archive import rendering, retrieve
from hounsfield.archive.archive import Archive
from hounsfield.dicom import uid
from hounsfield.dicom.rendering.options import DOCUMENTS, JPEG, PICTURES, Options, Viewport, Window
from hounsfield.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from hounsfield.errors import BadRequest, NotAcceptable, NotFound
from hounsfield.index.frames import spans
from hounsfield.index.instances import InstancePath, StoredInstance
from hounsfield.security.roles import DataAction
from hounsfield.web.api_route import ApiRoute, partition_of
from hounsfield.web.negotiation import ANY, DICOM, ORIGINAL, parse_accept
from hounsfield.web.rendered import answer
from hounsfield.web.rendered_parameters import (
    annotation,
    charset,
    decimals,
    integer,
    invalid,
    parameter,
    quality,
    side,
    windowed,
)
from hounsfield.web.retrieve import single_part

WADO_URI = "/wado"
_UIDS = ("studyUID", "seriesUID", "objectUID")
_OF_PICTURES = (
    "frameNumber", "imageQuality", "windowCenter", "windowWidth", "rows", "columns", "region", "annotation",
)  # fmt: skip
"""Parameters that say nothing about a DICOM file."""
_RENDERED = (*PICTURES, *DOCUMENTS, "image/*", "text/*")


def wado_uri_route(archive: Archive) -> ApiRoute:
    """The route below a version, also in a data partition."""

    async def handle(request: Request) -> ASGIApp:
        return await _answer(archive, request)

    return ApiRoute(
        WADO_URI, handle, "GET", "WADO-URI", data_action=DataAction.READ, audit_action="retrieve-wado-uri"
    )  # fmt: skip


async def _answer(archive: Archive, request: Request) -> ASGIApp:
    given = {name.lower() for name, _ in request.query_params.multi_items()}
    path = _path(request)
    _refuse(given)
    frame = _number(request, "frameNumber")
    if frame is not None and frame < 1:
        raise invalid("frameNumber", "Frame numbers begin with 1.")
    wanted = _options(request)
    kinds = _media_types(request, frame)
    only_file = bool(kinds) and set(kinds) == {DICOM}
    for name in _OF_PICTURES:
        if only_file and name.lower() in given:
            raise invalid(name, f"It does not go with contentType {DICOM}.")
    if kinds and DICOM not in kinds and "transfersyntax" in given:
        raise invalid("transferSyntax", f"It goes with contentType {DICOM} only.")
    (instance,) = await retrieve.find(archive, path)
    kinds = kinds or await _usual(archive, instance)
    for kind in kinds[:-1]:
        with suppress(NotAcceptable, NotFound):
            return await _as(archive, request, instance, kind, frame, wanted)
    return await _as(archive, request, instance, kinds[-1], frame, wanted)


async def _usual(archive: Archive, instance: StoredInstance) -> list[str]:
    """What is sent if the client leaves it open (PS3.18 §9.1.2.2.1).

    A picture of a single-frame image; of a report, a document or a waveform what it is rendered as; else the file.
    """
    found = await spans(archive.database, instance.version, [1])
    if found is None:
        return [ANY, DICOM]
    return [JPEG] if found[0].count == 1 else [DICOM]


async def _as(
    archive: Archive, request: Request, instance: StoredInstance, kind: str, frame: int | None, wanted: Options
) -> ASGIApp:
    if kind != DICOM:
        return answer(await rendering.picture(archive, instance, frame, [kind], wanted))
    # What cannot be had in the transfer syntax asked for comes in the default one (§9.1.2.2.2), at worst as it is.
    syntax = parameter(request, "transferSyntax") or EXPLICIT_VR_LITTLE_ENDIAN
    try:
        return await single_part(archive, request, instance, [syntax, EXPLICIT_VR_LITTLE_ENDIAN, ORIGINAL])
    except NotAcceptable:  # its pixels turn out to be damaged
        return await single_part(archive, request, instance, [ORIGINAL])


def _path(request: Request) -> InstancePath:
    """The instance the parameters name. Raises BadRequest."""
    if (parameter(request, "requestType") or "").upper() != "WADO":
        raise invalid("requestType", "It must be WADO.")
    uids = []
    for name in _UIDS:
        value = parameter(request, name)
        if value is None:
            raise BadRequest(f"The query parameter '{name}' is missing.")
        if not uid.is_valid(value):
            raise invalid(name, "It is not a UID: at most 64 characters of '0'-'9' and '.', the last one a digit.")
        uids.append(uid.normalise(value))
    return InstancePath(partition_of(request).key, *uids)


def _refuse(given: set[str]) -> None:
    """Wishes that would change what is shown, and that are not fulfilled here. Raises BadRequest."""
    if "anonymize" in given:
        raise invalid("anonymize", "This server does not remove what identifies a patient from instances it sends.")
    if "presentationuid" in given or "presentationseriesuid" in given:
        raise invalid("presentationUID", "This server does not apply presentation states.")


def _media_types(request: Request, frame: int | None) -> list[str]:
    """What is asked for, best first; nothing if that is left open. Raises NotAcceptable.

    ``contentType`` says it, else an Accept header that does not allow everything (browsers' headers do).
    """
    text = parameter(request, "contentType")
    wished = parse_accept([text] if text else request.headers.getlist("accept"))
    kinds = [entry.media_type for entry in wished if not entry.multipart]
    if ANY in (kinds[:1] if text else kinds):
        return [] if frame is None else [ANY]
    known = [kind for kind in kinds if kind in (DICOM, ANY) or kind in _RENDERED]
    if not known:
        raise NotAcceptable("The specified contentType or Accept header is not supported.")
    return known


def _options(request: Request) -> Options:
    percent = _number(request, "imageQuality")
    labels, letters = parameter(request, "annotation"), parameter(request, "charset")
    return Options(
        quality=100 if percent is None else quality("imageQuality", percent),
        window=_window(request),
        viewport=_viewport(request),
        annotation=frozenset() if labels is None else annotation("annotation", labels),
        charset="utf-8" if letters is None else charset("charset", letters),
    )


def _window(request: Request) -> Window | None:
    center, width = parameter(request, "windowCenter"), parameter(request, "windowWidth")
    if center is None and width is None:
        return None
    if center is None or width is None:
        raise BadRequest("The query parameters 'windowCenter' and 'windowWidth' go together.")
    return windowed("windowWidth", decimals("windowCenter", center, 1)[0], decimals("windowWidth", width, 1)[0])


def _viewport(request: Request) -> Viewport | None:
    rows, columns = parameter(request, "rows"), parameter(request, "columns")
    region = parameter(request, "region")
    height = None if rows is None else side("rows", rows)
    width = None if columns is None else side("columns", columns)
    if region is None:
        return None if rows is None and columns is None else Viewport(width, height)
    left, top, right, bottom = decimals("region", region, 4)
    if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
        raise invalid("region", "It must be left, top, right and bottom as shares of the image, from 0 to 1.")
    return Viewport(width, height, left, top, right - left, bottom - top, fractions=True)


def _number(request: Request, name: str) -> int | None:
    text = parameter(request, name)
    return None if text is None else integer(name, text)

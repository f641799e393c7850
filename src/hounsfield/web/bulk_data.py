"""WADO-RS bulk data: binary values of an instance, one by one or all of them (PS3.18 §10.4.1.1.5)."""

import re
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.types import ASGIApp

from hounsfield.archive import bulk_data, frames, retrieve
from hounsfield.archive.archive import Archive
from hounsfield.archive.bulk_data import Content
from hounsfield.dicom.dataset_reader import BulkValue, Path
from hounsfield.dicom.part10 import BulkData
from hounsfield.dicom.transcode import CannotTranscode
from hounsfield.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES
from hounsfield.errors import BadRequest, NotAcceptable, NotFound
from hounsfield.index import frames as frame_positions
from hounsfield.index.instances import StoredInstance
from hounsfield.security.roles import DataAction
from hounsfield.storage.object_store import Buffer
from hounsfield.web.accept_parameter import accepted
from hounsfield.web.api_route import ApiRoute, Handler
from hounsfield.web.bulk_metadata import instance_url, value_url
from hounsfield.web.multipart_response import Framing, MultipartResponse, Part
from hounsfield.web.negotiation import ANY, OCTET_STREAM, ORIGINAL, MediaRange, parse_accept
from hounsfield.web.ranges import asked_span
from hounsfield.web.streamed_response import StreamedResponse, gathered
from hounsfield.web.uids import instance_path
from hounsfield.web.versions import service_root

_PIXEL_DATA = "7FE00010"
_DOCUMENT, _DOCUMENT_TYPE, _DOCUMENT_LENGTH = "00420011", "00420012", "00420015"
_SAFE_DOCUMENTS = frozenset(("application/pdf", "model/mtl", "model/obj", "model/stl"))
"""Documents sent as what they are. Others are application/octet-stream: a browser might run what is in them."""
_VIDEO = "video/"
_VALUE = re.compile(
    r"((?:[0-9A-F]{8}/[1-9][0-9]{0,8}/)*)([0-9A-F]{8})(?:/frames/([1-9][0-9]{0,9}(?:,[1-9][0-9]{0,9})*))?", re.I
)


def bulk_data_routes(archive: Archive, levels: Sequence[str]) -> list[ApiRoute]:
    """Routes of all bulk data below the paths of ``levels``, and of single values below the last."""

    async def everything(request: Request) -> ASGIApp:
        return await _everything(archive, request)

    async def single(request: Request) -> ASGIApp:
        return await _single(archive, request)

    def route(path: str, handle: Handler) -> ApiRoute:
        name = f"bulk data {path}"
        return ApiRoute(path, handle, "GET", name, data_action=DataAction.READ, audit_action="retrieve")

    return [
        *(route(f"{path}/bulkdata", everything) for path in levels),
        route(f"{levels[-1]}/bulkdata/{{attribute:path}}", single),
    ]


@dataclass(frozen=True, slots=True)
class _Offer:
    """One way to send a value: its media type, the transfer syntax (empty for a document), and what each part holds.

    ``original``: the bytes are as stored. ``parts`` is None for pixel data that have to be decoded first.
    """

    media_type: str
    transfer_syntax: str
    original: bool
    parts: Sequence[Content] | None

    @property
    def content_type(self) -> str:
        """As a header."""
        return f"{self.media_type}; transfer-syntax={self.transfer_syntax}" if self.transfer_syntax else self.media_type

    def suits(self, entry: MediaRange) -> bool:
        """Whether an entry of Accept allows it."""
        if entry.media_type not in (self.media_type, ANY, f"{self.media_type.partition('/')[0]}/*"):
            return False
        if entry.transfer_syntax == ORIGINAL:
            return self.original
        if entry.transfer_syntax is not None:
            return entry.transfer_syntax == self.transfer_syntax or not self.transfer_syntax
        return entry.media_type != OCTET_STREAM or self.transfer_syntax == EXPLICIT_VR_LITTLE_ENDIAN


async def _offers(archive: Archive, instance: StoredInstance, data: BulkData, value: BulkValue) -> list[_Offer]:
    """How a value can be sent; what goes to those who take anything comes first."""
    if value.fragments is None:
        little = bulk_data.content(instance, data, value)
        stored = bulk_data.content(instance, data, value, as_stored=True)
        offers = [
            _Offer(OCTET_STREAM, EXPLICIT_VR_LITTLE_ENDIAN, False, [little]),
            _Offer(OCTET_STREAM, instance.transfer_syntax, True, [stored]),
        ]
        document = _document_type(data) if value.key == _DOCUMENT and not value.path else None
        return [_Offer(document, "", True, [_unpadded(data, stored)]), *offers] if document else offers
    syntax = TRANSFER_SYNTAXES.get(instance.transfer_syntax)
    media_type = (syntax.frame_media_type if syntax else None) or OCTET_STREAM
    parts, frames_known = await _frames_of(archive, instance, data, value, whole=media_type.startswith(_VIDEO))
    offers = [_Offer(name, instance.transfer_syntax, True, parts) for name in dict.fromkeys((media_type, OCTET_STREAM))]
    if frames_known:
        offers.append(_Offer(OCTET_STREAM, EXPLICIT_VR_LITTLE_ENDIAN, False, None))
    return offers


def _document_type(data: BulkData) -> str | None:
    named = data.dataset.get(_DOCUMENT_TYPE, {}).get("Value", [""])[0]
    return named.lower() if isinstance(named, str) and named.lower() in _SAFE_DOCUMENTS else None


def _unpadded(data: BulkData, document: Content) -> Content:
    """An encapsulated document without the byte that made its length even (PS3.3 §C.24.2)."""
    padded = data.dataset.get(_DOCUMENT_LENGTH, {}).get("Value", [None])[0] == document.size - 1
    return replace(document, size=document.size - 1) if padded else document


async def _frames_of(
    archive: Archive, instance: StoredInstance, data: BulkData, value: BulkValue, *, whole: bool
) -> tuple[list[Content], bool]:
    """The frames of encapsulated pixel data, or all of a video, and whether the index knows the frames."""
    content = bulk_data.content(instance, data, value)
    found = None
    if value.key == _PIXEL_DATA and not value.path:
        found = await frame_positions.spans(archive.database, instance.version, [1])
    if found is None:
        return [content], False
    count = found[0].count
    if whole or count == 1:
        return [content], True
    found = await frame_positions.spans(archive.database, instance.version, range(1, count + 1))
    assert found is not None
    contents = []
    fragments = iter(content.pieces)
    fragment = next(fragments, None)
    for start, length in found[1]:
        pieces = []
        while fragment is not None and fragment[0] < start + length:
            pieces.append(fragment)
            fragment = next(fragments, None)
        contents.append(replace(content, pieces=pieces, size=sum(size for _, size in pieces)))
    return contents, True


def _chosen(offers: Sequence[_Offer], accept: Iterable[MediaRange]) -> tuple[_Offer, bool]:
    """The best offer, and whether it goes as multipart. Raises NotAcceptable."""
    for entry in accept:
        for offer in offers:
            several = offer.parts is not None and len(offer.parts) != 1
            if offer.suits(entry) and (entry.multipart or not several or entry.media_type == ANY):
                return offer, entry.multipart or several
    raise NotAcceptable("The specified Accept header is not supported.")


async def _single(archive: Archive, request: Request) -> ASGIApp:
    path, key, numbers = parse_value_path(request.path_params["attribute"])
    (instance,) = await retrieve.find(archive, instance_path(request))
    data = await bulk_data.find(archive, instance)
    value = _value(data, path, key)
    offers = await _offers(archive, instance, data, value)
    if numbers is not None:
        offers = [_frames_only(offer, numbers) for offer in offers]
    offer, multipart = _chosen(offers, parse_accept(accepted(request)))
    url = value_url(instance_url(service_root(request), instance), value)
    if multipart:
        framing = Framing()
        parts = await _parts(archive, instance, offer, url, numbers)
        return MultipartResponse(framing, framing.around(_each(parts)), length=framing.length_of(parts))
    if offer.parts is None:
        return StreamedResponse(await _decoded(archive, instance, numbers), offer.content_type)
    (content,) = offer.parts
    return _streamed(archive, request, content, offer.content_type)


async def video_stream(archive: Archive, request: Request, instance: StoredInstance, media_type: str) -> ASGIApp:
    """The pixel data of a video as stored, or the range of them that is asked for. Raises NotFound."""
    data = await bulk_data.find(archive, instance)
    content = bulk_data.content(instance, data, _value(data, (), _PIXEL_DATA))
    return _streamed(archive, request, content, media_type)


def video_type(instance: StoredInstance) -> str | None:
    """The media type of an instance whose pixel data are a video."""
    syntax = TRANSFER_SYNTAXES.get(instance.transfer_syntax)
    media_type = (syntax.frame_media_type if syntax else None) or ""
    return media_type if media_type.startswith(_VIDEO) else None


def _value(data: BulkData, path: Path, key: str) -> BulkValue:
    # The last of elements that are there twice counts, as in the metadata.
    value = next((value for value in reversed(data.values) if (value.path, value.key) == (path, key)), None)
    if value is None:
        raise NotFound("The specified bulk data cannot be found.")
    return value


def _streamed(archive: Archive, request: Request, content: Content, content_type: str) -> StreamedResponse:
    span = asked_span(request, content.size)
    pieces = bulk_data.chunks(archive, content, span.offset, span.length)
    return StreamedResponse(pieces, content_type, length=span.length, status=span.status, headers=span.headers)


def parse_value_path(text: str) -> tuple[Path, str, list[int] | None]:
    """Where a value is, its tag, and the numbers of the frames that are wanted of it, if not all. Raises BadRequest."""
    found = _VALUE.fullmatch(text)
    if found is None:
        raise BadRequest("The path of the bulk data is not valid. Write tag, or tag/item/tag with items from 1.")
    steps = found[1].upper().strip("/").split("/") if found[1] else []
    path = tuple((key, int(item) - 1) for key, item in zip(steps[::2], steps[1::2], strict=True))
    return path, found[2].upper(), [int(number) for number in found[3].split(",")] if found[3] else None


def _frames_only(offer: _Offer, numbers: Sequence[int]) -> _Offer:
    if offer.parts is None:
        return offer
    if max(numbers) > len(offer.parts):
        raise NotFound("The specified frame cannot be found.")
    return replace(offer, parts=[offer.parts[number - 1] for number in numbers])


async def _parts(
    archive: Archive, instance: StoredInstance, offer: _Offer, url: str, numbers: Sequence[int] | None
) -> list[Part]:
    """The parts of one value. Frames are at addresses of their own, where a value has several."""
    if offer.parts is None:
        return [Part(offer.content_type, await _decoded(archive, instance, numbers), None, url)]
    several = numbers is not None or len(offer.parts) > 1
    return [
        Part(
            offer.content_type,
            bulk_data.chunks(archive, content, 0, content.size),
            content.size,
            f"{url}/frames/{number}" if several else url,
        )
        for number, content in zip(numbers or range(1, len(offer.parts) + 1), offer.parts, strict=True)
    ]


async def _each(parts: Sequence[Part]) -> AsyncGenerator[Part, None]:
    for part in parts:
        yield part


async def _decoded(
    archive: Archive, instance: StoredInstance, numbers: Sequence[int] | None
) -> AsyncGenerator[Buffer, None]:
    """Frames as Explicit VR Little Endian has them, one behind another; all if none are named.

    Raises CannotTranscode, and NotFound for a frame that is not there.
    """
    if numbers is None:
        found = await frame_positions.spans(archive.database, instance.version, [1])
        if found is None:
            raise NotFound("The specified frame cannot be found.")
        numbers = range(1, found[0].count + 1)
    _, plan = await frames.plan(archive, instance, numbers, [frames.Target(EXPLICIT_VR_LITTLE_ENDIAN)])

    async def bodies() -> AsyncGenerator[Buffer, None]:
        async for body in frames.read(archive, plan):
            yield body

    return bodies()


async def _everything(archive: Archive, request: Request) -> ASGIApp:
    path = instance_path(request)
    entries = [
        replace(entry, multipart=True)
        for entry in parse_accept(accepted(request))
        if entry.media_type == ANY or (entry.multipart and entry.media_type == OCTET_STREAM)
        if entry.transfer_syntax in (None, ORIGINAL, EXPLICIT_VR_LITTLE_ENDIAN)
    ]
    if not entries:
        raise NotAcceptable("The specified Accept header is not supported.")
    found = await retrieve.find(archive, path)
    entry = await _possible(archive, found, entries)
    _, files = await retrieve.plan(archive, found, [ORIGINAL])
    await retrieve.require_files(archive, files)
    framing = Framing()
    parts = _parts_of_all(archive, found, entry, service_root(request))
    return MultipartResponse(framing, gathered(framing.around(parts)), length=None)


async def _possible(archive: Archive, found: Sequence[StoredInstance], entries: Sequence[MediaRange]) -> MediaRange:
    """The first entry all pixel data can be sent in. Raises CannotTranscode for the client's first choice."""
    refusal: CannotTranscode | None = None
    for entry in entries:
        if entry.transfer_syntax == ORIGINAL or (entry.media_type == ANY and entry.transfer_syntax is None):
            return entry
        try:
            for instance in found:
                await _require_decodable(archive, instance)
        except CannotTranscode as error:
            refusal = refusal or error
        else:
            return entry
    assert refusal is not None
    raise refusal


async def _require_decodable(archive: Archive, instance: StoredInstance) -> None:
    syntax = TRANSFER_SYNTAXES.get(instance.transfer_syntax)
    if syntax is not None and syntax.encapsulated:
        with suppress(NotFound):  # no frames, nothing to decode
            await frames.plan(archive, instance, [1], [frames.Target(EXPLICIT_VR_LITTLE_ENDIAN)])


async def _parts_of_all(
    archive: Archive, found: Sequence[StoredInstance], entry: MediaRange, root: str
) -> AsyncGenerator[Part, None]:
    """The parts of every value that is not empty. Raises NotFound where there is none."""
    empty = True
    for instance in found:
        data = await bulk_data.find(archive, instance)
        for value in data.values:
            if not value.length:
                continue
            offers = await _offers(archive, instance, data, value)
            try:
                offer, _ = _chosen(offers, [entry])
            except NotAcceptable:
                offer = offers[0]  # an icon, say, of which nobody knows how it is to be decoded
            for part in await _parts(archive, instance, offer, value_url(instance_url(root, instance), value), None):
                empty = False
                yield part
    if empty:
        raise NotFound("There is no bulk data.")

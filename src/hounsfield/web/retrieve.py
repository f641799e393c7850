"""WADO-RS: studies, series, instances, frames and metadata (retrieve.md)."""

import re
from collections.abc import AsyncIterator, Sequence

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp

from hounsfield.archive import frames, retrieve
from hounsfield.archive.archive import Archive
from hounsfield.archive.delete import not_found
from hounsfield.archive.retrieve import File
from hounsfield.errors import BadRequest
from hounsfield.index import metadata
from hounsfield.index.instances import InstancePath, Level, StoredInstance
from hounsfield.security.roles import DataAction
from hounsfield.storage.descriptor import FileRange
from hounsfield.storage.object_store import Buffer
from hounsfield.web import negotiation
from hounsfield.web.api_route import ApiRoute, Handler
from hounsfield.web.etags import matches
from hounsfield.web.file_response import SENT_BY_SERVER, BytesResponse, FileRangeResponse, sends_files
from hounsfield.web.multipart_response import PART_END, Framing, MultipartResponse, Part, whole_multipart
from hounsfield.web.negotiation import DICOM_JSON, parse_accept, require_dicom_json
from hounsfield.web.uids import instance_path

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"

PACKED_BYTES = 1280 * 1024
"""Files that are in memory are sent several in one message up to this size: more leave the processor's cache."""
PACKED_FILES = 256

_FRAME_LIST = re.compile(r" *[+-]?\d{1,10} *(?:, *[+-]?\d{1,10} *)*")


def retrieve_routes(archive: Archive) -> list[ApiRoute]:
    """Routes of files, frames and metadata at every level."""

    async def files(request: Request) -> ASGIApp:
        return await _files(archive, request)

    async def frame_list(request: Request) -> ASGIApp:
        return await _frames(archive, request)

    async def metadata_of(request: Request) -> Response:
        return await _metadata(archive, request)

    levels = (_STUDY, _SERIES, _INSTANCE)

    def route(path: str, handle: Handler, name: str, audit_action: str) -> ApiRoute:
        return ApiRoute(path, handle, "GET", name, data_action=DataAction.READ, audit_action=audit_action)

    return [
        *(route(path, files, f"retrieve {path}", "retrieve") for path in levels),
        *(route(f"{path}/metadata", metadata_of, f"metadata {path}", "retrieve-metadata") for path in levels),
        route(f"{_INSTANCE}/frames/{{frames}}", frame_list, "frames", "retrieve"),
    ]


async def _files(archive: Archive, request: Request) -> ASGIApp:
    path = instance_path(request)
    accept = parse_accept(request.headers.getlist("accept"))
    forms = negotiation.files(accept, single_part=path.level is Level.INSTANCE)
    found = await retrieve.find(archive, path)
    choice, planned = await retrieve.plan(archive, found, [form.transfer_syntax for form in forms])
    if not forms[choice].multipart:
        return await _single(archive, planned[0], sends_files(request.scope))
    framing = Framing()
    by_server = sends_files(request.scope)
    if len(planned) == 1 and not (by_server and _is_large(planned[0])):
        packed, count = _pack(archive, planned, 0, framing)
        if count:
            packed += framing.end
            return BytesResponse(packed, framing.content_type)
    await retrieve.require_files(archive, planned)
    sizes = [(_content_type(file), file.size) for file in planned if file.size is not None]
    length = framing.length(sizes) if len(sizes) == len(planned) else None
    return MultipartResponse(framing, _pieces(archive, planned, framing, by_server), length=length)


def _content_type(file: File) -> str:
    return f"{negotiation.DICOM}; transfer-syntax={file.transfer_syntax}"


async def _pieces(
    archive: Archive, planned: Sequence[File], framing: Framing, by_server: bool
) -> AsyncIterator[Buffer | FileRange]:
    sent = 0
    while by_server and sent < len(planned) and _is_large(planned[sent]):
        file = planned[sent]
        assert file.size is not None
        part = archive.files.open_range(file.instance.file_key, 0, file.size)
        if part is None:
            break
        yield (PART_END if sent else b"") + framing.head(_content_type(file))
        yield part
        sent += 1
    if sent:
        yield PART_END
    while sent < len(planned):
        packed, following = _pack(archive, planned, sent, framing)
        if following == sent:
            break
        yield packed
        sent = following
    # A file that is not in memory is seldom alone, so the rest is read in threads, ahead of what is being sent.
    async for piece in framing.around(_parts(archive, planned[sent:])):
        yield piece


def _is_large(file: File) -> bool:
    return file.size is not None and file.size >= SENT_BY_SERVER


def _pack(archive: Archive, planned: Sequence[File], start: int, framing: Framing) -> tuple[bytearray, int]:
    """Framed parts of the files from ``start``, as many as are at hand and small, and where the next one begins.

    Read straight to their place: another copy would cost as much as the reading.
    """
    heads: list[bytes] = []
    total = 0
    for file in planned[start : start + PACKED_FILES]:
        if file.size is None or file.size > retrieve.AT_HAND_BYTES:
            break
        head = framing.head(_content_type(file))
        size = len(head) + file.size + len(PART_END)
        if heads and total + size > PACKED_BYTES:
            break
        heads.append(head)
        total += size
    packed = bytearray(total)
    view = memoryview(packed)
    position = 0
    for head in heads:
        file = planned[start]
        assert file.size is not None
        begin = position + len(head)
        end = begin + file.size
        if not archive.files.at_hand(file.instance.file_key, 0, view[begin:end]):
            break
        view[position:begin] = head
        position = end + len(PART_END)
        view[end:position] = PART_END
        start += 1
    view.release()
    del packed[position:]
    return packed, start


async def _parts(archive: Archive, planned: Sequence[File]) -> AsyncIterator[Part]:
    async for file, chunks in retrieve.contents(archive, planned):
        yield Part(_content_type(file), chunks)


async def single_part(
    archive: Archive, request: Request, instance: StoredInstance, syntaxes: Sequence[str]
) -> ASGIApp:
    """The file of an instance, in the first of ``syntaxes`` it can be had in. Raises CannotTranscode (406)."""
    _, planned = await retrieve.plan(archive, [instance], syntaxes)
    return await _single(archive, planned[0], sends_files(request.scope))


async def _single(archive: Archive, file: File, by_server: bool) -> ASGIApp:
    content_type = _content_type(file)
    key = file.instance.file_key
    if by_server and _is_large(file):
        assert file.size is not None
        await retrieve.require_files(archive, [file])
        part = archive.files.open_range(key, 0, file.size)
        if part is not None:
            return FileRangeResponse(part, content_type)
    if file.size is None:
        made = await retrieve.converted(archive, file)
        headers = {"content-length": str(made.size)}
        return StreamingResponse(made.chunks(), headers=headers, media_type=content_type)
    if (cached := retrieve.at_hand(archive, key, 0, file.size)) is not None:
        return BytesResponse(cached, content_type)
    await retrieve.require_files(archive, [file])
    headers = {"content-length": str(file.size)}
    return StreamingResponse(archive.files.get(key), headers=headers, media_type=content_type)


async def _frames(archive: Archive, request: Request) -> ASGIApp:
    numbers = frame_numbers(request.path_params["frames"])
    path = instance_path(request)
    if min(numbers) < 1:
        raise BadRequest("The specified frames are not valid. Frame numbers begin with 1.")
    forms = negotiation.frames(parse_accept(request.headers.getlist("accept")))
    if not forms[0].multipart and len(numbers) > 1:
        raise BadRequest("Several frames can only be sent as multipart/related.")
    found = await retrieve.find(archive, path)
    choice, plan = await frames.plan(archive, found[0], numbers, [_target(form) for form in forms])
    form = forms[choice]
    content_type = f"{form.media_type}; transfer-syntax={plan.transfer_syntax}"
    if not form.multipart:
        (body,) = [body async for body in frames.read(archive, plan)]
        return BytesResponse(body, content_type)
    if sum(length for _, length in plan.spans) <= retrieve.AT_HAND_BYTES:
        return whole_multipart([body async for body in frames.read(archive, plan)], content_type)
    framing = Framing()
    return MultipartResponse(framing, framing.around(_frame_parts(archive, plan, content_type)), length=None)


def _target(form: negotiation.Form) -> frames.Target:
    """What to ask the archive for: a frame of any type may go out as octets."""
    return frames.Target(form.transfer_syntax, None if form.media_type == negotiation.OCTET_STREAM else form.media_type)


async def _frame_parts(archive: Archive, plan: frames.FramePlan, content_type: str) -> AsyncIterator[Part]:
    async for body in frames.read(archive, plan):
        yield Part(content_type, _one(body))


async def _one(body: Buffer) -> AsyncIterator[Buffer]:
    yield body


def frame_numbers(text: str) -> list[int]:
    """The numbers of a frame list; spaces around them are ignored. Raises BadRequest."""
    if _FRAME_LIST.fullmatch(text) is None:
        raise BadRequest("The specified frames are not valid. Write frame numbers separated by commas.")
    return [int(number) for number in text.split(",")]


async def _metadata(archive: Archive, request: Request) -> Response:
    require_dicom_json(request.headers.getlist("accept"))
    path = instance_path(request)
    etag = await metadata.validator(archive.database, path)
    if etag is None:
        raise not_found(path)
    if matches(request.headers.getlist("if-none-match"), etag):
        return Response(status_code=304)
    headers = {"ETag": etag}
    if path.level is Level.INSTANCE:
        body = b"".join([part async for part in metadata.stream(archive.database, path)])
        if not body:
            raise not_found(path)
        return Response(b"[" + body + b"]", media_type=DICOM_JSON, headers=headers)
    return StreamingResponse(_array(archive, path), media_type=DICOM_JSON, headers=headers)


async def _array(archive: Archive, path: InstancePath) -> AsyncIterator[bytes]:
    opening = b"["
    async for objects in metadata.stream(archive.database, path):
        yield opening + objects
        opening = b","
    yield b"]" if opening == b"," else b"[]"

"""WADO-RS: studies, series, instances and frames (retrieve.md)."""

import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from itertools import chain, takewhile
from operator import attrgetter

from starlette.requests import Request
from starlette.types import ASGIApp

from hounsfield.archive import frames, retrieve
from hounsfield.archive.archive import Archive
from hounsfield.archive.bulk_data import Content
from hounsfield.archive.bulk_data import chunks as chunks_of
from hounsfield.archive.retrieve import File
from hounsfield.errors import BadRequest
from hounsfield.index.instances import Level, StoredInstance
from hounsfield.security.roles import DataAction
from hounsfield.storage.descriptor import FileRange
from hounsfield.storage.object_store import Buffer
from hounsfield.web import negotiation
from hounsfield.web.accept_parameter import accepted
from hounsfield.web.api_route import ApiRoute, Handler
from hounsfield.web.bulk_data import bulk_data_routes
from hounsfield.web.file_response import (
    SENT_BY_SERVER,
    BytesResponse,
    FilePartsResponse,
    FileRangeResponse,
    FileRun,
    FramedRange,
    Piece,
    sends_files,
)
from hounsfield.web.metadata import metadata_routes
from hounsfield.web.multipart_response import PART_END, Framing, MultipartResponse, Part, whole_multipart
from hounsfield.web.original import wants_original
from hounsfield.web.ranges import asked_span
from hounsfield.web.streamed_response import StreamedResponse
from hounsfield.web.uids import instance_path
from hounsfield.web.zip_response import zip_response

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"

PACKED_BYTES = 1280 * 1024
"""Files that are in memory are sent several in one message up to this size: more leave the processor's cache."""
PACKED_FILES = 256
_AT_HAND = retrieve.AT_HAND_BYTES + 1

_FRAME_LIST = re.compile(r" *[+-]?[0-9]{1,10} *(?:, *[+-]?[0-9]{1,10} *)*")


def retrieve_routes(archive: Archive) -> list[ApiRoute]:
    """Routes of files, frames, metadata and bulk data at every level."""

    async def files(request: Request) -> ASGIApp:
        return await _files(archive, request)

    async def frame_list(request: Request) -> ASGIApp:
        return await _frames(archive, request)

    levels = (_STUDY, _SERIES, _INSTANCE)

    def route(path: str, handle: Handler, name: str, audit_action: str) -> ApiRoute:
        return ApiRoute(path, handle, "GET", name, data_action=DataAction.READ, audit_action=audit_action)

    return [
        *(route(path, files, f"retrieve {path}", "retrieve") for path in levels),
        route(f"{_INSTANCE}/frames/{{frames}}", frame_list, "frames", "retrieve"),
        *metadata_routes(archive, levels),
        *bulk_data_routes(archive, levels),
    ]


async def _files(archive: Archive, request: Request) -> ASGIApp:
    path = instance_path(request)
    forms = negotiation.files(accepted(request), single_part=path.level is Level.INSTANCE)
    found = await retrieve.find(archive, path, original=wants_original(request))
    choice, planned = await retrieve.plan(archive, found, [form.transfer_syntax for form in forms])
    if forms[choice].media_type == negotiation.ZIP:
        return await zip_response(archive, path, planned)
    if not forms[choice].multipart:
        return await _single(archive, request, planned[0])
    by_server = sends_files(request.scope)
    part = _in_file(archive, planned[0], by_server) if len(planned) == 1 else None
    if part is not None:
        return _parts_in_file([part], _content_type(planned[0]))
    framing = Framing()
    if len(planned) == 1:
        packed, count = _pack(archive, planned, 0, framing, _AT_HAND)
        if count:
            packed += framing.end
            return BytesResponse(packed, framing.content_type)
    await retrieve.require_files(archive, planned)
    pieces = _pieces(archive, planned, framing, by_server)
    return MultipartResponse(framing, pieces, length=_length(framing, planned))


def _content_type(file: File) -> str:
    return _dicom_in(file.transfer_syntax)


def _dicom_in(transfer_syntax: str) -> str:
    return f"{negotiation.DICOM}; transfer-syntax={transfer_syntax}"


def _length(framing: Framing, planned: Sequence[File]) -> int | None:
    """Bytes of the whole answer, None where that of a file is not known yet."""
    alike = Counter(map(attrgetter("transfer_syntax", "size"), planned))  # the slices of a series mostly are
    if any(size is None for _, size in alike):
        return None
    return framing.length({(_dicom_in(syntax), size): count for (syntax, size), count in alike.items()})


async def _pieces(
    archive: Archive, planned: Sequence[File], framing: Framing, by_server: bool
) -> AsyncGenerator[Piece, None]:
    sent, behind = 0, b""
    while sent < len(planned):
        first = _in_file(archive, planned[sent], by_server)
        if first is not None:
            run = list(takewhile(_is_for_server, planned[sent:]))
            yield FileRun(_run(archive, run, first, framing, follows=bool(behind)))
            behind = PART_END
            sent += len(run)
            continue
        packed, following = _pack(archive, planned, sent, framing, SENT_BY_SERVER if by_server else _AT_HAND)
        if following == sent:
            break
        if behind:
            yield behind
        yield packed
        sent, behind = following, b""
    if behind:
        yield behind
    # A file that is not in memory is seldom alone, so the rest is read in threads, ahead of what is being sent.
    async with aclosing(framing.around(_parts(archive, planned[sent:]))) as framed:
        async for piece in framed:
            yield piece


def _run(
    archive: Archive, files: Sequence[File], first: FileRange, framing: Framing, *, follows: bool
) -> Iterator[FramedRange]:
    """Files the server sends by itself, each opened when it is its turn; the first is open already.

    ``follows``: whether another file stands before it, whose end has not been sent.
    """
    others = archive.files.open_each([file.instance.file_key for file in files[1:]])
    assert others is not None, "a store opens either all of its files or none"
    head, alike = b"", ("", -1)
    for (_, transfer_syntax, size), opened in zip(files, chain([first.file], others), strict=True):
        assert size is not None
        if alike != (transfer_syntax, size):  # the slices of a series mostly have the same head
            head, alike = PART_END + framing.head(_dicom_in(transfer_syntax), size), (transfer_syntax, size)
        yield head if follows else head[len(PART_END) :], FileRange(opened, 0, size)
        follows = True


def _is_for_server(file: File) -> bool:
    """Whether the file is worth opening for the server to send it by itself."""
    return file.size is not None and file.size >= SENT_BY_SERVER


def _in_file(archive: Archive, file: File, by_server: bool) -> FileRange | None:
    """The file as the server can send it by itself, where that is worth while. Raises ObjectMissing."""
    if not by_server or not _is_for_server(file):
        return None
    assert file.size is not None
    return archive.files.open_range(file.instance.file_key, 0, file.size)


def _pack(archive: Archive, planned: Sequence[File], start: int, framing: Framing, limit: int) -> tuple[bytearray, int]:
    """Framed parts of the files from ``start``, as many as are at hand and below ``limit`` bytes, and the next one.

    Read straight to their place: another copy would cost as much as the reading. The first file of an answer goes
    alone, as somebody may be waiting for its first byte.
    """
    heads: list[bytes] = []
    total = 0
    for file in planned[start : start + PACKED_FILES]:
        if file.size is None or file.size >= limit:
            break
        head = framing.head(_content_type(file), file.size)
        size = len(head) + file.size + len(PART_END)
        if heads and (start == 0 or total + size > PACKED_BYTES):
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


async def _parts(archive: Archive, planned: Sequence[File]) -> AsyncGenerator[Part, None]:
    async with aclosing(retrieve.contents(archive, planned)) as contents:
        async for file, chunks in contents:
            yield Part(_content_type(file), chunks, file.size)


async def single_part(archive: Archive, request: Request, instance: StoredInstance, syntaxes: Sequence[str]) -> ASGIApp:
    """The file of an instance, in the first of ``syntaxes`` it can be had in. Raises CannotTranscode (406)."""
    _, planned = await retrieve.plan(archive, [instance], syntaxes)
    return await _single(archive, request, planned[0])


async def _single(archive: Archive, request: Request, file: File) -> ASGIApp:
    content_type = _content_type(file)
    key = file.instance.file_key
    if file.size is None:
        made = await retrieve.converted(archive, file)
        return StreamedResponse(made.chunks(), content_type, length=made.size)
    span = asked_span(request, file.size)
    if sends_files(request.scope) and span.length >= SENT_BY_SERVER:
        part = archive.files.open_range(key, span.offset, span.length)
        if part is not None:
            return FileRangeResponse(part, content_type, span.headers, status=span.status)
    if (cached := retrieve.at_hand(archive, key, span.offset, span.length)) is not None:
        return BytesResponse(cached, content_type, span.headers, status=span.status)
    await retrieve.require_files(archive, [file])
    content = Content(file.instance, [(0, file.size)], file.size)
    pieces = chunks_of(archive, content, span.offset, span.length)
    return StreamedResponse(pieces, content_type, length=span.length, headers=span.headers, status=span.status)


async def _frames(archive: Archive, request: Request) -> ASGIApp:
    numbers = frame_numbers(request.path_params["frames"])
    path = instance_path(request)
    if min(numbers) < 1:
        raise BadRequest("The specified frames are not valid. Frame numbers begin with 1.")
    forms = negotiation.frames(accepted(request))
    if not forms[0].multipart and len(numbers) > 1:
        raise BadRequest("Several frames can only be sent as multipart/related.")
    found = await retrieve.find(archive, path)
    choice, plan = await frames.plan(archive, found[0], numbers, [_target(form) for form in forms])
    form = forms[choice]
    content_type = f"{form.media_type}; transfer-syntax={plan.transfer_syntax}"
    if sends_files(request.scope) and min(length for _, length in plan.spans) >= SENT_BY_SERVER:
        parts = frames.parts_of_file(archive, plan)
        if parts is not None:
            return _frames_in_file(request, parts, content_type, multipart=form.multipart)
    if not form.multipart:
        (body,) = [body async for body in frames.read(archive, plan)]
        span = asked_span(request, len(body))
        wanted = memoryview(body)[span.offset : span.offset + span.length] if span.partial else body
        return BytesResponse(wanted, content_type, span.headers, status=span.status)
    if sum(length for _, length in plan.spans) <= retrieve.AT_HAND_BYTES:
        return whole_multipart([body async for body in frames.read(archive, plan)], content_type)
    framing = Framing()
    return MultipartResponse(framing, framing.around(_frame_parts(archive, plan, content_type)), length=None)


def _frames_in_file(request: Request, parts: Sequence[FileRange], content_type: str, *, multipart: bool) -> ASGIApp:
    if not multipart:
        (part,) = parts
        span = asked_span(request, part.length)
        wanted = FileRange(part.file, part.offset + span.offset, span.length)
        return FileRangeResponse(wanted, content_type, span.headers, status=span.status)
    return _parts_in_file(parts, content_type)


def _parts_in_file(parts: Sequence[FileRange], content_type: str) -> ASGIApp:
    framing = Framing()
    framed, end = [], b""
    for part in parts:
        framed.append((end + framing.head(content_type, part.length), part))
        end = PART_END
    return FilePartsResponse(framed, end + framing.end, framing.content_type)


def _target(form: negotiation.Form) -> frames.Target:
    """What to ask the archive for: a frame of any type may go out as octets."""
    return frames.Target(form.transfer_syntax, None if form.media_type == negotiation.OCTET_STREAM else form.media_type)


async def _frame_parts(archive: Archive, plan: frames.FramePlan, content_type: str) -> AsyncGenerator[Part, None]:
    async for body in frames.read(archive, plan):
        yield Part(content_type, _one(body), len(body))


async def _one(body: Buffer) -> AsyncIterator[Buffer]:
    yield body


def frame_numbers(text: str) -> list[int]:
    """The numbers of a frame list; spaces around them are ignored. Raises BadRequest."""
    if _FRAME_LIST.fullmatch(text) is None:
        raise BadRequest("The specified frames are not valid. Write frame numbers separated by commas.")
    return [int(number) for number in text.split(",")]

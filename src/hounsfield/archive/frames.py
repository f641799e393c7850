"""Retrieve frames by ranged reads through the frame index (retrieve.md §6)."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from itertools import islice

from hounsfield.archive.archive import Archive
from hounsfield.archive.retrieve import ORIGINAL, at_hand
from hounsfield.archive.transcoding import convert_frame, naming_the_pair
from hounsfield.dicom.frame_conversion import obstacle
from hounsfield.dicom.frames import FrameIndex
from hounsfield.dicom.pixels import PixelFormat
from hounsfield.dicom.source import BytesSource, FileSource, InflatedSource
from hounsfield.dicom.transcode import CannotTranscode
from hounsfield.dicom.transfer_syntax import find
from hounsfield.errors import NotFound
from hounsfield.index.frames import spans
from hounsfield.index.instances import StoredInstance
from hounsfield.index.pixel_formats import pixel_formats
from hounsfield.storage.descriptor import FileRange
from hounsfield.storage.object_store import Buffer


@dataclass(frozen=True, slots=True)
class Target:
    """What frames are wanted as: a transfer syntax, or ORIGINAL, then only if that is of ``media_type`` (if given)."""

    transfer_syntax: str
    media_type: str | None = None


@dataclass(frozen=True, slots=True)
class FramePlan:
    """Frames to be sent, in the order asked, and the transfer syntax they are sent in.

    ``form`` describes frames that must be decoded for that.
    """

    instance: StoredInstance
    index: FrameIndex
    numbers: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    transfer_syntax: str
    form: PixelFormat | None = None


async def plan(
    archive: Archive, instance: StoredInstance, numbers: Sequence[int], targets: Sequence[Target]
) -> tuple[int, FramePlan]:
    """The first of ``targets`` the frames can be sent in (its position), and the plan.

    Raises NotFound for a frame the instance does not have, CannotTranscode (406) if no target can be produced.
    """
    found = await spans(archive.database, instance.version, numbers)
    if found is None:
        raise NotFound("The specified frame cannot be found.")
    index, places = found
    stored = instance.transfer_syntax
    refused: CannotTranscode | None = None
    form: PixelFormat | None = None
    for position, target in enumerate(targets):
        asked = target.transfer_syntax
        if asked == ORIGINAL and target.media_type in (None, _media_type(stored)):
            asked = stored
        if asked == stored or (_is_native(asked) and _is_native(stored)):
            return position, FramePlan(instance, index, tuple(numbers), tuple(places), asked)
        if form is None:
            form = (await pixel_formats(archive.database, [instance.version]))[instance.version].form
        reason = "they cannot be decoded" if form is None else None
        if asked != ORIGINAL and form is not None:
            reason = obstacle(stored, asked, form, archive.max_transcoded_bytes)
            if reason is None:
                return position, FramePlan(instance, index, tuple(numbers), tuple(places), asked, form)
        wanted = asked if asked != ORIGINAL else str(target.media_type)
        refused = refused or CannotTranscode(stored, wanted, reason or "")
    assert refused is not None
    raise refused


def _media_type(transfer_syntax: str) -> str | None:
    syntax = find(transfer_syntax)
    return syntax.frame_media_type if syntax is not None else None


def _is_native(transfer_syntax: str) -> bool:
    syntax = find(transfer_syntax)
    return syntax is not None and syntax.native


def parts_of_file(archive: Archive, plan: FramePlan) -> list[FileRange] | None:
    """The frames as parts of an open file, where they are nothing else; None where they have to be made, or read.

    Raises ObjectMissing, ObjectTruncated.
    """
    index = plan.index
    size = index.frame_bits // 8
    if plan.form is not None or index.encapsulated or index.stream_start is not None or index.frame_bits % 8:
        return None
    if index.word > 1 and plan.transfer_syntax != plan.instance.transfer_syntax:
        return None
    if any(length != size for _, length in plan.spans):  # more is read where swapped words are cut
        return None
    end = max(offset for offset, _ in plan.spans) + size
    whole = archive.files.open_range(plan.instance.file_key, 0, end)
    return None if whole is None else [FileRange(whole.file, *span) for span in plan.spans]


async def read(archive: Archive, plan: FramePlan) -> AsyncGenerator[Buffer, None]:
    """The frames' bytes, one item a frame. Raises NotAcceptable for a frame that cannot be decoded."""
    if plan.form is None:
        swap = plan.transfer_syntax != plan.instance.transfer_syntax
        for number, span in zip(plan.numbers, plan.spans, strict=True):
            yield await _stored(archive, plan, number, span, little_endian=swap)
        return
    ahead: deque[asyncio.Task[bytes]] = deque()
    rest = iter(zip(plan.numbers, plan.spans, strict=True))
    try:
        while True:
            for number, span in islice(rest, archive.codecs.limits.processes + 1 - len(ahead)):
                ahead.append(asyncio.create_task(_converted(archive, plan, plan.form, number, span)))
            if not ahead:
                return
            yield await ahead.popleft()
    finally:
        for task in ahead:
            task.cancel()
            task.add_done_callback(lambda done: None if done.cancelled() else done.exception())


async def _converted(archive: Archive, plan: FramePlan, form: PixelFormat, number: int, span: tuple[int, int]) -> bytes:
    data = await _stored(archive, plan, number, span, little_endian=True)
    source, target = plan.instance.transfer_syntax, plan.transfer_syntax
    with naming_the_pair(source, target):
        return await archive.codecs.run(convert_frame, bytes(data), source, target, form)


async def _stored(
    archive: Archive, plan: FramePlan, number: int, span: tuple[int, int], *, little_endian: bool
) -> Buffer:
    offset, length = span
    if plan.index.stream_start is not None:
        data: bytes | bytearray = await _inflated(archive, plan, offset, length)
    else:
        key = plan.instance.file_key
        cached = at_hand(archive, key, offset, length)
        data = cached if cached is not None else await archive.files.get_range(key, offset, length)
    return plan.index.frame(number, data, little_endian=little_endian)


async def _inflated(archive: Archive, plan: FramePlan, offset: int, length: int) -> bytes:
    """A range of the dataset of a deflated instance, which has to be inflated up to there."""
    start = plan.index.stream_start
    assert start is not None
    local = archive.files.local_path(plan.instance.file_key)
    stored = None if local is not None else (await archive.files.get_many([plan.instance.file_key]))[0]

    def inflate() -> bytes:
        if local is not None:
            with FileSource(local) as file:
                return InflatedSource(file, start).read_at(offset, length)
        assert stored is not None
        return InflatedSource(BytesSource(stored), start).read_at(offset, length)

    return await asyncio.to_thread(inflate)

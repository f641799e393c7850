"""Retrieve frames by ranged reads through the frame index (retrieve.md §6)."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from hounsfield.archive.archive import Archive
from hounsfield.archive.retrieve import ORIGINAL, at_hand
from hounsfield.dicom.frames import FrameIndex
from hounsfield.dicom.source import BytesSource, FileSource, InflatedSource
from hounsfield.dicom.transcode import CannotTranscode
from hounsfield.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, find
from hounsfield.errors import NotFound
from hounsfield.index.frames import spans
from hounsfield.index.instances import StoredInstance


@dataclass(frozen=True, slots=True)
class FramePlan:
    """Frames to be sent, in the order asked, and the transfer syntax they are sent in."""

    instance: StoredInstance
    index: FrameIndex
    numbers: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]
    transfer_syntax: str


async def plan(
    archive: Archive, instance: StoredInstance, numbers: Sequence[int], targets: Sequence[str]
) -> tuple[int, FramePlan]:
    """The first of ``targets`` the frames can be sent in (its position), and the plan.

    Raises NotFound for a frame the instance does not have, CannotTranscode (406) if no target can be produced.
    """
    found = await spans(archive.database, instance.version, numbers)
    if found is None:
        raise NotFound("The specified frame cannot be found.")
    index, places = found
    for position, target in enumerate(targets):
        if target in (ORIGINAL, instance.transfer_syntax):
            syntax = instance.transfer_syntax
        elif target == EXPLICIT_VR_LITTLE_ENDIAN and not index.encapsulated and _is_native(instance.transfer_syntax):
            syntax = target
        else:
            continue
        return position, FramePlan(instance, index, tuple(numbers), tuple(places), syntax)
    raise CannotTranscode(instance.transfer_syntax, targets[0])


def _is_native(transfer_syntax: str) -> bool:
    syntax = find(transfer_syntax)
    return syntax is not None and not syntax.encapsulated


async def read(archive: Archive, plan: FramePlan) -> AsyncIterator[bytes | bytearray]:
    """The frames' bytes, one item a frame."""
    swap = plan.transfer_syntax != plan.instance.transfer_syntax
    for number, (offset, length) in zip(plan.numbers, plan.spans, strict=True):
        if plan.index.stream_start is None:
            key = plan.instance.file_key
            cached = at_hand(archive, key, offset, length)
            data = cached if cached is not None else await archive.files.get_range(key, offset, length)
        else:
            data = await _inflated(archive, plan, offset, length)
        yield plan.index.frame(number, data, little_endian=swap)


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

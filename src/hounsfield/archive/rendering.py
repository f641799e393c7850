"""Pictures of stored instances (retrieve.md §8): reads what a picture needs, and has a codec process draw it.

Of an image that is the header and the frame, found through the frame index, so that an object of any size is as quick
as its frame is small. Anything else is read whole, within the limit for files that are decoded.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

from hounsfield.archive import frames
from hounsfield.archive.archive import Archive
from hounsfield.archive.delete import not_found
from hounsfield.archive.frames import FramePlan
from hounsfield.dicom.rendering.options import GIF, Options, Picture, Source
from hounsfield.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN
from hounsfield.errors import NotAcceptable, NotFound
from hounsfield.index import representative
from hounsfield.index.frames import spans
from hounsfield.index.instances import InstancePath, StoredInstance

MIDDLE = 0
"""The frame number that asks for the one in the middle."""
MAX_ANIMATED_FRAMES = 256
"""Of one animation; a longer one skips frames."""
MAX_AT_ONCE = 4
"""Pictures of one process that are read and drawn at a time: each holds a frame, or a file within the limit."""
_AHEAD = 2
"""Pictures drawn while one of a series is being sent."""

_at_once = asyncio.Semaphore(MAX_AT_ONCE)


class NoPicture(NotAcceptable):
    """An instance without pixels that cannot be had as a picture, or not as the kind asked for."""


async def picture(
    archive: Archive, instance: StoredInstance, number: int | None, accepted: Sequence[str], options: Options
) -> Picture:
    """The instance, or one frame of it (from 1, or MIDDLE), in the first media type of ``accepted`` that it has.

    Without a number it is the first frame, or an animation if that is a GIF. Raises NotFound if there is no such frame,
    or nothing to draw; NotAcceptable if it is too large or cannot be drawn.
    """
    async with _at_once:
        source = await _source(archive, instance, number, animated=accepted[:1] == [GIF])
        try:
            answer = await archive.codecs.run(_drawn, source, list(accepted), options)
        except NotAcceptable as error:
            if source.frames:
                raise
            raise NoPicture(error.message) from None
    content_type, _, body = answer.partition(b"\0")
    return Picture(content_type.decode(), body)


def _drawn(source: Source, accepted: Sequence[str], options: Options) -> bytes:
    """In a codec process: content type, a null byte, and the body."""
    from hounsfield.archive.codec_process import still_alive
    from hounsfield.dicom.rendering.render import render

    drawn = render(source, accepted, options, still_alive)
    return drawn.content_type.encode() + b"\0" + drawn.body


async def representing(archive: Archive, path: InstancePath) -> list[StoredInstance]:
    """Instances that may stand for a study or series, best first. Raises NotFound where nothing is visible."""
    found = await representative.candidates(archive.database, path)
    if not found:
        raise not_found(path)
    return found


async def first_picture(
    archive: Archive, found: Sequence[StoredInstance], number: int | None, accepted: Sequence[str], options: Options
) -> Picture:
    """A picture of the first instance there is one of. Raises as ``picture`` does for the last."""
    for instance in found[:-1]:
        with suppress(NotFound, NoPicture):
            return await picture(archive, instance, number, accepted, options)
    return await picture(archive, found[-1], number, accepted, options)


async def pictures(
    archive: Archive, found: Sequence[StoredInstance], accepted: Sequence[str], options: Options
) -> AsyncGenerator[tuple[StoredInstance, Picture], None]:
    """Every instance there is something to draw of, in order, some drawn ahead. Raises NotFound if there is none."""
    ahead: deque[tuple[StoredInstance, asyncio.Task[Picture]]] = deque()
    empty = True
    try:
        following = iter(found)
        while True:
            while len(ahead) < _AHEAD and (instance := next(following, None)) is not None:
                ahead.append((instance, asyncio.create_task(picture(archive, instance, None, accepted, options))))
            if not ahead:
                break
            shown, task = ahead.popleft()
            try:
                drawn = await task
            except (NotFound, NoPicture):
                continue
            empty = False
            yield shown, drawn
    finally:
        for _, task in ahead:
            task.cancel()
    if empty:
        raise NotFound("None of the specified instances can be rendered.")


async def _source(archive: Archive, instance: StoredInstance, number: int | None, *, animated: bool) -> Source:
    limit = archive.max_transcoded_bytes
    indexed = await spans(archive.database, instance.version, [max(number or 1, 1)])
    if indexed is None:
        if instance.file_size > limit:
            raise NotAcceptable("The instance cannot be rendered: it is larger than this server decodes.")
        (stored,) = await archive.files.get_many([instance.file_key])
        asked = None if number == MIDDLE else number
        return Source(bytes(stored), False, instance.transfer_syntax, [], limit, asked)
    index, places = indexed
    numbers = [max(number or 1, 1)]
    if number == MIDDLE:
        numbers = [index.count // 2 + 1]
    elif number is None and animated and index.count > 1:
        numbers = list(range(1, index.count + 1, -(-index.count // MAX_ANIMATED_FRAMES)))
    if numbers != [max(number or 1, 1)]:
        indexed = await spans(archive.database, instance.version, numbers)
        if indexed is None:
            raise NotFound("The specified frame cannot be found.")
        index, places = indexed
        while len(numbers) > 1 and sum(length for _, length in places) > limit:
            numbers, places = numbers[::2], places[::2]
    if index.offset > limit or places[0][1] > limit:
        raise NotAcceptable("The instance cannot be rendered: it is larger than this server decodes.")
    # Read as Explicit VR Little Endian: samples of a big-endian file come swapped.
    plan = FramePlan(instance, index, tuple(numbers), tuple(places), EXPLICIT_VR_LITTLE_ENDIAN)
    header = await frames.part(archive, plan, 0, index.offset)
    bodies = [body async for body in frames.read(archive, plan)]
    inflated = index.stream_start is not None
    return Source(
        bytes(header), inflated, instance.transfer_syntax, list(zip(numbers, bodies, strict=True)), limit, number
    )

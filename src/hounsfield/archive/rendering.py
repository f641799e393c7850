"""Pictures of stored instances (retrieve.md §8): reads what a picture needs, and has a codec process draw it.

Of an image that is the header and the frame, found through the frame index, so that an object of any size is as quick
as its frame is small. Anything else is read whole, within the limit for files that are decoded.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

from hounsfield.archive.archive import Archive
from hounsfield.archive.delete import not_found
from hounsfield.dicom.frames import FrameIndex
from hounsfield.dicom.rendering.options import GIF, Options, Picture, Source
from hounsfield.dicom.source import ByteSource, FileSource, InflatedSource
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
        wanted = await _wanted(archive, instance, number, animated=accepted[:1] == [GIF])
        try:
            answer = await archive.codecs.run(_drawn, wanted, list(accepted), options)
        except NotAcceptable as error:
            if wanted.index is not None:
                raise
            raise NoPicture(error.message) from None
    content_type, _, body = answer.partition(b"\0")
    return Picture(content_type.decode(), body)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a codec process is to read, or has been given, and what it is."""

    transfer_syntax: str
    limit: int
    number: int | None
    """The frame that was asked for, if one was."""
    index: FrameIndex | None
    """None if the whole file is to be read."""
    numbers: Sequence[int] = ()
    places: Sequence[tuple[int, int]] = ()
    path: str | None = None
    """A local file, so that no other process has to hold what is in it."""
    pieces: Mapping[tuple[int, int], bytes] = field(default_factory=dict)
    """Else what is needed of it, by offset and length."""

    def source(self) -> Source:
        """In a codec process: what the picture is made of."""
        if self.path is not None:
            with FileSource(self.path) as file:
                return self._source(file)
        return self._source(_Pieces(self.pieces))

    def _source(self, file: ByteSource) -> Source:
        if self.index is None:
            return Source(file.read_at(0, file.size), False, self.transfer_syntax, [], self.limit, self.number)
        inflated = self.index.stream_start is not None
        if self.index.stream_start is not None:
            file = InflatedSource(file, self.index.stream_start)
        header = file.read_at(0, self.index.offset)
        frames = [
            (number, self.index.frame(number, file.read_at(*place), little_endian=True))
            for number, place in zip(self.numbers, self.places, strict=True)
        ]
        return Source(header, inflated, self.transfer_syntax, frames, self.limit, self.number)


class _Pieces:
    """Parts of a file, read before by exactly these ranges; if it is one, a source of its own."""

    def __init__(self, pieces: Mapping[tuple[int, int], bytes]) -> None:
        self._pieces = pieces
        self.size = max(offset + length for offset, length in pieces)

    def read_at(self, offset: int, length: int) -> bytes:
        found = self._pieces.get((offset, length))
        if found is None:
            ((begin, _), piece) = next(iter(self._pieces.items()))
            found = piece[offset - begin : offset - begin + length]
        return found


def _drawn(wanted: _Wanted, accepted: Sequence[str], options: Options) -> bytes:
    """In a codec process: content type, a null byte, and the body."""
    from hounsfield.archive.codec_process import still_alive
    from hounsfield.dicom.rendering.render import render

    drawn = render(wanted.source(), accepted, options, still_alive)
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


async def _wanted(archive: Archive, instance: StoredInstance, number: int | None, *, animated: bool) -> _Wanted:
    limit = archive.max_transcoded_bytes
    asked = None if number == MIDDLE else number
    indexed = await spans(archive.database, instance.version, [asked or 1])
    if indexed is None:
        if instance.file_size > limit:
            raise NotAcceptable("The instance cannot be rendered: it is larger than this server decodes.")
        return await _at(
            archive, instance, [(0, instance.file_size)], _Wanted(instance.transfer_syntax, limit, asked, None)
        )
    index, places = indexed
    numbers = [asked or 1]
    if number == MIDDLE:
        numbers = [index.count // 2 + 1]
    elif number is None and animated:
        numbers = list(range(1, index.count + 1, -(-index.count // MAX_ANIMATED_FRAMES)))
    if numbers != [asked or 1]:
        indexed = await spans(archive.database, instance.version, numbers)
        if indexed is None:  # deleted in between
            raise NotFound("The specified frame cannot be found.")
        index, places = indexed
        while len(numbers) > 1 and sum(length for _, length in places) > limit:
            numbers, places = numbers[::2], places[::2]
    if index.offset > limit or places[0][1] > limit:
        raise NotAcceptable("The instance cannot be rendered: it is larger than this server decodes.")
    wanted = _Wanted(instance.transfer_syntax, limit, asked, index, numbers, places)
    return await _at(archive, instance, [(0, index.offset), *places], wanted)


async def _at(
    archive: Archive, instance: StoredInstance, ranges: Sequence[tuple[int, int]], wanted: _Wanted
) -> _Wanted:
    """``wanted`` with the place of the file, or with those ranges of it."""
    local = archive.files.local_path(instance.file_key)
    if local is not None:
        return replace(wanted, path=str(local))
    if wanted.index is not None and wanted.index.stream_start is not None:
        ranges = [(0, instance.file_size)]
        if instance.file_size > wanted.limit:
            raise NotAcceptable("The instance cannot be rendered: it is larger than this server decodes.")
    pieces = {place: await archive.files.get_range(instance.file_key, *place) for place in ranges}
    return replace(wanted, pieces=pieces)

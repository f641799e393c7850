"""Transcoding of stored instances and frames (retrieve.md §5, §6, §10.5), done by the codec processes.

Whole instances go from file to file: what comes out lies in the spool until it is sent, so that neither its size nor
a slow client costs memory.
"""

import asyncio
import mmap
import os
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from hounsfield.archive.archive import Archive
from hounsfield.archive.codec_process import still_alive
from hounsfield.archive.codec_processes import CodecFailure
from hounsfield.dicom.frame_conversion import convert, obstacle
from hounsfield.dicom.pixels import PixelFailure, PixelFormat
from hounsfield.dicom.transcode import CannotTranscode, can_be_written, transcode
from hounsfield.dicom.transfer_syntax import find
from hounsfield.errors import InternalError
from hounsfield.index.instances import StoredInstance
from hounsfield.index.pixel_formats import Pixels
from hounsfield.storage.descriptor import Descriptor

CHUNK_BYTES = 1024 * 1024
"""Of a transcoded file read at a time."""


@dataclass(slots=True)
class Transcoded:
    """A transcoded instance that waits to be sent. Its file has no name any more and goes with its descriptor."""

    size: int
    _file: Descriptor

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Its bytes, once."""
        for offset in range(0, self.size, CHUNK_BYTES):
            yield await asyncio.to_thread(os.pread, self._file.number, CHUNK_BYTES, offset)


def refusal(instance: StoredInstance, target: str, pixels: Pixels | None, max_bytes: int) -> CannotTranscode | None:
    """Why an instance cannot be had in ``target``, as far as the index tells; None if it can.

    ``pixels`` may be left out where ``needs_pixels`` says so. ``max_bytes`` is that of what is decoded at once: a
    frame, or a whole file whose encoding changes from one native syntax to another.
    """
    source_uid = instance.transfer_syntax
    source, wanted = find(source_uid), find(target)
    if source is None or wanted is None or not can_be_written(source, wanted):
        return CannotTranscode(source_uid, target)
    if source.native and wanted.native:
        too_large = instance.file_size > max_bytes
        return CannotTranscode(source_uid, target, "it is larger than this server transcodes") if too_large else None
    if pixels is None or not (pixels.described or pixels.located):
        return None  # nothing but its dataset is to be written anew
    if pixels.form is None or not pixels.located:
        return CannotTranscode(source_uid, target, "its frames cannot be told apart or decoded")
    reason = obstacle(source_uid, target, pixels.form, max_bytes)
    return None if reason is None else CannotTranscode(source_uid, target, reason)


def needs_pixels(source: str, target: str) -> bool:
    """Whether the answer of ``refusal`` depends on the pixel data."""
    stored, wanted = find(source), find(target)
    return not (stored is None or wanted is None or (stored.native and wanted.native))


async def transcoded(archive: Archive, instance: StoredInstance, target: str) -> Transcoded:
    """The instance in ``target``. Raises CannotTranscode or another NotAcceptable, ObjectMissing."""
    if archive.spool is None:
        raise InternalError("This process has no spool, so it cannot transcode.")
    path, file = await archive.spool.run(archive.spool.create)
    copy: tuple[Path, Descriptor] | None = None
    try:
        source = archive.files.local_path(instance.file_key)
        if source is None:
            copy = await archive.spool.run(archive.spool.create)
            source = copy[0]
            async with aclosing(_stored(archive, instance)) as chunks:
                async for chunk in chunks:
                    await asyncio.to_thread(_append, copy[1], chunk)
        uid, limit = instance.transfer_syntax, archive.max_transcoded_bytes
        with naming_the_pair(uid, target):
            await archive.codecs.run(transcode_file, str(source), str(path), uid, target, limit)
        return Transcoded(os.fstat(file.number).st_size, file)
    finally:
        path.unlink(missing_ok=True)
        if copy is not None:
            copy[0].unlink(missing_ok=True)


@contextmanager
def naming_the_pair(source: str, target: str) -> Iterator[None]:
    """Has the refusal of a codec process that crashed or took too long name what it was to do."""
    try:
        yield
    except CodecFailure as failure:
        raise CannotTranscode(source, target, failure.message.rstrip(".")) from failure


async def _stored(archive: Archive, instance: StoredInstance) -> AsyncGenerator[bytes, None]:
    async for chunk in archive.files.get(instance.file_key):
        yield chunk


def _append(file: Descriptor, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file.number, view) :]


def transcode_file(source: str, out: str, source_uid: str, target_uid: str, max_bytes: int) -> bytes:
    """In a codec process: the file at ``source`` in another syntax, written to the empty file at ``out``."""
    with Path(source).open("rb") as stored, Path(out).open("r+b") as made:
        made.truncate()  # a process that was killed may have written a part
        # Mapped, not read: the kernel gives back pages that are done with.
        data = memoryview(mmap.mmap(stored.fileno(), 0, access=mmap.ACCESS_READ))
        transcode(
            data,
            made,
            target_uid,
            source_uid=source_uid,
            max_frame_bytes=max_bytes,
            max_inflated_bytes=max_bytes,
            each_frame=still_alive,
        )
    return b""


def convert_frame(data: bytes, source_uid: str, target_uid: str, form: PixelFormat) -> bytes:
    """In a codec process: one frame (native ones in little endian order) in another syntax. Raises CannotTranscode."""
    try:
        return bytes(convert(data, source_uid, target_uid, form).data)
    except PixelFailure as problem:
        raise CannotTranscode(source_uid, target_uid, problem.message.rstrip(".")) from problem

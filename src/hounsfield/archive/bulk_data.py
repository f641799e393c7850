"""Values that metadata leave out, read from the stored files (PS3.18 §10.4.1.1.5).

Where a value lies is found by reading the file's header when somebody asks. Values are streamed, so their size does not
matter, and come in little endian order unless asked for as they were stored.
"""

import asyncio
import os
from array import array
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from hounsfield.archive.archive import Archive
from hounsfield.dicom.dataset_reader import BulkValue
from hounsfield.dicom.part10 import BulkData, read_bulk_data
from hounsfield.dicom.source import ByteSource, UnreadableInstance
from hounsfield.errors import InternalError
from hounsfield.index.instances import StoredInstance
from hounsfield.storage.descriptor import Descriptor
from hounsfield.storage.errors import ObjectMissing
from hounsfield.storage.object_store import Buffer

PIECE_BYTES = 1024 * 1024
"""Of a value inflated at a time."""
FETCHED_BYTES = 256 * 1024
"""Least bytes asked of an object store at a time: a request costs as much as sending these."""

_PIXEL_DATA = "7FE00010"
_BITS_ALLOCATED = "00280100"
_WIDTHS = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}
_CODES = {2: "H", 4: "I", 8: "Q"}


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes to send: pieces of a file that follow each other, ``size`` bytes in all.

    ``word``: bytes of the numbers whose order is to be turned round, 1 for none. ``source`` is where the pieces lie
    if that is not the file itself.
    """

    instance: StoredInstance
    pieces: Sequence[tuple[int, int]]
    size: int
    word: int = 1
    source: ByteSource | None = None


class _LocalFile:
    """A ByteSource over a local file, open until nothing refers to it any more: a thread may outlive its request."""

    def __init__(self, path: Path) -> None:
        self._file = Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
        self.size = os.fstat(self._file.number).st_size

    def read_at(self, offset: int, length: int) -> bytes:
        """See ByteSource."""
        length = min(length, self.size - offset)
        return os.pread(self._file.number, length, offset) if length > 0 else b""


class _StoredFile:
    """A ByteSource over an object that is no local file, for use in threads."""

    def __init__(self, archive: Archive, instance: StoredInstance) -> None:
        self.size = instance.file_size
        self._files = archive.files
        self._key = instance.file_key
        self._loop = asyncio.get_running_loop()
        self._offset = 0
        self._held = b""

    def read_at(self, offset: int, length: int) -> bytes:
        """See ByteSource."""
        length = min(length, self.size - offset)
        if length <= 0:
            return b""
        if not self._offset <= offset <= offset + length <= self._offset + len(self._held):
            fetched = min(max(length, FETCHED_BYTES), self.size - offset)
            reading = self._files.get_range(self._key, offset, fetched)
            self._held = asyncio.run_coroutine_threadsafe(reading, self._loop).result()
            self._offset = offset
        return self._held[offset - self._offset : offset - self._offset + length]


async def find(archive: Archive, instance: StoredInstance) -> BulkData:
    """The bulk values of an instance. Their source may be read in threads only. Raises InternalError for a bad file."""
    return await asyncio.to_thread(read_values, source_of(archive, instance))


def source_of(archive: Archive, instance: StoredInstance) -> ByteSource:
    """The stored file, to be read in threads only. Raises ObjectMissing."""
    local = archive.files.local_path(instance.file_key)
    if local is None:
        return _StoredFile(archive, instance)
    try:
        return _LocalFile(local)
    except FileNotFoundError:
        raise ObjectMissing from None


def read_values(source: ByteSource) -> BulkData:
    """The bulk values of the instance in ``source``. Raises InternalError for a damaged file."""
    try:
        return read_bulk_data(source)
    except UnreadableInstance as error:
        raise InternalError("A stored file cannot be read any more.") from error


def content(instance: StoredInstance, data: BulkData, value: BulkValue, *, as_stored: bool = False) -> Content:
    """The bytes of a value, in little endian order unless ``as_stored``; fragments are joined."""
    pieces = [(value.offset, value.length)] if value.fragments is None else value.fragments
    word = word_of(data, value) if value.big_endian and value.fragments is None and not as_stored else 1
    size = sum(length for _, length in pieces)
    return Content(instance, pieces, size, word, data.source if data.inflated else None)


def word_of(data: BulkData, value: BulkValue) -> int:
    """Bytes of one number of a value; 1 where order does not matter or nobody knows."""
    width = _WIDTHS.get(value.vr, 1)
    if value.key == _PIXEL_DATA and width == 2:
        # Samples of 32 and 64 bits are words of that size in what writers of big endian files made.
        allocated = data.dataset.get(_BITS_ALLOCATED, {}).get("Value", [16])[0]
        return {32: 4, 64: 8}.get(allocated, 2)
    return width


async def chunks(archive: Archive, content: Content, offset: int, length: int) -> AsyncGenerator[Buffer, None]:
    """``length`` bytes of a content from ``offset``, as they come. Raises ObjectMissing, ObjectTruncated."""
    if content.word == 1:
        async with aclosing(_stored(archive, content, offset, length)) as stored:
            async for chunk in stored:
                yield chunk
        return
    # Whole words are read, and what stands around the range is cut off again.
    skip = offset % content.word
    end = min(offset + length + -(offset + length) % content.word, content.size)
    rest = b""
    async with aclosing(_stored(archive, content, offset - skip, end - offset + skip)) as stored:
        async for chunk in stored:
            rest += chunk
            whole = len(rest) - len(rest) % content.word
            turned = swapped(rest[:whole], content.word)[skip : skip + length]
            rest = rest[whole:]
            skip = max(0, skip - whole)
            length -= len(turned)
            if turned:
                yield turned
    if length:  # half a word at the end of a value stays as it is
        yield rest[skip : skip + length]


def swapped(data: bytes, word: int) -> bytes:
    """Numbers of ``word`` bytes in the other byte order; what is left over stays as it is."""
    if word == 1:
        return data
    whole = len(data) - len(data) % word
    words = array(_CODES[word], data[:whole])
    words.byteswap()
    return words.tobytes() + data[whole:]


async def _stored(archive: Archive, content: Content, offset: int, length: int) -> AsyncGenerator[bytes, None]:
    """The bytes as they are stored."""
    for start, size in content.pieces:
        if not length:
            return
        if offset >= size:
            offset -= size
            continue
        taken = min(size - offset, length)
        if content.source is None:
            async for chunk in archive.files.get(content.instance.file_key, start + offset, taken):
                yield chunk
        else:
            for at in range(start + offset, start + offset + taken, PIECE_BYTES):
                piece = min(PIECE_BYTES, start + offset + taken - at)
                yield await asyncio.to_thread(content.source.read_at, at, piece)
        length -= taken
        offset = 0

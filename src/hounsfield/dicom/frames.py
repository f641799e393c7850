"""Where every frame of an instance lies in its file, so that one ranged read serves it (retrieve.md §6).

Native pixel data need arithmetic only; encapsulated data one entry per frame. An index serialises to a header of
HEADER_SIZE bytes plus ENTRY_SIZE bytes per encapsulated frame, so that a database can hand out the header and one
entry of a 10,000-frame object: ``FrameIndex.from_bytes(header).span(n, entry)``.
"""

import sys
from array import array
from dataclasses import dataclass, field, replace
from itertools import pairwise
from struct import Struct

from hounsfield.dicom.dataset_reader import Dataset
from hounsfield.dicom.fragments import PixelData
from hounsfield.dicom.source import ByteSource
from hounsfield.errors import InternalError, NotFound

_HEADER = Struct("<BBxxIQQQQ")
_ENTRY = Struct("<QQ")
_ITEM = Struct("<HHI").unpack_from
HEADER_SIZE = _HEADER.size
ENTRY_SIZE = _ENTRY.size
_NATIVE, _ENCAPSULATED = 1, 2
_WHOLE_FILE = 0xFFFFFFFFFFFFFFFF  # stream_start of an index whose offsets count in the file itself
_WORDS = {2: "H", 4: "I", 8: "Q"}
_SUBSAMPLED = {"YBR_FULL_422": (2, 3), "YBR_PARTIAL_422": (2, 3), "YBR_PARTIAL_420": (1, 2)}  # PS3.3 C.7.6.3.1.2


def entry_range(number: int) -> tuple[int, int]:
    """Offset and length of the entry of frame ``number`` (1-based) in a serialised index of encapsulated frames."""
    return HEADER_SIZE + ENTRY_SIZE * (number - 1), ENTRY_SIZE


@dataclass(frozen=True, slots=True)
class FrameIndex:
    """Positions of ``count`` frames. Native frames have ``frame_bits``; encapsulated ones have ``entries``.

    ``offset`` and ``length`` bound the pixel data in bytes. ``word`` is the unit of byte swapping of a big-endian
    source, 1 if none is needed. ``stream_start`` is set when offsets count in the dataset inflated from
    there (deflated transfer syntaxes): read through ``InflatedSource(source, stream_start)``.
    """

    count: int
    offset: int
    length: int
    frame_bits: int = 0
    word: int = 1
    stream_start: int | None = None
    entries: "array[int]" = field(default_factory=lambda: array("Q"))

    @property
    def encapsulated(self) -> bool:
        """Whether frames are fragments in items (PS3.5 §A.4)."""
        return not self.frame_bits

    def to_bytes(self) -> bytes:
        """The serialised form, the same on every machine."""
        stream_start = _WHOLE_FILE if self.stream_start is None else self.stream_start
        kind = _ENCAPSULATED if self.encapsulated else _NATIVE
        header = _HEADER.pack(kind, self.word, self.count, self.offset, self.length, self.frame_bits, stream_start)
        return header + _little(self.entries).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "FrameIndex":
        """Reads ``to_bytes``, or only its header (``span`` then needs the entry). InternalError if it is neither."""
        if len(data) < HEADER_SIZE or data[0] not in (_NATIVE, _ENCAPSULATED) or (len(data) - HEADER_SIZE) % ENTRY_SIZE:
            raise InternalError("A stored frame index is damaged.")
        _, word, count, offset, length, frame_bits, stream_start = _HEADER.unpack_from(data)
        entries = array("Q", data[HEADER_SIZE:])
        return cls(
            count, offset, length, frame_bits, word, None if stream_start == _WHOLE_FILE else stream_start,
            _little(entries),
        )  # fmt: skip

    def moved(self, by: int, stream_start: int | None) -> "FrameIndex":
        """The index of the same pixel data ``by`` bytes further behind, in a file whose deflate stream is there."""
        entries = array("Q", self.entries)
        for number in range(0, len(entries), 2):
            entries[number] += by
        return replace(self, offset=self.offset + by, stream_start=stream_start, entries=entries)

    def span(self, number: int, entry: bytes = b"") -> tuple[int, int]:
        """Offset and length of the bytes ``frame`` needs for frame ``number`` (1-based).

        ``entry`` is that frame's part of the serialised form, where this index was made from the header alone.
        Raises NotFound for a number the instance does not have.
        """
        if not 1 <= number <= self.count:
            raise NotFound("The specified frame cannot be found.")
        if self.encapsulated:
            if entry:
                offset, length = _ENTRY.unpack(entry)
                return offset, length
            return self.entries[2 * number - 2], self.entries[2 * number - 1]
        first, last = self._native_bytes(number)
        first -= first % self.word
        last = min(last + -last % self.word, self.length)
        return self.offset + first, last - first

    def frame(
        self, number: int, data: bytes | bytearray | memoryview, *, little_endian: bool = False
    ) -> bytes | bytearray | memoryview:
        """The frame's bytes from the bytes of its span: item headers removed, fragments joined, bits realigned.

        With ``little_endian`` the samples of a big-endian source are swapped; without, they stay as stored.
        Raises InternalError if the bytes are not those of the span.
        """
        if self.encapsulated:
            return _joined(data)
        if little_endian and self.word > 1:
            data = _swapped(data, self.word)
        first, last = self._native_bytes(number)
        start = first % self.word
        if start or len(data) != last - first:  # slicing copies, and a frame may have megabytes
            data = data[start : start + last - first]
        if len(data) < last - first:
            raise InternalError("A frame is shorter than its index says.")
        if self.frame_bits % 8:
            shift = (number - 1) * self.frame_bits % 8
            bits = int.from_bytes(data, "little") >> shift & (1 << self.frame_bits) - 1
            return bits.to_bytes((self.frame_bits + 7) // 8, "little")
        return data

    def _native_bytes(self, number: int) -> tuple[int, int]:
        return (number - 1) * self.frame_bits // 8, (number * self.frame_bits + 7) // 8


def index_frames(
    source: ByteSource,
    pixels: PixelData,
    dataset: Dataset,
    tables: dict[int, tuple[int, int]],
    *,
    big_endian: bool,
    stream_start: int | None,
) -> FrameIndex | None:
    """The index of an instance's frames; None if they cannot be located.

    ``dataset`` describes the image (Rows, Columns and BitsAllocated are required), ``tables`` says where
    the Extended Offset Table elements lie. Encapsulated frames are found by one fragment per frame, else by
    the Extended, else by the Basic Offset Table, else by how JPEG streams begin; a table that does not point at
    items is not believed.
    """
    rows, columns, allocated = (_number(dataset, key) for key in ("00280010", "00280011", "00280100"))
    frames = max(_number(dataset, "00280008"), 1)
    if not (rows and columns and allocated) or frames > 0xFFFFFFFF:
        return None
    if pixels.fragments is not None:
        entries = _entries(source, pixels, frames, tables)
        if not entries:
            return None
        return FrameIndex(len(entries) // 2, pixels.offset, pixels.length, stream_start=stream_start, entries=entries)
    frame_bits = rows * columns * max(_number(dataset, "00280002"), 1) * allocated
    photometric = dataset.get("00280004", {}).get("Value", [""])[0]
    if isinstance(photometric, str) and photometric in _SUBSAMPLED:
        kept, of = _SUBSAMPLED[photometric]
        frame_bits = frame_bits * kept // of
    count = min(frames, pixels.length * 8 // frame_bits) if frame_bits else 0
    if not count:
        return None
    word = _swap_unit(allocated, pixels.vr) if big_endian else 1
    return FrameIndex(count, pixels.offset, pixels.length, frame_bits, word, stream_start)


def _number(dataset: Dataset, key: str) -> int:
    values = dataset.get(key, {}).get("Value", [0])
    return values[0] if isinstance(values[0], int) and values[0] > 0 else 0


def _swap_unit(allocated: int, vr: str) -> int:
    if allocated in (16, 32, 64):
        return allocated // 8
    return 2 if vr == "OW" else 1  # OW is a row of 16-bit words whatever it holds (PS3.5 §7.3)


def _entries(source: ByteSource, pixels: PixelData, frames: int, tables: dict[int, tuple[int, int]]) -> "array[int]":
    """(offset, length) of each frame's items, flat; empty if frames and fragments cannot be matched."""
    starts, lengths = pixels.fragments, pixels.lengths
    assert starts is not None and lengths is not None
    if not starts:
        return array("Q")
    if frames == 1 or len(starts) <= frames:
        firsts = [0] if frames == 1 else list(range(len(starts)))
    else:
        by_offset = {start - starts[0]: number for number, start in enumerate(starts)}
        firsts = _firsts(_extended_table(source, frames, tables), by_offset, frames)
        firsts = firsts or _firsts(_table(pixels.offset_table, "I"), by_offset, frames)
        firsts = firsts or _firsts_by_signature(source, starts, frames)
        if not firsts:
            return array("Q")
    entries = array("Q")
    for first, following in zip(firsts, [*firsts[1:], len(starts)], strict=True):
        entries.append(starts[first])
        entries.append(starts[following - 1] + 8 + lengths[following - 1] - starts[first])
    return entries


def _firsts(offsets: "array[int]", by_offset: dict[int, int], frames: int) -> list[int]:
    """The number of each frame's first fragment; empty if the table is not one of these fragments."""
    firsts = [by_offset.get(offset, -1) for offset in offsets]
    ascending = all(a < b for a, b in pairwise(firsts))
    return firsts if len(firsts) == frames and firsts[0] == 0 and ascending else []


def _firsts_by_signature(source: ByteSource, starts: "array[int]", frames: int) -> list[int]:
    """Without tables: the fragments that begin like a JPEG or JPEG 2000 stream, if there are as many as frames."""
    begins = [source.read_at(start + 8, 2) for start in starts]
    firsts = [number for number, begin in enumerate(begins) if begin == begins[0]]
    return firsts if begins[0] in (b"\xff\xd8", b"\xff\x4f") and len(firsts) == frames else []


def _extended_table(source: ByteSource, frames: int, tables: dict[int, tuple[int, int]]) -> "array[int]":
    offset, length = tables.get(0x7FE00001, (0, 0))
    return _table(source.read_at(offset, length), "Q") if length == 8 * frames else array("Q")


def _table(data: bytes, code: str) -> "array[int]":
    table = array(code)
    table.frombytes(data[: len(data) - len(data) % table.itemsize])
    return _little(table)


def _little(values: "array[int]") -> "array[int]":
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values


def _swapped(data: bytes | bytearray | memoryview, word: int) -> bytes:
    words = array(_WORDS[word], bytes(data) + b"\0" * (-len(data) % word))
    words.byteswap()
    return words.tobytes()


def _joined(data: bytes | bytearray | memoryview) -> bytes | bytearray | memoryview:
    parts, pos = [], 0
    while pos + 8 <= len(data):
        group, element, length = _ITEM(data, pos)
        if (group, element) != (0xFFFE, 0xE000) or pos + 8 + length > len(data):
            raise InternalError("A frame's items are not where its index says.")
        parts.append(data[pos + 8 : pos + 8 + length])
        pos += 8 + length
    return parts[0] if len(parts) == 1 else b"".join(parts)

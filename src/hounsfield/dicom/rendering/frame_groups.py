"""The functional groups of single frames, found without reading those of all others (PS3.3 C.7.6.16).

A slide or a perfusion study has thousands of frames, and pydicom needs milliseconds for the groups of each. Only the
usual encoding is looked into, Explicit VR Little Endian; anything unusual is left to pydicom.
"""

from collections.abc import Sequence
from io import BytesIO
from struct import Struct, error

from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset

from hounsfield.dicom.encodings import LONG_HEADER

_PER_FRAME = b"\x00\x52\x30\x92SQ\x00\x00"
"""Tag and VR of Per-Frame Functional Groups Sequence."""
_ITEM, _ITEM_END, _SEQUENCE_END = 0xE000, 0xE00D, 0xE0DD
_UNDEFINED = 0xFFFFFFFF
_MAX_DEPTH = 32
_LONG = frozenset(vr.encode() for vr in LONG_HEADER)
_delimiter = Struct("<HHI").unpack_from
_short = Struct("<HH2sH").unpack_from
_long = Struct("<I").unpack_from


class _Unusual(Exception):
    """The bytes are not what this module reads."""


class FrameGroups:
    """Functional groups by number of frame."""

    def __init__(self, data: bytes, items: Sequence[tuple[int, int]]) -> None:
        self._data = data
        self._items = items

    def of(self, frame: int) -> Dataset | None:
        """Those of a frame (from 1); None where it has none."""
        if not 1 <= frame <= len(self._items):
            return None
        start, end = self._items[frame - 1]
        return read_dataset(BytesIO(self._data[start:end]), is_implicit_VR=False, is_little_endian=True)


def split(data: bytes) -> tuple[bytes, FrameGroups | None]:
    """A header without its per-frame functional groups, and these; as it is if there are none to be found."""
    start = data.find(_PER_FRAME)
    if start < 0 or data.find(_PER_FRAME, start + 1) >= 0:
        return data, None
    try:
        (length,) = _long(data, start + 8)
        items, end = _items(data, start + 12, length, 0)
    except (_Unusual, error):
        return data, None
    return data[:start] + data[end:], FrameGroups(data, items)


def _items(data: bytes, position: int, length: int, depth: int) -> tuple[list[tuple[int, int]], int]:
    """Where the items of a sequence begin and end, without their headers, and where the sequence ends."""
    if depth > _MAX_DEPTH:
        raise _Unusual
    stop = len(data) if length == _UNDEFINED else position + length
    items: list[tuple[int, int]] = []
    while position < stop:
        group, number, size = _delimiter(data, position)
        position += 8
        if (group, number) == (0xFFFE, _SEQUENCE_END) and length == _UNDEFINED:
            return items, position
        if (group, number) != (0xFFFE, _ITEM):
            raise _Unusual
        if size == _UNDEFINED:
            end = _item_end(data, position, depth)
            items.append((position, end - 8))
        else:
            end = position + size
            items.append((position, end))
        position = end
    if position != stop or length == _UNDEFINED:
        raise _Unusual
    return items, position


def _item_end(data: bytes, position: int, depth: int) -> int:
    """Behind the delimiter of an item of undefined length."""
    while True:
        group, number, vr, size = _short(data, position)
        position += 8
        if (group, number) == (0xFFFE, _ITEM_END):
            return position
        if not vr.isupper() or group == 0xFFFE:
            raise _Unusual
        if vr in _LONG:
            (size,) = _long(data, position)
            position += 4
        if size != _UNDEFINED:
            position += size
        elif vr == b"SQ":
            _, position = _items(data, position, size, depth + 1)
        else:
            raise _Unusual  # UN holds an implicit encoding

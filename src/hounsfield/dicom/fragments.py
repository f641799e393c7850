"""Encapsulated pixel data (PS3.5 §A.4): a row of items, walked by their headers without touching what they hold."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hounsfield.dicom.source import ByteSource, UnreadableInstance

_SPARSE = 1 << 12  # behind a fragment longer than this, only the next header is read
_DENSE_READ = 1 << 16  # behind a shorter one, enough for several


@dataclass(slots=True)
class PixelData:
    """Where top-level Pixel Data lie: native value, or fragments (positions of item headers, and value lengths)."""

    vr: str
    offset: int
    length: int
    fragments: "array[int] | None" = None
    lengths: "array[int] | None" = None
    offset_table: bytes = b""


def walk_items(
    source: ByteSource,
    unpack: Callable[[bytes, int], tuple[Any, ...]],
    pos: int,
    stop: int,
    limit: int,
    window: bytes,
    base: int,
) -> tuple["array[int]", "array[int]", int]:
    """Positions of the item headers from ``pos``, lengths of the values, and the position behind the delimiter.

    ``unpack`` reads group, element and length; ``window`` are bytes already read, at ``base``. Raises
    UnreadableInstance if the items do not end before ``stop`` or are more than ``limit``.
    """
    starts, lengths = array("Q"), array("Q")
    length = 0
    while True:
        if not base <= pos <= base + len(window) - 8:
            window, base = source.read_at(pos, 8 if length > _SPARSE else _DENSE_READ), pos
            if len(window) < 8:
                raise UnreadableInstance("Encapsulated data are cut off.")
        group, number, length = unpack(window, pos - base)
        if group == 0xFFFE and number == 0xE0DD:
            return starts, lengths, pos + 8
        if group != 0xFFFE or number != 0xE000 or pos + 8 + length > stop:
            raise UnreadableInstance("Encapsulated data are cut off or malformed.")
        if len(starts) >= limit:
            raise UnreadableInstance("The dataset has more fragments than this server reads.")
        starts.append(pos)
        lengths.append(length)
        pos += 8 + length

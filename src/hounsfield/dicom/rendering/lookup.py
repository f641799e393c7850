"""Lookup tables: Modality and VOI LUT Sequence items (PS3.3 C.11.1, C.11.2), palettes (PS3.3 C.7.6.3.1.5 and C.7.9)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from hounsfield.dicom.rendering.header import CannotRender, value_of, values_of

DESCRIPTOR, DATA = 0x00283002, 0x00283006
_PALETTE_DESCRIPTORS = (0x00281101, 0x00281102, 0x00281103)
_PALETTE_DATA = (0x00281201, 0x00281202, 0x00281203)
_SEGMENTED_DATA = (0x00281221, 0x00281222, 0x00281223)
_MAX_ENTRIES = 65536

Entries = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Table:
    """``entries`` for the input values from ``first`` on; inputs outside get the nearest entry."""

    first: int
    entries: Entries
    bits: int
    """Bits of an entry: the output ranges from 0 to 2**bits − 1."""

    def apply(self, values: npt.NDArray[Any]) -> Entries:
        """The entries for ``values``, of the same shape."""
        last = len(self.entries) - 1
        positions = np.clip(np.rint(values) if values.dtype.kind == "f" else values, self.first, self.first + last)
        found: Entries = self.entries[positions.astype(np.int64) - self.first]
        return found


def table_of(item: Dataset, *, signed: bool) -> Table:
    """The table of a LUT item. ``signed``: the input values can be negative. Raises CannotRender if it is damaged."""
    count, first, bits = _descriptor(item, DESCRIPTOR, signed=signed)
    return Table(first, _plain(item, DATA, count, bits), bits)


def palette_of(dataset: Dataset, *, signed: bool) -> tuple[int, npt.NDArray[np.uint8]]:
    """First input value and an array of (entries, 3): red, green and blue of each. Raises CannotRender.

    Of 16-bit entries the high byte counts (retrieve.md §8), unless none uses it.
    """
    columns: list[Entries] = []
    first = 0
    for descriptor, plain, segmented in zip(_PALETTE_DESCRIPTORS, _PALETTE_DATA, _SEGMENTED_DATA, strict=True):
        count, first, bits = _descriptor(dataset, descriptor, signed=signed)
        if plain in dataset:
            column = _plain(dataset, plain, count, bits)
        else:
            column = _expanded(_words(dataset, segmented, bits), count)
        if bits > 8 and column.max(initial=0) > 255:
            column = (column >> 8).astype(np.uint16)
        columns.append(np.minimum(column, 255).astype(np.uint16))
    if len({len(column) for column in columns}) != 1:
        raise CannotRender("The instance cannot be rendered: its palettes differ in length.")
    return first, np.stack(columns, axis=-1).astype(np.uint8)


def _descriptor(dataset: Dataset, tag: int, *, signed: bool) -> tuple[int, int, int]:
    values = values_of(dataset, tag)
    if len(values) != 3 or not all(isinstance(value, int) for value in values):
        raise CannotRender("The instance cannot be rendered: a lookup table has no usable descriptor.")
    # The VR is US or SS and often neither fits all three values.
    count, first, bits = values[0] & 0xFFFF or _MAX_ENTRIES, values[1] & 0xFFFF, values[2] & 0xFFFF
    if signed and first >= 0x8000:
        first -= 0x10000
    if not 1 <= bits <= 16:
        raise CannotRender("The instance cannot be rendered: a lookup table has entries of more than 16 bits.")
    return count, first, bits


def _plain(dataset: Dataset, tag: int, count: int, bits: int) -> Entries:
    words = _words(dataset, tag, bits, count)
    if len(words) < count:
        raise CannotRender("The instance cannot be rendered: a lookup table is shorter than its descriptor says.")
    return words[:count]


def _words(dataset: Dataset, tag: int, bits: int, count: int | None = None) -> Entries:
    """The entries; an 8-bit table may be packed two to a word or have a word each."""
    value = value_of(dataset, tag)
    if isinstance(value, bytes):
        packed = bits <= 8 and (len(value) < 2 * count if count is not None else True)
        little = getattr(dataset, "original_encoding", (None, True))[1] is not False
        if packed:
            return np.frombuffer(value, np.uint8).astype(np.uint16)
        return np.frombuffer(value[: len(value) & ~1], "<u2" if little else ">u2").astype(np.uint16)
    words = values_of(dataset, tag)
    try:
        return np.array(words, np.int64).astype(np.uint16)
    except (TypeError, ValueError, OverflowError):
        raise CannotRender("The instance cannot be rendered: a lookup table cannot be read.") from None


def _expanded(words: Entries, count: int) -> Entries:
    """A segmented palette written out (PS3.3 C.7.9.2): discrete, linear and indirect segments."""
    entries: list[Entries] = []
    total = 0
    starts: list[int] = []
    position = 0

    def segment(at: int) -> int:
        """Append the segment at ``at``; the position behind it."""
        nonlocal total
        opcode, length = int(words[at]), int(words[at + 1])
        if opcode == 0:
            values, end = words[at + 2 : at + 2 + length], at + 2 + length
        elif opcode == 1 and entries:
            last, target = int(entries[-1][-1]), int(words[at + 2])
            steps = np.arange(1, length + 1) / length if length else np.empty(0)
            values, end = np.rint(last + (target - last) * steps).astype(np.uint16), at + 3
        else:
            raise ValueError
        if len(values) != length or not length:
            raise ValueError
        entries.append(values)
        total += length
        return end

    try:
        while position < len(words) and total < count:
            if words[position] == 2:
                # Copies of earlier segments, the first of which begins at an offset in the entries' own unit.
                copies, offset = int(words[position + 1]), int(words[position + 2]) | int(words[position + 3]) << 16
                at = starts.index(offset)
                for start in starts[at : at + copies]:
                    segment(start)
                position += 4
            else:
                starts.append(position)
                position = segment(position)
        if total < count:
            raise ValueError
    except (ValueError, IndexError):
        raise CannotRender("The instance cannot be rendered: its segmented palette is damaged.") from None
    return np.concatenate(entries)[:count]

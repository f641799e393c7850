"""Overlay planes (PS3.3 C.9.2): bitmaps over an image, drawn where a client asks for annotation."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.dicom.rendering.header import Header, number, text, value_of, values_of

_GROUPS = range(0x6000, 0x6020, 2)

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Plane:
    group: int
    rows: int
    columns: int
    top: int
    left: int
    """Of its first pixel in the image, from 0; both may be negative."""


def overlay_mask(header: Header, samples: npt.NDArray[Any]) -> Mask | None:
    """The pixels of one frame that a graphics overlay covers; None without overlays.

    ``samples`` (rows, columns) are as stored, with all bits allocated: retired overlays are in unused ones. A plane
    that lies partly outside is cut; one whose data are too short is left out.
    """
    mask: Mask | None = None
    rows, columns = samples.shape[:2]
    for group in _GROUPS:
        plane = _plane(header, group)
        bits = None if plane is None else _bits(header, plane, samples)
        if plane is None or bits is None:
            continue
        if mask is None:
            mask = np.zeros((rows, columns), np.bool_)
        top, left = max(plane.top, 0), max(plane.left, 0)
        shown = bits[top - plane.top : rows - plane.top, left - plane.left : columns - plane.left]
        mask[top : top + shown.shape[0], left : left + shown.shape[1]] |= shown
    return mask


def _plane(header: Header, group: int) -> _Plane | None:
    dataset, base = header.dataset, group << 16
    rows, columns = number(dataset, base | 0x10), number(dataset, base | 0x11)
    if not rows or not columns or rows < 0 or columns < 0 or text(dataset, base | 0x40) not in ("G", "R", ""):
        return None
    origin = [int(value) for value in values_of(dataset, base | 0x50) if isinstance(value, int)]
    top, left = origin if len(origin) == 2 else (1, 1)
    return _Plane(group, int(rows), int(columns), top - 1, left - 1)


def _bits(header: Header, plane: _Plane, samples: npt.NDArray[Any]) -> Mask | None:
    base = plane.group << 16
    data = value_of(header.dataset, base | 0x3000)
    if isinstance(data, bytes):
        # A multi-frame overlay has a plane for each of its frames, from a first frame of the image on.
        count = int(number(header.dataset, base | 0x15, 1) or 1)
        number_of_plane = header.frame - int(number(header.dataset, base | 0x51, 1) or 1) if count > 1 else 0
        size = plane.rows * plane.columns
        start = number_of_plane * size
        if not 0 <= number_of_plane < count or 8 * len(data) < start + size:
            return None
        packed = np.frombuffer(data, np.uint8)[start // 8 : (start + size + 7) // 8]
        unpacked = np.unpackbits(packed, bitorder="little")[start % 8 :][:size]
        return unpacked.reshape(plane.rows, plane.columns).astype(np.bool_)
    position = int(number(header.dataset, base | 0x102, 0) or 0)
    unused = 0 < position < 8 * samples.dtype.itemsize and samples.dtype.kind in "iu"
    if not unused or samples.shape[:2] != (plane.rows, plane.columns):
        return None
    return (samples >> position & 1).astype(np.bool_)

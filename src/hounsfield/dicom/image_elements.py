"""The elements of a dataset that say how its pixel data is to be read: found, and changed when that changes."""

import struct
from collections.abc import Sequence

from hounsfield.dicom.codecs.capabilities import ENCODED
from hounsfield.dicom.fragments import PixelData
from hounsfield.dicom.frame_conversion import Converted
from hounsfield.dicom.frames import FrameIndex, index_frames
from hounsfield.dicom.native_dataset import AnyElement, DatasetError, Element, Encoding, NewElement, integer
from hounsfield.dicom.pixels import PixelFormat, from_values
from hounsfield.dicom.source import BytesSource

EXTENDED_TABLE, EXTENDED_LENGTHS = 0x7FE00001, 0x7FE00002
LOSSY_RATIO = 0x00282112
RATIO_BYTES = 16
"""Of a decimal string at most (PS3.5 §6.2): the room left for one that is known when all is written."""

_PHOTOMETRIC, _NUMBER_OF_FRAMES, _PLANAR = 0x00280004, 0x00280008, 0x00280006
_STORED, _HIGH_BIT = 0x00280101, 0x00280102
_LOSSY, _LOSSY_METHOD = 0x00282110, 0x00282114
_TOTAL_LENGTH = 0x7FE00003
_FORM = frozenset(
    (
        *(0x00280002, _PHOTOMETRIC, _PLANAR, _NUMBER_OF_FRAMES, 0x00280010, 0x00280011),
        *(0x00280100, 0x00280101, 0x00280102, 0x00280103),
    )
)
_ENCAPSULATED_MARKS = tuple(b"\xe0\x7f\x10\0" + vr + b"\0\0\xff\xff\xff\xff" for vr in (b"OB", b"OW"))

ImageValues = dict[str, dict[str, list[object]]]
"""The attributes in the DICOM JSON model, without VRs."""


def pixel_format(values: ImageValues) -> PixelFormat:
    """The format the attributes describe. Raises PixelFailure if none."""
    return from_values(lambda tag: values.get(f"{tag:08X}", {}).get("Value", [None])[0])


def image_values(elements: Sequence[AnyElement], encoding: Encoding) -> ImageValues:
    """The image pixel attributes in the DICOM JSON model."""
    values: ImageValues = {}
    for element in elements:
        if element.tag in _FORM and isinstance(element, Element) and isinstance(element.value, memoryview):
            text = bytes(element.value).decode("latin-1").strip(" \0")
            if element.tag == _PHOTOMETRIC:
                values[f"{element.tag:08X}"] = {"Value": [text]}
            elif element.tag == _NUMBER_OF_FRAMES:
                values[f"{element.tag:08X}"] = {"Value": [int(text) if text.isdigit() else 1]}
            elif len(element.value) >= 2:
                values[f"{element.tag:08X}"] = {"Value": [integer(element.value, encoding)]}
    return values


def frame_index(
    dataset: memoryview,
    elements: Sequence[AnyElement],
    pixels: Element,
    values: ImageValues,
    *,
    big_endian: bool,
) -> FrameIndex:
    """Where the frames lie. Raises ``DatasetError`` if there are others than the dataset says."""
    tables = {
        element.tag: (element.start, len(element.value))
        for element in elements
        if isinstance(element, Element) and isinstance(element.value, memoryview)
    }
    place = pixels.value
    if isinstance(place, memoryview):
        place = PixelData(pixels.vr or "OW", pixels.start, len(place))
    assert isinstance(place, PixelData)
    index = index_frames(BytesSource(dataset), place, values, tables, big_endian=big_endian, stream_start=None)
    frames = values.get("00280008", {"Value": [1]})["Value"][0] or 1
    if index is None or index.count != frames:
        raise DatasetError("its frames cannot be told apart, or some are missing")
    return index


def described(elements: Sequence[AnyElement], before: PixelFormat, frame: Converted, target: str) -> list[AnyElement]:
    """The elements with those changed that describe pixel data; tables of fragments that are gone left out."""
    new: list[NewElement] = []
    form = frame.form
    if form.photometric != before.photometric:
        new.append(NewElement(_PHOTOMETRIC, "CS", form.photometric.encode()))
    if form.planar != before.planar:
        new.append(NewElement(_PLANAR, "US", struct.pack("<H", form.planar)))
    if form.bits_stored != before.bits_stored:
        new.append(NewElement(_STORED, "US", struct.pack("<H", form.bits_stored)))
    if form.high_bit != before.high_bit:
        new.append(NewElement(_HIGH_BIT, "US", struct.pack("<H", form.high_bit)))
    if frame.lossy:
        known = {element.tag: element.value for element in elements}
        new.append(NewElement(_LOSSY, "CS", b"01"))
        new.append(NewElement(LOSSY_RATIO, "DS", _room(_added(known.get(LOSSY_RATIO), b" " * RATIO_BYTES))))
        new.append(NewElement(_LOSSY_METHOD, "CS", _added(known.get(_LOSSY_METHOD), ENCODED[target].method.encode())))
    gone = {EXTENDED_TABLE, EXTENDED_LENGTHS, _TOTAL_LENGTH, *(element.tag for element in new)}
    kept = [element for element in elements if element.tag not in gone]
    return sorted([*kept, *new], key=lambda element: element.tag) if new else kept


def _room(text: bytes) -> bytes:
    """The text at an even length, the last value at its end: so its place is known."""
    head = text[:-RATIO_BYTES]
    return text if len(text) % 2 == 0 else head[:-1] + b" " + head[-1:] + text[len(head) :]


def _added(value: object, text: bytes) -> bytes:
    """A multi-valued text with one more value."""
    before = bytes(value).rstrip(b" \0") if isinstance(value, memoryview) else b""
    return before + b"\\" + text if before else text


def holds_fragments(raw: memoryview) -> bool:
    data = bytes(raw)
    return any(mark in data for mark in _ENCAPSULATED_MARKS)

"""A dataset taken apart and written again in another of the native encodings (PS3.5 §7, Annex A).

Values are copied or byte-swapped, never parsed. The VR of an implicit element comes from the dictionaries of pydicom
(private ones by their creator), the choice between two VRs from the attributes PS3.5 and PS3.3 name for it. Where the
VR found does not fit the bytes, the element becomes UN, which may hold anything (PS3.5 §6.2.2). Where the encoding
stays the same, whole elements are copied. Encapsulated pixel data is found, but not written: transcode.py does that.
"""

import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from hounsfield.dicom.encodings import LONG_HEADER
from hounsfield.dicom.fragments import PixelData

UNDEFINED = 0xFFFFFFFF
_SWAPPED_BYTES = 1 << 20  # a multiple of every word
PIXEL_DATA = 0x7FE00010

_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
SEQUENCE_END = 0xFFFEE0DD
_PIXEL_REPRESENTATION = 0x00280103
_LUT_DESCRIPTOR = 0x00283002

_SHORT = frozenset(("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "PN", "SH", "SL", "SS"))
_SHORT |= {"ST", "TM", "UI", "UL", "US"}
_WIDTH = {"AT": 2, "OW": 2, "SS": 2, "US": 2, "FL": 4, "OF": 4, "OL": 4, "SL": 4, "UL": 4}
_WIDTH |= {"FD": 8, "OD": 8, "OV": 8, "SV": 8, "UV": 8}
_ARRAY_CODE = {2: "H", 4: "I", 8: "Q"}
_BITS_ALLOCATED = {PIXEL_DATA: 0x00280100, 0x54000110: 0x54001004, 0x54000112: 0x54001004}
_BITS_ALLOCATED |= {0x5400100A: 0x54001004, 0x54001010: 0x54001004}


class DatasetError(Exception):
    """The bytes are no native dataset; the text says where they stop making sense, and holds no values."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a dataset is written."""

    implicit: bool
    little_endian: bool


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a sequence, and how it is written: not always as the dataset around it (PS3.5 §6.2.2 Note 4)."""

    elements: "Sequence[AnyElement]"
    undefined_length: bool
    encoding: Encoding


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its VR as written (None if implicit) and its bytes, or its items where the length is undefined.

    ``start`` is where the value begins in the dataset. ``raw`` is all of the element as it was found; an element that
    was changed has none. Encapsulated pixel data have positions in the dataset for a value.
    """

    tag: int
    vr: str | None
    value: "memoryview | list[Item] | PixelData"
    start: int = 0
    raw: memoryview | None = None


@dataclass(frozen=True, slots=True)
class NewElement:
    """An element that was not in the dataset, or is changed: its value is in little endian order."""

    tag: int
    vr: str
    value: bytes


AnyElement = Element | NewElement
EXPLICIT_LITTLE = Encoding(implicit=False, little_endian=True)


def looks_explicit(dataset: memoryview) -> bool:
    """Whether the first element carries a VR: some writers call an explicit dataset implicit."""
    vr = bytes(dataset[4:6]).decode("latin-1")
    return vr in LONG_HEADER or vr in _SHORT


def read_elements(dataset: memoryview, encoding: Encoding) -> list[Element]:
    """The elements of a dataset in file order, without what the reader of uploads passes over between and behind them
    (dataset_reader.py). Raises ``DatasetError``."""
    return _Reader(dataset, encoding).elements(0, len(dataset), top=True)[0]


def read_items(dataset: memoryview, element: Element, encoding: Encoding) -> list[Item]:
    """The items of a sequence of stated length. Raises ``DatasetError``."""
    assert isinstance(element.value, memoryview)
    end = element.start + len(element.value)
    return _Reader(dataset, encoding).items(element.start, end, delimited=False)[0]


def integer(value: object, encoding: Encoding, default: int = 0) -> int:
    """The first 16-bit number of a value, or ``default`` if it is none or too short."""
    if not isinstance(value, memoryview) or len(value) < 2:
        return default
    return int.from_bytes(value[:2], "little" if encoding.little_endian else "big")


def encoded(tag: int, vr: str, value: bytes | memoryview) -> tuple[bytes, bytes | memoryview, bytes]:
    """One element as Explicit VR Little Endian has it: header, value, padding to even length (PS3.5 §6.2)."""
    odd = len(value) % 2
    return header(tag, vr, len(value) + odd), value, _padding(vr) * odd


def _padding(vr: str) -> bytes:
    return b"\0" if vr == "UI" or vr in LONG_HEADER - {"UC", "UR", "UT"} else b" "


def _swapped(value: bytes | memoryview, width: int) -> bytes:
    """``value`` with the bytes of every word of ``width`` bytes reversed. Raises ``DatasetError`` for half a word."""
    if len(value) % width:
        raise DatasetError("a value ends inside a binary number")
    words = array(_ARRAY_CODE[width])
    words.frombytes(value)
    words.byteswap()
    return words.tobytes()


_Siblings = dict[int, object]
"""The other elements of the same dataset or item."""


class _Reader:
    """Finds elements and items, and nothing more: no dictionary, no values."""

    def __init__(self, data: memoryview, encoding: Encoding) -> None:
        self._data = data
        self._encoding = encoding
        order = "<" if encoding.little_endian else ">"
        self._header = struct.Struct(order + ("HHI" if encoding.implicit else "HH2sH"))
        self._tag_and_length = struct.Struct(order + "HHI")
        self._long_length = struct.Struct(order + "I")

    def elements(self, pos: int, end: int, *, top: bool = False) -> tuple[list[Element], int]:
        """The elements from ``pos`` to ``end`` or to an item delimiter, and the position after them.

        At ``top`` level delimiters too many and zeros at the end are left out.
        """
        found: list[Element] = []
        while pos < end and not (top and self._padding(pos)):
            begin = pos
            tag, vr, length, pos = self._element_header(pos, end)
            if tag >> 16 == _ITEM >> 16:
                if top and length == 0 and tag != _ITEM:
                    continue
                if top or tag != _ITEM_END:
                    raise DatasetError("an item or delimiter stands where an element should be")
                return found, pos
            if length == UNDEFINED:
                start = pos
                value, pos = self._undefined_length(tag, vr, pos, end)
                found.append(Element(tag, vr, value, start, self._data[begin:pos]))
                continue
            if length > end - pos:
                raise DatasetError(f"({tag >> 16:04x},{tag & 0xFFFF:04x}) is longer than what holds it")
            found.append(Element(tag, vr, self._data[pos : pos + length], pos, self._data[begin : pos + length]))
            pos += length
        return found, pos

    def items(self, pos: int, end: int, *, delimited: bool) -> tuple[list[Item], int]:
        """The items from ``pos`` to ``end`` or to a sequence delimiter, and the position after them."""
        found: list[Item] = []
        while pos < end:
            tag, length, pos = self._item_header(pos, end)
            if tag == SEQUENCE_END and delimited:
                return found, pos
            if tag != _ITEM:
                raise DatasetError("a sequence holds something that is no item")
            undefined = length == UNDEFINED
            item_end = end if undefined else pos + length
            if item_end > end:
                raise DatasetError("an item is longer than what holds it")
            elements, pos = self.elements(pos, item_end)
            if not undefined and pos != item_end:
                raise DatasetError("an item of a stated length has a delimiter inside")
            found.append(Item(elements, undefined, self._encoding))
        if delimited:
            raise DatasetError("a sequence of undefined length has no end")
        return found, pos

    def _padding(self, pos: int) -> bool:
        """Whether nothing but zeros follows, or blanks where there is no room for an element."""
        if bytes(self._data[pos : pos + 8]).strip(b"\0"):
            return len(self._data) - pos < 8 and not bytes(self._data[pos:]).strip(b"\0 ")
        if bytes(self._data[pos:]).strip(b"\0"):
            raise DatasetError("zero bytes stand where an element should be")
        return True

    def _element_header(self, pos: int, end: int) -> tuple[int, str | None, int, int]:
        if end - pos < 8:
            raise DatasetError("the dataset ends inside an element")
        if self._encoding.implicit:
            group, number, length = self._header.unpack_from(self._data, pos)
            return group << 16 | number, None, length, pos + 8
        group, number, code, length = self._header.unpack_from(self._data, pos)
        tag = group << 16 | number
        if group == _ITEM >> 16:
            return tag, None, self._tag_and_length.unpack_from(self._data, pos)[2], pos + 8
        vr = code.decode("latin-1")
        if vr in _SHORT:
            return tag, vr, length, pos + 8
        if vr not in LONG_HEADER:
            raise DatasetError(f"({group:04x},{number:04x}) has no known VR")
        if end - pos < 12:
            raise DatasetError("the dataset ends inside an element")
        return tag, vr, self._long_length.unpack_from(self._data, pos + 8)[0], pos + 12

    def _item_header(self, pos: int, end: int) -> tuple[int, int, int]:
        if end - pos < 8:
            raise DatasetError("the dataset ends inside a sequence")
        group, number, length = self._tag_and_length.unpack_from(self._data, pos)
        return group << 16 | number, length, pos + 8

    def _undefined_length(self, tag: int, vr: str | None, pos: int, end: int) -> tuple[list[Item] | PixelData, int]:
        if tag == PIXEL_DATA or vr not in (None, "SQ", "UN"):
            return self._fragments(tag, vr or "OB", pos, end)
        # UN of undefined length is a sequence, and in implicit VR (PS3.5 §6.2.2); some write it explicitly
        if vr == "UN" and bytes(self._data[pos : pos + 4]) == b"\xfe\xff\x00\xe0":
            inner = Encoding(not looks_explicit(self._data[pos + 8 : pos + 16]), little_endian=True)
            return _Reader(self._data, inner).items(pos, end, delimited=True)
        return self.items(pos, end, delimited=True)

    def _fragments(self, tag: int, vr: str, pos: int, end: int) -> tuple[PixelData, int]:
        start, starts, lengths = pos, array("Q"), array("Q")
        while True:
            item, length, after = self._item_header(pos, end)
            if item == SEQUENCE_END:
                break
            if item != _ITEM or length > end - after:
                raise DatasetError(f"the fragments of ({tag >> 16:04x},{tag & 0xFFFF:04x}) are broken")
            starts.append(pos)
            lengths.append(length)
            pos = after + length
        table = bytes(self._data[start + 8 : start + 8 + lengths[0]]) if lengths else b""
        return PixelData(vr, start, pos - start, starts[1:], lengths[1:], table), after


class Writer:
    """Settles every VR and the byte order, and writes. One dataset or item after another; knows the enclosing ones only
    by their Pixel Representation."""

    def __init__(self, source: Encoding, target: Encoding) -> None:
        self._source = source
        self._target = target

    def dataset(
        self, elements: Sequence[AnyElement], within: Sequence[AnyElement] | None = None, signed: bool | None = None
    ) -> Iterator[bytes | memoryview]:
        """The chunks of a dataset or item, or of those ``elements`` of one that is ``within``.

        ``signed``: Pixel Representation of the nearest enclosing dataset, if any. Raises ``DatasetError``.
        """
        siblings: _Siblings = {
            element.tag: element.value for element in within or elements if isinstance(element, Element)
        }
        if _PIXEL_REPRESENTATION in siblings:
            signed = bool(self._integer(siblings, _PIXEL_REPRESENTATION, 0))
        for element in elements:
            if isinstance(element, NewElement):
                yield from self._encoded(element.tag, element.vr, element.value, little_endian=True)
            elif element.tag & 0xFFFF:  # not a group length
                yield from self._element(element, siblings, signed)

    def _element(self, element: Element, siblings: _Siblings, signed: bool | None) -> Iterator[bytes | memoryview]:
        tag, value = element.tag, element.value
        if element.raw is not None and self._source == self._target == EXPLICIT_LITTLE:
            yield element.raw
            return
        if isinstance(value, PixelData):
            raise DatasetError(f"({tag >> 16:04x},{tag & 0xFFFF:04x}) is encapsulated")
        if isinstance(value, list):
            yield header(tag, "SQ", UNDEFINED, self._target)
            yield from self._items(value, signed)
            yield marker(SEQUENCE_END, 0, self._target)
            return
        vr = element.vr
        if vr is None or (vr == "UN" and not (self._source.little_endian and self._target.little_endian)):
            vr = self._guessed_vr(tag, value, siblings, signed)
            if vr == "SQ" and element.vr == "UN":
                vr = "UN"  # whatever order its items are in, it is not known (PS3.5 §6.2.2)
        if vr == "SQ":
            items, _ = _Reader(value, self._source).items(0, len(value), delimited=False)
            chunks = list(self._items(items, signed))
            yield header(tag, "SQ", sum(map(len, chunks)), self._target)
            yield from chunks
            return
        if vr == "OB" and tag == PIXEL_DATA and self._source.little_endian:
            # larger samples are no OB (PS3.5 §A.2); where it is written nevertheless, they would not be swapped
            vr = "OW" if self._integer(siblings, _BITS_ALLOCATED[tag], 8) > 8 else vr
        width = None
        if vr == "OW" and tag in _BITS_ALLOCATED:
            # samples of 32 and 64 bits are words of that size in what writers of big endian files made
            width = {32: 4, 64: 8}.get(self._integer(siblings, _BITS_ALLOCATED[tag], 16), 2)
        yield from self._encoded(tag, vr, value, little_endian=self._source.little_endian, width=width)

    def _encoded(
        self, tag: int, vr: str, value: bytes | memoryview, *, little_endian: bool, width: int | None = None
    ) -> Iterator[bytes | memoryview]:
        """One element with its value, in pieces where it is swapped: pixel data may be large."""
        width = _WIDTH.get(vr, 1) if width is None else width
        odd = len(value) % 2
        yield header(tag, vr, len(value) + odd, self._target)
        if little_endian == self._target.little_endian or width == 1:
            yield value
        else:
            for at in range(0, len(value), _SWAPPED_BYTES):
                yield _swapped(value[at : at + _SWAPPED_BYTES], width)
        yield _padding(vr) * odd

    def _items(self, items: list[Item], signed: bool | None) -> Iterator[bytes | memoryview]:
        for item in items:
            writer = self if item.encoding == self._source else Writer(item.encoding, self._target)
            chunks = list(writer.dataset(item.elements, signed=signed))
            yield marker(_ITEM, UNDEFINED if item.undefined_length else sum(map(len, chunks)), self._target)
            yield from chunks
            if item.undefined_length:
                yield marker(_ITEM_END, 0, self._target)

    def _guessed_vr(self, tag: int, value: memoryview, siblings: _Siblings, signed: bool | None) -> str:
        """The VR the dictionary and the neighbours give an implicit or UN element; UN if the bytes contradict it."""
        vr = _dictionary_vr(tag, siblings)
        if vr in ("US or SS", "US or SS or OW"):
            vr = "SS" if signed else "US"
        elif vr == "US or OW":  # LUT Data: a table of one entry is a number (PS3.3 §C.11.1.1.1)
            vr = "US" if self._integer(siblings, _LUT_DESCRIPTOR, 0) == 1 else "OW"
        elif vr == "OB or OW":  # PS3.5 §A.1
            vr = "OW"
        if vr == "SQ":
            item = b"\xfe\xff\x00\xe0" if self._source.little_endian else b"\xff\xfe\xe0\x00"
            fits = bytes(value[:4]) in (b"", item)
        else:
            fits = vr in LONG_HEADER or (vr in _SHORT and len(value) <= 0xFFFE)
        return vr if fits and len(value) % _WIDTH.get(vr, 1) == 0 else "UN"

    def _integer(self, siblings: _Siblings, tag: int, default: int) -> int:
        return integer(siblings.get(tag), self._source, default)


def _dictionary_vr(tag: int, siblings: _Siblings) -> str:
    from pydicom.datadict import dictionary_VR, private_dictionary_VR  # late: 30 ms nobody needs to start a server

    group, number = tag >> 16, tag & 0xFFFF
    try:
        if group % 2 == 0:
            return dictionary_VR(tag)
        if 0x10 <= number <= 0xFF:
            return "LO"  # a private creator, PS3.5 §7.8.1
        creator = siblings.get(group << 16 | number >> 8)
        if isinstance(creator, memoryview):
            return private_dictionary_VR(tag, bytes(creator).decode("latin-1").rstrip(" \0"))
    except KeyError:
        pass
    return "UN"


def header(tag: int, vr: str, length: int, encoding: Encoding = EXPLICIT_LITTLE) -> bytes:
    """The header of an element (PS3.5 §7.1)."""
    if encoding.implicit:
        return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)
    order = "<" if encoding.little_endian else ">"
    if vr in LONG_HEADER:
        return struct.pack(order + "HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    return struct.pack(order + "HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)


def marker(tag: int, length: int, encoding: Encoding = EXPLICIT_LITTLE) -> bytes:
    """The header of an item or a delimiter (PS3.5 §7.5)."""
    return struct.pack(("<" if encoding.little_endian else ">") + "HHI", tag >> 16, tag & 0xFFFF, length)

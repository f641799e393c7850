"""An uncompressed dataset taken apart and written again as Explicit VR Little Endian (PS3.5 §7, Annex A).

Values are copied or byte-swapped, never parsed. The VR of an implicit element comes from the dictionaries of pydicom
(private ones by their creator), the choice between two VRs from the attributes PS3.5 and PS3.3 name for it. Where the
VR found does not fit the bytes, the element becomes UN, which may hold anything (PS3.5 §6.2.2).
"""

import struct
from array import array
from collections.abc import Iterator
from dataclasses import dataclass

from hounsfield.dicom.encodings import LONG_HEADER

UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010

_ITEM = 0xFFFEE000
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
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
    """One item of a sequence."""

    elements: "list[Element]"
    undefined_length: bool


@dataclass(frozen=True, slots=True)
class Element:
    """One element: its VR as written (None if implicit) and its bytes, or its items where the length is undefined."""

    tag: int
    vr: str | None
    value: "memoryview | list[Item]"


def looks_explicit(dataset: memoryview) -> bool:
    """Whether the first element carries a VR: some writers call an explicit dataset implicit."""
    vr = bytes(dataset[4:6]).decode("latin-1")
    return vr in LONG_HEADER or vr in _SHORT


def read_elements(dataset: memoryview, encoding: Encoding) -> list[Element]:
    """The elements of a dataset in file order, without what the reader of uploads passes over between and behind them
    (dataset_reader.py). Raises ``DatasetError``, also for encapsulated pixel data."""
    return _Reader(dataset, encoding).elements(0, len(dataset), top=True)[0]


def write_explicit_little_endian(elements: list[Element], encoding: Encoding) -> list[bytes | memoryview]:
    """The chunks of the same dataset as Explicit VR Little Endian. Raises ``DatasetError``."""
    return _Writer(encoding).dataset(elements, None)


def encoded(tag: int, vr: str, value: bytes | memoryview) -> tuple[bytes, bytes | memoryview, bytes]:
    """One element as Explicit VR Little Endian has it: header, value, padding to even length (PS3.5 §6.2)."""
    odd = len(value) % 2
    padding = b"\0" if vr == "UI" or vr in LONG_HEADER - {"UC", "UR", "UT"} else b" "
    return header(tag, vr, len(value) + odd), value, padding * odd


def _swapped(value: bytes | memoryview, width: int) -> bytes:
    """``value`` with the bytes of every word of ``width`` bytes reversed. Raises ``DatasetError`` for half a word."""
    if len(value) % width:
        raise DatasetError("a value ends inside a binary number")
    words = array(_ARRAY_CODE[width])
    words.frombytes(value)
    words.byteswap()
    return words.tobytes()


_Siblings = dict[int, memoryview | list[Item]]
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
            tag, vr, length, pos = self._element_header(pos, end)
            if tag >> 16 == _ITEM >> 16:
                if top and length == 0 and tag != _ITEM:
                    continue
                if top or tag != _ITEM_END:
                    raise DatasetError("an item or delimiter stands where an element should be")
                return found, pos
            if length == UNDEFINED:
                items, pos = self._undefined_length(tag, vr, pos, end)
                found.append(Element(tag, vr, items))
                continue
            if length > end - pos:
                raise DatasetError(f"({tag >> 16:04x},{tag & 0xFFFF:04x}) is longer than what holds it")
            found.append(Element(tag, vr, self._data[pos : pos + length]))
            pos += length
        return found, pos

    def items(self, pos: int, end: int, *, delimited: bool) -> tuple[list[Item], int]:
        """The items from ``pos`` to ``end`` or to a sequence delimiter, and the position after them."""
        found: list[Item] = []
        while pos < end:
            tag, length, pos = self._item_header(pos, end)
            if tag == _SEQUENCE_END and delimited:
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
            found.append(Item(elements, undefined))
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

    def _undefined_length(self, tag: int, vr: str | None, pos: int, end: int) -> tuple[list[Item], int]:
        # UN of undefined length is a sequence (PS3.5 §6.2.2); so is whatever else of that kind a native dataset holds
        if tag == PIXEL_DATA or vr not in (None, "SQ", "UN"):
            raise DatasetError(f"({tag >> 16:04x},{tag & 0xFFFF:04x}) is encapsulated")
        return self.items(pos, end, delimited=True)


class _Writer:
    """Settles every VR and the byte order, and writes. One dataset or item after another; knows the enclosing ones only
    by their Pixel Representation."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding

    def dataset(self, elements: list[Element], signed: bool | None) -> list[bytes | memoryview]:
        """The chunks of a dataset or item; ``signed``: Pixel Representation of the nearest enclosing one, if any."""
        siblings = {element.tag: element.value for element in elements}
        signed = (
            bool(self._integer(siblings, _PIXEL_REPRESENTATION, 0)) if _PIXEL_REPRESENTATION in siblings else signed
        )
        chunks: list[bytes | memoryview] = []
        for element in elements:
            if element.tag & 0xFFFF:  # not a group length
                chunks += self._element(element, siblings, signed)
        return chunks

    def _element(self, element: Element, siblings: _Siblings, signed: bool | None) -> Iterator[bytes | memoryview]:
        tag, value = element.tag, element.value
        if isinstance(value, list):
            yield header(tag, "SQ", UNDEFINED)
            yield from self._items(value, signed)
            yield marker(_SEQUENCE_END, 0)
            return
        vr = element.vr
        if vr is None or (vr == "UN" and not self._encoding.little_endian):
            vr = self._guessed_vr(tag, value, siblings, signed)
            if vr == "SQ" and element.vr == "UN":
                vr = "UN"  # whatever order its items are in, it is not known (PS3.5 §6.2.2)
        if vr == "SQ":
            items, _ = _Reader(value, self._encoding).items(0, len(value), delimited=False)
            chunks = list(self._items(items, signed))
            yield header(tag, "SQ", sum(map(len, chunks)))
            yield from chunks
            return
        width = _WIDTH.get(vr, 1)
        if vr == "OW" and tag in _BITS_ALLOCATED:
            # samples of 32 and 64 bits are words of that size in what writers of big endian files made
            width = {32: 4, 64: 8}.get(self._integer(siblings, _BITS_ALLOCATED[tag], 16), 2)
        yield from encoded(tag, vr, value if self._encoding.little_endian or width == 1 else _swapped(value, width))

    def _items(self, items: list[Item], signed: bool | None) -> Iterator[bytes | memoryview]:
        for item in items:
            chunks = self.dataset(item.elements, signed)
            yield marker(_ITEM, UNDEFINED if item.undefined_length else sum(map(len, chunks)))
            yield from chunks
            if item.undefined_length:
                yield marker(_ITEM_END, 0)

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
            item = b"\xfe\xff\x00\xe0" if self._encoding.little_endian else b"\xff\xfe\xe0\x00"
            fits = bytes(value[:4]) in (b"", item)
        else:
            fits = vr in LONG_HEADER or (vr in _SHORT and len(value) <= 0xFFFE)
        return vr if fits and len(value) % _WIDTH.get(vr, 1) == 0 else "UN"

    def _integer(self, siblings: _Siblings, tag: int, default: int) -> int:
        """The first 16-bit number of an attribute, or ``default`` if it is absent or too short."""
        value = siblings.get(tag)
        if not isinstance(value, memoryview) or len(value) < 2:
            return default
        return int.from_bytes(value[:2], "little" if self._encoding.little_endian else "big")


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


def header(tag: int, vr: str, length: int) -> bytes:
    """The header of an element in Explicit VR (PS3.5 §7.1.2)."""
    if vr in LONG_HEADER:
        return struct.pack("<HH2sHI", tag >> 16, tag & 0xFFFF, vr.encode(), 0, length)
    return struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), length)


def marker(tag: int, length: int) -> bytes:
    """The header of an item or a delimiter (PS3.5 §7.5)."""
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, length)

"""A dataset of the DICOM JSON model (PS3.18 annex F) → a DICOM file (PS3.10) in Explicit VR Little Endian.

Written front to back as chunks: bytes, and bulk values that stay where they are until somebody copies them. What is not
as the model says makes the dataset a BadDataset. Compressed pixel data are encapsulated, which names another syntax.

Text is written in UTF-8 (ISO_IR 192) as soon as any of it is not ASCII; else the character set the dataset names, which
is that of its source (PS3.18 §F.2.2), stays. Group lengths and group 2 are not part of the model and left out, as is
Available Transfer Syntax UID, which tells of a service; where they name a transfer syntax, it says how pixel data are
compressed.
"""

import binascii
import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import msgspec

from hounsfield.dicom.dataset_reader import MAX_DEPTH
from hounsfield.dicom.dictionary import display_tag
from hounsfield.dicom.encodings import LONG_HEADER, VRS
from hounsfield.dicom.file_meta import TRANSFER_SYNTAX_UID, file_meta, new_elements
from hounsfield.dicom.json_values import BadValue, value_field
from hounsfield.dicom.native_dataset import PIXEL_DATA, UNDEFINED, encoded, header, marker
from hounsfield.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, find
from hounsfield.dicom.uid import MAX_LENGTH
from hounsfield.dicom.values import BULK_VRS, LOCALISED_VRS

BY_REFERENCE = BULK_VRS | {"DS", "FD", "FL", "IS", "LT", "SL", "SS", "ST", "SV", "UC", "UL", "US", "UT", "UV"}
"""VRs whose values may be elsewhere (PS3.18 §F.2.2)."""

_SPECIFIC_CHARACTER_SET = 0x00080005
_SOP_CLASS_UID, _SOP_INSTANCE_UID = 0x00080016, 0x00080018
_AVAILABLE_TRANSFER_SYNTAX_UID = 0x00083002
_NUMBER_OF_FRAMES = 0x00280008
_ITEM, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
_NO_GROUPS = frozenset((0, 1, 3, 5, 7, 0xFFFE, 0xFFFF))  # commands, delimiters, and what PS3.5 §7.8 forbids
_WIDTHS = {"FD": 8, "FL": 4, "OD": 8, "OF": 4, "OL": 4, "OV": 8, "SL": 4, "SS": 2, "SV": 8, "UL": 4, "US": 2, "UV": 8}
_MAX_SHORT, _MAX_LONG = 0xFFFE, 0xFFFFFFFE
_key = re.compile(r"[0-9A-F]{8}").fullmatch
_number = re.compile(r" *\+?[0-9]{1,10} *").fullmatch
_empty_array = re.compile(rb"\[\s*\]").fullmatch


class Bulk(Protocol):
    """A value that is kept elsewhere."""

    @property
    def size(self) -> int:
        """Its length in bytes."""


Chunk = bytearray | Bulk


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where the pixel data of an instance are: in one piece or frame by frame; compressed if a syntax is named."""

    pieces: Sequence[Bulk]
    transfer_syntax: str | None = None


@dataclass(frozen=True, slots=True)
class PixelDescription:
    """What the metadata say about pixel data: how many frames, and the transfer syntaxes of the instance and of those
    it can be had in, where somebody wrote them down."""

    frames: int | None
    transfer_syntaxes: Sequence[str]


class References(Protocol):
    """Finds what a BulkDataURI refers to. Raises BadDataset, or what refuses the whole request."""

    def value(self, tag: int, uri: str) -> Bulk:
        """The value of an attribute."""

    def pixels(self, uri: str, described: PixelDescription) -> Pixels:
        """The value of Pixel Data at top level."""


class BadDataset(Exception):
    """The dataset cannot become a file. The text names the attribute and the rule, and holds no value.

    The UIDs are the dataset's where they can be read.
    """

    def __init__(self, reason: str, tag: int | None = None) -> None:
        super().__init__(reason if tag is None else f"{display_tag(tag)} - The attribute {reason}.")
        self.sop_class_uid: str | None = None
        self.sop_instance_uid: str | None = None


JsonDataset = dict[str, msgspec.Raw]
"""A dataset as it is decoded first: its attributes by name, each still as JSON, so that they cost little."""

_ABSENT = msgspec.Raw()


class Attribute(msgspec.Struct, forbid_unknown_fields=True):
    """One attribute (PS3.18 §F.2.2)."""

    vr: str
    value: msgspec.Raw = msgspec.field(name="Value", default=_ABSENT)
    bulk_data_uri: str | None = msgspec.field(name="BulkDataURI", default=None)
    inline_binary: str | None = msgspec.field(name="InlineBinary", default=None)


_attribute = msgspec.json.Decoder(Attribute).decode
_items = msgspec.json.Decoder(list[JsonDataset]).decode
_scalars = msgspec.json.Decoder(list[str | int]).decode


def write_file(dataset: JsonDataset, references: References) -> list[Chunk]:
    """The chunks of the file. Raises BadDataset, what ``references`` raises, and UnicodeDecodeError for bad UTF-8."""
    try:
        attributes = _ordered(dataset)
        writer = _Writer(attributes, references)
        chunks = writer.file()
        if writer.localised:
            marked = _ordered(attributes | {f"{_SPECIFIC_CHARACTER_SET:08X}": msgspec.Raw(b'{"vr":"CS"}')})
            chunks = _Writer(marked, references, utf8=True).file()
    except BadDataset as problem:
        problem.sop_class_uid = _first(dataset, _SOP_CLASS_UID)
        problem.sop_instance_uid = _first(dataset, _SOP_INSTANCE_UID)
        raise
    return chunks


def _ordered(dataset: JsonDataset) -> JsonDataset:
    """The attributes by ascending tag, under names in upper case."""
    names = list(dataset)
    if all(map(_key, names)) and names == sorted(names):
        return dataset
    ordered: JsonDataset = {}
    for name in sorted(names, key=str.upper):
        key = name.upper()
        if not _key(key):
            raise BadDataset("The name of an attribute is not eight hexadecimal digits.")
        if key in ordered:
            raise BadDataset("appears twice", int(key, 16))
        ordered[key] = dataset[name]
    return ordered


def _texts(attributes: JsonDataset, tag: int) -> list[str]:
    """The values of an attribute as text, none where it is absent or not as it should be."""
    attribute = attributes.get(f"{tag:08X}")
    if attribute is None:
        return []
    try:
        return [str(value) for value in _scalars(_attribute(attribute).value)]
    except msgspec.DecodeError:
        return []


def _first(attributes: JsonDataset, tag: int) -> str | None:
    return next(iter(_texts(attributes, tag)), None)


@dataclass(slots=True)
class _Writer:
    """Writes one file. Afterwards ``localised`` says whether it has text that must be marked as UTF-8."""

    attributes: JsonDataset
    references: References
    utf8: bool = False
    localised: bool = False
    transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN

    def file(self) -> list[Chunk]:
        """Preamble, file meta information and dataset."""
        dataset = self._dataset(self.attributes, 0)
        named = find(_first(self.attributes, TRANSFER_SYNTAX_UID) or "")
        compressed = self.transfer_syntax != EXPLICIT_VR_LITTLE_ENDIAN
        has_pixels = f"{PIXEL_DATA:08X}" in self.attributes
        if has_pixels and named is not None and named.encapsulated and not compressed:
            raise BadDataset("is not compressed, but the metadata name a compressed transfer syntax", PIXEL_DATA)
        uids = (_uid(self.attributes, tag) for tag in (_SOP_CLASS_UID, _SOP_INSTANCE_UID))
        chunks: list[Chunk] = [bytearray(file_meta(new_elements(self.transfer_syntax, *uids)))]
        _append(chunks, dataset)
        return chunks

    def _dataset(self, attributes: JsonDataset, depth: int) -> list[Chunk]:
        chunks: list[Chunk] = []
        for key, attribute in attributes.items():
            tag = int(key, 16)
            if tag >> 16 in _NO_GROUPS:
                raise BadDataset("does not belong into a dataset", tag)
            if tag >> 16 == 2 or not tag & 0xFFFF or tag == _AVAILABLE_TRANSFER_SYNTAX_UID:
                continue
            try:
                _append(chunks, self._element(tag, _attribute(attribute), depth))
            except BadValue as problem:
                raise BadDataset(str(problem), tag) from problem
            except msgspec.ValidationError as problem:
                raise BadDataset("is not as the DICOM JSON Model has it", tag) from problem
        return chunks

    def _element(self, tag: int, attribute: Attribute, depth: int) -> list[Chunk]:
        vr, value = attribute.vr, attribute.value
        if vr not in VRS:
            raise BadValue("has a VR that DICOM does not know")
        if (value != _ABSENT) + (attribute.bulk_data_uri is not None) + (attribute.inline_binary is not None) > 1:
            raise BadValue("has more than one of Value, BulkDataURI and InlineBinary")
        if self.utf8 and tag == _SPECIFIC_CHARACTER_SET:
            return _element(tag, "CS", b"ISO_IR 192")
        if attribute.bulk_data_uri is not None:
            return self._by_reference(tag, vr, attribute.bulk_data_uri, depth)
        if attribute.inline_binary is not None:
            return _element(tag, vr, _inline(vr, attribute.inline_binary))
        if value == _ABSENT:
            return _element(tag, vr, b"")
        if vr == "SQ":
            return self._sequence(tag, value, depth)
        if vr in BULK_VRS:
            if not _empty_array(value):
                raise BadValue(f"has a Value, where VR {vr} has InlineBinary or BulkDataURI")
            return _element(tag, vr, b"")
        content = value_field(vr, value)
        self.localised |= vr in LOCALISED_VRS and (not content.isascii() or b"\x1b" in content)
        return _element(tag, vr, content)

    def _sequence(self, tag: int, value: msgspec.Raw, depth: int) -> list[Chunk]:
        if depth >= MAX_DEPTH:
            raise BadValue("is nested deeper than this server reads")
        chunks: list[Chunk] = []
        for item in _items(value):
            content = self._dataset(_ordered(item), depth + 1)
            _append(chunks, [bytearray(marker(_ITEM, _length("SQ", content))), *content])
        return [bytearray(header(tag, "SQ", _length("SQ", chunks))), *chunks]

    def _by_reference(self, tag: int, vr: str, uri: str, depth: int) -> list[Chunk]:
        if vr not in BY_REFERENCE:
            raise BadValue(f"has a BulkDataURI, which VR {vr} does not allow")
        if tag != PIXEL_DATA or depth:
            self.localised |= vr in LOCALISED_VRS
            return _bulk_element(tag, vr, [self.references.value(tag, uri)])
        frames = _first(self.attributes, _NUMBER_OF_FRAMES) or ""
        syntaxes = [
            text.strip(" \0")
            for named in (TRANSFER_SYNTAX_UID, _AVAILABLE_TRANSFER_SYNTAX_UID)
            for text in _texts(self.attributes, named)
        ]
        described = PixelDescription(int(frames) if _number(frames) else None, syntaxes)
        pixels = self.references.pixels(uri, described)
        if pixels.transfer_syntax is None:
            return _bulk_element(tag, vr, pixels.pieces)
        if vr not in BULK_VRS:
            raise BadValue(f"is compressed, which VR {vr} does not allow")
        self.transfer_syntax = pixels.transfer_syntax
        return _encapsulated(pixels.pieces)


def _uid(attributes: JsonDataset, tag: int) -> bytes | None:
    """A UID as the file meta repeats it; None for what is none, which validation will find in the dataset."""
    text = (_first(attributes, tag) or "").strip(" \0")
    return text.encode() if text.isascii() and 0 < len(text) <= MAX_LENGTH else None


def _inline(vr: str, text: str) -> bytes:
    if vr not in BULK_VRS:
        raise BadValue(f"has InlineBinary, which VR {vr} does not allow")
    try:
        content = binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise BadValue("has InlineBinary that is not base64") from error
    _check_width(vr, len(content))
    return content


def _check_width(vr: str, size: int) -> None:
    if size % _WIDTHS.get(vr, 1):
        raise BadValue(f"ends inside a number of VR {vr}")


def _element(tag: int, vr: str, content: bytes) -> list[Chunk]:
    if len(content) > (_MAX_LONG if vr in LONG_HEADER else _MAX_SHORT):
        raise BadValue(f"is longer than VR {vr} can be")
    return [bytearray().join(encoded(tag, vr, content))]


def _bulk_element(tag: int, vr: str, pieces: Sequence[Bulk]) -> list[Chunk]:
    size = _length(vr, pieces)
    _check_width(vr, size)
    padding = b"\0" if vr in BULK_VRS else b" "
    return [bytearray(header(tag, vr, size + size % 2)), *pieces, bytearray(padding * (size % 2))]


def _encapsulated(frames: Sequence[Bulk]) -> list[Chunk]:
    """Pixel Data with one fragment a frame, and a Basic Offset Table if they are several (PS3.5 §A.4)."""
    offsets: list[int] = []
    items: list[Chunk] = []
    at = 0
    for frame in frames:
        offsets.append(at)
        size = _length("OB", [frame])
        size += size % 2
        items += [bytearray(marker(_ITEM, size)), frame, bytearray(size - frame.size)]
        at += 8 + size
    has_table = len(frames) > 1 and offsets[-1] <= _MAX_LONG
    table = struct.pack(f"<{len(offsets)}I", *offsets) if has_table else b""
    begin = header(PIXEL_DATA, "OB", UNDEFINED) + marker(_ITEM, len(table)) + table
    return [bytearray(begin), *items, bytearray(marker(_SEQUENCE_END, 0))]


def _length(vr: str, chunks: Iterable[Chunk]) -> int:
    """The bytes of ``chunks``, together a value of ``vr``. Raises BadValue if they are too many."""
    size = sum(len(chunk) if isinstance(chunk, bytearray) else chunk.size for chunk in chunks)
    if size > (_MAX_LONG if vr in LONG_HEADER else _MAX_SHORT):
        raise BadValue(f"is longer than VR {vr} can be")
    return size


def _append(chunks: list[Chunk], more: Iterable[Chunk]) -> None:
    """Neighbouring bytes become one piece: a hundred thousand small ones would cost more than they hold."""
    for chunk in more:
        if isinstance(chunk, bytearray) and chunks and isinstance(last := chunks[-1], bytearray):
            last += chunk
        else:
            chunks.append(chunk)

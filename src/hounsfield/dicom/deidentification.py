"""De-identification of files (PS3.15 Annex E): the Basic Application Level Confidentiality Profile.

The profile is data, ``confidentiality_profile.tsv``: an action for each attribute of Table E.1-1. Where the table
leaves a choice by the type an attribute has in its IOD (``X/Z/D``), the one is taken that every type allows. On top of
it go private attributes, curves, and attributes PS3.6 does not know. UIDs, and the patient, are replaced by a keyed
hash: the same ones by the same ones as long as the key is the same, and nobody who lacks it can go back.

Pixel data is copied as it is. So an image that says it has names burned into it is refused, and so is what holds a
document; an image that does not say is not looked at, and a face can be made of slices of a head. Text that is neither
in the table nor private stays, but in sequences that are to be replaced: their items keep what a program needs to read
them, and no words.
"""

import base64
import hashlib
import hmac
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import BinaryIO

from hounsfield.dicom.dictionary import attribute
from hounsfield.dicom.encodings import LONG_HEADER
from hounsfield.dicom.file_meta import TRANSFER_SYNTAX_UID, file_meta, new_elements, read_file_meta
from hounsfield.dicom.fragments import PixelData
from hounsfield.dicom.native_dataset import (
    AnyElement,
    DatasetError,
    Element,
    Encoding,
    Item,
    NewElement,
    Writer,
    looks_explicit,
    read_elements,
    read_items,
)
from hounsfield.dicom.transcode import CannotTranscode, inflated
from hounsfield.dicom.transfer_syntax import find
from hounsfield.errors import BadRequest

MAX_INFLATED_BYTES = 100 * 1024 * 1024
"""What a deflated dataset may grow to: it is taken apart in memory."""
GATHERED_BYTES = 1 << 20

_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_PATIENT_NAME, _PATIENT_ID = 0x00100010, 0x00100020
_BURNED_IN = 0x00280301
_DOCUMENT = 0x00420011
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)
_IMPLICIT = Encoding(implicit=True, little_endian=True)
_CURVES, _OVERLAYS = 0x50, 0x60
_OVERLAY_PARTS = (0x3000, 0x4000)

_DUMMIES = {
    **dict.fromkeys(("LO", "LT", "PN", "SH", "ST", "UC", "UT", "AE", "CS"), b"ANONYMIZED"),
    "AS": b"000Y",
    "DA": b"19000101",
    "DT": b"19000101000000",
    "TM": b"000000",
    **dict.fromkeys(("DS", "IS"), b"0"),
    **dict.fromkeys(("SS", "US", "OB", "OW"), bytes(2)),
    **dict.fromkeys(("AT", "FL", "SL", "UL", "OF", "OL"), bytes(4)),
    **dict.fromkeys(("FD", "SV", "UV", "OD", "OV"), bytes(8)),
    "UR": b"http://example.invalid",
}
"""Values of no meaning, valid for their VR (PS3.15 §E.1, D)."""

_WORDS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})
"""VRs of what people write: in a report's content item its text, in the code of a person or institution all of it."""

REMOVE, EMPTY, DUMMY, REPLACE_UID, CLEAN = "X", "Z", "D", "U", "C"
_CHOICES = {"X/Z": EMPTY, "X/D": DUMMY, "Z/D": DUMMY, "X/Z/D": DUMMY, "X/Z/U*": CLEAN}

_Change = Element | NewElement | None


class CannotDeidentify(BadRequest):
    """The file cannot be de-identified; the text says why, and holds no values."""


@cache
def actions() -> dict[int, str]:
    """What is done to an attribute, by its tag."""
    table = files("hounsfield.dicom").joinpath("confidentiality_profile.tsv").read_text(encoding="ascii")
    rows = (line.split("\t") for line in table.splitlines() if not line.startswith("#"))
    return {int(tag, 16): _CHOICES.get(action, action) for tag, action, *_ in rows if tag[2:4] != "XX"}


class Deidentifier:
    """Writes files without what identifies a person; with one key the same identifiers become the same ones."""

    def __init__(self, key: bytes, *, retain_uids: bool = False) -> None:
        self._key = key
        self._retain_uids = retain_uids

    def uid(self, value: str) -> str:
        """What stands for a UID: below 2.25, from 128 bits of a keyed hash (PS3.5 §B.2)."""
        if self._retain_uids or not value:
            return value
        return f"2.25.{int.from_bytes(self._hash('uid', value)[:16], 'big')}"

    def patient(self, value: str) -> str:
        """What stands for a patient's identifier: 16 letters and digits."""
        return base64.b32encode(self._hash("patient", value)[:10]).decode() if value else ""

    def write(self, data: memoryview, out: BinaryIO, source_uid: str | None = None) -> None:
        """Write the file ``data`` de-identified to ``out``, in the same transfer syntax.

        ``source_uid``: the transfer syntax of a file whose file meta names none. Raises CannotDeidentify, also for
        bytes that are no DICOM file; ``out`` then holds anything.
        """
        try:
            self._write(data, out, source_uid)
        except (DatasetError, CannotTranscode, zlib.error) as problem:
            raise CannotDeidentify(f"The file cannot be de-identified: {problem}.") from None
        except RecursionError:
            raise CannotDeidentify("The file cannot be de-identified: sequences are nested too deep.") from None

    def _write(self, data: memoryview, out: BinaryIO, source_uid: str | None) -> None:
        meta, start = read_file_meta(data)
        named = bytes(meta[TRANSFER_SYNTAX_UID][1]).decode("latin-1") if TRANSFER_SYNTAX_UID in meta else source_uid
        syntax = find((named or "").rstrip(" \0"))
        if syntax is None:
            raise CannotDeidentify("The file cannot be de-identified: its transfer syntax is not known.")
        dataset = data[start:]
        if syntax.deflated:
            dataset = memoryview(inflated(dataset, MAX_INFLATED_BYTES))
        encoding = Encoding(syntax.implicit and not looks_explicit(dataset), syntax.little_endian)
        elements = read_elements(dataset, encoding)
        _require_no_names_in_pixels(elements)
        changed = _File(self, dataset, encoding, elements).changed()
        values = {element.tag: element.value for element in changed if isinstance(element, (Element, NewElement))}
        sop_class, sop_instance = values.get(_SOP_CLASS), values.get(_SOP_INSTANCE)
        out.write(
            file_meta(
                new_elements(
                    syntax.uid,
                    bytes(sop_class) if isinstance(sop_class, (bytes, memoryview)) else None,
                    bytes(sop_instance) if isinstance(sop_instance, (bytes, memoryview)) else None,
                )
            )
        )
        compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS) if syntax.deflated else None
        gathered = bytearray()
        for chunk in Writer(encoding, encoding).dataset(changed):
            if compressor is not None:
                gathered += compressor.compress(chunk)
            elif len(chunk) > GATHERED_BYTES:
                out.write(gathered)
                out.write(chunk)
                gathered.clear()
                continue
            else:
                gathered += chunk
            if len(gathered) > GATHERED_BYTES:
                out.write(gathered)
                gathered.clear()
        if compressor is not None:
            gathered += compressor.flush()
            gathered += bytes(len(gathered) % 2)
        out.write(gathered)

    @property
    def retains_uids(self) -> bool:
        """The Retain UIDs Option."""
        return self._retain_uids

    def _hash(self, kind: str, value: str) -> bytes:
        return hmac.new(self._key, f"{kind}\0{value}".encode(), hashlib.sha256).digest()


class _File:
    """The dataset of one file on its way."""

    def __init__(
        self, deidentifier: Deidentifier, data: memoryview, encoding: Encoding, elements: Sequence[Element]
    ) -> None:
        self._deidentifier = deidentifier
        self._data = data
        self._encoding = encoding
        self._elements = elements

    def changed(self) -> list[AnyElement]:
        """All elements as they are to be, the marks of de-identification among them."""
        marks = _marks(self._encoding, retain_uids=self._deidentifier.retains_uids)
        tags = {mark.tag for mark in marks}
        kept = [element for element in self._dataset(self._elements, self._encoding) if element.tag not in tags]
        return sorted([*kept, *marks], key=lambda element: element.tag)

    def _dataset(
        self, elements: Sequence[AnyElement], encoding: Encoding, *, replaced: bool = False
    ) -> list[AnyElement]:
        """``replaced``: it is an item of a sequence that Table E.1-1 wants replaced as a whole."""
        patient = next((_text(element) for element in elements if element.tag == _PATIENT_ID), "")
        changed = (
            self._element(element, encoding, patient, replaced=replaced)
            for element in elements
            if isinstance(element, Element)
        )
        return [element for element in changed if element is not None]

    def _element(self, element: Element, encoding: Encoding, patient: str, *, replaced: bool) -> _Change:
        tag = element.tag
        action = _action(tag)
        if action is None and replaced and _vr(element) in _WORDS:
            action = DUMMY
        if tag in (_PATIENT_NAME, _PATIENT_ID):
            vr = "PN" if tag == _PATIENT_NAME else "LO"
            return NewElement(tag, vr, self._deidentifier.patient(patient).encode())
        if action == REMOVE:
            return None
        if isinstance(element.value, PixelData):
            return element
        items = self._items(element, encoding)
        if items is not None:
            return Element(tag, "SQ", [] if action == EMPTY else items)
        vr = _vr(element)
        if action == EMPTY:
            return NewElement(tag, vr, b"")
        if action == REPLACE_UID or (action == DUMMY and vr == "UI"):
            uids = _text(element).split("\\")
            return NewElement(tag, "UI", "\\".join(self._deidentifier.uid(uid.strip()) for uid in uids).encode())
        if action == DUMMY:
            return None if vr == "UN" or tag in _PIXELS else NewElement(tag, vr, _DUMMIES[vr])
        return element

    def _items(self, element: Element, encoding: Encoding) -> list[Item] | None:
        """The items of a sequence, de-identified; None for what is none."""
        if isinstance(element.value, list):
            found = element.value
        elif _vr(element) == "SQ" and isinstance(element.value, memoryview):
            # What is UN is implicit inside (PS3.5 §6.2.2).
            inner = _IMPLICIT if element.vr == "UN" else encoding
            found = read_items(self._data, element, inner) if element.value else []
        else:
            return None
        replaced = _action(element.tag) == DUMMY
        return [
            Item(self._dataset(item.elements, item.encoding, replaced=replaced), True, item.encoding) for item in found
        ]


def _action(tag: int) -> str | None:
    """What Table E.1-1 says of an attribute, and of those that it names by their group; None to keep it."""
    group, number = tag >> 16, tag & 0xFFFF
    if group % 2:
        return REMOVE  # private
    if group >> 8 == _CURVES or (group >> 8 == _OVERLAYS and number in _OVERLAY_PARTS):
        return REMOVE
    if tag in actions():
        return actions()[tag]
    if number == 0 or attribute(tag) is not None:
        return None
    return REMOVE  # nobody knows what it is


def _vr(element: Element) -> str:
    """The VR as written, or that of the dictionary."""
    if element.vr not in (None, "UN"):
        return element.vr or "UN"
    known = attribute(element.tag)
    vr = "UN" if known is None else known.vr.split(" or ")[0]
    return vr if vr in _DUMMIES or vr in LONG_HEADER or vr == "UI" else "UN"


def _text(element: AnyElement) -> str:
    return bytes(element.value).decode("latin-1").strip(" \0") if isinstance(element.value, (bytes, memoryview)) else ""


def _require_no_names_in_pixels(elements: Sequence[Element]) -> None:
    for element in elements:
        if element.tag == _BURNED_IN and _text(element).upper() == "YES":
            raise CannotDeidentify(
                "The image says that annotation is burned into its pixels (0028,0301), which de-identification does "
                "not look at."
            )
        if element.tag == _DOCUMENT:
            raise CannotDeidentify("The instance holds a document, which de-identification does not look into.")


def _marks(encoding: Encoding, *, retain_uids: bool) -> list[AnyElement]:
    """What says that, and how, it was de-identified (PS3.15 §E.1.1)."""
    methods = [("113100", "Basic Application Confidentiality Profile")]
    if retain_uids:
        methods.append(("113110", "Retain UIDs Option"))
    items: list[Item] = []
    for code, meaning in methods:
        elements: list[AnyElement] = [
            NewElement(0x00080100, "SH", code.encode()),
            NewElement(0x00080102, "SH", b"DCM"),
            NewElement(0x00080104, "LO", meaning.encode()),
        ]
        items.append(Item(elements, True, encoding))
    return [
        NewElement(0x00120062, "CS", b"YES"),
        NewElement(0x00120063, "LO", b"PS3.15 Annex E Basic Profile; pixel data not changed"),
        Element(0x00120064, "SQ", items),
        NewElement(0x00280303, "CS", b"REMOVED"),
    ]

"""File meta information of files that this server writes (PS3.10 §7.1)."""

import struct
from collections.abc import Mapping

from hounsfield.dicom.encodings import LONG_HEADER
from hounsfield.dicom.native_dataset import DatasetError, encoded, looks_explicit
from hounsfield.dicom.transfer_syntax import find

IMPLEMENTATION_CLASS_UID = b"2.25.24054593702102418578932464367440000589"
"""Names us as the writer of a file meta group."""

GROUP_LENGTH = 0x00020000
META_VERSION = 0x00020001
MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002
MEDIA_STORAGE_SOP_INSTANCE_UID = 0x00020003
TRANSFER_SYNTAX_UID = 0x00020010
IMPLEMENTATION_CLASS = 0x00020012
IMPLEMENTATION_VERSION_NAME = 0x00020013

MetaElements = Mapping[int, tuple[str, bytes | memoryview]]
"""VR and value by tag."""


def new_elements(
    transfer_syntax: str, sop_class: bytes | memoryview | None, sop_instance: bytes | memoryview | None
) -> MetaElements:
    """What PS3.10 demands of a new group 2; a SOP class or instance that is not known is left out."""
    elements: dict[int, tuple[str, bytes | memoryview]] = {
        META_VERSION: ("OB", b"\0\1"),
        TRANSFER_SYNTAX_UID: ("UI", transfer_syntax.encode()),
        IMPLEMENTATION_CLASS: ("UI", IMPLEMENTATION_CLASS_UID),
    }
    if sop_class is not None:
        elements[MEDIA_STORAGE_SOP_CLASS_UID] = "UI", sop_class
    if sop_instance is not None:
        elements[MEDIA_STORAGE_SOP_INSTANCE_UID] = "UI", sop_instance
    return elements


def file_meta(elements: MetaElements) -> bytes:
    """Preamble, prefix and the group with its length; ``elements`` are those of the group without that."""
    group = b"".join(chunk for tag in sorted(elements) for chunk in encoded(tag, *elements[tag]))
    length = encoded(GROUP_LENGTH, "UL", struct.pack("<I", len(group)))
    return b"".join((bytes(128), b"DICM", *length, group))


def read_file_meta(data: memoryview) -> tuple[MetaElements, int]:
    """The elements of group 2, always Explicit VR Little Endian (PS3.10 §7.1), and where the dataset starts.

    Raises DatasetError.
    """
    prefixed = bytes(data[128:132]) == b"DICM"
    if prefixed and bytes(data[132:134]) != b"\2\0" and looks_explicit(data):
        prefixed = False  # no preamble; the letters belong to some value
    pos = 132 if prefixed else 0
    meta: dict[int, tuple[str, bytes | memoryview]] = {}
    group_end = -1
    while pos + 8 <= len(data):
        group, number, code, length = struct.unpack_from("<HH2sH", data, pos)
        if group != 2 or (pos == group_end and _is_deflated(meta)):
            break  # group lengths are often wrong, but only they tell where a deflate stream begins
        pos += 8
        vr = code.decode("latin-1")
        if vr in LONG_HEADER:
            length = int.from_bytes(data[pos : pos + 4], "little")
            pos += 4
        if not vr.isalpha() or length > len(data) - pos:
            raise DatasetError("the file meta is broken")
        meta[group << 16 | number] = vr, data[pos : pos + length]
        pos += length
        if number == 0 and length == 4:
            group_end = pos + int.from_bytes(data[pos - 4 : pos], "little")
    return meta, pos


def meta_text(meta: MetaElements, tag: int) -> str:
    """A value as it is written; empty where there is none."""
    return bytes(meta[tag][1]).decode("latin-1") if tag in meta else ""


def _is_deflated(meta: MetaElements) -> bool:
    syntax = find(meta_text(meta, TRANSFER_SYNTAX_UID))
    return syntax is not None and syntax.deflated

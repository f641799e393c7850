"""File meta information of files that this server writes (PS3.10 §7.1)."""

import struct
from collections.abc import Mapping

from hounsfield.dicom.native_dataset import encoded

IMPLEMENTATION_CLASS_UID = b"2.25.24054593702102418578932464367440000589"
"""Names us as the writer of a file meta group."""

GROUP_LENGTH = 0x00020000
META_VERSION = 0x00020001
MEDIA_STORAGE_SOP_CLASS_UID = 0x00020002
MEDIA_STORAGE_SOP_INSTANCE_UID = 0x00020003
TRANSFER_SYNTAX_UID = 0x00020010

MetaElements = Mapping[int, tuple[str, bytes | memoryview]]
"""VR and value by tag."""


def new_elements(
    transfer_syntax: str, sop_class: bytes | memoryview | None, sop_instance: bytes | memoryview | None
) -> MetaElements:
    """What PS3.10 demands of a new group 2; a SOP class or instance that is not known is left out."""
    elements: dict[int, tuple[str, bytes | memoryview]] = {
        META_VERSION: ("OB", b"\0\1"),
        TRANSFER_SYNTAX_UID: ("UI", transfer_syntax.encode()),
        0x00020012: ("UI", IMPLEMENTATION_CLASS_UID),
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

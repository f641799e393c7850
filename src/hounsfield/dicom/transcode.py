"""Instances re-encoded as Explicit VR Little Endian without touching what they say (retrieve.md §5).

Only native sources: nothing here decodes an image. Element values are copied byte for byte (or byte-swapped), never
parsed, so that a name in a strange character set or a number that is no number comes out as it went in. Of the file
meta, the transfer syntax and the group length change; group lengths in the dataset (retired, PS3.5 §7.2) are dropped,
because they would be wrong. No UID and no attribute is added, but a file without file meta gets one.
"""

import struct
import zlib
from pathlib import Path

from hounsfield.dicom.encodings import LONG_HEADER
from hounsfield.dicom.file_meta import GROUP_LENGTH, TRANSFER_SYNTAX_UID, file_meta, new_elements
from hounsfield.dicom.native_dataset import (
    PIXEL_DATA,
    DatasetError,
    Element,
    Encoding,
    looks_explicit,
    read_elements,
    write_explicit_little_endian,
)
from hounsfield.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, TransferSyntax, find
from hounsfield.errors import NotAcceptable

MAX_INFLATED_BYTES = 100 * 1024 * 1024
"""What a deflated dataset may grow to: a few kilobytes of deflate stream can hold gigabytes."""

_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018


class CannotTranscode(NotAcceptable):
    """No representation of an instance in the asked transfer syntax can be made."""

    def __init__(self, source: str, target: str, reason: str = "") -> None:
        super().__init__(f"The instance cannot be transcoded from {source} to {target}{reason and ': ' + reason}.")
        self.source = source
        self.target = target


def can_transcode(source_uid: str, target_uid: str, *, has_pixel_data: bool = True) -> bool:
    """Whether an instance stored in ``source_uid`` can be had in ``target_uid``.

    True if both are the same, and for the target Explicit VR Little Endian if the source is native, or encapsulated but
    without pixel data. Unknown UIDs: False.
    """
    source, target = find(source_uid), find(target_uid)
    if source is None or target is None:
        return False
    if source == target:
        return True
    return target.uid == EXPLICIT_VR_LITTLE_ENDIAN and (source.native or (source.encapsulated and not has_pixel_data))


def to_explicit_little_endian(
    source: bytes | Path, *, source_uid: str | None = None, max_inflated_bytes: int = MAX_INFLATED_BYTES
) -> bytes:
    """A whole Part 10 file in Explicit VR Little Endian, made in memory, from a file for which ``can_transcode`` holds.

    A file that is in that syntax comes back as it is; any other starts with 128 zero bytes. ``source_uid`` is the
    transfer syntax of a file whose file meta names none. Needs about three times the file's size in memory.
    Raises ``CannotTranscode``, also for bytes that are not what the syntax promises.
    """
    data = source.read_bytes() if isinstance(source, Path) else source
    meta, start = _file_meta(memoryview(data))
    uid = _text(meta, TRANSFER_SYNTAX_UID) or source_uid or "unknown"
    syntax = find(uid)
    if syntax is None or not can_transcode(uid, EXPLICIT_VR_LITTLE_ENDIAN, has_pixel_data=False):
        raise CannotTranscode(uid, EXPLICIT_VR_LITTLE_ENDIAN)
    if syntax.uid == EXPLICIT_VR_LITTLE_ENDIAN:
        return data
    try:
        return _reencoded(memoryview(data)[start:], meta, syntax, max_inflated_bytes)
    except (DatasetError, zlib.error) as problem:
        raise CannotTranscode(syntax.uid, EXPLICIT_VR_LITTLE_ENDIAN, str(problem)) from None
    except RecursionError:
        raise CannotTranscode(syntax.uid, EXPLICIT_VR_LITTLE_ENDIAN, "sequences are nested too deep") from None


_Meta = dict[int, tuple[str, bytes | memoryview]]


def _reencoded(dataset: memoryview, meta: _Meta, syntax: TransferSyntax, max_inflated_bytes: int) -> bytes:
    if syntax.deflated:
        return b"".join((_new_file_meta(meta, []), _inflated(dataset, max_inflated_bytes)))
    encoding = Encoding(syntax.implicit and not looks_explicit(dataset), syntax.little_endian)
    elements = read_elements(dataset, encoding)
    if syntax.encapsulated and any(element.tag == PIXEL_DATA for element in elements):
        raise DatasetError("it holds compressed pixel data")
    return b"".join((_new_file_meta(meta, elements), *write_explicit_little_endian(elements, encoding)))


def _inflated(dataset: memoryview, max_bytes: int) -> bytes:
    stream = zlib.decompressobj(-zlib.MAX_WBITS)  # no zlib header, PS3.5 §A.5
    inflated = stream.decompress(dataset, max_bytes)
    if not stream.eof:
        raise DatasetError("the deflated dataset is incomplete or too large")
    return inflated


def _file_meta(data: memoryview) -> tuple[_Meta, int]:
    """The elements of group 2, always Explicit VR Little Endian (PS3.10 §7.1), and where the dataset starts."""
    prefixed = bytes(data[128:132]) == b"DICM"
    if prefixed and bytes(data[132:134]) != b"\2\0" and looks_explicit(data):
        prefixed = False  # no preamble; the letters belong to some value
    pos = 132 if prefixed else 0
    meta: _Meta = {}
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
            raise CannotTranscode("unknown", EXPLICIT_VR_LITTLE_ENDIAN, "the file meta is broken")
        meta[group << 16 | number] = vr, data[pos : pos + length]
        pos += length
        if number == 0 and length == 4:
            group_end = pos + int.from_bytes(data[pos - 4 : pos], "little")
    return meta, pos


def _is_deflated(meta: _Meta) -> bool:
    syntax = find(_text(meta, TRANSFER_SYNTAX_UID))
    return syntax is not None and syntax.deflated


def _text(meta: _Meta, tag: int) -> str:
    return bytes(meta[tag][1]).decode("latin-1") if tag in meta else ""


def _new_file_meta(meta: _Meta, elements: list[Element]) -> bytes:
    """Preamble, prefix and group 2 naming the new syntax; a new group if the file had none."""
    kept = {tag: element for tag, element in meta.items() if tag != GROUP_LENGTH}
    if kept:
        return file_meta(kept | {TRANSFER_SYNTAX_UID: ("UI", EXPLICIT_VR_LITTLE_ENDIAN.encode())})
    uids = {element.tag: element.value for element in elements if isinstance(element.value, memoryview)}
    return file_meta(new_elements(EXPLICIT_VR_LITTLE_ENDIAN, uids.get(_SOP_CLASS), uids.get(_SOP_INSTANCE)))

"""A DICOM file (PS3.10) → what the archive needs of it: metadata, rule violations, frame positions. One pass.

`read_instance` is the whole interface. It accepts what store.md §2 lists: with and without preamble, with and without
file meta information, every transfer syntax DICOM knows. What it cannot read completely it refuses.
"""

import re
from dataclasses import dataclass
from struct import Struct

from hounsfield.dicom.dataset_reader import FIRST_WINDOW, BulkValue, Dataset, DatasetReader, LongHeader, Problem
from hounsfield.dicom.encodings import EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, LONG_HEADER, Encoding
from hounsfield.dicom.frames import FrameIndex, index_frames
from hounsfield.dicom.source import ByteSource, InflatedSource, UnreadableInstance
from hounsfield.dicom.transfer_syntax import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
    TransferSyntax,
)

_MIN_SIZE = 132  # store.md §2
_LAST_FIRST_GROUP = 0x0028  # where a dataset without file meta begins at the latest: image description
_META_LIMIT = 1 << 20  # bytes; real ones have some hundred, private information could add a little


@dataclass(slots=True)
class Instance:
    """One readable instance.

    ``dataset`` is the DICOM JSON model without group 2 and bulk VRs, keys ascending; its elements are shared
    with other instances, so replace them, never change them. ``left_out`` names the VRs of top-level elements that
    the dataset lacks. ``frames`` is None when no frame can be located.
    """

    transfer_syntax: str
    has_preamble: bool
    dataset: Dataset
    problems: list[Problem]
    left_out: dict[str, str]
    frames: FrameIndex | None

    def first(self, key: str) -> str | None:
        """The first value of a top-level attribute as text; None if absent or empty."""
        values = self.dataset.get(key, {}).get("Value")
        if not values or values[0] is None:
            return None
        return values[0] if isinstance(values[0], str) else str(values[0])


def read_instance(source: ByteSource, *, only_short: bool = False) -> Instance:
    """Reads one instance; raises UnreadableInstance (text free of values) for anything else.

    Reads the header and, of pixel data, only item headers; memory is bounded by the limits of dataset_reader. With
    ``only_short``, time is too: LongHeader is raised after some 50 ms at most.
    """
    opened = open_file(source, only_short=only_short)
    source, syntax, encoding = opened.source, opened.syntax, opened.encoding
    reader = DatasetReader(source, encoding, only_short=only_short)
    reader.read(opened.start, opened.window)
    pixels, frames = reader.pixels, None
    if pixels is not None and (pixels.fragments is not None or syntax is None or syntax.native):
        big_endian = encoding is EXPLICIT_BIG
        frames = index_frames(
            source, pixels, reader.dataset, reader.located, big_endian=big_endian, stream_start=opened.stream_start
        )
    return Instance(
        syntax.uid if syntax else _GUESSED[encoding],
        opened.has_preamble,
        reader.dataset,
        reader.problems,
        reader.left_out,
        frames,
    )


@dataclass(slots=True)
class BulkData:
    """What the metadata of an instance leave out (retrieve.md §7).

    ``source`` is what the positions of ``values`` count in: the file, or its inflated dataset if ``inflated``.
    """

    transfer_syntax: str
    source: ByteSource
    inflated: bool
    dataset: Dataset
    values: list[BulkValue]


def read_bulk_data(source: ByteSource) -> BulkData:
    """Finds the bulk values of an instance; raises and costs what ``read_instance`` does."""
    opened = open_file(source)
    values: list[BulkValue] = []
    reader = DatasetReader(opened.source, opened.encoding, bulk=values)
    reader.read(opened.start, opened.window)
    syntax = opened.syntax.uid if opened.syntax else _GUESSED[opened.encoding]
    return BulkData(syntax, opened.source, opened.stream_start is not None, reader.dataset, values)


@dataclass(slots=True)
class OpenedFile:
    """A file whose dataset begins at ``start`` of ``source``, of which ``window`` are the first bytes."""

    source: ByteSource
    start: int
    window: bytes
    has_preamble: bool
    syntax: TransferSyntax | None
    encoding: Encoding
    stream_start: int | None


def open_file(source: ByteSource, *, only_short: bool = False) -> OpenedFile:
    """Finds where the dataset begins and how it is written. Raises UnreadableInstance, and LongHeader with
    ``only_short`` where the dataset has to be inflated."""
    if source.size < _MIN_SIZE:
        raise UnreadableInstance("The file is too short to be a DICOM instance.")
    window = source.read_at(0, FIRST_WINDOW)
    has_preamble, start = _start(window)
    syntax, start = _file_meta(source, window, start)
    stream_start = None
    if syntax is not None and syntax.deflated:
        if only_short:
            raise LongHeader
        stream_start = start
        source, start, window = InflatedSource(source, start), 0, b""
    head = window[start : start + 8] if start + 8 <= len(window) else source.read_at(start, 8)
    encoding = _encoding(syntax, head, bare=start == 0 and stream_start is None)
    return OpenedFile(source, start, window, has_preamble, syntax, encoding, stream_start)


_GUESSED = {
    EXPLICIT_LITTLE: EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_BIG: EXPLICIT_VR_BIG_ENDIAN,
    IMPLICIT_LITTLE: IMPLICIT_VR_LITTLE_ENDIAN,
}
_LONG_HEADER = frozenset(vr.encode() for vr in LONG_HEADER)
_letters = re.compile(rb"[A-Z]{2}").fullmatch
_meta_header = Struct("<HH2sHI").unpack_from


def _start(window: bytes) -> tuple[bool, int]:
    """Whether there is a preamble, and where file meta information or the dataset begins."""
    if window[128:132] == b"DICM":
        begins_at_once = _letters(window[4:6]) and window[1] == 0 and 2 <= window[0] <= _LAST_FIRST_GROUP
        if window[132:134] == b"\2\0" or not begins_at_once:  # else the letters are part of some value
            return True, 132
    return False, 0


def _file_meta(source: ByteSource, window: bytes, pos: int) -> tuple[TransferSyntax | None, int]:
    """The transfer syntax of the file meta information (None without one) and the position behind it.

    Elements are taken by their group, because group lengths are missing or wrong in practice; only in front of
    a deflate stream, whose bytes may look like anything, the group length decides.
    """
    syntax: TransferSyntax | None = None
    end = -1
    while True:
        window = _reaching(source, window, pos + 12)
        if pos + 12 > len(window):
            break
        group, number, vr, length, long_length = _meta_header(window, pos)
        if group != 2 or (pos == end and syntax is not None and syntax.deflated):
            break
        pos += 8
        if vr in _LONG_HEADER:
            pos, length = pos + 4, long_length
        elif not _letters(vr):
            length = int.from_bytes(window[pos - 4 : pos], "little")
        window = _reaching(source, window, pos + length)
        value = window[pos : pos + length]
        if len(value) < length:
            fault = "is cut off" if pos + length > source.size else "is larger than this server reads"
            raise UnreadableInstance(f"The file meta information {fault}.")
        pos += length
        if number == 0 and length == 4:
            end = pos + int.from_bytes(value, "little")
        elif number == 0x10:
            uid = value.rstrip(b"\0 ").decode("latin_1")
            syntax = TRANSFER_SYNTAXES.get(uid)
            if uid and syntax is None:
                raise UnreadableInstance("The transfer syntax is not known to DICOM.")
    return syntax, pos


def _reaching(source: ByteSource, window: bytes, end: int) -> bytes:
    """The beginning of the file up to ``end``; less if it or _META_LIMIT ends before."""
    if end <= len(window) or len(window) >= min(source.size, _META_LIMIT):
        return window
    return source.read_at(0, _META_LIMIT)


def _encoding(syntax: TransferSyntax | None, head: bytes, bare: bool) -> Encoding:
    """How the dataset is written: what the syntax says, unless the first element header contradicts it.

    A ``bare`` dataset (nothing in front of it) must begin like one, or every text file would be read.
    """
    explicit = _letters(head[4:6]) is not None
    if syntax is None:
        little, big = int.from_bytes(head[:2], "little"), int.from_bytes(head[:2], "big")
        if bare and not 2 < min(little, big) <= _LAST_FIRST_GROUP:
            raise UnreadableInstance("The file does not begin like a DICOM instance.")
        if little < big:
            return EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE
        if not explicit:
            raise UnreadableInstance("The file does not begin like a DICOM instance.")
        return EXPLICIT_BIG
    if len(head) == 8 and explicit is syntax.implicit:
        return EXPLICIT_LITTLE if explicit else IMPLICIT_LITTLE
    if syntax.implicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_LITTLE if syntax.little_endian else EXPLICIT_BIG

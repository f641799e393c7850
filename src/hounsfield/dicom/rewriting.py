"""An instance with some of its attributes set anew, as pieces of the file it is made from (operations.md §2).

Only what changes is bytes; all else, pixel data above all, are ranges of the source, to be copied by whoever can do it
best. Where a new value cannot be written in the file's character set, every text is written in ISO_IR 192 instead.
"""

import zlib
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from hounsfield import __version__
from hounsfield.dicom.attribute_changes import Change
from hounsfield.dicom.character_sets import decode, encodings_of
from hounsfield.dicom.dataset_reader import UNDEFINED
from hounsfield.dicom.dictionary import attribute
from hounsfield.dicom.element_walker import ITEM, ITEM_END, SEQUENCE_END, ElementWalker, Place
from hounsfield.dicom.encodings import LONG_HEADER, Encoding
from hounsfield.dicom.file_meta import (
    GROUP_LENGTH,
    IMPLEMENTATION_CLASS,
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    MetaElements,
    file_meta,
    new_elements,
    read_file_meta,
)
from hounsfield.dicom.native_dataset import DatasetError, header, marker
from hounsfield.dicom.native_dataset import Encoding as Written
from hounsfield.dicom.part10 import OpenedFile, open_file
from hounsfield.dicom.source import ByteSource, UnreadableInstance
from hounsfield.dicom.values import LOCALISED_VRS

UTF8_TERM = "ISO_IR 192"

_CHARACTER_SET = 0x00080005
_SOP_CLASS, _SOP_INSTANCE = 0x00080016, 0x00080018
_FIRST_BULK = 0x7FE00000
_SINGLE_SETS = frozenset(("latin_1", "UTF8", "GB18030", "GBK", *(f"iso8859_{part}" for part in range(2, 16))))
"""Codecs that write what the first value of Specific Character Set says without any escape."""
_PIECE = 1 << 20
_INSTANCE = b"\2\0\3\0UI"
"""Before the length of Media Storage SOP Instance UID."""
_OURS: MetaElements = {
    IMPLEMENTATION_CLASS: ("UI", IMPLEMENTATION_CLASS_UID),
    IMPLEMENTATION_VERSION_NAME: ("SH", __version__.encode()[:16]),
}


class Range(NamedTuple):
    """Bytes of the source that stay as they are."""

    offset: int
    length: int


Piece = bytes | Range


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A new file as pieces. ``moved`` is by how much its pixel data are further behind than in the source.

    ``compressed``: the pieces behind the first are of ``source``, the inflated dataset, and are to be deflated;
    ``stream_start`` says where that stream begins. Else they are of the file.
    """

    pieces: Sequence[Piece]
    moved: int
    utf8: bool
    source: ByteSource
    compressed: bool
    stream_start: int | None

    def read(self) -> Iterator[bytes]:
        """The bytes of the new file, a MiB at a time."""
        chunks = self._chunks()
        if not self.compressed:
            yield from chunks
            return
        yield next(chunks)
        stream, size = zlib.compressobj(wbits=-zlib.MAX_WBITS), 0
        for chunk in chunks:
            packed = stream.compress(chunk)
            size += len(packed)
            yield packed
        packed = stream.flush()
        yield packed + b"\0" * ((size + len(packed)) % 2)  # PS3.5 §A.5

    def _chunks(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
                continue
            for offset in range(piece.offset, piece.offset + piece.length, _PIECE):
                yield self.source.read_at(offset, min(_PIECE, piece.offset + piece.length - offset))


def rewrite(source: ByteSource, changes: Sequence[Change], transfer_syntax: str) -> Rewritten:
    """The file in ``source``, whose syntax the index knows, with ``changes``. Raises UnreadableInstance."""
    opened = open_file(source)
    dataset = _Dataset(opened, changes)
    dataset.plan()
    start = opened.start if opened.stream_start is None else opened.stream_start
    head = opened.window[:start] if opened.stream_start is None and start <= len(opened.window) else None
    meta = _new_meta(head or source.read_at(0, start), dataset, transfer_syntax)
    first = _moved(dataset.edits, _FIRST_BULK)
    pieces = [meta, *_applied(dataset.edits, opened.start, opened.source.size)]
    return Rewritten(
        pieces=_joined(pieces, opened.window) if opened.stream_start is None else pieces,
        moved=first if opened.stream_start is not None else first + len(meta) - start,
        utf8=dataset.utf8,
        source=opened.source,
        compressed=opened.stream_start is not None,
        stream_start=None if opened.stream_start is None else len(meta),
    )


@dataclass(frozen=True, slots=True)
class _Edit:
    """What stands between two positions is replaced; ``group`` is the attribute's, ``tag`` the attribute."""

    begin: int
    end: int
    new: bytes
    tag: int

    @property
    def growth(self) -> int:
        return len(self.new) - (self.end - self.begin)


class _Dataset:
    """Finds what has to be written anew; afterwards ``edits`` are in order and do not overlap."""

    def __init__(self, opened: OpenedFile, changes: Sequence[Change]) -> None:
        self._walker = ElementWalker(opened.source, opened.window)
        self._start = opened.start
        self._stop = opened.source.size
        self._encoding = opened.encoding
        self._changes = changes
        self._behind = opened.start
        self._encodings: tuple[str, ...] = ()
        self.edits: list[_Edit] = []
        self.utf8 = False
        self.places: list[Place] = []

    def value(self, tag: int) -> bytes | None:
        """The value field of a short top-level attribute."""
        for place in self.places:
            if place.tag == tag:
                return self._walker.read(place.data, place.end)
        return None

    def plan(self) -> None:
        """Find the edits."""
        self._find_what_changes()
        terms = _terms(self.value(_CHARACTER_SET))
        self._encodings = encodings_of(terms)
        values: dict[int, tuple[str, bytes]] = {}
        for change in self._changes:
            content = _in_set(change, self._encodings, terms)
            if content is None:
                self.utf8 = True
                break
            values[change.tag] = change.vr, content
        edits: list[_Edit] = []
        if self.utf8:
            self._find_everything()
            values = {change.tag: (change.vr, change.text.encode()) for change in self._changes}
            values[_CHARACTER_SET] = "CS", UTF8_TERM.encode()
            edits = self._texts(self.places, self._encoding, 0, except_for=values.keys())
        for tag, (vr, content) in values.items():
            edits += self._set(tag, _element(tag, vr, content, self._encoding))
        self.edits = self._balanced(sorted(edits, key=lambda edit: (edit.begin, edit.end, edit.tag)))

    def _find_what_changes(self) -> None:
        tags = [change.tag for change in self._changes]
        others = {_CHARACTER_SET, _SOP_CLASS, _SOP_INSTANCE, *(tag & 0xFFFF0000 for tag in tags)}
        self.places, self._behind = self._walker.find(
            self._start, self._stop, self._encoding, tags, others, below=_FIRST_BULK
        )

    def _find_everything(self) -> None:
        self.places = self._walker.elements(self._start, self._stop, self._encoding)
        self._behind = next((place.end for place in reversed(self.places) if place.tag < _FIRST_BULK), self._start)

    def _set(self, tag: int, new: bytes) -> list[_Edit]:
        """Put an element in place of those of its tag, or where it belongs."""
        there = [place for place in self.places if place.tag == tag]
        if there:
            first, *others = there
            return [_Edit(first.begin, first.end, new, tag), *(_Edit(at.begin, at.end, b"", tag) for at in others)]
        at = next((place.begin for place in self.places if place.tag > tag), self._behind)
        return [_Edit(at, at, new, tag)]

    def _texts(
        self, places: Sequence[Place], encoding: Encoding, depth: int, except_for: Container[int] = ()
    ) -> list[_Edit]:
        """What has to be done to have the texts of a dataset or item in UTF-8."""
        edits = []
        for place in places:
            if place.tag in except_for:
                continue
            new = self._text(place, encoding) if place.items is None else self._sequence(place, encoding, depth)
            if new is not None:
                edits.append(_Edit(place.begin, place.end, new, place.tag))
        return edits

    def _text(self, place: Place, encoding: Encoding) -> bytes | None:
        vr = place.vr
        if vr == "UN" and encoding.explicit and (row := attribute(place.tag)) is not None:
            vr = row.vr  # read as what the dictionary says (CP-246)
        if vr not in LOCALISED_VRS:
            return None
        raw = self._walker.read(place.data, place.end)
        if raw.isascii() and b"\x1b" not in raw:
            return None
        text = decode(raw, self._encodings)
        if "\ufffd" in text:
            text = raw.decode("latin_1")  # no text of that set; its bytes are not to be lost
        content = text.rstrip(" ").encode() if len(raw) % 2 == 0 and raw.endswith(b" ") else text.encode()
        return _element(place.tag, place.vr, content, encoding)

    def _sequence(self, place: Place, encoding: Encoding, depth: int) -> bytes | None:
        """A sequence with its texts in UTF-8; None if nothing changes."""
        assert place.items is not None
        written = _written(place.items)
        content, changed = bytearray(), False
        for item in self._walker.items(place, depth):
            places = self._walker.elements(item.data, item.stop, place.items, depth + 1)
            # An item that names a set of its own stays as it is.
            own = any(inner.tag == _CHARACTER_SET for inner in places)
            edits = [] if own else self._texts(places, place.items, depth + 1)
            pieces = _applied(self._balanced(edits, places), item.data, item.stop)
            body = b"".join(
                piece if isinstance(piece, bytes) else self._walker.source.read_at(*piece) for piece in pieces
            )
            changed = changed or bool(edits)
            content += marker(ITEM, UNDEFINED if item.undefined else len(body), written) + body
            if item.undefined:
                content += marker(ITEM_END, 0, written)
        if not changed:
            return None
        length = UNDEFINED if place.undefined else len(content)
        end = marker(SEQUENCE_END, 0, written) if place.undefined else b""
        return header(place.tag, place.vr, length, _written(encoding)) + bytes(content) + end

    def _balanced(self, edits: list[_Edit], places: Sequence[Place] | None = None) -> list[_Edit]:
        """With the group lengths of the groups that have grown (retired, PS3.5 §7.2) as right as they were."""
        edits = sorted(edits, key=lambda edit: (edit.begin, edit.end, edit.tag))
        growth: dict[int, int] = {}
        for edit in edits:
            growth[edit.tag >> 16] = growth.get(edit.tag >> 16, 0) + edit.growth
        order: Literal["little", "big"] = "little" if self._encoding.endian == "<" else "big"
        for place in self.places if places is None else places:
            if place.tag & 0xFFFF:
                continue
            by = growth.get(place.tag >> 16, 0)
            if not by or place.end - place.data != 4:
                continue
            length = int.from_bytes(self._walker.read(place.data, place.end), order) + by
            new = (length & 0xFFFFFFFF).to_bytes(4, order)
            edits.append(_Edit(place.data, place.end, new, place.tag))
        return sorted(edits, key=lambda edit: (edit.begin, edit.end, edit.tag))


def _applied(edits: Sequence[_Edit], begin: int, end: int) -> list[Piece]:
    pieces: list[Piece] = []
    for edit in edits:
        if edit.begin > begin:
            pieces.append(Range(begin, edit.begin - begin))
        if edit.new:
            pieces.append(edit.new)
        begin = edit.end
    if end > begin:
        pieces.append(Range(begin, end - begin))
    return pieces


def _joined(pieces: Sequence[Piece], window: bytes) -> list[Piece]:
    """With ranges that are in ``window``, the first bytes of the source, as bytes: one write is cheaper than copies."""
    joined: list[Piece] = []
    known: list[bytes] = []
    for piece in pieces:
        if isinstance(piece, bytes):
            known.append(piece)
        elif piece.offset + piece.length <= len(window):
            known.append(window[piece.offset : piece.offset + piece.length])
        else:
            joined += [b"".join(known), piece]
            known.clear()
    return [*joined, b"".join(known)] if known else joined


def _moved(edits: Sequence[_Edit], before: int) -> int:
    return sum(edit.growth for edit in edits if edit.tag < before)


def _terms(raw: bytes | None) -> tuple[str, ...]:
    return () if raw is None else tuple(raw.decode("latin_1").rstrip(" \0").split("\\"))


def _in_set(change: Change, encodings: tuple[str, ...], terms: tuple[str, ...]) -> bytes | None:
    """The new value in the character set of a file; None if that cannot write it."""
    if change.text.isascii():
        return change.text.encode()
    codec = encodings[0]
    # Where it is not named, Latin-1 is what readers take the default repertoire for, and not what was agreed.
    guessed = codec == "latin_1" and not (terms and "100" in terms[0])
    if change.vr not in LOCALISED_VRS or guessed or codec not in _SINGLE_SETS:
        return None
    try:
        content = change.text.encode(codec)
    except UnicodeEncodeError:
        return None
    return content if decode(content, encodings) == change.text else None


def _element(tag: int, vr: str, content: bytes, encoding: Encoding) -> bytes:
    content += b" " * (len(content) % 2)
    if len(content) > 0xFFFE and encoding.explicit and vr not in LONG_HEADER:
        raise UnreadableInstance("A text becomes longer than its VR can be.")
    return header(tag, vr, len(content), _written(encoding)) + content


def _written(encoding: Encoding) -> Written:
    return Written(implicit=not encoding.explicit, little_endian=encoding.endian == "<")


def _new_meta(head: bytes, dataset: _Dataset, transfer_syntax: str) -> bytes:
    """Preamble, prefix and group 2, which names us as its writer."""
    at = head.find(_INSTANCE, 132) + len(_INSTANCE) + 2
    if at > 132 and head[at - 2 : at] != b"\0\0":
        length = int.from_bytes(head[at - 2 : at], "little")
        around = _meta_around(head[:at], head[at + length :], length)
        if around is not None:
            return head[at : at + length].join(around)
    kept = _kept(head)
    if not kept:
        uids = (_uid(dataset.value(tag)) for tag in (_SOP_CLASS, _SOP_INSTANCE))
        kept = new_elements(transfer_syntax, *uids)
    return file_meta({**kept, **_OURS})


@lru_cache(maxsize=256)
def _meta_around(before: bytes, behind: bytes, length: int) -> tuple[bytes, bytes] | None:
    """What comes before and behind the instance's UID of so many bytes when a head with these around it is written.

    The heads of a series differ in nothing else.
    """
    unknown = b"\1" * length
    new = file_meta({**_kept(before + unknown + behind), **_OURS})
    first, found, last = new.partition(unknown)
    return (first, last) if found and unknown not in last else None


def _kept(head: bytes) -> MetaElements:
    """The elements of group 2, which its length is none of."""
    try:
        found, _ = read_file_meta(memoryview(head))
    except DatasetError as problem:
        raise UnreadableInstance("The file meta information is broken.") from problem
    return {tag: element for tag, element in found.items() if tag != GROUP_LENGTH}


def _uid(raw: bytes | None) -> bytes | None:
    return None if raw is None else raw.rstrip(b" \0")

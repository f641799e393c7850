"""The element loop: a dataset of any encoding → the DICOM JSON model, in one pass, without touching bulk data.

Bytes come through a window that grows with the header and jumps over bulk values; every length is checked against
the enclosing item and the source before anything is allocated, and the limits below bound what a hostile file can cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from struct import pack
from typing import NamedTuple

from hounsfield.dicom.character_sets import DEFAULT, encodings_of
from hounsfield.dicom.dictionary import attribute, display_tag, is_private
from hounsfield.dicom.encodings import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    REMEMBERED_LENGTH,
    REMEMBERED_SEQUENCE,
    REMEMBERED_SEQUENCES,
    VRS,
    Encoding,
    Entry,
    Kind,
    remember,
)
from hounsfield.dicom.fragments import PixelData, walk_items
from hounsfield.dicom.runs import Runs
from hounsfield.dicom.signedness import Signedness
from hounsfield.dicom.source import ByteSource, UnreadableInstance
from hounsfield.dicom.values import Element, Flaw, described

MAX_DEPTH = 64
"""Sequences inside sequences. The deepest structured reports in the field have some 20 levels."""

MAX_ELEMENTS = 1_000_000
"""Elements, items and fragments, all levels together: ten times an enhanced object of 10,000 frames would still be
several hundred megabytes of Python objects."""

MAX_HEADER_BYTES = 1 << 26
"""Bytes that are not bulk data. An enhanced object of 10,000 frames has some 10 MB."""

FIRST_WINDOW = 1 << 14
"""Bytes of the first read: most headers without private data fit."""

WINDOW_BEHIND_BULK = 1 << 10
"""Bytes of the first read behind a bulk value: often nothing but a few elements, or the end, follows."""

LARGEST_WINDOW = 1 << 20
"""Bytes of one read at most (unless one value is longer)."""

SHORT_HEADER_BYTES = 1 << 17
SHORT_HEADER_ELEMENTS = 1_500
"""What the reader gives up beyond where only a short header is wanted. An element never met before takes 12 µs."""

UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
_EXTENDED_OFFSET_TABLES = (0x7FE00001, 0x7FE00002)
_SPECIFIC_CHARACTER_SET = 0x00080005
_PADDING_READ = 1 << 17  # bytes of what follows a dataset, if anything does, looked at in one piece
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_NO_RUNS = Runs()
_LONG_VALUE = 1 << 10  # bytes above which the number of values counts against MAX_ELEMENTS

Dataset = dict[str, Element]
Path = tuple[tuple[str, int], ...]
"""The way into nested items: (key of the sequence, index of the item) from the top."""


class LongHeader(Exception):
    """The header is longer than was wanted; it may be readable."""


class Problem(NamedTuple):
    """A value that breaks a full rule (store.md §3.4).

    ``label`` is the tag as comments show it. ``strict`` is what is wrong without leniency for null padding, ``lenient``
    with it; None means nothing. Comments are given once a tag, so later problems of the same tag in the same top-level
    element repeat the texts of the first.
    """

    key: str
    path: Path
    label: str
    lenient: str | None
    strict: str | None


class BulkValue(NamedTuple):
    """Where a value that the dataset leaves out lies in its source: ``length`` bytes from ``offset``.

    ``fragments`` are offset and length of the pieces of an encapsulated value, the Basic Offset Table left out; None
    where the value is not encapsulated.
    """

    path: Path
    key: str
    vr: str
    offset: int
    length: int
    big_endian: bool
    fragments: Sequence[tuple[int, int]] | None = None


@dataclass(slots=True)
class DatasetReader:
    """Reads one dataset. After ``read``: the dataset, its problems, what was left out at top level, and the pixels.

    ``bulk`` collects what was left out at any level, if it is a list. ``only_short`` has it give up, by LongHeader,
    what would take long.
    """

    source: ByteSource
    encoding: Encoding
    dataset: Dataset = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    located: dict[int, tuple[int, int]] = field(default_factory=dict)
    pixels: PixelData | None = None
    bulk: list[BulkValue] | None = None
    only_short: bool = False
    _size: int = 0
    _window: bytes = b""
    _base: int = 0
    _step: int = FIRST_WINDOW
    _loaded: int = 0
    _count: int = 0
    _encodings: tuple[str, ...] = DEFAULT
    _signedness: Signedness = field(default_factory=Signedness)
    _dependent: int = 0
    _flaws: dict[tuple[str, str, bool, bool], Flaw] = field(default_factory=dict)

    def read(self, start: int, window: bytes = b"", base: int = 0) -> None:
        """Reads from ``start`` to the end of the source; ``window`` are bytes already read, at ``base``.

        Raises UnreadableInstance if the dataset is cut off, malformed, or beyond a limit.
        """
        self._size = self.source.size
        self._window, self._base = window, base
        self._elements(start, self._size, self.dataset, (), delimited=False)

    def _elements(self, pos: int, stop: int, out: Dataset, path: Path, delimited: bool) -> int:
        """Reads elements into ``out`` until ``stop`` or, if ``delimited``, the item delimiter; returns where it ended.

        The inner loop is the hottest code of the server: an element met before costs one unpack and one look-up, and
        several that follow each other as they did before cost one comparison.
        """
        encoding, character_set = self.encoding, self._encodings
        short_length, length_at, known = encoding.short_length, encoding.length_at, encoding.elements.get
        # Of what lies in sequences, and where bulk values lie in them, runs know nothing.
        has_runs = not path and self.bulk is None
        runs = encoding.runs(character_set) if has_runs else _NO_RUNS
        ends: list[int] = []  # of elements met before that follow each other from ``begin``, and are part of no run
        window, base = self._window, self._base
        at, fence = pos - base, min(len(window), stop - base)
        begin, before = at, 0
        while True:
            if at + 8 > fence:
                ends = []
                pos = base + at
                if (pos >= stop and not delimited) or not self._more(pos, stop, out, top=not path):
                    break
                window, base = self._window, self._base
                at, fence = pos - base, min(len(window), stop - base)
            (length,) = short_length(window, at + length_at)
            end = at + 8 + length
            piece = window[at:end] if length <= REMEMBERED_LENGTH and end <= fence else b""
            met = known(piece)
            if met is None:
                head, _ = encoding.unpack(window, at)
                entry = encoding.entries.get(head) or encoding.learn(head)
                if entry.header == 12 and entry.kind == Kind.SEQUENCE and at + 12 <= fence:
                    end = at + 12 + encoding.length(window, at + 8)[0]
                    if end - at <= REMEMBERED_SEQUENCE and end <= fence and self.bulk is None:
                        piece = window[at:end]
                        met = encoding.sequences.get(piece)
                elif has_runs and entry.is_text and not piece.isascii():
                    element = encoding.localised.get((piece, character_set))
                    met = None if element is None else (entry.key, element)
            if met is not None:
                run = runs.get(piece)
                if run is None:
                    if not ends:
                        begin, before = at, len(out)
                    key, out[key] = met
                    at = end
                    ends.append(at - begin)
                elif window.startswith(run.content, at):
                    if ends:
                        runs.learn(window[begin:at], ends, out, before)
                        ends = []
                    out.update(run.elements)
                    at += len(run.content)
                else:
                    runs.part(run, window[at : at + len(run.content)])
                continue
            if ends:
                if has_runs:
                    runs.learn(window[begin:at], ends, out, before)
                ends = []
            if entry.simple and end <= fence:
                out[entry.key] = self._element(entry, piece or window[at:end], out, path)
                at = end
                continue
            pos = base + at
            if entry.kind == Kind.END:
                pos += 8
                if self._ends(entry.tag, length, pos, delimited, top=not path):
                    break
            else:
                pos = self._other(entry, pos, length, stop, out, path)
                window, base = self._window, self._base
                if has_runs and self._encodings is not character_set:
                    character_set = self._encodings
                    runs = encoding.runs(character_set)
            at, fence = pos - base, min(len(window), stop - base)
        self._count += len(out)
        keys = list(out)
        if keys != sorted(keys):
            in_order = sorted(out.items())
            out.clear()
            out.update(in_order)
        return pos

    def _more(self, pos: int, stop: int, out: Dataset, top: bool) -> bool:
        """Moves the window to ``pos`` for the next header; False if only padding is left at the end of the file."""
        count = self._count + len(out)
        if count > MAX_ELEMENTS:
            raise UnreadableInstance("The dataset has more elements than this server reads.")
        if self.only_short and count > SHORT_HEADER_ELEMENTS:
            raise LongHeader
        if pos + 8 > stop:
            rest = self.source.read_at(pos, stop - pos) if top else b"?"
            if rest.strip(b"\0 "):
                raise UnreadableInstance("The dataset is cut off or an item length is wrong.")
            return False
        self._load(pos, 8)
        return True

    def _ends(self, tag: int, length: int, pos: int, delimited: bool, top: bool) -> bool:
        """Whether this ends the dataset: the item delimiter, or zero bytes from here to the end of the file.

        A delimiter too many at top level (seen behind pixel data) is passed over; anything else is an error.
        """
        if tag == _ITEM_END and delimited:
            return True
        if top and length == 0 and tag != _ITEM:
            while tag == 0 and (padding := self.source.read_at(pos, _PADDING_READ)):
                if padding != bytes(len(padding)):  # ten times as fast as strip: there may be gigabytes
                    raise UnreadableInstance("Zero bytes stand where an element should be.")
                pos += len(padding)
            return tag == 0
        raise UnreadableInstance("An item or delimiter stands where an element should be.")

    def _load(self, pos: int, need: int) -> None:
        """Makes the window hold ``need`` bytes from ``pos``."""
        ahead = self._base + len(self._window)
        if self._base <= pos and pos + need <= ahead:
            return
        if pos + need > self._size:
            raise UnreadableInstance("The dataset is cut off.")
        if not self._base <= pos <= ahead:
            self._step = WINDOW_BEHIND_BULK
        kept = self._window[pos - self._base :] if self._base <= pos < ahead else b""
        wanted = max(need, self._step) - len(kept)
        if self.only_short and self._loaded + wanted > SHORT_HEADER_BYTES:
            raise LongHeader
        data = self.source.read_at(pos + len(kept), wanted)
        self._step = min(self._step * 4, LARGEST_WINDOW)
        self._loaded += len(data)
        if self._loaded > MAX_HEADER_BYTES:
            raise UnreadableInstance("The header is larger than this server reads.")
        self._window, self._base = kept + data, pos
        if len(self._window) < need:
            raise UnreadableInstance("The dataset is cut off.")

    def _bytes(self, pos: int, length: int) -> bytes:
        if length > MAX_HEADER_BYTES - self._loaded:
            raise UnreadableInstance("The header is larger than this server reads.")
        self._load(pos, length)
        return self._window[pos - self._base : pos - self._base + length]

    def _other(self, entry: Entry, pos: int, length: int, stop: int, out: Dataset, path: Path) -> int:
        """Everything but a short plain value; returns the position behind the element."""
        if entry.header == 12:
            length = self.encoding.length(self._bytes(pos, 12), 8)[0]
        elif entry.kind == Kind.IMPLICIT:
            length = self.encoding.length(self._bytes(pos, 8), 4)[0]
            entry = self.encoding.implicit_entry(entry.tag)
            if entry.kind == Kind.END:
                raise UnreadableInstance("An element header makes no sense.")
        data = pos + entry.header
        if length == UNDEFINED:
            return self._undefined(entry, data, stop, out, path)
        end = data + length
        if end > stop:
            raise UnreadableInstance("The dataset is cut off or an element's length is wrong.")
        if entry.kind == Kind.SEQUENCE:
            self._defined_sequence(entry, pos, data, end, out, path)
        elif entry.kind == Kind.BULK:
            self._bulk(entry, data, end, out, path)
        elif entry.kind != Kind.IGNORED:
            self._value(entry, self._bytes(pos, end - pos), out, path)
        return end

    def _value(self, entry: Entry, piece: bytes, out: Dataset, path: Path) -> None:
        """A value the inner loop leaves alone: long, across the window, of a 12-byte header, or with an effect."""
        if entry.kind == Kind.AMBIGUOUS:
            entry = self._signedness.entry(entry.tag, self.encoding)
            out[entry.key] = self._element(entry, piece, out, path)
            self._signedness.made(path, out, self.dataset, entry, piece[entry.header :], self.encoding)
            self._dependent += 1
            return
        element = out[entry.key] = self._element(entry, piece, out, path)
        if entry.kind == Kind.EFFECT:
            values = element.get("Value", [])
            if entry.tag == _SPECIFIC_CHARACTER_SET:
                self._encodings = encodings_of(tuple(str(value or "") for value in values[:16]))
            else:
                self._signedness.decided(path, bool(values and values[0]))
        elif entry.kind == Kind.UNTYPED:
            content = described(entry.tag, entry.vr)
            text = f'Content "{content}" does not validate VR {entry.vr}: value representation is missing'
            self._problem(entry, Flaw(text, text), out, path)

    def _element(self, entry: Entry, piece: bytes, out: Dataset, path: Path) -> Element:
        """Makes the element of a header and value, notes its flaw, and remembers it if it is short and has none."""
        raw = piece[entry.header :]
        if entry.is_text and (b"\x1b" in raw or not raw.isascii()):
            return self._localised_element(entry, piece, out, path)
        element, flaw = entry.make(raw, self._encodings)
        if flaw is not None:
            self._problem(entry, flaw, out, path)
        elif entry.simple and len(raw) <= REMEMBERED_LENGTH:
            remember(self.encoding.elements, piece, (entry.key, element))
        if len(raw) > _LONG_VALUE:
            self._count += len(element.get("Value", ())) >> 3
        return element

    def _localised_element(self, entry: Entry, piece: bytes, out: Dataset, path: Path) -> Element:
        """The same for text that means something else in another character set."""
        self._dependent += 1
        known = self.encoding.localised.get((piece, self._encodings))
        if known is not None:
            return known
        element, flaw = entry.make(piece[entry.header :], self._encodings)
        if flaw is not None:
            self._problem(entry, flaw, out, path)
        elif entry.simple and len(piece) <= REMEMBERED_LENGTH:
            remember(self.encoding.localised, (piece, self._encodings), element)
        if len(piece) > _LONG_VALUE:
            self._count += len(element.get("Value", ())) >> 3
        return element

    def _problem(self, entry: Entry, flaw: Flaw, out: Dataset, path: Path) -> None:
        label = display_tag(entry.tag, self._creator(entry.tag, out))
        top = path[0][0] if path else ""
        flaw = self._flaws.setdefault((top, entry.key, flaw.lenient is None, flaw.strict is None), flaw)
        self.problems.append(Problem(entry.key, path, label, *flaw))

    def _creator(self, tag: int, out: Dataset) -> str | None:
        """The private creator of a private tag's block (PS3.5 §7.8.1), from the same dataset or the top level."""
        if not is_private(tag) or tag & 0xFFFF < 0x1000:
            return None
        key = f"{tag >> 16:04X}00{tag >> 8 & 0xFF:02X}"
        element = out.get(key) or self.dataset.get(key) or {}
        return str(element.get("Value", [""])[0] or "") or None

    def _undefined(self, entry: Entry, pos: int, stop: int, out: Dataset, path: Path) -> int:
        """An element of undefined length: a sequence, a sequence hidden in UN (CP-246), or fragments."""
        if entry.kind == Kind.SEQUENCE:
            return self._sequence(entry, pos, None, stop, out, path)
        if entry.vr == "UN" and entry.tag != PIXEL_DATA:
            outer, self.encoding = self.encoding, self._encoding_inside(pos)
            try:
                return self._sequence(entry, pos, None, stop, out, path)
            finally:
                self.encoding = outer
        if entry.kind == Kind.BULK:
            return self._fragments(entry, pos, stop, path)
        raise UnreadableInstance("A value that cannot have undefined length has it.")

    def _encoding_inside(self, pos: int) -> Encoding:
        """How the items of an UN sequence are written: implicit VR as they should be, or explicit as some do."""
        if pos + 16 > self._size:
            return IMPLICIT_LITTLE
        self._load(pos, 16)
        letters = self._window[pos - self._base + 12 : pos - self._base + 14]
        return EXPLICIT_LITTLE if letters.decode("latin_1") in VRS else IMPLICIT_LITTLE

    def _bulk(self, entry: Entry, data: int, end: int, out: Dataset, path: Path) -> None:
        """Notes a value that is left out, or reads it after all: a known attribute written as UN (CP-246)."""
        if entry.vr == "UN" and self.encoding.explicit and attribute(entry.tag):
            known = IMPLICIT_LITTLE.implicit_entry(entry.tag)
            if known.kind == Kind.SEQUENCE:
                if self._hidden_sequence(known, data, end, out, path):
                    return
            elif known.kind not in (Kind.BULK, Kind.IGNORED):
                raw = self._bytes(data, end - data)
                outer, self.encoding = self.encoding, IMPLICIT_LITTLE
                header = pack("<HHI", entry.tag >> 16, entry.tag & 0xFFFF, len(raw))
                self._value(known, header + raw, out, path)
                self.encoding = outer
                return
        self._note(entry.key, entry.vr, data, end - data, path)
        if not path:
            self.left_out[entry.key] = entry.vr
            if entry.tag == PIXEL_DATA:
                self.pixels = PixelData(entry.vr, data, end - data)
            elif entry.tag in _EXTENDED_OFFSET_TABLES:
                self.located[entry.tag] = (data, end - data)

    def _note(
        self,
        key: str,
        vr: str,
        offset: int,
        length: int,
        path: Path,
        fragments: Sequence[tuple[int, int]] | None = None,
    ) -> None:
        if self.bulk is not None:
            big_endian = self.encoding.endian == ">"
            self.bulk.append(BulkValue(path, key, vr, offset, length, big_endian, fragments))

    def _defined_sequence(self, entry: Entry, pos: int, data: int, end: int, out: Dataset, path: Path) -> None:
        """A sequence of known length, perhaps one read before; or what only the dictionary takes for a sequence."""
        encoding = self.encoding
        if not encoding.explicit and data < end and self._bytes(data, min(4, end - data)) != b"\xfe\xff\x00\xe0":
            self._note(entry.key, "UN", data, end - data, path)
            if not path:
                self.left_out[entry.key] = "UN"
            return
        # What is remembered of a sequence is not where its bulk values are.
        piece = self._bytes(pos, end - pos) if end - pos <= REMEMBERED_SEQUENCE and self.bulk is None else b""
        known = encoding.sequences.get(piece)
        if known is not None:
            out[entry.key] = known[1]
            return
        before = len(self.problems), self._dependent
        self._sequence(entry, data, end, end, out, path)
        if piece and before == (len(self.problems), self._dependent):
            remember(encoding.sequences, piece, (entry.key, out[entry.key]), REMEMBERED_SEQUENCES)

    def _hidden_sequence(self, entry: Entry, data: int, end: int, out: Dataset, path: Path) -> bool:
        """Reads UN bytes as the implicit VR sequence the dictionary says they are; False if they are not one."""
        outer, self.encoding = self.encoding, IMPLICIT_LITTLE
        known, state = len(self.problems), (self._encodings, self._signedness.signed)
        noted = len(self.bulk or ())
        try:
            self._sequence(entry, data, end, end, out, path)
        except UnreadableInstance:
            del self.problems[known:]
            if self.bulk is not None:
                del self.bulk[noted:]
            self._encodings, self._signedness.signed = state
            return False
        finally:
            self.encoding = outer
        return True

    def _sequence(self, entry: Entry, pos: int, end: int | None, stop: int, out: Dataset, path: Path) -> int:
        """Reads items up to ``end``, or to the delimiter if it is None."""
        if len(path) >= MAX_DEPTH:
            raise UnreadableInstance("Sequences are nested deeper than this server reads.")
        items: list[Dataset] = []
        outer = self._encodings, self._signedness.signed
        inner_stop = stop if end is None else end
        while end is None or pos < end:
            if pos + 8 > inner_stop:
                raise UnreadableInstance("A sequence is cut off or its length is wrong.")
            self._load(pos, 8)
            group, number, length = self.encoding.item(self._window, pos - self._base)
            tag = group << 16 | number
            pos += 8
            if tag == _SEQUENCE_END and (end is None or pos == end):
                break
            item_stop = inner_stop if length == UNDEFINED else pos + length
            if tag != _ITEM or item_stop > inner_stop:
                raise UnreadableInstance("A sequence holds something that is not an item.")
            self._count += 1
            item: Dataset = {}
            here = (*path, (entry.key, len(items)))
            pos = self._elements(pos, item_stop, item, here, delimited=length == UNDEFINED)
            items.append(item)
            self._encodings, self._signedness.signed = outer
            if self._count > MAX_ELEMENTS:
                raise UnreadableInstance("The dataset has more elements than this server reads.")
        out[entry.key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        return pos

    def _fragments(self, entry: Entry, pos: int, stop: int, path: Path) -> int:
        """Passes over encapsulated data; keeps where the fragments of top-level Pixel Data are."""
        limit = MAX_ELEMENTS - self._count
        starts, lengths, end = walk_items(self.source, self.encoding.item, pos, stop, limit, self._window, self._base)
        self._count += len(starts)
        if self.bulk is not None:
            pieces = [(start + 8, length) for start, length in zip(starts[1:], lengths[1:], strict=True)]
            self._note(entry.key, entry.vr, pos, end - 8 - pos, path, pieces)
        if not path:
            self.left_out[entry.key] = entry.vr
            if entry.tag == PIXEL_DATA:
                table = self._offset_table(pos + 8, lengths[0]) if lengths else b""
                self.pixels = PixelData(entry.vr, pos, end - 8 - pos, starts[1:], lengths[1:], table)
        return end

    def _offset_table(self, pos: int, length: int) -> bytes:
        if length > MAX_HEADER_BYTES:
            raise UnreadableInstance("The Basic Offset Table is larger than this server reads.")
        at = pos - self._base
        if at >= 0 and at + length <= len(self._window):
            return self._window[at : at + length]
        return self.source.read_at(pos, length)

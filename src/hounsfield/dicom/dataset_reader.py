"""The element loop: a dataset of any encoding → the DICOM JSON model, in one pass, without touching bulk data.

Bytes come through a window that grows with the header and jumps over bulk values; every length is checked against
the enclosing item and the source before anything is allocated, and the limits below bound what a hostile file can cost.
"""

from array import array
from dataclasses import dataclass, field
from math import isfinite
from struct import unpack
from typing import Any, NamedTuple

from hounsfield.dicom.character_sets import DEFAULT, decode, encodings_of
from hounsfield.dicom.dictionary import attribute, display_tag, is_private
from hounsfield.dicom.encodings import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    REMEMBERED_ELEMENTS,
    REMEMBERED_LENGTH,
    VRS,
    Element,
    Encoding,
    Entry,
    Kind,
)
from hounsfield.dicom.source import ByteSource, UnreadableInstance
from hounsfield.dicom.value_rules import (
    DECIMAL,
    INTEGER,
    MAX_PLAIN,
    NULL_LENIENT,
    SINGLE_VALUED,
    first_flaw,
    fits_int32,
)

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

UNDEFINED = 0xFFFFFFFF
PIXEL_DATA = 0x7FE00010
_EXTENDED_OFFSET_TABLES = (0x7FE00001, 0x7FE00002)
_SPECIFIC_CHARACTER_SET = 0x00080005
_PATIENT_ID = 0x00100020
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_SPARSE_FRAGMENT = 1 << 12  # behind a fragment longer than this, only the next header is read
_DENSE_READ = 1 << 16  # behind a shorter one, enough for several

Dataset = dict[str, Element]
Path = tuple[tuple[str, int], ...]
"""The way into nested items: (key of the sequence, index of the item) from the top."""


class Problem(NamedTuple):
    """A value that breaks a full rule (store.md §3.4).

    ``strict`` is the comment without leniency for null padding, ``lenient`` with it; None means no problem.
    """

    key: str
    path: Path
    lenient: str | None
    strict: str | None


@dataclass(slots=True)
class PixelData:
    """Where top-level Pixel Data lie: native value, or fragments (positions of item headers, and value lengths)."""

    vr: str
    offset: int
    length: int
    fragments: "array[int] | None" = None
    lengths: "array[int] | None" = None
    offset_table: bytes = b""


@dataclass(slots=True)
class DatasetReader:
    """Reads one dataset. After ``read``: the dataset, its problems, what was left out at top level, and the pixels."""

    source: ByteSource
    encoding: Encoding
    dataset: Dataset = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    located: dict[int, tuple[int, int]] = field(default_factory=dict)
    pixels: PixelData | None = None
    _size: int = 0
    _window: bytes = b""
    _base: int = 0
    _step: int = FIRST_WINDOW
    _loaded: int = 0
    _count: int = 0
    _encodings: tuple[str, ...] = DEFAULT
    _signed: bool = False

    def read(self, start: int, window: bytes = b"", base: int = 0) -> None:
        """Reads from ``start`` to the end of the source; ``window`` are bytes already read, at ``base``.

        Raises UnreadableInstance if the dataset is cut off, malformed, or beyond a limit.
        """
        self._size = self.source.size
        self._window, self._base = window, base
        self._elements(start, self._size, self.dataset, (), delimited=False)

    def _elements(self, pos: int, stop: int, out: Dataset, path: Path, delimited: bool) -> int:
        """Reads elements into ``out`` until ``stop`` or, if ``delimited``, the item delimiter; returns where it ended.

        The inner loop is the hottest code of the server: one unpack, one table and one memory look-up per element.
        """
        encoding = self.encoding
        unpack_header, entries, elements = encoding.unpack, encoding.entries, encoding.elements
        last, ordered = "", True
        window, base = self._window, self._base
        at, fence = pos - base, min(len(window), stop - base)
        while True:
            if at + 8 > fence:
                pos = base + at
                if pos >= stop and not delimited:
                    break
                if not self._more(pos, stop, out, top=not path):
                    break
                window, base = self._window, self._base
                at, fence = pos - base, min(len(window), stop - base)
            head, length = unpack_header(window, at)
            entry = entries.get(head) or encoding.learn(head)
            if entry.simple and length <= REMEMBERED_LENGTH:
                end = at + 8 + length
                if end <= fence:
                    piece = window[at:end]
                    out[entry.key] = elements.get(piece) or self._remembered(entry, piece, out, path)
                    if entry.key < last:
                        ordered = False
                    last = entry.key
                    at = end
                    continue
            elif entry.kind == Kind.END:
                pos = base + at + 8
                if self._ends(entry.tag, length, delimited, top=not path):
                    break
                at += 8
                continue
            pos = self._other(entry, base + at, length, stop, out, path)
            if entry.key < last:
                ordered = False
            last = entry.key
            window, base = self._window, self._base
            at, fence = pos - base, min(len(window), stop - base)
        self._count += len(out)
        if not ordered:
            in_order = sorted(out.items())
            out.clear()
            out.update(in_order)
        return pos

    def _more(self, pos: int, stop: int, out: Dataset, top: bool) -> bool:
        """Moves the window to ``pos`` for the next header; False if only padding is left at the end of the file."""
        if self._count + len(out) > MAX_ELEMENTS:
            raise UnreadableInstance("The dataset has more elements than this server reads.")
        if pos + 8 > stop:
            rest = self.source.read_at(pos, stop - pos) if top else b"?"
            if rest.strip(b"\0 "):
                raise UnreadableInstance("The dataset is cut off or an item length is wrong.")
            return False
        self._load(pos, 8)
        return True

    def _ends(self, tag: int, length: int, delimited: bool, top: bool) -> bool:
        """Whether this ends the dataset: the item delimiter, or zero bytes behind the last element of the file.

        A delimiter too many at top level (seen behind pixel data) is passed over; anything else is an error.
        """
        if tag == _ITEM_END and delimited:
            return True
        if top and length == 0 and tag != _ITEM:
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
        data = self.source.read_at(pos + len(kept), max(need, self._step) - len(kept))
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
            entry = IMPLICIT_LITTLE.implicit_entry(entry.tag)
            if entry.kind == Kind.END:
                raise UnreadableInstance("An element header makes no sense.")
        data = pos + entry.header
        if length == UNDEFINED:
            return self._undefined(entry, data, stop, out, path)
        end = data + length
        if end > stop:
            raise UnreadableInstance("The dataset is cut off or an element's length is wrong.")
        if entry.kind == Kind.SEQUENCE and (self.encoding.explicit or self._is_sequence(data, length)):
            return self._sequence(entry, data, end, stop, out, path)
        if entry.kind in (Kind.BULK, Kind.SEQUENCE):
            self._bulk(entry, data, end, stop, out, path)
        elif entry.kind != Kind.IGNORED:
            self._value(entry, self._bytes(data, length), out, path)
        return end

    def _is_sequence(self, pos: int, length: int) -> bool:
        """Whether a value that is a sequence by the dictionary only (the file names no VR) holds items."""
        return length == 0 or (length >= 8 and self._bytes(pos, 4) == b"\xfe\xff\x00\xe0")

    def _value(self, entry: Entry, raw: bytes, out: Dataset, path: Path) -> None:
        if entry.kind == Kind.AMBIGUOUS:
            element = _numbers(entry.vr, raw, self.encoding.endian + ("h" if self._signed else "H"))
            out[entry.key] = element | {"vr": "SS" if self._signed else "US"}
            return
        element = out[entry.key] = self._element(entry, raw, out, path)
        if entry.kind == Kind.EFFECT:
            values = element.get("Value", [])
            if entry.tag == _SPECIFIC_CHARACTER_SET:
                self._encodings = encodings_of(tuple(str(value or "") for value in values[:16]))
            else:
                self._signed = values[:1] == [1]
        elif entry.kind == Kind.UNTYPED:
            text = f'Content "{_described(entry)}" does not validate VR {entry.vr}: value representation is missing'
            self._problem(entry, path, text, text)

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

    def _bulk(self, entry: Entry, data: int, end: int, stop: int, out: Dataset, path: Path) -> None:
        """Notes a value that is left out, or reads it after all: a known attribute written as UN (CP-246)."""
        row = attribute(entry.tag) if entry.vr == "UN" else None
        if row is not None and self.encoding.explicit:
            known = IMPLICIT_LITTLE.implicit_entry(entry.tag)
            if known.kind == Kind.SEQUENCE:
                if self._hidden_sequence(known, data, end, out, path):
                    return
            elif known.kind not in (Kind.BULK, Kind.IGNORED):
                outer, self.encoding = self.encoding, IMPLICIT_LITTLE
                self._value(known, self._bytes(data, end - data), out, path)
                self.encoding = outer
                return
        if not path:
            self.left_out[entry.key] = "UN" if entry.vr == "SQ" else entry.vr
            if entry.tag == PIXEL_DATA:
                self.pixels = PixelData(entry.vr, data, end - data)
            elif entry.tag in _EXTENDED_OFFSET_TABLES:
                self.located[entry.tag] = (data, end - data)

    def _hidden_sequence(self, entry: Entry, data: int, end: int, out: Dataset, path: Path) -> bool:
        """Reads UN bytes as the implicit VR sequence the dictionary says they are; False if they are not one."""
        outer, self.encoding = self.encoding, IMPLICIT_LITTLE
        known, state = len(self.problems), (self._encodings, self._signed)
        try:
            self._sequence(entry, data, end, end, out, path)
        except UnreadableInstance:
            del self.problems[known:]
            self._encodings, self._signed = state
            return False
        finally:
            self.encoding = outer
        return True

    def _sequence(self, entry: Entry, pos: int, end: int | None, stop: int, out: Dataset, path: Path) -> int:
        """Reads items up to ``end``, or to the delimiter if it is None."""
        if len(path) >= MAX_DEPTH:
            raise UnreadableInstance("Sequences are nested deeper than this server reads.")
        items: list[Dataset] = []
        outer = self._encodings, self._signed
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
            self._encodings, self._signed = outer
            if self._count > MAX_ELEMENTS:
                raise UnreadableInstance("The dataset has more elements than this server reads.")
        out[entry.key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
        return pos

    def _fragments(self, entry: Entry, pos: int, stop: int, path: Path) -> int:
        """Walks encapsulated data by their item headers (PS3.5 §A.4); keeps those of top-level Pixel Data."""
        starts, lengths = array("Q"), array("Q")
        first, length = pos, 0
        window, base = self._window, self._base
        while True:
            if not base <= pos <= base + len(window) - 8:
                window, base = self.source.read_at(pos, 8 if length > _SPARSE_FRAGMENT else _DENSE_READ), pos
                if len(window) < 8:
                    raise UnreadableInstance("Encapsulated data are cut off.")
            group, number, length = self.encoding.item(window, pos - base)
            if group == 0xFFFE and number == 0xE0DD:
                break
            if group != 0xFFFE or number != 0xE000 or pos + 8 + length > stop:
                raise UnreadableInstance("Encapsulated data are cut off or malformed.")
            starts.append(pos)
            lengths.append(length)
            if self._count + len(starts) > MAX_ELEMENTS:
                raise UnreadableInstance("The dataset has more fragments than this server reads.")
            pos += 8 + length
        self._count += len(starts)
        if not path:
            self.left_out[entry.key] = entry.vr
            if entry.tag == PIXEL_DATA:
                table = self._offset_table(first + 8, lengths[0]) if lengths else b""
                self.pixels = PixelData(entry.vr, first, pos - first, starts[1:], lengths[1:], table)
        return pos + 8

    def _offset_table(self, pos: int, length: int) -> bytes:
        if length > MAX_HEADER_BYTES:
            raise UnreadableInstance("The Basic Offset Table is larger than this server reads.")
        at = pos - self._base
        if at >= 0 and at + length <= len(self._window):
            return self._window[at : at + length]
        return self.source.read_at(pos, length)

    def _remembered(self, entry: Entry, piece: bytes, out: Dataset, path: Path) -> Element:
        """Makes the element of a header and short value and remembers it, if it means the same everywhere."""
        known = len(self.problems)
        element = self._element(entry, piece[8:], out, path)
        if len(self.problems) == known and (entry.plain is None or _charset_free(piece[8:])):
            memory = self.encoding.elements
            if len(memory) >= REMEMBERED_ELEMENTS:
                memory.clear()
            memory[piece] = element
        return element

    def _element(self, entry: Entry, raw: bytes, out: Dataset, path: Path) -> Element:
        """The DICOM JSON of one value field; what breaks a rule goes to ``problems``."""
        vr, count = entry.vr, 0
        if entry.number is not None:
            element = _numbers(vr, raw, entry.number.format)
            count = len(element.get("Value", ()))
        elif entry.plain is None:
            element = _tags(raw, self.encoding.endian)
            count = len(element.get("Value", ()))
        else:
            element, count = self._text(entry, raw, out, path)
        if count > 1024:
            self._count += count >> 3
        if count and not entry.vm_min <= count <= entry.vm_max:
            self._wrong_count(entry, count, path)
        return element

    def _text(self, entry: Entry, raw: bytes, out: Dataset, path: Path) -> tuple[Element, int]:
        vr = entry.vr
        assert entry.plain is not None
        if entry.plain(raw) and (len(raw) <= MAX_PLAIN or vr not in ("PN", "UI")):
            text = str(raw, "ascii").rstrip("\0" if vr == "UI" else " ")
        elif raw:
            encoded = vr in ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
            text = decode(raw, self._encodings if encoded else DEFAULT).rstrip("\0" if vr == "UI" else " ")
            self._check(entry, text, out, path)
        else:
            text = ""
        if entry.tag == _PATIENT_ID and not text.strip():
            self._problem(entry, path, lenient="The required tag '(0010,0020)' is missing.", strict=None)
        if not text:
            return {"vr": vr}, 0
        values = [text] if vr in SINGLE_VALUED else text.split("\\")
        return {"vr": vr, "Value": _json_values(vr, values)}, len(values)

    def _check(self, entry: Entry, text: str, out: Dataset, path: Path) -> None:
        vr = entry.vr
        strict = first_flaw(vr, text)
        if strict is None:
            return
        padded = text.endswith("\0") and vr in NULL_LENIENT
        lenient = first_flaw(vr, text.rstrip("\0")) if padded else strict
        wording = 'Content "{}" does not validate VR ' + vr + ": {}"
        self._problem(
            entry,
            path,
            lenient and wording.format(*lenient),
            wording.format(*strict),
            self._creator(entry.tag, out),
        )

    def _wrong_count(self, entry: Entry, count: int, path: Path) -> None:
        row = attribute(entry.tag)
        assert row is not None
        text = (
            f'Content "{_described(entry)}" does not validate VR {entry.vr}: '
            f"Number of items {count} does not match ValueMultiplicity {row.vm}"
        )
        last = self.problems[-1] if self.problems else None
        if last is None or last[:2] != (entry.key, path) or last.lenient is None:  # the first problem of a tag counts
            self._problem(entry, path, text, text)

    def _problem(
        self, entry: Entry, path: Path, lenient: str | None, strict: str | None, creator: str | None = None
    ) -> None:
        prefix = f"DICOM100: {display_tag(entry.tag, creator)} - "
        self.problems.append(Problem(entry.key, path, lenient and prefix + lenient, strict and prefix + strict))

    def _creator(self, tag: int, out: Dataset) -> str | None:
        if not is_private(tag) or tag & 0xFFFF < 0x1000:
            return None
        key = f"{tag >> 16:04X}00{tag >> 8 & 0xFF:02X}"
        element = out.get(key) or self.dataset.get(key) or {}
        return str(element.get("Value", [""])[0] or "") or None


def _described(entry: Entry) -> str:
    """An attribute in words, for comments that are not about one value."""
    row = attribute(entry.tag)
    return f"{display_tag(entry.tag)} {entry.vr} {row.name if row else 'Unknown'}"


def _charset_free(raw: bytes) -> bool:
    """Whether the text means the same in every character set."""
    return raw.isascii() and b"\x1b" not in raw


def _numbers(vr: str, raw: bytes, code: str) -> Element:
    """Numbers of a binary VR; ``code`` is byte order and struct code. NaN and infinities become null: JSON has none."""
    size = {"d": 8, "f": 4, "h": 2, "H": 2, "i": 4, "I": 4, "q": 8, "Q": 8}[code[1]]
    count = len(raw) // size
    if not count:
        return {"vr": vr}
    values: list[Any] = list(unpack(f"{code[0]}{count}{code[1]}", raw[: count * size]))
    if code[1] in "df" and not all(map(isfinite, values)):
        values = [value if isfinite(value) else None for value in values]
    return {"vr": vr, "Value": values}


def _tags(raw: bytes, endian: str) -> Element:
    """AT: tags as 8 hex digits."""
    count = len(raw) // 4
    words = unpack(f"{endian}{count * 2}H", raw[: count * 4])
    values = [f"{words[i]:04X}{words[i + 1]:04X}" for i in range(0, count * 2, 2)]
    return {"vr": "AT", "Value": values} if values else {"vr": "AT"}


def _json_values(vr: str, values: list[str]) -> list[Any]:
    """Values of a text VR as JSON has them; an empty one among several is null (PS3.18 §F.2.5)."""
    if vr == "PN":
        return [_person_name(value) for value in values]
    if vr == "DS":
        return [_decimal(value) for value in values]
    if vr == "IS":
        return [_integer(value) for value in values]
    if len(values) == 1 or vr == "UI":
        return [value or None for value in values]
    return [value.rstrip(" ") or None for value in values]


def _person_name(value: str) -> dict[str, str] | None:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), value.split("=", 2), strict=False)
    return {name: stripped for name, group in groups if (stripped := group.rstrip(" "))} or None


def _decimal(value: str) -> float | int | str | None:
    text = value.strip()
    if not DECIMAL.fullmatch(text):
        return value.rstrip(" ") or None
    number = float(text)
    if number.is_integer() and abs(number) < 1e15:
        return int(number)
    return number if isfinite(number) else text


def _integer(value: str) -> int | str | None:
    text = value.strip()
    if INTEGER.fullmatch(text) and fits_int32(text):
        return int(text)
    return value.rstrip(" ") or None

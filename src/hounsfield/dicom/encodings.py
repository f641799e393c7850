"""The three ways a dataset is written (PS3.5 §7, annex A): how an element header is read and what it announces.

For each way there is a table from the header bytes before the length to an `Entry`, filled as headers are met, and a
memory of short elements already turned into DICOM JSON: the instances of a series repeat most of their elements.
"""

from enum import IntEnum
from struct import Struct
from typing import TypeVar

from hounsfield.dicom.dictionary import attribute, is_private
from hounsfield.dicom.runs import Runs
from hounsfield.dicom.value_rules import PLAIN
from hounsfield.dicom.values import BULK_VRS, NUMBER_CODES, Element, Maker, maker, no_value

K = TypeVar("K")
V = TypeVar("V")

LONG_HEADER = BULK_VRS | {"SQ", "SV", "UC", "UR", "UT", "UV"}
"""VRs whose explicit header has 12 bytes (PS3.5 §7.1.2)."""

VRS = LONG_HEADER | set(NUMBER_CODES) | set(PLAIN) | {"AT"}
"""Every VR of PS3.5 §6.2."""

KNOWN_HEADERS_LIMIT = 20_000
"""Header entries kept per encoding, four times the dictionary; private tags of many vendors could grow it for ever."""

REMEMBERED_ELEMENTS = 8_192
"""Elements kept per encoding, some 5 MB: the shared elements of about a hundred series. Full means start again."""

REMEMBERED_SEQUENCES = 1_024
"""Sequences kept per encoding: with what is inside them, another 2 to 10 MB."""

CHARACTER_SETS_WITH_RUNS = 16
"""Character sets for which runs are kept, per encoding."""

REMEMBERED_LENGTH = 128
"""Longest value remembered: longer ones are rarely repeated and cost more to hash than to read."""

REMEMBERED_SEQUENCE = 512
"""Longest sequence remembered, in bytes: coded concepts and references fit."""


def remember(memory: dict[K, V], key: K, value: V, limit: int = REMEMBERED_ELEMENTS) -> None:
    """Adds to a memory, which starts again when it is full."""
    if len(memory) >= limit:
        memory.clear()
    memory[key] = value


class Kind(IntEnum):
    """What the reader does with an element."""

    VALUE = 0
    """Becomes DICOM JSON."""
    EFFECT = 1
    """A value that changes how later ones are read: character set, signedness."""
    AMBIGUOUS = 2
    """US or SS, by Pixel Representation (implicit VR only)."""
    BULK = 3
    """Skipped and left out."""
    SEQUENCE = 4
    IGNORED = 5
    """Group lengths (PS3.18 §F.2.2) and group 2."""
    IMPLICIT = 6
    """An element without VR inside an explicit dataset."""
    UNTYPED = 7
    """A value behind a blank VR: read by the dictionary, but reported."""
    END = 8
    """A delimiter, an item, or zero padding where an element should be."""


class Entry:
    """What a header announces. ``header`` is its size in bytes; ``make`` turns a value field into an element;
    ``simple`` marks a plain value behind a header of 8 bytes, the case the inner loop handles itself."""

    __slots__ = ("header", "is_text", "key", "kind", "make", "simple", "tag", "vr")

    def __init__(self, kind: Kind, tag: int, vr: str, header: int, make: Maker = no_value) -> None:
        self.kind = kind
        self.tag = tag
        self.key = f"{tag:08X}"
        self.vr = vr
        self.header = header
        self.simple = kind is Kind.VALUE and header == 8
        self.make = make
        self.is_text = vr in PLAIN


class Encoding:
    """One way of writing. ``unpack`` yields the header bytes before the length, and the (short) length.

    The memories hold what was read before: ``elements`` by header and value, ``sequences`` by all their bytes,
    ``localised`` by header, value and character set where that matters, and what followed each other of these.
    """

    __slots__ = (
        "elements",
        "endian",
        "entries",
        "explicit",
        "item",
        "length",
        "length_at",
        "localised",
        "runs_in",
        "sequences",
        "short_length",
        "tag",
        "typed",
        "unpack",
    )  # fmt: skip

    def __init__(self, explicit: bool, endian: str) -> None:
        self.explicit = explicit
        self.endian = endian
        self.unpack = Struct(endian + ("6sH" if explicit else "4sI")).unpack_from
        self.short_length = Struct(endian + ("H" if explicit else "I")).unpack_from
        self.length_at = 6 if explicit else 4
        self.item = Struct(endian + "HHI").unpack_from
        self.length = Struct(endian + "I").unpack_from
        self.tag = Struct(endian + "HH").unpack_from
        self.entries: dict[bytes, Entry] = {}
        self.elements: dict[bytes, tuple[str, Element]] = {}
        self.localised: dict[tuple[bytes, tuple[str, ...]], Element] = {}
        self.sequences: dict[bytes, tuple[str, Element]] = {}
        self.runs_in: dict[tuple[str, ...], Runs] = {}
        self.typed: dict[tuple[int, str], Entry] = {}

    def runs(self, character_set: tuple[str, ...]) -> Runs:
        """The runs of elements met in that character set."""
        found = self.runs_in.get(character_set)
        if found is None:
            found = Runs()
            remember(self.runs_in, character_set, found, CHARACTER_SETS_WITH_RUNS)
        return found

    def learn(self, head: bytes) -> Entry:
        """The entry for header bytes not met before."""
        group, number = self.tag(head)
        tag = group << 16 | number
        entry = self._explicit_entry(tag, head[4:]) if self.explicit else self.implicit_entry(tag)
        if entry.kind is not Kind.IMPLICIT:  # there the "VR" is part of a length: as many entries as lengths
            if len(self.entries) >= KNOWN_HEADERS_LIMIT:
                self.entries.clear()
            self.entries[head] = entry
        return entry

    def _explicit_entry(self, tag: int, letters: bytes) -> Entry:
        if tag >> 16 == 0xFFFE or (tag == 0 and letters == b"\0\0"):
            return Entry(Kind.END, tag, "", 8)
        if letters == b"  ":
            row = attribute(tag)
            vr = row.vr[:2] if row else "UN"
            return self._entry(tag, vr, 12 if vr in LONG_HEADER else 8, Kind.UNTYPED)
        if not (letters.isalpha() and letters.isupper()):
            return Entry(Kind.IMPLICIT, tag, "", 8)
        vr = letters.decode()
        if vr not in VRS:  # a VR newer than this server has a 12-byte header (PS3.5 §7.1.2 note)
            return self._entry(tag, "UN", 12)
        return self._entry(tag, vr, 12 if vr in LONG_HEADER else 8)

    def implicit_entry(self, tag: int) -> Entry:
        """The entry of a tag whose VR comes from the dictionary; unknown and private tags are UN."""
        if tag >> 16 == 0xFFFE or tag == 0:
            return Entry(Kind.END, tag, "", 8)
        row = attribute(tag)
        if row is None:
            creator = is_private(tag) and 0x10 <= tag & 0xFFFF <= 0xFF  # PS3.5 §7.8.1: always LO
            return self._entry(tag, "LO" if creator else "UN", 8)
        if " or " not in row.vr:
            return self._entry(tag, row.vr if row.vr in VRS else "UN", 8)
        if "OW" in row.vr:  # pixel-like data or tables: left out either way
            return self._entry(tag, "OW", 8)
        return self._entry(tag, "US", 8, Kind.AMBIGUOUS)

    def typed_entry(self, tag: int, vr: str) -> Entry:
        """The entry of an ambiguous tag once its VR is known; not simple, as its values must not be remembered."""
        if (tag, vr) not in self.typed:
            self.typed[tag, vr] = entry = self._entry(tag, vr, 8)
            entry.simple = False
        return self.typed[tag, vr]

    def _entry(self, tag: int, vr: str, header: int, kind: Kind = Kind.VALUE) -> Entry:
        if tag & 0xFFFF == 0 or tag >> 16 == 2:
            kind = Kind.IGNORED
        elif vr == "SQ":
            kind = Kind.SEQUENCE
        elif vr in BULK_VRS:
            kind = Kind.BULK
        elif tag in (0x00080005, 0x00280103):
            kind = Kind.EFFECT
        made = kind in (Kind.VALUE, Kind.EFFECT, Kind.UNTYPED)
        return Entry(kind, tag, vr, header, maker(tag, vr, self.endian) if made else no_value)


EXPLICIT_LITTLE = Encoding(explicit=True, endian="<")
EXPLICIT_BIG = Encoding(explicit=True, endian=">")
IMPLICIT_LITTLE = Encoding(explicit=False, endian="<")

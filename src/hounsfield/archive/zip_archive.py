"""A zip file written front to back (PKWARE APPNOTE 6.3.9), its length known before the first byte.

Entries are stored as they are: images hardly shrink, and a stored entry has its length. What is in memory as a whole
gets its checksum in front; a large entry, whose checksum is known only at its end, has it behind (a data descriptor).
Zip64 where a size, a position or the number of entries asks for it. zipfile cannot say the length before it has written
everything, and of the streaming libraries the one that can is under the LGPL.
"""

import time
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from struct import pack

LARGEST = 0xFFFFFFFF
"""What fields of four bytes hold; from there on Zip64 fields have the value."""
MOST = 0xFFFF
"""The same for the number of entries."""

_VERSION, _ZIP64_VERSION = 20, 45
_MADE_BY_UNIX = 3 << 8
_FILE_MODE = 0o100644 << 16
_CHECKSUM_BEHIND = 1 << 3
_ZIP64 = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One file to come: its name (ASCII) and size, None if not known. ``whole``: it comes as one piece of that size."""

    name: str
    size: int | None
    whole: bool

    @property
    def zip64(self) -> bool:
        """Whether its sizes are in Zip64 fields."""
        return self.size is None or self.size >= LARGEST

    def lengths(self, offset: int) -> tuple[int, int]:
        """Bytes around its content, and in the directory if it begins at ``offset``."""
        behind = 0 if self.whole else 24 if self.zip64 else 16
        extra = (16 if self.zip64 else 0) + (8 if offset >= LARGEST else 0)
        around = 30 + len(self.name) + (20 if self.zip64 else 0) + behind
        return around, 46 + len(self.name) + (extra + 4 if extra else 0)


class ZipWriter:
    """Gives the bytes around the contents: ``begin`` an entry, ``add`` its pieces, ``finish`` it; at last ``end``."""

    def __init__(self, moment: time.struct_time | None = None) -> None:
        """``moment`` is the time of all entries, now by default."""
        now = moment or time.localtime()
        date = (max(now.tm_year, 1980) - 1980) << 9 | now.tm_mon << 5 | now.tm_mday
        self._moment = (now.tm_hour << 11 | now.tm_min << 5 | now.tm_sec // 2) | date << 16
        self._offset = 0
        self._directory: list[bytes] = []
        self._start = self._crc = self._size = 0

    def begin(self, entry: Entry, first: bytes | bytearray | memoryview = b"") -> bytes:
        """What precedes the content; ``first`` is the only piece of an entry that comes ``whole``."""
        self._start, self._crc, self._size = self._offset, 0, 0
        size = entry.size or 0
        shown = LARGEST if entry.zip64 else size
        header = pack(
            "<IHHHIIIIHH",
            0x04034B50,
            _ZIP64_VERSION if entry.zip64 else _VERSION,
            0 if entry.whole else _CHECKSUM_BEHIND,
            0,
            self._moment,
            zlib.crc32(first) if entry.whole else 0,
            shown,
            shown,
            len(entry.name),
            20 if entry.zip64 else 0,
        )
        extra = pack("<HHQQ", _ZIP64, 16, size, size) if entry.zip64 else b""
        return self._sent(header + entry.name.encode("ascii") + extra)

    def add(self, piece: bytes | bytearray | memoryview) -> None:
        """Counts a piece of the content, which the caller sends."""
        self._crc = zlib.crc32(piece, self._crc)
        self._size += len(piece)
        self._offset += len(piece)

    def finish(self, entry: Entry) -> bytes:
        """What follows the content. Raises ValueError if that is not as long as was said."""
        if entry.size is not None and self._size != entry.size:
            raise ValueError("an entry is not as long as it was said to be")
        self._directory.append(self._listed(entry))
        if entry.whole:
            return b""
        form = "<IIQQ" if entry.zip64 else "<IIII"
        return self._sent(pack(form, 0x08074B50, self._crc, self._size, self._size))

    def _listed(self, entry: Entry) -> bytes:
        """The entry's line in the directory."""
        large = [self._size, self._size] if entry.zip64 else []
        far = self._start >= LARGEST
        large += [self._start] if far else []
        extra = pack(f"<HH{len(large)}Q", _ZIP64, 8 * len(large), *large) if large else b""
        version = _ZIP64_VERSION if large else _VERSION
        shown = LARGEST if entry.zip64 else self._size
        header = pack(
            "<IHHHHIIIIHHHHHII",
            0x02014B50,
            _MADE_BY_UNIX | version,
            version,
            0 if entry.whole else _CHECKSUM_BEHIND,
            0,
            self._moment,
            self._crc,
            shown,
            shown,
            len(entry.name),
            len(extra),
            0,
            0,
            0,
            _FILE_MODE,
            LARGEST if far else self._start,
        )
        return header + entry.name.encode("ascii") + extra

    def end(self) -> bytes:
        """The directory and the end of the file."""
        start, count = self._offset, len(self._directory)
        directory = self._sent(b"".join(self._directory))
        size = len(directory)
        if _needs_zip64(start, size, count):
            versions = _ZIP64_VERSION | _ZIP64_VERSION << 16
            record = pack("<IQIIIQQQQ", 0x06064B50, 44, versions, 0, 0, count, count, size, start)
            directory += record + pack("<IIQI", 0x07064B50, 0, start + size, 1)
        few = min(count, MOST)
        return directory + pack("<IHHHHIIH", 0x06054B50, 0, 0, few, few, min(size, LARGEST), min(start, LARGEST), 0)

    def _sent(self, piece: bytes) -> bytes:
        self._offset += len(piece)
        return piece


def _needs_zip64(start: int, size: int, count: int) -> bool:
    return count >= MOST or size >= LARGEST or start >= LARGEST


def zip_length(entries: Iterable[Entry]) -> int | None:
    """Bytes of a zip file of these entries; None if the size of one is not known."""
    offset = directory = count = 0
    for entry in entries:
        if entry.size is None:
            return None
        around, listed = entry.lengths(offset)
        offset += around + entry.size
        directory += listed
        count += 1
    return offset + directory + (76 if _needs_zip64(offset, directory, count) else 0) + 22

"""Where bytes come from: one small protocol, over memory, an open file, or a deflated stream.

The readers above ask for ranges and never for a whole file.
"""

import os
import zlib
from typing import Protocol, Self

from hounsfield.errors import BadRequest

INFLATED_LIMIT = 1 << 30
"""Bytes a deflated dataset may inflate to: a deflate stream grows up to a thousandfold, so a small upload
could otherwise cost minutes of CPU. 1 GiB is some 2,000 CT slices in one object."""

INFLATED_PREFIX = 1 << 18
"""Bytes kept from the start of an inflated stream: headers are read from them, pixel data lie beyond."""

_PIECE = 1 << 16


class UnreadableInstance(BadRequest):
    """Bytes that are not a complete DICOM instance we can read. The text names the defect, never a value."""


class ByteSource(Protocol):
    """Random access to an immutable sequence of bytes."""

    @property
    def size(self) -> int:
        """Length in bytes."""

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end."""


class BytesSource:
    """A source over bytes in memory."""

    __slots__ = ("_data", "size")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = data
        self.size = len(data)

    def read_at(self, offset: int, length: int) -> bytes:
        """See ByteSource."""
        return bytes(self._data[offset : offset + length])


class FileSource:
    """A source over a file: a path (opened here, closed by ``close`` or ``with``) or a descriptor the caller owns.

    ``size`` is taken from the file when not given. Reads do not move the descriptor's position.
    """

    __slots__ = ("_fd", "_owned", "size")

    def __init__(self, file: int | str | os.PathLike[str], size: int | None = None) -> None:
        self._owned = not isinstance(file, int)
        self._fd = file if isinstance(file, int) else os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._fd).st_size if size is None else size

    def read_at(self, offset: int, length: int) -> bytes:
        """See ByteSource."""
        length = min(length, self.size - offset)
        return os.pread(self._fd, length, offset) if length > 0 else b""

    def close(self) -> None:
        """Closes the descriptor if it was opened here."""
        if self._owned:
            os.close(self._fd)
            self._owned = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class InflatedSource:
    """The inflated view of a raw deflate stream (PS3.5 A.5) that starts at ``start`` of another source.

    Inflates everything once to learn the size and to know that the stream is whole, keeping only its first bytes;
    later ranges are inflated again in passing, so ascending reads are cheap. Raises UnreadableInstance for a
    broken, cut off or oversized stream.
    """

    def __init__(self, source: ByteSource, start: int) -> None:
        self._source = source
        self._start = start
        self._prefix = self._tail = b""
        self.size = 0
        self._rewind()
        kept: list[bytes] = []
        while piece := self._next():
            if self.size < INFLATED_PREFIX:
                kept.append(piece)
            self.size += len(piece)
            if self.size > INFLATED_LIMIT:
                raise UnreadableInstance("The deflated dataset is larger than this server inflates.")
        if not self._inflate.eof:
            raise UnreadableInstance("The deflated dataset is cut off.")
        self._prefix = b"".join(kept)
        self._rewind()

    def read_at(self, offset: int, length: int) -> bytes:
        """See ByteSource. Going back behind the last read inflates from the beginning again."""
        end = min(offset + length, self.size)
        if end <= len(self._prefix):
            return self._prefix[offset:end]
        if offset < self._at:
            self._rewind()
        parts: list[bytes] = []
        while self._at < end:
            if not self._tail:
                self._tail = self._next()
            skip = max(offset - self._at, 0)
            taken = self._tail[: end - self._at]
            parts.append(taken[skip:])
            self._tail = self._tail[len(taken) :]
            self._at += len(taken)
        return b"".join(parts)

    def _rewind(self) -> None:
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        self._compressed_at = self._start
        self._at = 0
        self._tail = b""

    def _next(self) -> bytes:
        """The next piece of at most 64 KiB; empty at the end of the stream."""
        while not self._inflate.eof:
            compressed = self._inflate.unconsumed_tail
            if not compressed:
                compressed = self._source.read_at(self._compressed_at, _PIECE)
                self._compressed_at += len(compressed)
                if not compressed:
                    return self._flushed()
            try:
                piece = self._inflate.decompress(compressed, _PIECE)
            except zlib.error:
                raise UnreadableInstance("The deflated dataset is damaged.") from None
            if piece:
                return piece
        return b""

    def _flushed(self) -> bytes:
        """What zlib still holds when the input is at its end (its output limit can leave some behind)."""
        try:
            return self._inflate.decompress(b"", _PIECE)
        except zlib.error:
            return b""

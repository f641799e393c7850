"""A push parser for multipart bodies (RFC 2046 §5.1), used by the server for requests and by the client for responses.

Sans-IO: bytes go in as they arrive, events come out. What a delimiter is does not depend on how the bytes were cut:
CRLF ``--`` boundary, followed by ``--`` (the end) or by at most MAX_PADDING blanks and CRLF (another part); anything
else after the boundary makes it ordinary data. The CRLF before the first delimiter may be missing, a preamble and an
epilogue are skipped, and the blank line after a part's headers may be the CRLF of the next delimiter (an empty part).
"""

import ctypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from hounsfield.errors import BadRequest

MAX_HEADER_BYTES: Final = 16 * 1024
"""Default for the headers of one part; real ones take about 100 bytes."""
MAX_PARTS: Final = 50_000
"""Default; each part costs the receiver a kilobyte even when it is empty, until the whole request has been read."""
MAX_PADDING: Final = 128
"""Blanks allowed between a boundary and its CRLF; bounds what has to be kept between two chunks."""

_CRLF = b"\r\n"
_LINE_END = re.compile(rb"[ \t]{0,%d}\r\n" % MAX_PADDING)
_LINE_END_CUT_SHORT = re.compile(rb"[ \t]{0,%d}\r?|-" % MAX_PADDING)
_FIELD_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FOLD = re.compile(rb"\r\n[ \t]+")
_CONTROL = re.compile(rb"[\x00\r\n]")


class MalformedMultipart(BadRequest):
    """The body breaks the multipart syntax, ends early or exceeds a limit of the reader (store.md §1: 400)."""


@dataclass(slots=True)
class PartStart:
    """A part begins; ``headers`` has lower-case names, values of repeated headers joined by ``", "``."""

    headers: Mapping[str, str]


@dataclass(slots=True)
class PartData:
    """The next bytes of the current part, never empty: a view of the chunk fed, which stays alive with it."""

    data: memoryview


@dataclass(slots=True)
class PartEnd:
    """The current part is complete."""


@dataclass(slots=True)
class End:
    """The closing delimiter was read; whatever follows is ignored."""


Event = PartStart | PartData | PartEnd | End


class _State(Enum):
    PREAMBLE = auto()  # before the first delimiter
    DELIMITED = auto()  # at the CRLF that ends a delimiter's line
    HEADERS = auto()  # same place, now known not to be the start of another delimiter
    BLANK = auto()  # at the CRLF of the blank line after the headers
    BODY = auto()
    EPILOGUE = auto()


class _After(Enum):
    """What follows a boundary makes it: the start of a part, the end, plain data, or not to be told yet."""

    PART = auto()
    END = auto()
    DATA = auto()
    MORE = auto()


def _c_search() -> Callable[[int, int, bytes, int], int | None] | None:
    """The C library's ``memmem``: where in so many bytes at an address a needle is, None where it has none."""
    try:
        search = ctypes.PyDLL(None).memmem
    except (AttributeError, OSError, TypeError):
        return None
    search.restype = ctypes.c_void_p
    search.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t]
    return search


_memmem = _c_search()
_WORTH_A_CALL = 4096  # bytes from which on ``memmem`` is ahead, which needs a microsecond to begin


def _find(buffer: bytes | bytearray, needle: bytes, start: int) -> int:
    """``buffer.find(needle, start)``; for what uploads consist of, bytes like noise, in a third of the time."""
    length = len(buffer) - start
    if _memmem is None or length < _WORTH_A_CALL or not isinstance(buffer, bytearray):
        return buffer.find(needle, start)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer, start))
    found = _memmem(address, length, needle, len(needle))
    return -1 if found is None else start + found - address


class MultipartReader:
    """Turns the chunks of one multipart body into events; memory is bounded by one chunk and one header block.

    Two delimiters with nothing at all between them (no header, no data) are not a part: ``--b CRLF CRLF --b--`` has
    none (store.md §1). All errors are MalformedMultipart; after one the reader must not be used again.
    """

    def __init__(
        self, boundary: bytes, *, max_header_bytes: int = MAX_HEADER_BYTES, max_parts: int = MAX_PARTS
    ) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._max_header_bytes = max_header_bytes
        self._parts_left = max_parts
        self._state = _State.PREAMBLE
        self._header_block = b""
        self._headers: Mapping[str, str] = {}
        self._held = _CRLF  # stands for the CRLF that the first delimiter may lack

    def feed(self, chunk: bytes | bytearray) -> list[Event]:
        """The events completed by these bytes, which must not change as long as the events' views of them are used."""
        events: list[Event] = []
        position = self._read_first_delimiter(chunk, events) if self._held is _CRLF else 0
        buffer = self._held + chunk if self._held else chunk
        more = False
        while not more:
            if self._state is _State.EPILOGUE:
                self._held = b""
                return events
            if self._state is _State.HEADERS:
                position, more = self._read_headers(buffer, position)
            elif self._state is _State.BODY or self._state is _State.PREAMBLE:
                position, more = self._read_data(buffer, position, events)
            else:
                position, more = self._read_line_end(buffer, position, events)
        self._held = bytes(buffer[position:])
        return events

    def finish(self) -> None:
        """To be called after the last byte: raises unless the closing delimiter was read."""
        if self._state is _State.PREAMBLE:
            raise MalformedMultipart("The multipart body does not contain its boundary.")
        if self._state in (_State.DELIMITED, _State.HEADERS):
            raise MalformedMultipart("The multipart body ends inside the headers of a part.")
        if self._state is not _State.EPILOGUE:
            raise MalformedMultipart("The multipart body ends without its closing boundary.")

    def _read_first_delimiter(self, chunk: bytes | bytearray, events: list[Event]) -> int:
        """Where to go on in a first chunk that begins with a delimiter, as nearly all do: no need to copy it then."""
        if not chunk.startswith(self._delimiter[len(_CRLF) :]):
            return 0
        after, end = self._classify(chunk, -len(_CRLF))
        if after not in (_After.PART, _After.END):
            return 0
        self._held = b""
        return self._pass_delimiter(after, end, events)

    def _read_data(self, buffer: bytes | bytearray, position: int, events: list[Event]) -> tuple[int, bool]:
        """Emits data up to the next delimiter or up to what may become one."""
        search = position
        at = _find(buffer, self._delimiter, position)
        while at >= 0:
            after, end = self._classify(buffer, at)
            if after is not _After.DATA:
                break
            # Who sends one false boundary may send many: each would cost what it takes to begin a call.
            search = end
            at = buffer.find(self._delimiter, search)
        else:
            at, after, end = self._possible_delimiter(buffer, search), _After.MORE, 0
        if self._state is _State.BODY:
            if at > position:
                events.append(PartData(memoryview(buffer)[position:at]))
            if after is not _After.MORE:
                events.append(PartEnd())
        if after is _After.MORE:
            return at, True
        return self._pass_delimiter(after, end, events), False

    def _read_line_end(self, buffer: bytes | bytearray, position: int, events: list[Event]) -> tuple[int, bool]:
        """At a CRLF that ends a delimiter's line or a header block: is it the CRLF of the next delimiter as well?"""
        if buffer.startswith(self._delimiter, position):
            after, end = self._classify(buffer, position)
        elif self._delimiter.startswith(bytes(buffer[position : position + len(self._delimiter)])):
            after, end = _After.MORE, position
        else:
            after, end = _After.DATA, position
        if after is _After.MORE:
            return position, True
        if self._state is _State.DELIMITED:
            if after is _After.DATA:
                self._state = _State.HEADERS
                return position, False
            return self._pass_delimiter(after, end, events), False
        if self._headers or after is _After.DATA:
            events.append(PartStart(self._headers))
            if after is not _After.DATA:
                events.append(PartEnd())
        if after is _After.DATA:
            self._state = _State.BODY
            return position + len(_CRLF), False
        return self._pass_delimiter(after, end, events), False

    def _read_headers(self, buffer: bytes | bytearray, position: int) -> tuple[int, bool]:
        """Parses the header block once it is complete."""
        start, limit = position + len(_CRLF), position + len(_CRLF) + self._max_header_bytes
        blank = buffer.find(b"\r\n\r\n", position, limit + 4)
        if blank < 0:
            if len(buffer) >= limit + 4:
                raise MalformedMultipart(f"The headers of a part exceed {self._max_header_bytes} bytes.")
            return position, True
        block = bytes(buffer[start:blank]) if blank > position else b""
        if block != self._header_block:  # the parts of one body mostly have the same headers
            self._header_block, self._headers = block, _parse_headers(block)
        self._state = _State.BLANK
        return blank + len(_CRLF), False

    def _pass_delimiter(self, after: _After, end: int, events: list[Event]) -> int:
        """Moves behind a delimiter; where to go on is the CRLF of its line, or the epilogue."""
        if after is _After.END:
            events.append(End())
            self._state = _State.EPILOGUE
            return end
        self._parts_left -= 1
        if self._parts_left < 0:
            raise MalformedMultipart("The multipart body has too many parts.")
        self._state = _State.DELIMITED
        return end - len(_CRLF)

    def _classify(self, buffer: bytes | bytearray, at: int) -> tuple[_After, int]:
        """What the boundary at ``at`` is, and the position behind it (behind its line, for a part)."""
        end = at + len(self._delimiter)
        if buffer.startswith(b"--", end):
            return _After.END, end + 2
        if line_end := _LINE_END.match(buffer, end):
            return _After.PART, line_end.end()
        if _LINE_END_CUT_SHORT.fullmatch(buffer, end):
            return _After.MORE, end
        return _After.DATA, end

    def _possible_delimiter(self, buffer: bytes | bytearray, start: int) -> int:
        """Where a delimiter may begin that the end of the buffer cuts short; the buffer's length if nowhere."""
        at = buffer.find(b"\r", max(start, len(buffer) - len(self._delimiter) + 1))
        while at >= 0 and not self._delimiter.startswith(bytes(buffer[at:])):
            at = buffer.find(b"\r", at + 1)
        return at if at >= 0 else len(buffer)


def _parse_headers(block: bytes) -> dict[str, str]:
    """The fields of a header block without its final CRLF; folded lines (RFC 5322 §2.2.3) are unfolded."""
    headers: dict[str, str] = {}
    for line in _FOLD.sub(b" ", block).split(_CRLF) if block else ():
        raw_name, colon, raw_value = line.partition(b":")
        if not colon or not _FIELD_NAME.fullmatch(raw_name.rstrip(b" \t")) or _CONTROL.search(raw_value):
            raise MalformedMultipart("The headers of a part are malformed.")
        name = raw_name.rstrip(b" \t").decode("ascii").lower()
        value = raw_value.strip(b" \t").decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers

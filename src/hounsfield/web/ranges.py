"""Range requests (RFC 9110 §14) on what is one piece of bytes: an instance as stored, a frame, a bulk data value.

One range is served. Of several, or where ``Range`` cannot be read, the whole is sent, as the RFC allows. These answers
have no validator, so ``If-Range`` never holds and gets the whole, too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.requests import Request

from hounsfield.errors import HounsfieldError
from hounsfield.web.file_response import RawHeaders

ACCEPT_RANGES = ((b"accept-ranges", b"bytes"),)
"""Of every answer that could have been a range."""

_RANGE = re.compile(r"bytes=[ \t]*(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))[ \t]*", re.IGNORECASE)


class RangeNotSatisfiable(HounsfieldError):
    """The range begins behind the last byte, or is empty."""

    status = 416

    def __init__(self, size: int) -> None:
        super().__init__(f"The range cannot be satisfied. There are {size} bytes.")
        self._size = size

    @property
    def headers(self) -> Mapping[str, str]:
        """See HounsfieldError."""
        return {"Content-Range": f"bytes */{self._size}", "Accept-Ranges": "bytes"}


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes to send: ``length`` of ``size`` from ``offset``; ``partial`` if a range was asked for."""

    offset: int
    length: int
    size: int
    partial: bool

    @property
    def status(self) -> int:
        """Of the answer."""
        return 206 if self.partial else 200

    @property
    def headers(self) -> RawHeaders:
        """Of the answer, besides its Content-Length."""
        if not self.partial:
            return ACCEPT_RANGES
        content_range = f"bytes {self.offset}-{self.offset + self.length - 1}/{self.size}"
        return (*ACCEPT_RANGES, (b"content-range", content_range.encode()))


def asked_span(request: Request, size: int) -> Span:
    """What of ``size`` bytes to send. Raises RangeNotSatisfiable."""
    whole = Span(0, size, size, False)
    if request.method != "GET" or "if-range" in request.headers:
        return whole
    found = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None:
        return whole
    first, last, suffix = found.groups()
    if suffix is not None:
        offset = max(0, size - int(suffix))
        end = size
    else:
        offset = int(first)
        end = min(size, int(last) + 1) if last else size
        if last and int(last) < offset:
            return whole  # no valid range (§14.1.1)
    if offset >= end:
        raise RangeNotSatisfiable(size)
    return Span(offset, end - offset, size, True)

"""The body of a request, its content coding undone (RFC 9110 §8.4): gzip, deflate or zstd, piece by piece.

A few kilobytes can decode to gigabytes. So pieces are small whatever a body promises, others get their turn between
them, and a body that grows out of all proportion is refused before it has filled the disk.
"""

import asyncio
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Final, Protocol

from starlette.requests import Request

from hounsfield.errors import BadRequest, PayloadTooLarge, UnsupportedMediaType

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CONTENT_CODINGS: Final = "gzip, deflate, zstd"
"""What a body may be encoded in, as Accept-Encoding names it."""
MAX_BODY_BYTES: Final = 2_147_483_647
"""Overall limit of a request body (server.md §14), before decoding and after."""
MAX_RATIO: Final = 500
"""Decoded bytes for each byte received. Images compress 2 to 4 times, label maps and blank frames a few hundred times;
gzip reaches 1,032 and zstd 30,000 with nothing but zeros."""
FREE_BYTES: Final = 64 * 1024 * 1024
"""Decoded bytes that may come at any ratio: a small object that is blank harms nobody."""

_PIECE: Final = 64 * 1024  # decoded bytes at a time
_INPUT: Final = 16 * 1024  # encoded bytes at a time: zlib copies what it leaves over, once a piece
_TURN: Final = 1024 * 1024  # decoded bytes (some milliseconds) after which other requests get their turn
_WINDOW_LOG: Final = 23  # 8 MiB, which is what a zstd stream in HTTP may ask for (RFC 9659 §3)


class UnsupportedContentCoding(UnsupportedMediaType):
    """The body is encoded in a way that is not served; the answer names those that are (RFC 7694 §3)."""

    @property
    def headers(self) -> Mapping[str, str]:
        """See HounsfieldError."""
        return {"Accept-Encoding": CONTENT_CODINGS}


class _Decoder(Protocol):
    """Undoes one coding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes decode to, in pieces of at most _PIECE bytes. Raises BadRequest if they are damaged."""

    def finish(self) -> None:
        """To be called after the last byte. Raises BadRequest if the encoded data are not complete."""


class _Inflater:
    """``gzip`` (RFC 1952, any number of members) or ``deflate`` (a single zlib stream, RFC 1950)."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._window_bits = 16 + zlib.MAX_WBITS if coding == "gzip" else zlib.MAX_WBITS
        self._stream = zlib.decompressobj(self._window_bits)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See _Decoder."""
        # What a full piece leaves behind comes with the next input: at least the checksum is still to follow.
        while data:
            if self._stream.eof:
                if self._coding != "gzip":
                    raise _damaged(self._coding)
                self._stream = zlib.decompressobj(self._window_bits)
            try:
                piece = self._stream.decompress(data, _PIECE)
            except zlib.error as error:
                raise _damaged(self._coding) from error
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            yield piece

    def finish(self) -> None:
        """See _Decoder."""
        if not self._stream.eof:
            raise _incomplete(self._coding)


class _ZstdDecoder:
    """``zstd`` (RFC 8878): any number of frames, skippable ones too, with a window of at most 8 MiB."""

    def __init__(self) -> None:
        self._stream = self._new()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """See _Decoder."""
        while data or not (self._stream.eof or self._stream.needs_input):
            if self._stream.eof:
                self._stream = self._new()
            try:
                piece = self._stream.decompress(data, _PIECE)
            except zstd.ZstdError as error:
                raise _damaged("zstd", ", or needs a dictionary or a window of more than 8 MiB") from error
            data = self._stream.unused_data if self._stream.eof else b""
            yield piece

    def finish(self) -> None:
        """See _Decoder."""
        if not self._stream.eof:
            raise _incomplete("zstd")

    @staticmethod
    def _new() -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG})


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": lambda: _Inflater("gzip"),
    "x-gzip": lambda: _Inflater("gzip"),  # RFC 9110 §8.4.1.3
    "deflate": lambda: _Inflater("deflate"),
    "zstd": _ZstdDecoder,
}


def request_body(request: Request) -> AsyncIterator[bytes]:
    """The chunks of the body, decoded.

    Raises UnsupportedContentCoding at once. While reading: ClientDisconnect; where a coding is undone also BadRequest
    for damaged or incomplete data and beyond MAX_BODY_BYTES, PayloadTooLarge beyond MAX_RATIO.
    """
    named = request.headers.getlist("content-encoding")
    if not named:
        return request.stream()
    codings = [
        coding for name in ",".join(named).split(",") if (coding := name.strip().lower()) not in ("", "identity")
    ]
    if not codings:
        return request.stream()
    if len(codings) > 1:
        raise UnsupportedContentCoding("The body may have one content coding, not several.")
    if codings[0] not in _DECODERS:
        raise UnsupportedContentCoding(f"The content coding of the body is not supported; use {CONTENT_CODINGS}.")
    return _decoded(request.stream(), _DECODERS[codings[0]]())


async def _decoded(body: AsyncIterator[bytes], decoder: _Decoder) -> AsyncIterator[bytes]:
    received = decoded = turn = 0
    async for chunk in body:
        for start in range(0, len(chunk), _INPUT):
            encoded = chunk[start : start + _INPUT]
            received += len(encoded)
            if received > MAX_BODY_BYTES:
                raise BadRequest(f"The request body exceeds the limit of {MAX_BODY_BYTES} bytes.")
            for piece in decoder.feed(encoded):
                decoded += len(piece)
                if decoded > FREE_BYTES and decoded > received * MAX_RATIO:
                    raise PayloadTooLarge(f"The request body grows more than {MAX_RATIO} times when it is decoded.")
                if piece:
                    yield piece
                if decoded - turn >= _TURN:
                    turn = decoded
                    await asyncio.sleep(0)
    decoder.finish()


async def small_body(request: Request, limit: int) -> bytes:
    """A body that is wanted as a whole, without a coding. Raises PayloadTooLarge beyond ``limit`` bytes."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise PayloadTooLarge(f"The request body is larger than {limit} bytes.")
    return bytes(body)


def _damaged(coding: str, more: str = "") -> BadRequest:
    return BadRequest(f"The {coding} data of the request body are damaged{more}.")


def _incomplete(coding: str) -> BadRequest:
    return BadRequest(f"The request body ended before its {coding} data were complete.")

"""How an answer is compressed: what Accept-Encoding allows (RFC 9110 §12.5.3), and the compressors."""

import asyncio
import re
import sys
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Literal, Protocol

from isal import isal_zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Coding = Literal["gzip", "zstd"]

COMPUTED: Final[Sequence[Coding]] = ("zstd", "gzip")
"""Order of preference for what has to be compressed first: zstd takes a tenth of the time."""
STORED: Final[Sequence[Coding]] = ("gzip", "zstd")
"""For what is kept compressed and need not be inflated for gzip."""
SMALLEST: Final = 512
"""Bytes of a body below which compressing gains nothing: it fits into a packet anyway."""
VARY: Final[Mapping[str, str]] = {"Vary": "Accept-Encoding"}
"""Of every answer that may be compressed, so that caches keep its forms apart."""

_INLINE: Final = 128 * 1024  # bytes compressed on the event loop, some 0.5 ms
_ZSTD_LEVEL: Final = 1
_GZIP_LEVEL: Final = 1
_ELEMENT = re.compile(r"\s*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*(?:;\s*[qQ]\s*=\s*(0(?:\.\d{0,3})?|1(?:\.0{0,3})?))?\s*")


def choose(accept_encoding: Sequence[str], offered: Sequence[Coding]) -> Coding | None:
    """The coding to send, of ``offered`` in order of preference; None for none.

    A coding is used only where the client names it (or ``*``) and likes it at least as much as ``identity``. Elements
    that cannot be read are passed over.
    """
    qualities: dict[str, float] = {}
    for element in ",".join(accept_encoding).split(","):
        found = _ELEMENT.fullmatch(element)
        if found is not None:
            name = found[1].lower().removeprefix("x-")
            qualities.setdefault(name, 1.0 if found[2] is None else float(found[2]))
    rest = qualities.get("*", 0.0)
    best, quality = None, 0.0
    for coding in offered:
        if qualities.get(coding, rest) > quality:
            best, quality = coding, qualities.get(coding, rest)
    return None if quality < qualities.get("identity", 0.0) else best


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _compressor(coding: Coding) -> _Compressor:
    if coding == "zstd":
        return zstd.ZstdCompressor(level=_ZSTD_LEVEL)
    return isal_zlib.compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, 31)


def whole(accept_encoding: Sequence[str], body: bytes) -> tuple[bytes, Mapping[str, str]]:
    """A body as the client wants it, with the headers that say so; a small one stays as it is."""
    coding = choose(accept_encoding, COMPUTED) if len(body) >= SMALLEST and accept_encoding else None
    if coding is None:
        return body, VARY
    compressor = _compressor(coding)
    return compressor.compress(body) + compressor.flush(), {**VARY, "Content-Encoding": coding}


async def compressed_stream(pieces: AsyncGenerator[bytes, None], coding: Coding) -> AsyncGenerator[bytes, None]:
    """A body in ``coding`` while it is made; nothing for nothing."""
    compressor = _compressor(coding)
    found = False
    async with aclosing(pieces):
        async for piece in pieces:
            found = True
            if len(piece) > _INLINE:
                ready = await asyncio.to_thread(compressor.compress, piece)
            else:
                ready = compressor.compress(piece)
            if ready:
                yield ready
    if found:
        yield compressor.flush()

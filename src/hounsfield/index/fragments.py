"""Stored metadata as fragments: DICOM JSON that can be joined and sent without being parsed again.

Each instance's JSON object is raw deflate data ended by a sync flush and no final block (RFC 1951), so the fragments
of a study, put one behind another with constant blocks between, are one deflate stream of a JSON array.
"""

import zlib
from collections.abc import Iterable

COMPRESSION_LEVEL = 3
"""Of zlib: a third of the time of level 6 for a tenth more bytes, measured on CT headers."""


def pack(json: bytes) -> bytes:
    """One instance's DICOM JSON as a fragment."""
    deflate = zlib.compressobj(COMPRESSION_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    return deflate.compress(json) + deflate.flush(zlib.Z_SYNC_FLUSH)


_COMMA = pack(b",")


def unpack(fragments: Iterable[bytes]) -> bytes:
    """The JSON objects of ``fragments``, joined by commas."""
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(_COMMA.join(fragments))

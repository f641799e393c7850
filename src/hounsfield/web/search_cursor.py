"""Cursors: where a search goes on, as an opaque text that belongs to one query.

A cursor says behind which result the next page begins, not how many came before, so nothing that is stored meanwhile
moves it, and a page costs the same at any depth. It is bound to the query by a checksum: an altered one, or one of
another query, is refused. The checksum keeps mistakes out and nobody else: a cursor names a position, and opens nothing
that the query itself would not.
"""

import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from hashlib import blake2b

from hounsfield.errors import BadRequest

FIRST = "first"
"""Asks for the first page and a cursor to go on with."""

_FORM = struct.Struct(">BQ8s")
_VERSION = 1


def make(position: int, query: str) -> str:
    """The cursor of the results of ``query`` behind the one whose id is ``position``."""
    data = _FORM.pack(_VERSION, position, _checksum(position, query))
    return urlsafe_b64encode(data).decode().rstrip("=")


def read(cursor: str, query: str) -> int:
    """The position a cursor names. Raises BadRequest unless :func:`make` made it for the same query."""
    try:
        data = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        version, position, checksum = _FORM.unpack(data)
    except (Error, ValueError, struct.error):
        version, position, checksum = 0, 0, b""
    if version != _VERSION or checksum != _checksum(position, query) or make(position, query) != cursor:
        raise BadRequest(
            "The query parameter 'cursor' is invalid. Take it from the Link header of the page before, and leave the "
            f"filters as they were; the first page is cursor={FIRST}."
        )
    return int(position)


def _checksum(position: int, query: str) -> bytes:
    return blake2b(f"{position} {query}".encode(), digest_size=8, person=b"cursor").digest()

"""How a resource is kept: as the JSON text that follows the server's own part of it, compressed.

A resource is sent as ``{"resourceType":…,"id":…,"meta":{"versionId":…,"lastUpdated":…`` and then its *tail*: what is
left of meta, and every other element. Only tails are stored, so reading never parses, and two versions of a growing
ImagingStudy differ in one place only: a former version is kept as its difference from the next one.
"""

import struct
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from hounsfield.fhir.outcomes import Invalid

# Decimal keeps 1.10 apart from 1.1, as FHIR asks of every server (R4 §2.24.0.1, decimal).
decode_json = msgspec.json.Decoder(float_hook=Decimal).decode
encode_json = msgspec.json.Encoder(decimal_format="number").encode

COMPRESS_FROM = 256
"""Bytes; shorter tails gain nothing from compression."""
LEVEL = 1
"""Growing ImagingStudies shrink to a tenth already at zlib's quickest level."""
SNAPSHOT_EVERY = 32
"""Every so many versions one is kept whole, so that reading a former version undoes at most that many differences."""

_PLAIN, _COMPRESSED, _DIFFERENCE = b"\x00", b"\x01", b"\x02"
_LENGTH = struct.Struct("<I")
_LENGTHS = struct.Struct("<II")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SERVER_KEYS = frozenset(("resourceType", "id", "meta"))
_SERVER_META = frozenset(("versionId", "lastUpdated"))


def parse(body: bytes) -> Any:
    """The JSON value of a request body. Raises Invalid."""
    try:
        return decode_json(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        # The parser's sentences name positions and kinds of tokens, not values.
        raise Invalid(f"The body is not valid JSON: {error}.", code="structure") from error


def tail_of(resource: dict[str, Any]) -> bytes:
    """What is stored of a resource. Raises Invalid for values that JSON cannot hold."""
    meta = {key: value for key, value in resource.get("meta", {}).items() if key not in _SERVER_META}
    rest = {key: value for key, value in resource.items() if key not in _SERVER_KEYS}
    tail = _encoded(meta)[1:]
    return tail + b"," + _encoded(rest)[1:] if rest else tail + b"}"


def copied(value: Any) -> Any:
    """``value`` as it would arrive by HTTP. Raises Invalid for what JSON cannot hold."""
    return parse(_encoded(value))


def _encoded(value: Any) -> bytes:
    try:
        return encode_json(value)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.EncodeError) as error:
        raise Invalid("There is a value that JSON cannot express.", code="structure") from error


def full(name: str, version: int, updated: int, tail: bytes) -> bytes:
    """The JSON text of ``name`` (``Type/id``) as sent to clients."""
    kind, _, identity = name.partition("/")
    head = (
        f'{{"resourceType":"{kind}","id":"{identity}","meta":{{"versionId":"{version}",'
        f'"lastUpdated":"{instant(updated)}"'
    )
    return head.encode() + (tail if tail.startswith(b"}") else b"," + tail)


def instant(updated: int) -> str:
    """Microseconds since 1970 as a FHIR instant in UTC with milliseconds."""
    moment = _EPOCH + timedelta(microseconds=updated)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def pack(tail: bytes) -> bytes:
    """A tail as a column value."""
    if len(tail) < COMPRESS_FROM:
        return _PLAIN + tail
    return _COMPRESSED + _LENGTH.pack(len(tail)) + zlib.compress(tail, LEVEL)


def unpack(content: bytes) -> bytes:
    """The tail in a column value of :func:`pack`."""
    if content[:1] == _PLAIN:
        return content[1:]
    return zlib.decompress(memoryview(content)[1 + _LENGTH.size :], bufsize=unpacked_size(content))


def unpacked_size(content: bytes) -> int:
    """The length of :func:`unpack`'s result."""
    return len(content) - 1 if content[:1] == _PLAIN else int(_LENGTH.unpack_from(content, 1)[0])


def pack_former(tail: bytes, version: int, following: bytes) -> bytes:
    """The tail of ``version`` as a column value, given the tail of the next version."""
    if version % SNAPSHOT_EVERY == 0:
        return pack(tail)
    start = _common(tail, following, min(len(tail), len(following)), at_end=False)
    end = _common(tail, following, min(len(tail), len(following)) - start, at_end=True)
    return _DIFFERENCE + _LENGTHS.pack(start, end) + pack(tail[start : len(tail) - end])


def unpack_former(contents: Iterable[bytes]) -> bytes:
    """The tail of a former version, from its column value and those of the versions after it, in order."""
    differences = []
    for content in contents:
        if content[:1] != _DIFFERENCE:
            tail = unpack(content)
            break
        differences.append(content)
    else:
        raise ValueError("a chain of differences must end in a whole version")
    for content in reversed(differences):
        start, end = _LENGTHS.unpack_from(content, 1)
        middle = unpack(content[1 + _LENGTHS.size :])
        tail = tail[:start] + middle + tail[len(tail) - end :]
    return tail


def is_difference(content: bytes) -> bool:
    """Whether a column value needs the next version to be read."""
    return content[:1] == _DIFFERENCE


def _common(a: bytes, b: bytes, limit: int, *, at_end: bool) -> int:
    """How many bytes, at most ``limit``, the two have in common at their start or end."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if at_end:
            same = a[len(a) - middle : len(a) - low] == b[len(b) - middle : len(b) - low]
        else:
            same = a[low:middle] == b[low:middle]
        if same:
            low = middle
        else:
            high = middle - 1
    return low

"""DICOM bytes put together by hand, right or wrong as a test needs them."""

from struct import pack

IMPLICIT = "1.2.840.10008.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
BIG_ENDIAN = "1.2.840.10008.1.2.2"
RLE = "1.2.840.10008.1.2.5"
UNDEFINED = 0xFFFFFFFF
LONG = {"OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"}


def header(tag: int, vr: str, length: int, endian: str = "<") -> bytes:
    """An element header; implicit VR when ``vr`` is empty."""
    start = pack(endian + "HH", tag >> 16, tag & 0xFFFF)
    if not vr:
        return start + pack(endian + "I", length)
    if vr in LONG:
        return start + vr.encode() + pack(endian + "HI", 0, length)
    return start + vr.encode() + pack(endian + "H", length)


def element(tag: int, vr: str, value: bytes | str = b"", endian: str = "<") -> bytes:
    """A whole element; text is padded to an even length."""
    if isinstance(value, str):
        value = value.encode("latin_1")
        value += (b"\0" if vr == "UI" else b" ") * (len(value) % 2)
    return header(tag, vr, len(value), endian) + value


def item(content: bytes, *, undefined: bool = False, endian: str = "<") -> bytes:
    """An item of known length, or one closed by a delimiter."""
    if undefined:
        return header(0xFFFEE000, "", UNDEFINED, endian) + content + header(0xFFFEE00D, "", 0, endian)
    return header(0xFFFEE000, "", len(content), endian) + content


def sequence(tag: int, items: list[bytes], vr: str = "SQ", *, undefined: bool = False, endian: str = "<") -> bytes:
    """A sequence of ready-made items."""
    content = b"".join(items)
    if undefined:
        return header(tag, vr, UNDEFINED, endian) + content + header(0xFFFEE0DD, "", 0, endian)
    return header(tag, vr, len(content), endian) + content


def fragments(values: list[bytes], table: bytes = b"", tag: int = 0x7FE00010) -> bytes:
    """Encapsulated pixel data: offset table and one item a value."""
    items = b"".join(item(value) for value in [table, *values])
    return header(tag, "OB", UNDEFINED) + items + header(0xFFFEE0DD, "", 0)


def meta(syntax: str = EXPLICIT, *, group_length: bool = True) -> bytes:
    """File meta information."""
    content = element(0x00020001, "OB", b"\0\1") + element(0x00020010, "UI", syntax)
    return (element(0x00020000, "UL", pack("<I", len(content))) if group_length else b"") + content


def file(dataset: bytes, syntax: str = EXPLICIT) -> bytes:
    """A file of that dataset, padded to the least size a file may have."""
    return bytes(128) + b"DICM" + meta(syntax) + dataset


IDENTITY = (
    element(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.7")
    + element(0x00080018, "UI", "1.2.3.3")
    + element(0x00100020, "LO", "P1")
    + element(0x0020000D, "UI", "1.2.3.1")
    + element(0x0020000E, "UI", "1.2.3.2")
)
"""The attributes every instance must have, explicit little endian."""

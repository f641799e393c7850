"""Specific Character Set (0008,0005) → text (PS3.3 C.12.1.1.2, PS3.5 §6.1.2).

Never fails: a byte that does not decode becomes U+FFFD, an unknown set counts as the default repertoire. The decoding
is ours because pydicom's emits a warning for every flaw.
"""

import re
from functools import lru_cache

DEFAULT = ("latin_1",)
"""ISO_IR 6 as every reader in the field treats it: bytes above 127 show as Latin-1."""

_SINGLE_BYTE = {
    100: ("latin_1", b"-A"),
    101: ("iso8859_2", b"-B"),
    109: ("iso8859_3", b"-C"),
    110: ("iso8859_4", b"-D"),
    126: ("iso8859_7", b"-F"),
    127: ("iso8859_6", b"-G"),
    138: ("iso8859_8", b"-H"),
    144: ("iso8859_5", b"-L"),
    148: ("iso8859_9", b"-M"),
    166: ("iso8859_11", b"-T"),
    203: ("iso8859_15", b"-b"),
}
"""Registration number: Python codec and the escape that designates it as G1 (PS3.3 tables C.12-2 and C.12-3)."""
_MULTI_BYTE = {
    87: ("iso2022_jp", b"$B"),
    159: ("iso2022_jp_2", b"$(D"),
    149: ("euc_kr", b"$)C"),
    58: ("gb2312", b"$)A"),
}
"""The same with code extensions only (table C.12-4)."""
_CODECS = {
    "": DEFAULT[0],
    "ISO_IR 6": DEFAULT[0],
    "ISO 2022 IR 6": DEFAULT[0],
    "ISO_IR 13": "shift_jis",
    "ISO 2022 IR 13": "shift_jis",
    "ISO_IR 192": "UTF8",
    "GB18030": "GB18030",
    "GBK": "GBK",
    "ISO 2022 GBK": "GBK",
    "ISO 2022 58": "gb2312",
    **{f"ISO_IR {number}": codec for number, (codec, _) in _SINGLE_BYTE.items()},
    **{f"ISO 2022 IR {number}": codec for number, (codec, _) in (_SINGLE_BYTE | _MULTI_BYTE).items()},
}
"""Python codec of each defined term (tables C.12-2 to C.12-5)."""
_ESCAPES = {
    b"\x1b(B": DEFAULT[0],
    b"\x1b)I": "shift_jis",
    b"\x1b(J": "shift_jis",
    **{b"\x1b" + escape: codec for codec, escape in (_SINGLE_BYTE | _MULTI_BYTE).values()},
}

_NO_EXTENSIONS = {"UTF8", "GB18030", "GBK"}
_FRAGMENT = re.compile(rb"\A[^\x1b]+|\x1b[^\x1b]*")
_SELF_ESCAPED = {"iso2022_jp", "iso2022_jp_2"}  # Python's codecs want to see the escape themselves
_RESET = re.compile(rb"[\\^=\r\n\t\f]")  # ends a code extension in force (PS3.5 §6.1.2.5.3)


@lru_cache(maxsize=256)
def encodings_of(terms: tuple[str, ...]) -> tuple[str, ...]:
    """Python codecs for the values of (0008,0005), the one in force initially first.

    Accepts the usual misspellings (``ISO-IR 100``, ``ISO IR 100``, ``iso_ir_100``, ``UTF-8``).
    """
    found = [_codec(term) for term in terms] or [DEFAULT[0]]
    if found[0] in _NO_EXTENSIONS:
        return (found[0],)
    return (found[0], *(codec for codec in found[1:] if codec not in _NO_EXTENSIONS))


def _codec(term: str) -> str:
    term = term.strip().upper()
    if term not in _CODECS:
        term = re.sub(r"^ISO[-_ ]IR[-_ ]?(\d+)$", r"ISO_IR \1", term)
        term = re.sub(r"^ISO[-_ ]?2022[-_ ]IR[-_ ]?(\d+)$", r"ISO 2022 IR \1", term)
        term = {"UTF-8": "ISO_IR 192", "UTF8": "ISO_IR 192"}.get(term, term)
    return _CODECS.get(term, DEFAULT[0])


def decode(raw: bytes, encodings: tuple[str, ...]) -> str:
    """The text of a whole value field, delimiters still inside (splitting first would break GB18030 and GBK)."""
    if b"\x1b" not in raw or encodings[0] in _NO_EXTENSIONS:
        return raw.decode(encodings[0], "replace")
    return "".join(_fragment(part, encodings) for part in _FRAGMENT.findall(raw))


def _fragment(part: bytes, encodings: tuple[str, ...]) -> str:
    if part[0] != 0x1B:
        return part.decode(encodings[0], "replace")
    size = 4 if part[1:3] in (b"$(", b"$)") else 3
    codec = _ESCAPES.get(part[:size], "")
    if codec not in encodings and codec != DEFAULT[0]:
        return part.decode(encodings[0], "replace")  # an escape nobody announced stays visible
    if codec in _SELF_ESCAPED:
        return part.decode(codec, "replace")
    part = part[size:]
    end = _RESET.search(part)
    if end is None:
        return part.decode(codec, "replace")
    return part[: end.start()].decode(codec, "replace") + part[end.start() :].decode(encodings[0], "replace")

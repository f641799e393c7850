"""Which representation a client accepts: the tables of retrieve.md §3 and §7 and query.md §1."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from hounsfield.dicom.transfer_syntax import EXPLICIT_VR_LITTLE_ENDIAN, JPEG_2000_LOSSLESS
from hounsfield.errors import NotAcceptable
from hounsfield.web.content_type import MalformedMediaType, parse_content_type

ORIGINAL = "*"
"""The transfer syntax value that asks for the stored one."""
DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
OCTET_STREAM = "application/octet-stream"
JP2 = "image/jp2"
ZIP = "application/zip"
ANY = "*/*"

FRAME_SYNTAXES: Mapping[str, Sequence[str]] = {
    "image/jpeg": (
        "1.2.840.10008.1.2.4.70",
        "1.2.840.10008.1.2.4.50",
        "1.2.840.10008.1.2.4.51",
        "1.2.840.10008.1.2.4.57",
    ),
    "image/jls": ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"),
    JP2: (JPEG_2000_LOSSLESS, "1.2.840.10008.1.2.4.91"),
    "image/jphc": ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203"),
    "image/jxl": ("1.2.840.10008.1.2.4.110", "1.2.840.10008.1.2.4.111", "1.2.840.10008.1.2.4.112"),
    "image/dicom-rle": ("1.2.840.10008.1.2.5",),
    "image/jpx": ("1.2.840.10008.1.2.4.92", "1.2.840.10008.1.2.4.93"),
}
"""Media types of compressed frames and their transfer syntaxes, the default first (PS3.18 Table 8.7.3-5)."""

_ELEMENT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*+")++')
_QUALITY = re.compile(r"0(?:\.\d{0,3})?|1(?:\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class MediaRange:
    """One entry of an Accept header. For ``multipart/related`` the media type is that of the parts."""

    media_type: str
    multipart: bool
    transfer_syntax: str | None
    quality: float


@dataclass(frozen=True, slots=True)
class Form:
    """One acceptable shape of an answer; ``transfer_syntax`` is a UID or :data:`ORIGINAL`."""

    media_type: str
    multipart: bool
    transfer_syntax: str


def parse_accept(headers: Iterable[str]) -> Sequence[MediaRange]:
    """The entries of all Accept headers by falling quality, unreadable ones and those of quality 0 left out.

    No header, or an empty one, means ``*/*`` (RFC 9110 §12.5.1).
    """
    text = ",".join(headers)
    return _parse_common(text) if len(text) <= _COMMON_LENGTH else _parse(text)


def _parse(text: str) -> tuple[MediaRange, ...]:
    if not text.strip(" ,\t"):
        return (MediaRange(ANY, False, None, 1.0),)
    ranges = []
    for element in _ELEMENT.findall(text):
        try:
            media_type, parameters = parse_content_type(element)
        except MalformedMediaType:
            continue
        weight = parameters.get("q", "1")
        quality = float(weight) if _QUALITY.fullmatch(weight) else 1.0
        if quality == 0:
            continue
        multipart = media_type == "multipart/related"
        part_type = parameters.get("type", ANY).lower() if multipart else media_type
        ranges.append(MediaRange(part_type, multipart, parameters.get("transfer-syntax"), quality))
    return tuple(sorted(ranges, key=lambda entry: -entry.quality))


_COMMON_LENGTH = 256
# A client sends the same few values with every request.
_parse_common = lru_cache(maxsize=256)(_parse)


def files(headers: Iterable[str], *, single_part: bool) -> Sequence[Form]:
    """What a study, series or (``single_part``) instance may be sent as by all Accept headers, best first.

    Raises NotAcceptable.
    """
    return _chosen(_instance_files if single_part else _files, headers)


def frames(headers: Iterable[str]) -> Sequence[Form]:
    """What frames may be sent as by all Accept headers, best first. Raises NotAcceptable."""
    return _chosen(_frames, headers)


_Chooser = Callable[[Sequence[MediaRange]], Sequence[Form]]


def _chosen(choose: _Chooser, headers: Iterable[str]) -> Sequence[Form]:
    text = ",".join(headers)
    return _common(choose, text) if len(text) <= _COMMON_LENGTH else choose(_parse(text))


@lru_cache(maxsize=256)
def _common(choose: _Chooser, text: str) -> Sequence[Form]:
    return choose(_parse_common(text))


def _instance_files(accept: Sequence[MediaRange]) -> Sequence[Form]:
    return _files(accept, single_part=True)


def _files(accept: Sequence[MediaRange], *, single_part: bool = False) -> Sequence[Form]:
    forms = []
    for entry in accept:
        if entry.media_type == ANY:
            forms.append((entry, Form(DICOM, True, entry.transfer_syntax or ORIGINAL)))
        elif entry.media_type == DICOM and (entry.multipart or single_part):
            forms.append((entry, Form(DICOM, entry.multipart, entry.transfer_syntax or EXPLICIT_VR_LITTLE_ENDIAN)))
        elif entry.media_type == ZIP and not entry.multipart:
            forms.append((entry, Form(ZIP, False, entry.transfer_syntax or ORIGINAL)))
    return _best_first(forms)


def _frames(accept: Sequence[MediaRange]) -> Sequence[Form]:
    forms = []
    for entry in accept:
        syntax = entry.transfer_syntax
        if entry.media_type == ANY and syntax in (None, ORIGINAL, EXPLICIT_VR_LITTLE_ENDIAN):
            forms.append((entry, Form(OCTET_STREAM, True, syntax or ORIGINAL)))
        elif entry.media_type == OCTET_STREAM and syntax in (None, ORIGINAL, EXPLICIT_VR_LITTLE_ENDIAN):
            forms.append((entry, Form(OCTET_STREAM, entry.multipart, syntax or EXPLICIT_VR_LITTLE_ENDIAN)))
        elif entry.multipart and entry.media_type in FRAME_SYNTAXES:
            known = FRAME_SYNTAXES[entry.media_type]
            if syntax == ORIGINAL or (syntax is None and entry.media_type != JP2):
                # As stored if that is of this type: nothing is lost. For JPEG 2000 the reference has one default.
                forms.append((entry, Form(entry.media_type, True, ORIGINAL)))
            if syntax is None or syntax in known:
                forms.append((entry, Form(entry.media_type, True, syntax or known[0])))
    return _best_first(forms)


def _best_first(forms: list[tuple[MediaRange, Form]]) -> Sequence[Form]:
    # Among equals an explicit request for the original goes first: it costs nothing and loses nothing.
    forms.sort(key=lambda pair: (-pair[0].quality, pair[0].transfer_syntax != ORIGINAL))
    if not forms:
        raise NotAcceptable("The specified Accept header is not supported.")
    return tuple(form for _, form in forms)


def require_dicom_json(headers: Iterable[str]) -> None:
    """Raise NotAcceptable (with an empty body) unless DICOM JSON satisfies the Accept headers."""
    accepted = {ANY, "application/*", "application/json", DICOM_JSON}
    if not any(entry.media_type in accepted and not entry.multipart for entry in parse_accept(headers)):
        raise NotAcceptable("")

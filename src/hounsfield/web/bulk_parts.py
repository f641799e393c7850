"""Bulk data parts of a request and what metadata say of them: which part is whose value, and how it is compressed.

A BulkDataURI is the Content-Location of a part, letter by letter (PS3.18 §10.5.2). Nothing is ever fetched from
anywhere else. Pixel data may come frame by frame: the parts are then at ``<BulkDataURI>/frames/1`` and so on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hounsfield.dicom.dictionary import display_tag
from hounsfield.dicom.jpeg import transfer_syntax_of
from hounsfield.dicom.json_dataset import BadDataset, PixelDescription, Pixels
from hounsfield.dicom.native_dataset import PIXEL_DATA
from hounsfield.dicom.transfer_syntax import (
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
    find,
)
from hounsfield.errors import BadRequest, UnsupportedMediaType
from hounsfield.storage.spool import Upload
from hounsfield.web.content_type import parse_content_type
from hounsfield.web.negotiation import OCTET_STREAM
from hounsfield.web.spooled_body import SpooledPart

_ENCAPSULATED_DOCUMENT = 0x00420011
_FORMER_NAMES = {"image/x-dicom-rle": "image/dicom-rle", "image/x-jls": "image/jls", "video/mpeg2": "video/mpeg"}
_LITTLE_ENDIAN = (None, EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN)
"""Transfer syntaxes of uncompressed values as they are to come; the VR of a value's neighbours says nothing of it."""


@dataclass(frozen=True, slots=True)
class _Part:
    """A bulk data part: its type, the value of ``transfer-syntax`` if it has one, and its bytes."""

    media_type: str
    transfer_syntax: str | None
    upload: Upload


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse a bulk data part that cannot be used, before it is received.

    Raises UnsupportedMediaType for its type or an encoding, BadRequest without a Content-Location.
    """
    content_type = headers.get("content-type")
    if content_type is None:
        raise UnsupportedMediaType("The specified content type '' is not supported.")
    parse_content_type(content_type)
    encodings = {headers.get(name, "").lower() for name in ("content-transfer-encoding", "content-encoding")}
    if not encodings <= {"", "binary", "8bit", "7bit", "identity"}:
        raise UnsupportedMediaType("A part of the request is encoded; bulk data are sent as they are.")
    if not headers.get("content-location"):
        raise BadRequest("A bulk data part of the request has no Content-Location.")


class BulkParts:
    """The bulk data parts of one request; see json_dataset.References.

    All methods raise BadRequest for a reference to no part, and UnsupportedMediaType for a type that does not suit.
    """

    def __init__(self, parts: Sequence[SpooledPart]) -> None:
        self._parts: dict[str, _Part] = {}
        for part in parts:
            location = part.headers["content-location"]
            if location in self._parts:
                raise BadRequest("Two parts of the request have the same Content-Location.")
            media_type, parameters = parse_content_type(part.headers["content-type"])
            media_type = _FORMER_NAMES.get(media_type, media_type)
            self._parts[location] = _Part(media_type, parameters.get("transfer-syntax"), part.upload)
        self._unused = set(self._parts)

    @property
    def unused(self) -> int:
        """How many parts nobody has asked for."""
        return len(self._unused)

    def value(self, tag: int, uri: str) -> Upload:
        """The value of an attribute other than Pixel Data: little endian, or a document of any type."""
        part = self._take(uri)
        if part is None:
            raise _unknown(tag)
        if tag != _ENCAPSULATED_DOCUMENT and (
            part.media_type != OCTET_STREAM or part.transfer_syntax not in _LITTLE_ENDIAN
        ):
            raise _unsuitable(part, tag)
        return part.upload

    def pixels(self, uri: str, described: PixelDescription) -> Pixels:
        """Pixel Data, uncompressed or in a compressed syntax."""
        parts = self._frames(uri)
        first = parts[0]
        if any((part.media_type, part.transfer_syntax) != (first.media_type, first.transfer_syntax) for part in parts):
            raise BadDataset("has frames of different media types", PIXEL_DATA)
        syntax = _syntax(first, described.transfer_syntaxes)
        frames = described.frames or 1
        in_one_piece = len(parts) == 1 and (syntax is None or first.media_type.startswith("video/"))
        if not in_one_piece and len(parts) != frames:
            raise BadDataset(
                f"has {len(parts)} parts for {frames} frames; each frame is one part, at <BulkDataURI>/frames/<number>",
                PIXEL_DATA,
            )
        return Pixels([part.upload for part in parts], syntax)

    def _frames(self, uri: str) -> list[_Part]:
        whole = self._take(uri)
        if whole is not None:
            return [whole]
        frames: list[_Part] = []
        while (part := self._take(f"{uri}/frames/{len(frames) + 1}")) is not None:
            frames.append(part)
        if not frames:
            raise _unknown(PIXEL_DATA)
        return frames

    def _take(self, uri: str) -> _Part | None:
        self._unused.discard(uri)
        return self._parts.get(uri)


def _syntax(part: _Part, described: Sequence[str]) -> str | None:
    """The transfer syntax of compressed pixel data, None if they are not compressed.

    What the part says, else what the metadata say where it is of this media type, else what the JPEG says, else the
    default of the media type (PS3.18 table 8.7.3-5).
    """
    if part.media_type == OCTET_STREAM and part.transfer_syntax in _LITTLE_ENDIAN:
        return None
    possible = [syntax.uid for syntax in TRANSFER_SYNTAXES.values() if syntax.frame_media_type == part.media_type]
    if part.transfer_syntax is not None:
        syntax = find(part.transfer_syntax)
        if syntax is None or syntax.uid not in possible or not syntax.encapsulated:
            raise _unsuitable(part, PIXEL_DATA)
        return syntax.uid
    if not possible:
        raise _unsuitable(part, PIXEL_DATA)
    for uid in described:
        if uid in possible:
            return uid
    if part.media_type != "image/jpeg":
        return possible[0]
    found = transfer_syntax_of(part.upload)
    if found is None:
        raise BadDataset("is no JPEG of a kind that DICOM sends as image/jpeg", PIXEL_DATA)
    return found


def _unknown(tag: int) -> BadRequest:
    return BadRequest(
        f"The BulkDataURI of {display_tag(tag)} is not the Content-Location of a part of the request. "
        "Bulk data are not fetched from elsewhere."
    )


def _unsuitable(part: _Part, tag: int) -> UnsupportedMediaType:
    syntax = "" if part.transfer_syntax is None else f"; transfer-syntax={part.transfer_syntax[:64]}"
    return UnsupportedMediaType(
        f"The specified content type '{part.media_type[:100]}{syntax}' is not supported for {display_tag(tag)}."
    )

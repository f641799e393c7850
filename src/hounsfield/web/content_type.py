"""Media types with parameters, as in Content-Type: ``multipart/related; type="application/dicom"; boundary=b``.

Grammar of RFC 9110 §8.3.1 and §5.6, with one leniency that clients in the field need: an unquoted parameter value runs
to the next ``;`` whatever it holds, so ``type=application/dicom`` is read as meant (retrieve.md §3).
"""

import re
from collections.abc import Mapping

from hounsfield.errors import UnsupportedMediaType

# Possessive quantifiers throughout: a hostile value must not make matching quadratic.
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_MEDIA_TYPE = re.compile(rf"[ \t]*+({_NAME}/{_NAME})[ \t]*+(?=;|\Z)")
_PARAMETER = re.compile(
    rf';[ \t]*+(?:({_NAME})=(?:"((?:[^"\\]|\\.)*+)"|([^";]*+)))?[ \t]*+(?=;|\Z)',
    re.DOTALL,
)
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)

# RFC 2046 §5.1.1 allows 70 characters of a smaller alphabet, the last one no space; any other printable ASCII
# is harmless to us and used by some clients.
_BOUNDARY = re.compile(r"[\x20-\x7e]{0,69}[\x21-\x7e]")


class MalformedMediaType(UnsupportedMediaType):
    """A media type or its parameters cannot be parsed, or the boundary is missing or unusable (store.md §1: 415)."""


def parse_content_type(value: str) -> tuple[str, dict[str, str]]:
    """The media type in lower case and its parameters: names in lower case, values unquoted, case kept.

    Of a parameter given twice the first counts. Raises MalformedMediaType.

    >>> parse_content_type('Multipart/Related; type="application/dicom"; Boundary=Ab')
    ('multipart/related', {'type': 'application/dicom', 'boundary': 'Ab'})
    """
    head = _MEDIA_TYPE.match(value)
    if head is None:
        raise MalformedMediaType("The content type is not of the form type/subtype.")
    parameters: dict[str, str] = {}
    position = head.end()
    while position < len(value):
        match = _PARAMETER.match(value, position)
        if match is None:
            raise MalformedMediaType("The parameters of the content type are malformed.")
        name, quoted, plain = match.groups()
        if name is not None:
            text = plain.strip(" \t") if quoted is None else _ESCAPED.sub(r"\1", quoted)
            parameters.setdefault(name.lower(), text)
        position = match.end()
    return head.group(1).lower(), parameters


def boundary_of(parameters: Mapping[str, str]) -> bytes:
    """The boundary among parsed parameters, as it appears in the body after ``--``. Raises MalformedMediaType."""
    boundary = parameters.get("boundary")
    if boundary is None:
        raise MalformedMediaType("The multipart content type has no boundary parameter.")
    if not _BOUNDARY.fullmatch(boundary):
        raise MalformedMediaType("The boundary must be 1 to 70 printable ASCII characters, the last one no space.")
    return boundary.encode("ascii")


def require_media_type(declared: str | None, expected: str) -> None:
    """Raise UnsupportedMediaType unless ``declared``, of a part or body, is ``expected``, whatever its parameters."""
    try:
        media_type = parse_content_type(declared)[0] if declared is not None else ""
    except MalformedMediaType:
        media_type = ""
    if media_type != expected:
        raise UnsupportedMediaType(f"The specified content type '{(declared or '')[:100]}' is not supported.")

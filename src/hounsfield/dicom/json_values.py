"""Values of the DICOM JSON model → value fields of Explicit VR Little Endian (PS3.18 §§F.2.3–F.2.5, PS3.5 §6.2).

As strict as the model: what has another JSON type than its VR asks for, or would read back as something else (a
backslash inside one of several values), is refused. Whether a text is a valid date or code is for validation to say.
"""

import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from hounsfield.dicom.value_rules import SINGLE_VALUED
from hounsfield.dicom.values import LOCALISED_VRS, NUMBER_CODES

MAX_VALUES = 1_000_000
"""Values of one attribute. The longest contours and look-up tables in the field have some hundred thousand."""

_NUMERIC = frozenset(NUMBER_CODES) | {"DS", "IS"}
_DS_LENGTH = 16  # characters of a decimal string, PS3.5 §6.2
_INFINITIES = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf, "inf": math.inf, "-inf": -math.inf}


class BadValue(Exception):
    """The values do not fit their VR; the text says why, without any of them."""


class PersonName(msgspec.Struct, forbid_unknown_fields=True):
    """One value of VR PN (PS3.18 §F.2.2)."""

    alphabetic: str | None = msgspec.field(name="Alphabetic", default=None)
    ideographic: str | None = msgspec.field(name="Ideographic", default=None)
    phonetic: str | None = msgspec.field(name="Phonetic", default=None)


_texts = msgspec.json.Decoder(list[str | None]).decode
_numbers = msgspec.json.Decoder(list[int | float | str | None]).decode
_names = msgspec.json.Decoder(list[PersonName | None]).decode


def value_field(vr: str, values: msgspec.Raw) -> bytes:
    """The value field of an attribute with these values, not padded. ``vr`` is none of OB to UN and not SQ.

    Text is UTF-8 where the character set matters. Raises BadValue.
    """
    data = memoryview(values)
    if len(data) > MAX_VALUES and bytes(data).count(b"," if vr in _NUMERIC else b'",') >= MAX_VALUES:
        raise BadValue("has more values than this server reads")
    try:
        if vr in NUMBER_CODES:
            return _binary(vr, _numbers(values))
        if vr == "AT":
            return b"".join(map(_tag, _single_empty(_texts(values))))
        return _text(vr, [_TEXTS[vr](value) for value in _decoders(vr)(values)])
    except OverflowError as error:
        raise BadValue(f"has a number that VR {vr} cannot hold") from error
    except msgspec.ValidationError as error:
        raise BadValue(f"holds what the DICOM JSON Model does not allow for VR {vr}") from error


def _decoders(vr: str) -> Callable[[msgspec.Raw], Sequence[Any]]:
    return _names if vr == "PN" else _numbers if vr in _NUMERIC else _texts


def _text(vr: str, values: Sequence[str]) -> bytes:
    if vr in SINGLE_VALUED:
        if len(values) > 1:
            raise BadValue(f"has several values, where VR {vr} allows one")
    elif any("\\" in value for value in values):
        raise BadValue("has a backslash in a value, which would part it in two")
    text = "\\".join(values)
    try:
        return text.encode("utf-8" if vr in LOCALISED_VRS else "latin_1")
    except UnicodeEncodeError as error:
        raise BadValue(f"has characters that VR {vr} does not allow") from error


def _plain(value: str | None) -> str:
    return value or ""


def _person_name(value: PersonName | None) -> str:
    if value is None:
        return ""
    groups = [value.alphabetic or "", value.ideographic or "", value.phonetic or ""]
    if any("=" in group for group in groups):
        raise BadValue("has an equals sign in a group of a person name, which would part it in two")
    return "=".join(groups).rstrip("=")


def _decimal(value: float | str | None) -> str:
    """A number in at most 16 characters, as exact as they allow; a string as it is (PS3.18 §F.2.3)."""
    if value is None or isinstance(value, str):
        return value or ""
    text = repr(value)
    for shorter in (text, text.removesuffix(".0"), text.replace("0.", ".", 1) if abs(value) < 1 else text):
        if len(shorter) <= _DS_LENGTH:
            return shorter
    # The sign, the point and the exponent take up to seven of the sixteen characters.
    return next(text for digits in range(_DS_LENGTH, 0, -1) if len(text := f"{value:.{digits}g}") <= _DS_LENGTH)


def _integer(value: float | str | None) -> str:
    return value or "" if value is None or isinstance(value, str) else str(_whole(value))


def _whole(value: float) -> int:
    if value != int(value):
        raise BadValue("has a fraction where a whole number belongs")
    return int(value)


def _tag(value: str) -> bytes:
    try:
        if len(value) != 8:
            raise ValueError
        number = int.from_bytes(bytes.fromhex(value))
    except ValueError as error:
        raise BadValue("has a tag that is not eight hexadecimal digits") from error
    return struct.pack("<HH", number >> 16, number & 0xFFFF)


def _single_empty(values: Sequence[Any]) -> Sequence[Any]:
    """The values of a VR of fixed width, which cannot be empty among others."""
    if values in ([None], [""]):
        return ()
    if None in values:
        raise BadValue("has an empty value among others, which binary values cannot be")
    return values


def _binary(vr: str, values: Sequence[float | str | None]) -> bytes:
    values = _single_empty(values)
    try:
        if vr in ("FD", "FL"):
            numbers: list[float] = [_INFINITIES[v] if isinstance(v, str) else float(v or 0) for v in values]
        elif vr in ("SV", "UV"):
            numbers = [int(v) if isinstance(v, str) else _whole(v or 0) for v in values]
        else:
            if any(isinstance(v, str) for v in values):
                raise BadValue(f"holds what the DICOM JSON Model does not allow for VR {vr}")
            numbers = [_whole(v or 0) for v in values if not isinstance(v, str)]
        return struct.pack(f"<{len(numbers)}{NUMBER_CODES[vr]}", *numbers)
    except (struct.error, OverflowError, ValueError, KeyError) as error:
        raise BadValue(f"has a number that VR {vr} cannot hold") from error


_TEXTS: dict[str, Callable[[Any], str]] = dict.fromkeys(
    ("AE", "AS", "CS", "DA", "DT", "LO", "LT", "SH", "ST", "TM", "UC", "UI", "UR", "UT"), _plain
) | {"DS": _decimal, "IS": _integer, "PN": _person_name}

"""One value field → its DICOM JSON element (PS3.18 §F.2), and what is wrong with it by the full rules of store.md §3.4.

`maker` builds the function for a VR once; the reader calls it for every element not met before.
"""

from collections.abc import Callable
from functools import lru_cache
from math import isfinite
from struct import Struct, unpack
from typing import Any, NamedTuple

from hounsfield.dicom.character_sets import decode
from hounsfield.dicom.dictionary import UNBOUNDED, attribute, display_tag
from hounsfield.dicom.value_rules import (
    DECIMAL,
    INTEGER,
    MAX_PLAIN,
    NULL_LENIENT,
    PLAIN,
    SINGLE_VALUED,
    first_flaw,
    fits_int32,
)

Element = dict[str, Any]
"""``{"vr": …, "Value": […]}`` of the DICOM JSON model. Shared between instances: never change one."""

BULK_VRS = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
"""Left out of metadata at every depth (retrieve.md §7)."""

NUMBER_CODES = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
"""struct codes of the binary number VRs."""

PATIENT_ID = 0x00100020

LOCALISED_VRS = frozenset({"LO", "LT", "PN", "SH", "ST", "UC", "UT"})
"""Text in the character set that the dataset names (PS3.5 §6.1.2.3)."""


class Flaw(NamedTuple):
    """What is wrong with an element: the comment's text under lenient and strict reading; None where it passes."""

    lenient: str | None
    strict: str | None


_UNKNOWN = 0x00090001
"""A tag that no dictionary has."""

Maker = Callable[[bytes, tuple[str, ...]], tuple[Element, Flaw | None]]
"""(value field, codecs of the character set) → element, flaw."""


def no_value(raw: bytes, encodings: tuple[str, ...]) -> tuple[Element, Flaw | None]:
    """The maker of headers that announce no value: never asked."""
    raise AssertionError(len(raw), encodings)


def maker(tag: int, vr: str, endian: str) -> Maker:
    """The function that reads values of this attribute and VR (none of BULK_VRS, not SQ)."""
    if attribute(tag) is None:
        return _unknown_maker(vr, endian)
    return _maker(tag, vr, endian)


@lru_cache(maxsize=128)
def _unknown_maker(vr: str, endian: str) -> Maker:
    # One for all attributes without rules of their own: a hostile file has a million different ones.
    return _maker(_UNKNOWN, vr, endian)


def _maker(tag: int, vr: str, endian: str) -> Maker:
    if vr in NUMBER_CODES:
        return _number_maker(tag, vr, endian)
    if vr == "AT":
        return _tag_maker(tag, endian)
    return _patient_id_maker(tag, vr) if tag == PATIENT_ID else _text_maker(tag, vr)


def described(tag: int, vr: str) -> str:
    """An attribute in words, for comments that are not about one value."""
    row = attribute(tag)
    return f"{display_tag(tag)} {vr} {row.name if row else 'Unknown'}"


def _multiplicity(tag: int, vr: str) -> tuple[int, int]:
    """Bounds on the number of values; none for private and unknown attributes and VRs without a rule."""
    row = attribute(tag)
    if row is None or vr == "UC" or vr in SINGLE_VALUED:
        return 0, UNBOUNDED
    return row.vm_min, row.vm_max


def _wrong_count(tag: int, vr: str, count: int) -> Flaw:
    row = attribute(tag)
    vm = row.vm if row else "1-n"
    text = (
        f'Content "{described(tag, vr)}" does not validate VR {vr}: '
        f"Number of items {count} does not match ValueMultiplicity {vm}"
    )
    return Flaw(text, text)


def _number_maker(tag: int, vr: str, endian: str) -> Maker:
    code = NUMBER_CODES[vr]
    one = Struct(endian + code)
    size = one.size
    least, most = _multiplicity(tag, vr)

    def make(raw: bytes, _: tuple[str, ...]) -> tuple[Element, Flaw | None]:
        count = len(raw) // size
        if not count:
            return {"vr": vr}, None
        values: list[Any] = list(
            one.unpack(raw) if len(raw) == size else unpack(f"{endian}{count}{code}", raw[: count * size])
        )
        if code in "df" and not all(map(isfinite, values)):  # JSON has no NaN and no infinity
            values = [value if isfinite(value) else None for value in values]
        return {"vr": vr, "Value": values}, None if least <= count <= most else _wrong_count(tag, vr, count)

    return make


def _tag_maker(tag: int, endian: str) -> Maker:
    least, most = _multiplicity(tag, "AT")

    def make(raw: bytes, _: tuple[str, ...]) -> tuple[Element, Flaw | None]:
        count = len(raw) // 4
        if not count:
            return {"vr": "AT"}, None
        words = unpack(f"{endian}{count * 2}H", raw[: count * 4])
        values = [f"{words[i]:04X}{words[i + 1]:04X}" for i in range(0, count * 2, 2)]
        return {"vr": "AT", "Value": values}, None if least <= count <= most else _wrong_count(tag, "AT", count)

    return make


def _text_maker(tag: int, vr: str) -> Maker:
    plain, padding = PLAIN[vr], "\0" if vr == "UI" else " "
    longest = MAX_PLAIN if vr in ("PN", "UI") else UNBOUNDED
    encoded, single = vr in LOCALISED_VRS, vr in SINGLE_VALUED
    least, most = _multiplicity(tag, vr)
    convert, one_is_enough = _CONVERSIONS.get(vr), least <= 1

    def make(raw: bytes, encodings: tuple[str, ...]) -> tuple[Element, Flaw | None]:
        flaw = None
        if plain(raw) and len(raw) <= longest:
            text = str(raw, "ascii").rstrip(padding)
            if text and one_is_enough and "\\" not in text:  # what nearly every element of a normal file is
                return {"vr": vr, "Value": [convert(text) if convert else text]}, None
        else:
            # the other VRs have no code extensions: an escape is a character that has no business there
            text = (decode(raw, encodings) if encoded else raw.decode("latin_1")).rstrip(padding)
            flaw = _content_flaw(vr, text)
        if not text:
            return {"vr": vr}, flaw
        values: list[Any]
        if single or "\\" not in text:
            values = [convert(text) if convert else text]
        else:
            values = [convert(value) if convert else value.rstrip(padding) or None for value in text.split("\\")]
        if not least <= len(values) <= most and (flaw is None or flaw.lenient is None):
            flaw = _wrong_count(tag, vr, len(values))
        return {"vr": vr, "Value": values}, flaw

    return make


def _patient_id_maker(tag: int, vr: str) -> Maker:
    """PatientID must not be blank; the strict reading of ``EnableFullDicomItemValidation`` does not ask for that."""
    make_text = _text_maker(tag, vr)

    def make(raw: bytes, encodings: tuple[str, ...]) -> tuple[Element, Flaw | None]:
        element, flaw = make_text(raw, encodings)
        values = element.get("Value", ())  # of another VR than LO, perhaps: numbers and names are not blank
        if not any(value.strip() if isinstance(value, str) else value is not None for value in values):
            flaw = Flaw("The required tag '(0010,0020)' is missing.", flaw and flaw.strict)
        return element, flaw

    return make


def _content_flaw(vr: str, text: str) -> Flaw | None:
    strict = first_flaw(vr, text)
    if strict is None:
        return None
    padded = vr in NULL_LENIENT and text.endswith("\0")
    lenient = first_flaw(vr, text.rstrip("\0")) if padded else strict
    wording = 'Content "{}" does not validate VR ' + vr + ": {}"
    return Flaw(wording.format(*lenient) if lenient else None, wording.format(*strict))


def _person_name(value: str) -> dict[str, str] | None:
    if "=" not in value:
        value = value.rstrip(" ")
        return {"Alphabetic": value} if value else None
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), value.split("=", 2), strict=False)
    return {name: stripped for name, group in groups if (stripped := group.rstrip(" "))} or None


def _decimal(value: str) -> float | int | str | None:
    text = value.rstrip("\0").strip()
    if not DECIMAL.fullmatch(text):
        return value.rstrip(" ") or None
    number = float(text)
    if number.is_integer() and abs(number) < 1e15:
        return int(number)
    return number if isfinite(number) else text


def _integer(value: str) -> int | str | None:
    text = value.rstrip("\0").strip()
    if INTEGER.fullmatch(text) and fits_int32(text):
        return int(text)
    return value.rstrip(" ") or None


_CONVERSIONS: dict[str, Callable[[str], Any]] = {"PN": _person_name, "DS": _decimal, "IS": _integer}

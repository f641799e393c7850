"""The full content rules of store.md §3.4: is this text a valid value of its VR, and if not, why (the exact words).

Two speeds. ``PLAIN[vr]`` matches the raw bytes of a whole value field that is plain ASCII and beyond doubt valid: one
call decides nearly every element of a normal file. What it does not match goes through ``reason``, value by value.
"""

import re
from collections.abc import Callable

from hounsfield.dicom.dictionary import UNBOUNDED

NULL_LENIENT = frozenset({"AE", "AS", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UI", "UR", "UT"})
"""VRs whose trailing null characters the lenient check of v2 ignores (store.md §3.4, null padding)."""

SINGLE_VALUED = frozenset({"LT", "ST", "UR", "UT"})
"""Text VRs in which a backslash is a character, not a separator (PS3.5 §6.2)."""

MAX_PLAIN = 64
"""Longest PN or UI value field to believe ``PLAIN`` about: their length is a rule but not in the expression."""

_TEXT = rb"[ -\[\]-~]"  # ASCII without control characters and backslash
_NAME = rb"[ -<>-\[\]_-~]"  # the same without '=' and '^'
_DECIMAL = rb"(?=[^\\]{1,16}(?:\\|\Z)) *[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)? *"
_INTEGER = rb" *[+-]?[0-9]{1,9} *"


def _many(one: bytes, padding: bytes = b" *") -> Callable[[bytes], object]:
    return re.compile(one + rb"(?:\\" + one + rb")*" + padding).fullmatch


def _unformatted(limit: int) -> Callable[[bytes], object]:
    """For VRs that limit nothing but the length: plain is what needs no character set (an escape may change it)."""
    return lambda raw: len(raw) <= limit and raw.isascii() and b"\x1b" not in raw


PLAIN: dict[str, Callable[[bytes], object]] = {
    "AE": re.compile(rb"[!-\[\]-~]" + _TEXT + rb"{0,15} *").fullmatch,
    "AS": re.compile(rb"[0-9]{3}[DWMY]").fullmatch,
    "CS": _many(rb"[A-Z0-9_ ]{0,16}"),
    "DA": re.compile(rb"[0-9]{4}(?:0[0-9]|1[0-2])(?:[0-2][0-9]|3[01]) *").fullmatch,
    "DS": _many(_DECIMAL, b""),
    "DT": re.compile(
        rb"[0-9]{4}(?:(?:0[1-9]|1[0-2])(?:(?:0[1-9]|[12][0-9]|3[01])(?:(?:[01][0-9]|2[0-3])"
        rb"(?:[0-5][0-9](?:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?)?)?)?)?)?(?:\+(?:0[0-9]|1[0-4])[0-5][0-9])? *"
    ).fullmatch,
    "IS": _many(_INTEGER, b""),
    "LO": _many(_TEXT + rb"{0,64}"),
    "LT": _unformatted(10240),
    "PN": re.compile(_NAME + rb"*(?:\^" + _NAME + rb"*){0,4}").fullmatch,
    "SH": _many(_TEXT + rb"{0,16}"),
    "ST": _unformatted(1024),
    "TM": re.compile(rb"(?:[01][0-9]|2[0-3])(?:[0-5][0-9](?:(?:[0-5][0-9]|60)(?:\.[0-9]{1,6})?)?)? *").fullmatch,
    "UC": _unformatted(UNBOUNDED),
    "UI": re.compile(rb"[1-9][0-9]*(?:\.(?:0|[1-9][0-9]*))*\0?").fullmatch,
    "UR": _unformatted(UNBOUNDED),
    "UT": _unformatted(UNBOUNDED),
}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_CONTROL_BUT_ESC = re.compile(r"[\x00-\x1a\x1c-\x1f\x7f-\x9f]")
_CONTROL_BUT_ESC_OR_BACKSLASH = re.compile(r"[\\\x00-\x1a\x1c-\x1f\x7f-\x9f]")
_AGE = re.compile(r"[0-9]{3}[DWMY]")
_CODE = re.compile(r"[A-Z0-9_ ]*")
_DATE = re.compile(r"[0-9]{8}")
DECIMAL = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
INTEGER = re.compile(r"[+-]?[0-9]+")
_DATE_TIME = re.compile(r"(?:[0-9]{4}|[0-9]{6}|[0-9]{8}|[0-9]{10}|[0-9]{12}|[0-9]{14}(?:\.[0-9]{1,6})?)")
_TIME = re.compile(r"[0-9]{2}(?:[0-9]{2}(?:[0-9]{2}(?:\.[0-9]{1,6})?)?)?")
_OFFSET = re.compile(r"[0-9]{4}")
_UID = re.compile(r"[0-9.]*")
_LEADING_ZERO = re.compile(r"\A0|\.0[0-9]")


def _longer(value: str, limit: int) -> str | None:
    return f"value exceeds maximum length of {limit} characters" if len(value) > limit else None


def _application_entity(value: str) -> str | None:
    if too_long := _longer(value, 16):
        return too_long
    if not value.strip():
        return "value may not consist only of spaces"
    return "value contains invalid control character" if _CONTROL.search(value) else None


def _age(value: str) -> str | None:
    return None if not value or _AGE.fullmatch(value) else "value does not have pattern 000[DWMY]"


def _code_string(value: str) -> str | None:
    if too_long := _longer(value, 16):
        return too_long
    if _CODE.fullmatch(value):
        return None
    return "value contains invalid character. Only uppercase character, digits, space and underscore alre allowed"


def _date(value: str) -> str | None:
    parts = value.split("-")
    if len(parts) > 2:
        return "value contains too many range separators '-'"
    for part in filter(None, (part.rstrip(" ") for part in parts)):
        if not _DATE.fullmatch(part):
            return "one of the date values does not match the pattern YYYYMMDD"
        if part[4:6] > "12":
            return "month component exceeds the value 12"
        if part[6:] > "31":
            return "day component exceeds the value 31"
    return None


def _decimal_string(value: str) -> str | None:
    if too_long := _longer(value, 16):
        return too_long
    return None if DECIMAL.fullmatch(value.strip()) else "value is no decimal string"


def _integer_string(value: str) -> str | None:
    if not value:
        return None
    digits = value.strip(" ")
    if not INTEGER.fullmatch(digits):
        return "value is not an integer string"
    return None if fits_int32(digits) else "value too large to fit 32 bit integer"


def fits_int32(digits: str) -> bool:
    """Whether a text of sign and ASCII digits is within 32 bits; the length is looked at before int() is."""
    return len(digits.lstrip("+-0")) <= 10 and -0x80000000 <= int(digits) <= 0x7FFFFFFF


def _long_string(value: str) -> str | None:
    if too_long := _longer(value, 64):
        return too_long
    return "value contains invalid character" if _CONTROL_BUT_ESC_OR_BACKSLASH.search(value) else None


def _person_name(value: str) -> str | None:
    groups = value.split("=")
    if len(groups) > 3:
        return "value contains too many groups"
    for group in groups:
        if too_long := _longer(group, 64):
            return too_long
        if _CONTROL_BUT_ESC.search(group):
            return "value contains invalid control character"
    return "value contains too many components" if any(group.count("^") > 4 for group in groups) else None


def _short_string(value: str) -> str | None:
    if _CONTROL_BUT_ESC_OR_BACKSLASH.search(value):
        return "value contains invalid character"
    return _longer(value, 16)


def _time(value: str) -> str | None:
    parts = value.split("-")
    if len(parts) > 2:
        return "value contains too many range separators '-'"
    for part in filter(None, (part.rstrip(" ") for part in parts)):
        if not _TIME.fullmatch(part):
            return "value does not mach pattern HH or HHMM or HHMMSS or HHMMSS.F{1-6}"
        if part[:2] > "23":
            return "hour component exceeds 23"
        if part[2:4] > "59":
            return "minutes component exceeds 59"
        if part[4:6] > "60":
            return "seconds component exceeds 60"
    return None


def _uid(value: str) -> str | None:
    value = value.rstrip(" ")
    if not value:
        return None
    if too_long := _longer(value, 64):
        return too_long
    if not _UID.fullmatch(value):
        return "value contains invalid characters other than '0'-'9' and '.'"
    if _LEADING_ZERO.search(value):
        return "components must not have leading zeros"
    return "a component can not be empty" if "" in value.split(".") else None


def _date_time(value: str) -> str | None:
    if "-0000" in value:
        return "negative UTC hours component with value -0000 is not allowed"
    if value.strip() == "-":
        return "both dateTime components in range cannot be empty"
    parts = _date_time_range(value)
    if isinstance(parts, str):
        return parts
    for part in filter(None, (part.rstrip(" ") for part in parts)):
        moment, *offset = re.split("[+-]", part)
        if found := _utc_offset(part, offset) or _moment(moment):
            return found
    return None


def _date_time_range(value: str) -> list[str] | str:
    """The one or two ends of a range, or what is wrong: a hyphen may separate them or begin an offset west of UTC."""
    parts = value.split("-")
    western = [_OFFSET.fullmatch(part) is not None and part <= "1200" for part in parts]
    if len(parts) > 4:
        return "value contains too many range separators '-'"
    if len(parts) == 4:
        return [f"{parts[0]}-{parts[1]}", f"{parts[2]}-{parts[3]}"]
    if len(parts) == 3:
        if western[1]:
            return [f"{parts[0]}-{parts[1]}", parts[2]]
        if western[2]:
            return [parts[0], f"{parts[1]}-{parts[2]}"]
        return "value is in invalid range format"
    return [value] if len(parts) == 2 and western[1] else parts


def _utc_offset(part: str, offset: list[str]) -> str | None:
    if not offset:
        return None
    if len(offset) > 1:
        return "value contains too many UTC separators '+' or '-'"
    if not _OFFSET.fullmatch(offset[0]):
        return "value does not match the UTC pattern &ZZXX"
    hours, minutes = offset[0][:2], offset[0][2:]
    if "+" in part and hours > "14":
        return "positive UTC hours component exceeds 14 (allowed range is -1200 to +1400)"
    if "+" not in part and hours > "12":
        return "negative UTC hours component exceeds 12 (allowed range is -1200 to +1400)"
    return "UTC minutes component exceeds 59" if minutes > "59" else None


def _moment(digits: str) -> str | None:
    if not _DATE_TIME.fullmatch(digits):
        return "value does not mach pattern YYYY[MM[DD[HH[MM[SS[.F{1-6}]]]]]]"
    for part, name, limit in (
        (digits[12:14], "seconds", "60"),
        (digits[10:12], "minutes", "59"),
        (digits[8:10], "hours", "23"),
        (digits[6:8], "day", "31"),
        (digits[4:6], "month", "12"),
    ):
        if part > limit:
            return f"{name} component exceeds {limit}"
        if part == "00" and name in ("day", "month"):
            return f"{name} component cannot be 0"
    return None


_RULES: dict[str, Callable[[str], str | None]] = {
    "AE": _application_entity,
    "AS": _age,
    "CS": _code_string,
    "DA": _date,
    "DS": _decimal_string,
    "DT": _date_time,
    "IS": _integer_string,
    "LO": _long_string,
    "LT": lambda value: _longer(value, 10240),
    "PN": _person_name,
    "SH": _short_string,
    "ST": lambda value: _longer(value, 1024),
    "TM": _time,
    "UI": _uid,
}


def reason(vr: str, value: str) -> str | None:
    """Why one value (outer padding removed) is not valid for its VR, in the words of store.md §3.4; None if it is.

    UC, UR, UT and the binary VRs have no content rule.
    """
    rule = _RULES.get(vr)
    return rule(value) if rule else None


def first_flaw(vr: str, text: str) -> tuple[str, str] | None:
    """The first invalid value of a decoded value field and the reason; None if all values are valid."""
    if vr not in _RULES or not text:
        return None
    for value in [text] if vr in SINGLE_VALUED else text.split("\\"):
        if found := reason(vr, value):
            return value, found
    return None

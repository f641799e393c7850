"""The primitive types of FHIR R4 (§2.24.0.1): for each, a check that returns a sentence on what is wrong, or None."""

import binascii
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from hounsfield.fhir.narrative import check_narrative
from hounsfield.fhir.periods import parse_period

MAX_STRING = 1024 * 1024
"""Characters of a string (R4 §2.24.0.1)."""

# Control characters, which FHIR advises against and XML and PostgreSQL cannot hold, and halves of characters.
_BAD_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]")
_CODE = re.compile("[^\\s\x00-\x1f\ud800-\udfff]+([ ][^\\s\x00-\x1f\ud800-\udfff]+)*")
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_OID = re.compile(r"urn:oid:[0-2](\.(0|[1-9][0-9]*))+")
_UUID = re.compile(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SPACE = re.compile(r"\s")
_DATE = re.compile(r"[0-9]{4}(-[0-9]{2}(-[0-9]{2})?)?")
_SECOND = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})"
_INSTANT = re.compile(_SECOND)
_DATE_TIME = re.compile(rf"{_DATE.pattern}|{_SECOND}")
_TIME = re.compile(r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?")

Check = Callable[[Any], str | None]


def _string(value: Any) -> str | None:
    if type(value) is not str:
        return "must be a string"
    if not value or value.isspace():
        return "must not be empty"
    if len(value) > MAX_STRING:
        return "must not be longer than 1 MiB"
    if _BAD_CHARACTER.search(value):
        return "must not hold control characters"
    return None


def _text(pattern: re.Pattern[str], sentence: str) -> Check:
    # The patterns exclude what _string refuses, so that one match suffices for what is right.
    def check(value: Any) -> str | None:
        if type(value) is str and pattern.fullmatch(value):
            return None
        return _string(value) or sentence

    return check


def _date(pattern: re.Pattern[str], sentence: str) -> Check:
    def check(value: Any) -> str | None:
        return _string(value) or (None if pattern.fullmatch(value) and parse_period(value) else sentence)

    return check


def _uri(value: Any) -> str | None:
    return _string(value) or ("must be a URI without white space" if _SPACE.search(value) else None)


def _base64(value: Any) -> str | None:
    if type(value) is not str or not value:
        return "must be a non-empty string"
    try:
        binascii.a2b_base64(_SPACE.sub("", value), strict_mode=True)
    except (binascii.Error, ValueError):
        return "must be base64"
    return None


def _boolean(value: Any) -> str | None:
    return None if type(value) is bool else "must be true or false"


def _decimal(value: Any) -> str | None:
    if type(value) is int or (type(value) is Decimal and value.is_finite()):
        return None
    return None if type(value) is float and math.isfinite(value) else "must be a number"


def _integer(least: int) -> Check:
    def check(value: Any) -> str | None:
        if type(value) is int and least <= value < 2**31:
            return None
        return f"must be a whole number from {least} to 2147483647"

    return check


def _xhtml(value: Any) -> str | None:
    return _string(value) or check_narrative(value)


CHECKS: dict[str, Check] = {
    "base64Binary": _base64,
    "boolean": _boolean,
    "canonical": _uri,
    "code": _text(_CODE, "must be a code: no leading, trailing or double spaces"),
    "date": _date(_DATE, "must be a date (YYYY, YYYY-MM or YYYY-MM-DD) that exists"),
    "dateTime": _date(_DATE_TIME, "must be a dateTime that exists; a time needs seconds and a zone"),
    "decimal": _decimal,
    "id": _text(_ID, "must be an id: 1 to 64 of A-Z a-z 0-9 - ."),
    "instant": _date(_INSTANT, "must be an instant: date, time to the second, and zone"),
    "integer": _integer(-(2**31)),
    "markdown": _string,
    "oid": _text(_OID, "must be an OID as urn:oid:…"),
    "positiveInt": _integer(1),
    "string": _string,
    "time": _text(_TIME, "must be a time (hh:mm:ss)"),
    "unsignedInt": _integer(0),
    "uri": _uri,
    "url": _uri,
    "uuid": _text(_UUID, "must be a UUID as urn:uuid:…"),
    "xhtml": _xhtml,
}

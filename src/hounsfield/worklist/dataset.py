"""Datasets of workitems in the DICOM JSON Model (PS3.18 annex F): read from a request, looked at, kept.

As strict as the model about shapes, as workitems are given back as they came; whether a text is a valid date or code is
not asked, as the reference does not ask it.
"""

import re
from datetime import UTC, datetime
from typing import Any

import msgspec
from isal import isal_zlib

from hounsfield.dicom import native_model
from hounsfield.dicom.dataset_reader import MAX_DEPTH
from hounsfield.dicom.dictionary import display_tag, key_of
from hounsfield.dicom.encodings import VRS
from hounsfield.dicom.values import BULK_VRS, NUMBER_CODES
from hounsfield.errors import BadRequest

Dataset = dict[str, Any]
"""Elements by eight upper-case hexadecimal digits."""

TRANSACTION_UID = key_of("TransactionUID")
SOP_CLASS_UID = key_of("SOPClassUID")
SOP_INSTANCE_UID = key_of("SOPInstanceUID")
PROCEDURE_STEP_STATE = key_of("ProcedureStepState")
WORKLIST_LABEL = key_of("WorklistLabel")
MODIFICATION_DATE_TIME = key_of("ScheduledProcedureStepModificationDateTime")

_key = re.compile(r"[0-9A-Fa-f]{8}").fullmatch
_NUMBERS = frozenset(NUMBER_CODES) | {"DS", "IS"}
_VALUES = ("Value", "InlineBinary", "BulkDataURI")
_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")


def parse(body: bytes) -> Dataset:
    """The first dataset of a JSON array of them. Raises BadRequest that names the attribute and the rule."""
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest("The request body is not valid JSON.") from error
    if not isinstance(found, list) or not found:
        raise BadRequest("The request body must be a JSON array of at least one dataset.")
    return _checked(found[0], 0)


def parse_xml(body: bytes) -> Dataset:
    """The dataset of a document of the Native DICOM Model (PS3.19 §A.1). Raises BadRequest."""
    try:
        found = native_model.from_xml(body)
    except native_model.BadDocument as error:
        raise BadRequest(f"The request body is invalid: {error}.") from error
    return _checked(found, 0)


def _checked(dataset: Any, depth: int) -> Dataset:
    if dataset is None:
        return {}  # an empty item (PS3.18 §F.2.5)
    if not isinstance(dataset, dict):
        raise BadRequest("The request body is invalid: a dataset must be a JSON object.")
    found: Dataset = {}
    for name, element in dataset.items():
        if not _key(name):
            raise BadRequest("The request body is invalid: the name of an attribute must be eight hexadecimal digits.")
        key = name.upper()
        if key in found:
            raise _flaw(key, "appears twice")
        found[key] = _element(key, element, depth)
    return dict(sorted(found.items()))


def _element(key: str, element: Any, depth: int) -> dict[str, Any]:
    vr = element.get("vr") if isinstance(element, dict) else None
    if not isinstance(vr, str) or vr not in VRS:
        raise _flaw(key, "has no VR that DICOM knows")
    given = [name for name in element if name != "vr"]
    if len(given) > 1 or not set(given).issubset(_VALUES):
        raise _flaw(key, "must have at most one of Value, InlineBinary and BulkDataURI, and nothing else")
    if not given:
        return {"vr": vr}
    value = element[given[0]]
    if given[0] != "Value":
        if not isinstance(value, str) or (given[0] == "InlineBinary" and vr not in BULK_VRS):
            raise _flaw(key, f"has no {given[0]} that its VR can have")
        return {"vr": vr, given[0]: value}
    if not isinstance(value, list):
        raise _flaw(key, "has a Value that is not an array")
    if vr == "SQ":
        if depth >= MAX_DEPTH:
            raise _flaw(key, "is nested deeper than this server reads")
        return {"vr": vr, "Value": [_checked(item, depth + 1) for item in value]}
    if not all(_is_value(vr, one) for one in value):
        raise _flaw(key, f"has a value that is not of the JSON type VR {vr} asks for")
    return {"vr": vr, "Value": value}


def _is_value(vr: str, value: Any) -> bool:
    if value is None:
        return True
    if vr == "PN":
        return isinstance(value, dict) and all(
            name in _GROUPS and isinstance(group, str | None) for name, group in value.items()
        )
    if vr in _NUMBERS:
        # As text where a number would lose digits (PS3.18 §F.2.3).
        return isinstance(value, int | float | str) and not isinstance(value, bool)
    return isinstance(value, str)


def _flaw(key: str, rule: str) -> BadRequest:
    return BadRequest(f"The request body is invalid: the attribute '{display_tag(int(key, 16))}' {rule}.")


def has_value(element: dict[str, Any]) -> bool:
    """Whether an element has an item, or a value that is not blank."""
    values = element.get("Value")
    if values is None:
        return bool(element.get("InlineBinary") or element.get("BulkDataURI"))
    return bool(values) if element["vr"] == "SQ" else any(map(_is_filled, values))


def _is_filled(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_is_filled, value.values()))
    return bool(value.strip(" \0\t\r\n")) if isinstance(value, str) else value is not None


def items(dataset: Dataset, key: str) -> list[Dataset]:
    """The items of a sequence; none where it is absent or no sequence."""
    element = dataset.get(key)
    return element.get("Value", []) if element is not None and element["vr"] == "SQ" else []


def text(dataset: Dataset, key: str) -> str:
    """The first value of an attribute without padding; empty where there is none or it is no text."""
    values = dataset.get(key, {}).get("Value") or [""]
    return values[0].rstrip(" \0") if isinstance(values[0], str) else ""


def element(vr: str, *values: Any) -> dict[str, Any]:
    """An element with these values, empty ones left out."""
    filled = [value for value in values if value not in (None, "")]
    return {"vr": vr, "Value": filled} if filled else {"vr": vr}


def now() -> str:
    """The time as a DT in UTC."""
    return datetime.now(UTC).strftime("%Y%m%d%H%M%S.%f")


def packed(dataset: Dataset) -> bytes:
    """The dataset as the database keeps it: compressed JSON, attributes in order of their tags."""
    return isal_zlib.compress(msgspec.json.encode(dict(sorted(dataset.items()))), 1)


def as_json(kept: bytes) -> bytes:
    """The JSON of a packed dataset."""
    return isal_zlib.decompress(kept)


def unpacked(kept: bytes) -> Dataset:
    """A packed dataset."""
    return decoded(as_json(kept))


decoded = msgspec.json.Decoder(Dataset).decode
"""The dataset of a JSON object."""
decoded_array = msgspec.json.Decoder(list[Dataset]).decode
"""The datasets of a JSON array."""

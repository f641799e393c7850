"""The reader's DICOM JSON beside pydicom's.

Differences that are meant, and taken out before comparing:
- private elements whose VR the file does not name (implicit VR, UN): left out in ours, in pydicom's dictionary;
  an empty sequence of undefined length among them is a sequence in ours (CP-246), UN in pydicom's;
- pydicom keeps blanks inside multi-valued text, drops white space around AE, DS, UI and UR, and reads
  null-padded numbers as text, or fails; it cuts IS values that are no integers, escapes in IS and DS, and the fourth
  group of a name;
- empty values among several, numbers that are not finite and empty groups of names are null or left out in ours
  (PS3.18 §F.2.5), "", NaN, Infinity or an error in pydicom's;
- numbers of implicit VR that need Pixel Representation are unsigned without one in ours, undecided in pydicom's;
- escapes of ISO 2022 IR 58 stay in pydicom's text.
"""

import math
from typing import Any

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException

from hounsfield.dicom.dictionary import attribute
from hounsfield.dicom.value_rules import INTEGER
from hounsfield.dicom.values import BULK_VRS


def theirs(dataset: Dataset) -> dict[str, Any]:
    """pydicom's DICOM JSON without what ours leaves out; None for elements it cannot convert."""
    result: dict[str, Any] = {}
    for tag in sorted(dataset.keys()):
        if tag.group in (2, 0xFFFE) or tag.element == 0:  # pydicom takes a delimiter too many for an element
            continue
        key = f"{int(tag):08X}"
        try:
            element = dataset[tag]
            if element.VR == "SQ":
                dataset._set_pixel_representation(element)  # pydicom forgets to where the sequence has no length
                items = [theirs(item) for item in element.value]
                result[key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
                continue
            model = element.to_json_dict(lambda _: "", 1 << 40)
        except (ValueError, TypeError, IndexError, BytesLengthException):
            result[key] = None
            continue
        if model["vr"] == "US or SS" or (model["vr"] == "IS" and not _whole(element)):
            result[key] = None
        elif model["vr"] not in BULK_VRS and " or " not in model["vr"]:
            result[key] = model
    return result


def _whole(element: DataElement) -> bool:
    """Whether the values of an IS are integers in the file, too."""
    values = element.value if element.VM > 1 else [element.value]
    return all(INTEGER.fullmatch(getattr(value, "original_string", "0").strip()) for value in values)


def _values(element: dict[str, Any]) -> list[Any]:
    """The values without padding; nothing but empty values is no value."""
    values = [_value(element["vr"], value) for value in element.get("Value", ())]
    return values if any(value is not None for value in values) else []


def _value(vr: str, value: Any) -> Any:
    if vr == "PN":
        groups = {name: group.split("=")[0].rstrip(" \0") for name, group in (value or {}).items()}
        return {name: group for name, group in groups.items() if group} or None
    if vr in ("DS", "FD", "FL"):
        try:
            return float(value) if math.isfinite(float(value)) else None
        except (TypeError, ValueError):
            pass
    if isinstance(value, str):
        value = value.replace("\0", " ").strip() if vr in ("AE", "DS", "UI", "UR") else value.rstrip(" \0")
    return None if value == "" else value


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-15)
    return bool(a == b)


def differences(ours: dict[str, Any], pydicoms: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    """What the two say differently, by key, at every depth."""
    found = []
    for key in sorted(ours.keys() | pydicoms.keys()):
        if key in pydicoms and pydicoms[key] is None:
            continue
        a, b = ours.get(key), pydicoms.get(key)
        if a is None and int(key[3], 16) % 2:  # private, and its VR known to pydicom only
            continue
        if a and a["vr"] in ("DS", "IS") and any("\x1b" in str(value) for value in a.get("Value", ())):
            continue
        if a == {"vr": "SQ"} and b is None and attribute(int(key, 16)) is None:
            continue
        if a is None or b is None or a["vr"] != b["vr"]:
            found.append((key, a, b))
        elif a["vr"] == "SQ" and len(a.get("Value", ())) == len(b.get("Value", ())):
            for one, other in zip(a.get("Value", ()), b.get("Value", ()), strict=True):
                found += differences(one, other)
        else:
            left, right = _values(a), _values(b)
            if len(left) != len(right) or not all(map(_same, left, right)):
                found.append((key, a, b))
    return found

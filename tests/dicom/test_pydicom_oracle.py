"""The reader says the same as pydicom, on pydicom's own files and the samples.

Differences that are meant, and taken out before comparing:
- private elements whose VR the file does not name (implicit VR, UN): left out in ours, in pydicom's dictionary;
- pydicom keeps trailing blanks inside multi-valued text and reads null-padded numbers as text, or fails;
- empty values among several are null in ours (PS3.18 §F.2.5), "" or an error in pydicom's;
- escapes of ISO 2022 IR 58 stay in pydicom's text.
"""

import json
import math
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset

from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.source import FileSource, UnreadableInstance
from hounsfield.dicom.values import BULK_VRS
from tests.dicom.samples import HERE, LARGE_SET, WITHOUT_LARGE, pydicom_read

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's complaints about the files

BUNDLED = sorted(
    path
    for folder in ("test_files", "charset_files")
    for path in (Path(pydicom.__file__).parent / "data" / folder).rglob("*.dcm")
) + sorted(HERE.glob("*.dcm"))
STRICTER = {
    "rtplan_truncated.dcm", "MR_truncated.dcm", "no_meta.dcm",  # cut off, or not DICOM from the first byte
    "rtstruct.dcm", "ExplVR_BigEndNoMeta.dcm", "ExplVR_LitEndNoMeta.dcm",  # pydicom itself wants force=True
}  # fmt: skip


def theirs(dataset: Dataset) -> dict[str, Any]:
    """pydicom's DICOM JSON without what ours leaves out; None for elements it cannot convert."""
    result: dict[str, Any] = {}
    for tag in sorted(dataset.keys()):
        if tag.group in (2, 0xFFFE) or tag.element == 0:  # pydicom takes a delimiter too many for an element
            continue
        key, element = f"{int(tag):08X}", dataset[tag]
        if element.VR == "SQ":
            items = [theirs(item) for item in element.value]
            result[key] = {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
            continue
        try:
            model = element.to_json_dict(lambda _: "", 1 << 40)
        except (ValueError, TypeError, IndexError):
            result[key] = None
            continue
        if model["vr"] not in BULK_VRS and " or " not in model["vr"]:
            result[key] = model
    return result


def same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, int | float) and isinstance(b, int | float):
        return math.isclose(a, b, rel_tol=1e-15)
    if isinstance(a, str) and isinstance(b, str):
        return a.rstrip(" \0") == b.rstrip(" \0")
    return a == b or (not a and not b)


def differences(ours: dict[str, Any], pydicoms: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    found = []
    for key in sorted(ours.keys() | pydicoms.keys()):
        if key in pydicoms and pydicoms[key] is None:
            continue
        a, b = ours.get(key), pydicoms.get(key)
        if a and b and a["vr"] == b["vr"] == "SQ" and len(a.get("Value", ())) == len(b.get("Value", ())):
            for one, other in zip(a.get("Value", ()), b.get("Value", ()), strict=True):
                found += differences(one, other)
        elif a is None and int(key[3], 16) % 2:  # private, and its VR known to pydicom only
            continue
        elif not same(a, b):
            found.append((key, a, b))
    return found


def compare(path: Path) -> list[tuple[str, Any, Any]]:
    dataset = pydicom_read(path, force=True)
    with FileSource(path) as source:
        ours = json.loads(metadata_json(read_instance(source).dataset))
    return differences(ours, theirs(dataset))


@pytest.mark.parametrize("path", [path for path in BUNDLED if path.name not in STRICTER], ids=lambda path: path.name)
def test_bundled_with_pydicom(path: Path) -> None:
    assert compare(path) == []


LARGE_PATHS = [sample.path for sample in LARGE_SET if "broken" not in sample.path.parts]
EXPLAINED = {
    ("CT-RDSR-Toshiba_MultiValSD.dcm", "0040A730"): "pydicom cannot convert one of its numbers",
    ("chrGB2312.dcm", "00100010"): "escapes stay in pydicom's text",
}


@pytest.mark.skipif(not LARGE_SET, reason=WITHOUT_LARGE)
def test_large_set() -> None:
    wrong = []
    for path in LARGE_PATHS:
        if path.name in STRICTER:
            continue
        try:
            found = compare(path)
        except UnreadableInstance as error:
            wrong.append((path.name, str(error), None, None))
            continue
        wrong += [(path.name, *difference) for difference in found if (path.name, difference[0]) not in EXPLAINED]
    assert wrong == []

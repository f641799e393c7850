"""The reader says the same as pydicom, on pydicom's own files and the samples; see oracle.py for what may differ."""

import json
from pathlib import Path
from typing import Any

import pydicom
import pytest

from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.source import FileSource, UnreadableInstance
from tests.dicom.oracle import differences, theirs
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

"""The data dictionary (PS3.6): tag → VR, multiplicity, keyword, name, and keyword → tag.

The content comes from pydicom's copy of PS3.6; this module only gives it the shape the readers and rules need.
Tags are integers (group << 16 | element) or *keys*: 8 upper-case hex digits as in the DICOM JSON model.
"""

import re
from functools import lru_cache
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import NamedTuple

Row = tuple[str, str, str, str, str]
"""VR, multiplicity, name, "Retired" or nothing, keyword."""


def _tables() -> tuple[dict[int, Row], dict[str, Row]]:
    """pydicom's tables of PS3.6: elements by tag, repeating groups by mask.

    Only the module that holds them is run: importing the package would load NumPy and the pixel handlers, 26 MB and
    0.3 s in every process of a server that needs neither.
    """
    package = find_spec("pydicom")
    assert package is not None and package.submodule_search_locations
    path = Path(package.submodule_search_locations[0]) / "_dicom_dict.py"
    spec = spec_from_file_location("hounsfield.dicom.ps3_6", path)
    assert spec is not None and spec.loader is not None
    tables = module_from_spec(spec)
    spec.loader.exec_module(tables)
    return tables.DicomDictionary, tables.RepeatersDictionary


DicomDictionary, RepeatersDictionary = _tables()

UNBOUNDED = 1 << 62
"""Upper multiplicity of ``1-n`` and the like."""


class Attribute(NamedTuple):
    """One row of PS3.6. ``vr`` may be a choice (``US or SS``); ``vm`` is the text, bounds are vm_min and vm_max."""

    vr: str
    vm: str
    vm_min: int
    vm_max: int
    name: str
    keyword: str


_VM = re.compile(r"(\d+)(?:-(\d*)(n?))?")


def _vm_bounds(text: str) -> tuple[int, int]:
    """Bounds of a multiplicity; ``2-2n`` is only bounded below, ``1-n or 1`` counts as ``1-n`` (store.md §3.4)."""
    found = _VM.match(text)
    if found is None:
        return 1, UNBOUNDED
    low = int(found[1])
    if found[3]:
        return low, UNBOUNDED
    return low, int(found[2]) if found[2] else low


def _attribute(row: tuple[str, str, str, str, str]) -> Attribute:
    vr, vm, name, _, keyword = row
    return Attribute(vr, vm.split(" or ")[0], *_vm_bounds(vm), name, keyword)


_REPEATING = [
    (int(mask.replace("x", "0"), 16), int("".join("0" if c == "x" else "F" for c in mask), 16), _attribute(row))
    for mask, row in RepeatersDictionary.items()
]
_TAGS = {row[4]: tag for tag, row in DicomDictionary.items() if row[4]}


@lru_cache(maxsize=16384)
def attribute(tag: int) -> Attribute | None:
    """The dictionary row of a tag, repeating groups (50xx, 60xx, …) included; None for private and unknown tags."""
    row = DicomDictionary.get(tag)
    if row is not None:
        return _attribute(row)
    if tag >> 16 & 1:
        return None
    return next((entry for value, mask, entry in _REPEATING if tag & mask == value), None)


def tag_of(keyword: str) -> int | None:
    """The tag of a keyword such as ``PatientID``; None if PS3.6 has no such keyword."""
    return _TAGS.get(keyword)


def key_of(keyword: str) -> str:
    """The key of a keyword known to exist: ``key_of("PatientID") == "00100020"``. KeyError otherwise."""
    return f"{_TAGS[keyword]:08X}"


def is_private(tag: int) -> bool:
    """Whether the group number is odd."""
    return bool(tag >> 16 & 1)


def display_tag(tag: int, creator: str | None = None) -> str:
    """``(gggg,eeee)`` in lower-case hex, with ``:creator`` inside the brackets when one is given."""
    inner = f"{tag >> 16:04x},{tag & 0xFFFF:04x}"
    return f"({inner}:{creator})" if creator else f"({inner})"

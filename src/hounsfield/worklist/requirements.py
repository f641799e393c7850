"""Holding datasets to the requirement table (PS3.4 Table CC.2.5-3; worklist.md, Requirement codes)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from hounsfield.dicom.dictionary import display_tag, key_of
from hounsfield.errors import BadRequest
from hounsfield.worklist import requirement_table
from hounsfield.worklist.dataset import Dataset, has_value, items

_LINE = re.compile(r"((?:> )*)(\w+)(?: \[(\w+)\])?((?: +\S+)+)")
_CODES = frozenset(("1", "2", "2+", "2C", "3", "0", "-", "."))


class Requirement(NamedTuple):
    """An attribute, its code, and the requirements on the items of a sequence."""

    key: str
    code: str
    items: tuple["Requirement", ...] = ()


class RequirementNotMet(BadRequest):
    """A dataset breaks a requirement; the text names the attribute by its tag."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text.format(tag=display_tag(int(key, 16))))


_MISSING = "The required tag '{tag}' is missing."
_NO_VALUE = "The value for tag '{tag}' is missing."
_EMPTY = "The attribute with tag '{tag}' must not be empty."
_NOT_EMPTY = "The attribute with tag '{tag}' must be empty."
_PRESENT = "The attribute with tag '{tag}' cannot be present."


def read(table: str, column: int, macros: Mapping[str, str] = requirement_table.MACROS) -> tuple[Requirement, ...]:
    """The requirements a table has in a column of codes, from 0."""
    lines = []
    for line in filter(None, table.splitlines()):
        found = _LINE.fullmatch(line)
        assert found is not None, line
        depth, keyword, macro, codes = found.groups()
        code = codes.split()[column]
        assert code in _CODES, line
        lines.append((len(depth) // 2, key_of(keyword), code, macro))
    return _nested(lines, 0, column, macros)


def _nested(
    lines: Sequence[tuple[int, str, str, str | None]], depth: int, column: int, macros: Mapping[str, str]
) -> tuple[Requirement, ...]:
    starts = [number for number, line in enumerate(lines) if line[0] == depth]
    found = []
    for start, end in pairwise([*starts, len(lines)]):
        _, key, code, macro = lines[start]
        inside = read(macros[macro], column, macros) if macro else ()
        found.append(Requirement(key, code, inside + _nested(lines[start + 1 : end], depth + 1, column, macros)))
    return tuple(found)


CREATE = read(requirement_table.TABLE, 0)
UPDATE = read(requirement_table.TABLE, 1)
COMPLETED = read(requirement_table.COMPLETED, 0)
CANCELED = read(requirement_table.CANCELED, 0)


def require(dataset: Dataset, requirements: Iterable[Requirement]) -> None:
    """Raise RequirementNotMet for the first requirement the dataset breaks."""
    for requirement in requirements:
        _require(dataset, requirement)
        for item in items(dataset, requirement.key) if requirement.items else ():
            require(item, requirement.items)


def _require(dataset: Dataset, requirement: Requirement) -> None:
    key, code, _ = requirement
    element = dataset.get(key)
    if element is None:
        if code in ("1", "2", "2+", "0"):
            raise RequirementNotMet(key, _MISSING)
    elif code == "-":
        raise RequirementNotMet(key, _PRESENT)
    elif has_value(element):
        if code == "0":
            raise RequirementNotMet(key, _NOT_EMPTY)
    elif code == "1":
        raise RequirementNotMet(key, _NO_VALUE)
    elif code in ("2+", "3"):
        raise RequirementNotMet(key, _EMPTY)

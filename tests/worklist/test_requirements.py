"""The requirement table: every row, for create and for update (PS3.4 Table CC.2.5-3)."""

from collections.abc import Iterator
from typing import Any

import pytest

from hounsfield.dicom import dictionary
from hounsfield.dicom.dictionary import display_tag
from hounsfield.worklist.requirements import (
    CANCELED,
    COMPLETED,
    CREATE,
    UPDATE,
    Requirement,
    RequirementNotMet,
    require,
)
from tests.worklist import make
from tests.worklist.make import Dataset, element, sequence

Path = tuple[Requirement, ...]

MISSING = "The required tag '{}' is missing."
NO_VALUE = "The value for tag '{}' is missing."
EMPTY = "The attribute with tag '{}' must not be empty."
FULL = "The attribute with tag '{}' must be empty."
PRESENT = "The attribute with tag '{}' cannot be present."

REFUSED: dict[str, dict[str, str]] = {
    "1": {"absent": MISSING, "empty": NO_VALUE},
    "2": {"absent": MISSING},
    "2+": {"absent": MISSING, "empty": EMPTY},
    "2C": {},
    "3": {"empty": EMPTY},
    "0": {"absent": MISSING, "full": FULL},
    "-": {"empty": PRESENT, "full": PRESENT},
    ".": {},
}
"""By code, how an attribute may not be, and what is said then."""


def every(requirements: tuple[Requirement, ...], above: Path = ()) -> Iterator[Path]:
    """All rows, those of items below those of their sequences."""
    for requirement in requirements:
        yield (*above, requirement)
        yield from every(requirement.items, (*above, requirement))


def full(requirement: Requirement) -> Dataset:
    """The attribute with a value that meets what is required of its items."""
    row = dictionary.attribute(int(requirement.key, 16))
    assert row is not None
    vr = row.vr.split(" or ")[0]
    if vr == "SQ":
        return sequence(smallest(requirement.items))
    value: Any = {"Alphabetic": "A^B"} if vr == "PN" else 1 if vr in ("IS", "DS", "US", "UL", "FD", "FL", "SL") else "1"
    return {"vr": vr, "InlineBinary": "AAAA"} if vr in ("OB", "OW", "UN") else element(vr, value)


def empty(requirement: Requirement) -> Dataset:
    return {"vr": full(requirement)["vr"]}


def smallest(requirements: tuple[Requirement, ...]) -> Dataset:
    """The least that meets all of them."""
    filled = {one.key: full(one) for one in requirements if one.code in ("1", "2+")}
    return filled | {one.key: empty(one) for one in requirements if one.code in ("2", "0")}


def with_one(path: Path, how: str, requirements: tuple[Requirement, ...]) -> Dataset:
    """A dataset in which everything is right but perhaps the attribute at the end of the path."""
    dataset = smallest(requirements)
    first, *rest = path
    if rest:
        dataset[first.key] = sequence(with_one(tuple(rest), how, first.items))
    elif how == "absent":
        dataset.pop(first.key, None)
    else:
        dataset[first.key] = full(first) if how == "full" else empty(first)
    return dataset


@pytest.mark.parametrize("table", [CREATE, UPDATE, COMPLETED, CANCELED], ids=["create", "update", "done", "canceled"])
def test_every_row(table: tuple[Requirement, ...]) -> None:
    walked = 0
    for path in every(table):
        if any(one.code in ("-", "0") for one in path[:-1]):
            continue  # there is nothing inside what must not be there
        last = path[-1]
        for how in ("absent", "empty", "full"):
            dataset = with_one(path, how, table)
            said = REFUSED[last.code].get(how)
            if said is None:
                require(dataset, table)
            else:
                with pytest.raises(RequirementNotMet) as refused:
                    require(dataset, table)
                assert refused.value.message == said.format(display_tag(int(last.key, 16))), (path, how)
            walked += 1
    assert walked >= 30


def test_blank_text_is_empty_and_what_is_not_listed_does_not_matter() -> None:
    blank = make.workitem(t00741204=element("LO", "  "), t00741000=element("CS", "X"), t00741202=element("LO", "X"))
    more = {"00080016": element("UI", "1"), "00080018": element("UI", "1"), "00404010": element("DT", "2026")}
    with pytest.raises(RequirementNotMet, match=r"The value for tag '\(0074,1204\)' is missing\."):
        require(blank | more, CREATE)
    require(
        blank | more | {"00741204": element("LO", "x"), "00091001": element("LO"), "00280010": element("US")}, CREATE
    )


def test_a_second_item_is_looked_at_too() -> None:
    items = sequence(make.code(), {"00080100": element("SH", "X")})
    with pytest.raises(RequirementNotMet, match=r"The required tag '\(0008,0104\)' is missing\."):
        require({"00404010": element("DT", "2026"), "00404018": items}, UPDATE)


@pytest.mark.parametrize(
    ("key", "create", "update"),
    [
        ("00081195", "0", "."),
        ("00100020", "3", "-"),
        ("00100030", "2+", "-"),
        ("00404034", "2C", "3"),
        ("00741000", "1", "-"),
        ("00741216", "2", "3"),
        ("00102000", "3", "3"),
        ("00741200", "1", "3"),
        ("0040A370", "2", "-"),
        ("00080018", "1", "-"),
    ],
)
def test_some_rows_as_the_standard_has_them(key: str, create: str, update: str) -> None:
    codes = [next(one.code for one in table if one.key == key) for table in (CREATE, UPDATE)]
    assert codes == [create, update]

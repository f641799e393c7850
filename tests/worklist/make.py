"""Workitems for tests, in the DICOM JSON Model."""

import uuid
from typing import Any

Dataset = dict[str, Any]


def new_uid() -> str:
    """A UID nobody has."""
    return f"2.25.{uuid.uuid4().int}"


def element(vr: str, *values: Any) -> Dataset:
    """An element, empty without values."""
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def sequence(*items: Dataset) -> Dataset:
    """A sequence."""
    return element("SQ", *items)


def code(value: str = "C", meaning: str = "a code") -> Dataset:
    """An item of a code sequence."""
    return {
        "00080100": element("SH", value),
        "00080102": element("SH", "99TEST"),
        "00080104": element("LO", meaning),
    }


def references() -> Dataset:
    """An item that refers to an instance."""
    sop = {"00081150": element("UI", "1.2.3"), "00081155": element("UI", "1.2.4")}
    return {"0040E020": element("CS", "DICOM"), "00081199": sequence(sop)}


def workitem(**changes: Dataset | None) -> Dataset:
    """The least a create must give; ``changes`` by tags (``t00100020``), None to leave one out."""
    dataset = {
        "00081195": element("UI"),
        "00741200": element("CS", "MEDIUM"),
        "00741204": element("LO", "Read it"),
        "00741210": sequence(),
        "00404025": sequence(),
        "00404026": sequence(),
        "00404027": sequence(),
        "00404005": element("DT", "20260110080000"),
        "00404018": sequence(),
        "00400400": element("LT"),
        "00404041": element("CS", "READY"),
        "00404021": sequence(),
        "00100010": element("PN"),
        "00100021": element("LO"),
        "00100024": sequence(),
        "00101002": sequence(),
        "00100030": element("DA", "19700101"),
        "00100040": element("CS", "O"),
        "00380010": element("LO", "ADM"),
        "00380014": sequence({}),
        "00081080": element("LO", "None"),
        "00081084": sequence(code()),
        "0040A370": sequence(),
        "00741002": sequence(),
        "00741216": sequence(),
    }
    return changed(dataset, **changes)


def changed(dataset: Dataset, **changes: Dataset | None) -> Dataset:
    """A dataset with attributes replaced, or left out where the change is None."""
    new = dataset | {tag.removeprefix("t"): value for tag, value in changes.items()}
    return {tag: value for tag, value in new.items() if value is not None}


def performed() -> Dataset:
    """What completing takes: a Performed Procedure Sequence."""
    return {
        "00741216": sequence(
            {
                "00404028": sequence(code()),
                "00404050": element("DT", "20260110080000"),
                "00404019": sequence(code()),
                "00404051": element("DT", "20260110083000"),
                "00404033": sequence(references()),
            }
        )
    }


def discontinued() -> Dataset:
    """What canceling takes: a Progress Information Sequence."""
    return {"00741002": sequence({"00404052": element("DT", "20260110080000"), "0074100E": sequence(code())})}


def to_state(state: str, transaction_uid: str) -> Dataset:
    """A request to change the state."""
    return {"00741000": element("CS", state), "00081195": element("UI", transaction_uid)}

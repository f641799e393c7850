"""A workitem with everything that becomes part of its Task."""

from typing import Any

from tests.worklist import make
from tests.worklist.make import Dataset, element, sequence

INPUT, OUTPUT = "1.2.10", "1.2.11"


def name(text: str) -> dict[str, Any]:
    """A PN value."""
    return {"Alphabetic": text}


def study(uid: str) -> Dataset:
    """An item that refers to an instance of a study."""
    return make.references() | {"0020000D": element("UI", uid), "0020000E": element("UI", f"{uid}.1")}


def coded(value: str, scheme: str, meaning: str) -> Dataset:
    """An item of a code sequence."""
    return {
        "00080100": element("SH", value),
        "00080102": element("SH", scheme),
        "00080104": element("LO", meaning),
    }


def request(**more: Dataset) -> Dataset:
    """An item of Referenced Request Sequence."""
    empty = {key: element("SQ") for key in ("00080051", "00400026", "00400027", "00321064")}
    texts = {"00080050": element("SH", "A1"), "00401001": element("SH", "RP1"), "00321060": element("LO", "Chest")}
    return {"0020000D": element("UI", INPUT)} | empty | texts | {key[1:]: value for key, value in more.items()}


def scheduled(**changes: Dataset | None) -> Dataset:
    """As it is created."""
    performer = {
        "00404009": sequence(coded("77", "99X", "Dr. House")),
        "00404037": element("PN", name("House^Gregory^^Dr.")),
        "00404036": element("LO", "PPTH"),
    }
    known = make.workitem(
        t00741200=element("CS", "HIGH"),
        t00741204=element("LO", "Read CT of the chest"),
        t00404025=sequence(coded("READ1", "99X", "Reading room 1")),
        t00404026=sequence(coded("WSD", "DCM", "Workstation")),
        t00404027=sequence(coded("B2", "99X", "Basement")),
        t00404034=sequence(performer),
        t00404005=element("DT", "20260110080000.5-0500"),
        t00404011=element("DT", "202601100900-0500"),
        t00404018=sequence(coded("110005", "DCM", "Interpretation")),
        t00400400=element("LT", "With contrast"),
        t00404021=sequence(study(INPUT), study(INPUT)),
        t0020000D=element("UI", OUTPUT),
        t00100010=element("PN", name("Doe^Jane")),
        t00100020=element("LO", "P1"),
        t00100021=element("LO", "urn:issuer"),
        t00100030=element("DA", "19700101"),
        t00100040=element("CS", "F"),
        t00380010=element("LO", "V1"),
        t0040A370=sequence(
            request(
                t00321032=element("PN", name("Wilson^James")),
                t0040100A=sequence(coded("49727002", "SCT", "Cough")),
                t00402016=element("LO", "PL1"),
            )
        ),
    )
    return make.changed(known, **changes)


def performed() -> Dataset:
    """What is said of it while it is done."""
    one = make.performed()["00741216"]["Value"][0]
    actual = {
        "00404009": sequence(coded("78", "99X", "Dr. Cameron")),
        "00404037": element("PN", name("Cameron^Allison")),
        "00404036": element("LO", "PPTH"),
    }
    return {
        "00741216": sequence(one | {"00404033": sequence(study(OUTPUT)), "00404035": sequence(actual)}),
        "00741002": sequence({"00741004": element("DS", 40), "00741006": element("LT", "Dictating")}),
    }


def discontinued(code: str = "110501", meaning: str = "Equipment failure") -> Dataset:
    """Why its owner gives it up."""
    progress = {
        "00404052": element("DT", "20260110084500"),
        "00741238": element("LT", "The display broke"),
        "0074100E": sequence(coded(code, "DCM", meaning)),
    }
    return {"00741002": sequence(progress)}

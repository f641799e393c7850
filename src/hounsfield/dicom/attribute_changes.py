"""What a bulk update sets: a DICOM JSON dataset of attributes that may be changed, checked value by value
(operations.md §2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from hounsfield.dicom.dates import parse_date, parse_time
from hounsfield.dicom.dictionary import attribute, display_tag, key_of
from hounsfield.dicom.encodings import VRS
from hounsfield.dicom.json_values import BadValue, value_field
from hounsfield.dicom.values import LOCALISED_VRS, Element, maker

CHANGEABLE = frozenset(
    key_of(keyword)
    for keyword in (
        # Patient Identification
        *("PatientName", "PatientID", "IssuerOfPatientID", "TypeOfPatientID", "OtherPatientIDs", "OtherPatientNames"),
        *("PatientBirthName", "PatientMotherBirthName", "MedicalRecordLocator"),
        # Patient Demographic
        *("PatientBirthDate", "PatientBirthTime", "PatientSex", "QualityControlSubject", "PatientAge", "PatientSize"),
        *("PatientWeight", "PatientAddress", "MilitaryRank", "BranchOfService", "CountryOfResidence"),
        *("RegionOfResidence", "PatientTelephoneNumbers", "EthnicGroup", "Occupation", "PatientReligiousPreference"),
        *("PatientSpeciesDescription", "PatientBreedDescription", "BreedRegistrationNumber", "ResponsiblePerson"),
        *("ResponsiblePersonRole", "ResponsibleOrganization", "PatientComments"),
        "ConfidentialityConstraintOnPatientDataDescription",
        # General Study
        *("AccessionNumber", "ReferringPhysicianName", "StudyDescription"),
    )
)
"""Keys of the attributes a bulk update may set, of a dataset's top level only."""

_FORBIDDEN = "Updating the tag is not supported"
_UTF8 = ("UTF8",)
_STORED = {"DA": parse_date, "TM": parse_time}
"""What a stored value must be, while the general rules also let pass what a search may ask for, and 30 February."""


@dataclass(frozen=True, slots=True)
class Change:
    """An attribute and its new value: as text with its delimiters, not padded, and as its DICOM JSON element."""

    tag: int
    vr: str
    text: str
    element: Element

    @property
    def key(self) -> str:
        """The attribute as the DICOM JSON model names it."""
        return f"{self.tag:08X}"


class Malformed(Exception):
    """The dataset is no DICOM JSON."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An attribute that cannot be set so; the reason holds no value."""

    tag: int
    reason: str

    @property
    def comment(self) -> str:
        """As an Error Comment (0000,0902) says it."""
        return f"DICOM100: {display_tag(self.tag)} - {self.reason}"


def read_changes(dataset: Mapping[str, Any]) -> tuple[list[Change], list[Refusal]]:
    """The changes a dataset asks for, by ascending tag, and what is wrong with it. Raises Malformed."""
    changes: dict[int, Change] = {}
    refusals: list[Refusal] = []
    for key, element in dataset.items():
        tag = _tag(key)
        if tag in changes:
            raise Malformed(f"{display_tag(tag)} is there twice")
        if not isinstance(element, dict) or not isinstance(element.get("vr"), str):
            raise Malformed(f"{display_tag(tag)} has no vr")
        try:
            changes[tag] = _change(tag, element)
        except BadValue as problem:
            refusals.append(Refusal(tag, str(problem)))
    return [changes[tag] for tag in sorted(changes)], refusals


def _tag(key: str) -> int:
    try:
        if len(key) != 8:
            raise ValueError
        return int.from_bytes(bytes.fromhex(key))
    except ValueError:
        raise Malformed("the name of an attribute is not eight hexadecimal digits") from None


def _change(tag: int, element: Mapping[str, Any]) -> Change:
    """Raises BadValue."""
    if f"{tag:08X}" not in CHANGEABLE:
        raise BadValue(_FORBIDDEN)
    vr, row = element["vr"], attribute(tag)
    if row is None or vr not in VRS or vr != row.vr:
        raise BadValue(f"The VR is not that of the attribute, {row.vr if row else 'UN'}")
    if "BulkDataURI" in element or "InlineBinary" in element:
        raise BadValue(f"VR {vr} is given as Value")
    values = element.get("Value")
    if values is None:
        values = []
    if not isinstance(values, list):
        raise BadValue("Value is no array")
    try:
        raw = value_field(vr, msgspec.Raw(msgspec.json.encode(values)))
    except BadValue as problem:
        raise BadValue(f"The attribute {problem}") from problem
    text = raw.decode("utf-8" if vr in LOCALISED_VRS else "latin_1")
    if "\x1b" in text or "\0" in text:
        raise BadValue(f"The attribute has control characters that VR {vr} does not allow")
    shown, flaw = maker(tag, vr, "<")(raw + b" " * (len(raw) % 2), _UTF8)
    if flaw is not None and flaw.strict is not None:
        # Behind the value, which is nobody's business.
        raise BadValue(f"The value does not validate VR {vr}: {flaw.strict.rpartition(': ')[2]}")
    if vr in _STORED and any(value and _STORED[vr](value) is None for value in shown.get("Value", ())):
        raise BadValue(f"The value does not validate VR {vr}: it is a range, or does not exist")
    return Change(tag, vr, text, shown)

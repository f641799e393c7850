"""Patient: what an instance says about its patient, and how that goes into the FHIR resource (dicom-cast.md §6.1)."""

from dataclasses import dataclass

from hounsfield.cast import person
from hounsfield.cast.failure import Table, invalid_tag, missing_tag
from hounsfield.cast.values import Values
from hounsfield.dicom.dates import partial_date
from hounsfield.dicom.person_name import parse
from hounsfield.fhir.target import Resource

PATIENT_NAME = "00100010"
PATIENT_ID = "00100020"
ISSUER_OF_PATIENT_ID = "00100021"
PATIENT_BIRTH_DATE = "00100030"
PATIENT_SEX = "00100040"

_GENDERS = {"M": "male", "F": "female", "O": "other"}
_KEPT_WITH_A_NAME = ("id", "extension", "use", "period")
"""Parts of an existing usual name that a new value of PatientName does not contradict."""


@dataclass(frozen=True, slots=True)
class PatientIdentity:
    """The identifier by which a Patient is found; ``system`` None means an identifier without system."""

    system: str | None
    value: str

    def identifier(self) -> Resource:
        """As a FHIR Identifier."""
        return ({} if self.system is None else {"system": self.system}) | {"value": self.value}


@dataclass(frozen=True, slots=True)
class PatientValues:
    """What one instance says; None where it says nothing."""

    identity: PatientIdentity
    name: Resource | None = None
    gender: str | None = None
    birth_date: str | None = None
    further_names: tuple[Resource, ...] | None = None
    """The name in ideographs and as spoken; None where that is not cast."""


def identity(values: Values, *, system: str, is_issuer_id_used: bool) -> PatientIdentity:
    """The Patient an instance belongs to. Raises EntryRefused without a PatientID."""
    value = values.text(PATIENT_ID)
    if value is None:
        raise missing_tag("PatientID")
    return PatientIdentity(values.text(ISSUER_OF_PATIENT_ID) if is_issuer_id_used else system or None, value)


def human_name(patient_name: str | None) -> Resource | None:
    """The usual HumanName of a PN value; None if it names nobody.

    >>> human_name("Adams^John Robert^Quincy^^B.A. M.Div.")
    {'use': 'usual', 'family': 'Adams', 'given': ['John', 'Robert', 'Quincy'], 'suffix': ['B.A.', 'M.Div.']}
    """
    return person.human_name(parse(patient_name or "").alphabetic)


def gender(values: Values) -> str | None:
    """FHIR's word for PatientSex, None where the tag is empty. Raises EntryRefused for anything but M, F, O."""
    codes = values.codes(PATIENT_SEX)
    if not any(codes):
        return None
    found = _GENDERS.get("\\".join(codes))
    if found is None:
        raise invalid_tag(Table.INVALID_TAG, "PatientSex", "\\".join(codes))
    return found


def birth_date(values: Values) -> str | None:
    """PatientBirthDate as a FHIR date."""
    return partial_date(values.code(PATIENT_BIRTH_DATE) or "")


def create(values: PatientValues) -> Resource:
    """A new Patient."""
    patient: Resource = {"resourceType": "Patient", "identifier": [values.identity.identifier()]}
    merge(patient, values)
    if values.birth_date:
        patient["birthDate"] = values.birth_date
    return patient


def merge(patient: Resource, values: PatientValues) -> None:
    """Bring ``patient`` up to date in place: name and gender, where the instance has them."""
    if values.name:
        names = patient.setdefault("name", [])
        usual = next((name for name in names if name.get("use") == "usual" and not person.representation(name)), None)
        if usual is None:
            names.append(dict(values.name))
        else:
            kept = {key: usual[key] for key in _KEPT_WITH_A_NAME if key in usual}
            usual.clear()
            usual.update(kept | values.name)
    if values.further_names is not None and (values.name or values.further_names):
        _merge_further_names(patient, values.further_names)
    if values.gender:
        patient["gender"] = values.gender


def _merge_further_names(patient: Resource, wanted: tuple[Resource, ...]) -> None:
    """Ideographs and syllables belong to the name they come with: those of a former name go."""
    names = patient.get("name", [])
    rest = [name for name in names if name.get("use") != "usual" or not person.representation(name)]
    if rest or wanted:
        patient["name"] = [*rest, *(dict(name) for name in wanted)]

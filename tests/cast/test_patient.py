"""Every row of the Patient mapping (dicom-cast.md §6.1)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.cast import patient
from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.patient import PatientIdentity, PatientValues
from hounsfield.cast.values import Values
from tests.cast.fhir_content import check
from tests.cast.memory_archive import dicom_json

IDENTITY = PatientIdentity(None, "P1")


@pytest.mark.parametrize(
    ("system", "is_issuer_id_used", "attributes", "identifier"),
    [
        ("", False, {}, {"value": "P1"}),
        ("urn:hospital", False, {}, {"system": "urn:hospital", "value": "P1"}),
        ("urn:hospital", False, {"IssuerOfPatientID": "Clinic"}, {"system": "urn:hospital", "value": "P1"}),
        ("", False, {"IssuerOfPatientID": "Clinic"}, {"value": "P1"}),
        ("urn:hospital", True, {"IssuerOfPatientID": "Clinic"}, {"system": "Clinic", "value": "P1"}),
        ("urn:hospital", True, {}, {"value": "P1"}),
        ("urn:hospital", True, {"IssuerOfPatientID": ""}, {"value": "P1"}),
    ],
)
def test_identifier(system: str, is_issuer_id_used: bool, attributes: dict[str, Any], identifier: Any) -> None:
    values = Values(dicom_json(PatientID="P1", **attributes))
    identity = patient.identity(values, system=system, is_issuer_id_used=is_issuer_id_used)
    assert identity.identifier() == identifier


@pytest.mark.parametrize("attributes", [{}, {"PatientID": ""}, {"PatientID": ["A", "B"]}, {"PatientID": "  "}])
def test_patient_id_is_required(attributes: dict[str, Any]) -> None:
    with pytest.raises(EntryRefused, match="'PatientID'") as refused:
        patient.identity(Values(dicom_json(**attributes)), system="", is_issuer_id_used=False)
    assert refused.value.name == "MissingRequiredDicomTagException"
    assert refused.value.table.value == "DicomFailToStoreExceptionTable"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "Adams^John Robert^Quincy^Rev.^B.A. M.Div.",
            {
                "use": "usual",
                "family": "Adams",
                "given": ["John", "Robert", "Quincy"],
                "prefix": ["Rev."],
                "suffix": ["B.A.", "M.Div."],
            },
        ),
        (
            "Morrison-Jones^Susan^^^Ph.D., Chief Executive Officer",
            {
                "use": "usual",
                "family": "Morrison-Jones",
                "given": ["Susan"],
                "suffix": ["Ph.D.,", "Chief", "Executive", "Officer"],
            },
        ),
        ("Doe", {"use": "usual", "family": "Doe"}),
        ("\t^John \u00a0^\n", {"use": "usual", "given": ["John"]}),
        ("\u3000", None),
        ("van der Berg^Jan", {"use": "usual", "family": "van der Berg", "given": ["Jan"]}),
        ("^Jane", {"use": "usual", "given": ["Jane"]}),
        (" Doe ^  Jane   Ann ^", {"use": "usual", "family": "Doe", "given": ["Jane", "Ann"]}),
        ("Yamada^Tarou=山田^太郎", {"use": "usual", "family": "Yamada", "given": ["Tarou"]}),
        ("Wang^XiaoDong^^^^^^", {"use": "usual", "family": "Wang", "given": ["XiaoDong"]}),
        ("^^^^", None),
        ("^ ^ ^", None),
        ("=山田^太郎", None),
        (None, None),
    ],
)
def test_name(text: str | None, name: Any) -> None:
    assert patient.human_name(text) == name


@given(st.text(alphabet=st.sampled_from("Aé山 ^=.,'\\-"), max_size=40))
def test_any_name_is_valid_fhir_or_none(text: str) -> None:
    name = patient.human_name(text)
    if name is not None:
        check({"resourceType": "Patient", "name": [name]})
        words = " ".join(
            [name.get("family", ""), *name.get("given", []), *name.get("prefix", []), *name.get("suffix", [])]
        )
        assert "^" not in words
        assert "=" not in words


@pytest.mark.parametrize(
    ("sex", "gender"),
    [("M", "male"), ("F", "female"), ("O", "other"), ("", None), (None, None), ("M ", "male"), ([""], None)],
)
def test_gender(sex: Any, gender: str | None) -> None:
    assert patient.gender(Values(dicom_json(PatientSex=sex))) == gender


@pytest.mark.parametrize(("sex", "shown"), [("m", "m"), ("X", "X"), ("Male", "Male"), (["M", "F"], "M\\F")])
def test_anything_else_is_an_invalid_gender(sex: Any, shown: str) -> None:
    with pytest.raises(EntryRefused) as refused:
        patient.gender(Values(dicom_json(PatientSex=sex)))
    assert refused.value.name == "InvalidDicomTagValueException"
    assert refused.value.message == f"The value '{shown}' is not valid for DICOM tag 'PatientSex'."
    assert shown not in refused.value.public.split("'")


@pytest.mark.parametrize(
    ("date", "birth_date"),
    [
        ("19700102", "1970-01-02"),
        ("197001", "1970-01"),
        ("1970", "1970"),
        ("", None),
        ("1970.01.02", None),
        ("19701332", None),
        (["19700102", "19700103"], None),
    ],
)
def test_birth_date(date: Any, birth_date: str | None) -> None:
    assert patient.birth_date(Values(dicom_json(PatientBirthDate=date))) == birth_date


def test_create_holds_what_there_is_and_nothing_else() -> None:
    assert patient.create(PatientValues(IDENTITY)) == {"resourceType": "Patient", "identifier": [{"value": "P1"}]}
    name = {"use": "usual", "family": "Doe"}
    created = patient.create(PatientValues(IDENTITY, name, "female", "1970-01-02"))
    assert created == {
        "resourceType": "Patient",
        "identifier": [{"value": "P1"}],
        "name": [name],
        "gender": "female",
        "birthDate": "1970-01-02",
    }
    check(created)


def test_later_instances_rewrite_the_usual_name_and_gender_only() -> None:
    known = {
        "resourceType": "Patient",
        "identifier": [{"value": "P1"}],
        "active": True,
        "name": [
            {"use": "official", "family": "Doe-Smith"},
            {"use": "usual", "family": "Do", "prefix": ["Dr."], "text": "Dr. Do", "period": {"start": "2020"}},
        ],
        "gender": "male",
        "birthDate": "1970",
    }
    patient.merge(known, PatientValues(IDENTITY, {"use": "usual", "family": "Doe"}, "female", "1980-01-01"))
    assert known == {
        "resourceType": "Patient",
        "identifier": [{"value": "P1"}],
        "active": True,
        "name": [
            {"use": "official", "family": "Doe-Smith"},
            {"use": "usual", "family": "Doe", "period": {"start": "2020"}},
        ],
        "gender": "female",
        "birthDate": "1970",
    }


def test_a_usual_name_is_added_beside_others() -> None:
    known = {"resourceType": "Patient", "name": [{"use": "official", "family": "Doe-Smith"}]}
    patient.merge(known, PatientValues(IDENTITY, {"use": "usual", "family": "Doe"}))
    assert known["name"] == [{"use": "official", "family": "Doe-Smith"}, {"use": "usual", "family": "Doe"}]


def test_absent_values_erase_nothing_and_a_birth_date_is_never_added() -> None:
    known = {"resourceType": "Patient", "name": [{"use": "usual", "family": "Doe"}], "gender": "female"}
    before = dict(known)
    patient.merge(known, PatientValues(IDENTITY, None, None, "1980-01-01"))
    assert known == before

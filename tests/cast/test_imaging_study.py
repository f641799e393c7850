"""Every row of the ImagingStudy mapping (dicom-cast.md §6.3)."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hounsfield.cast import imaging_study
from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.imaging_study import ImageValues, StudyDraft
from hounsfield.cast.reference import accession_identifier
from hounsfield.cast.values import Values
from hounsfield.fhir.target import Resource
from tests.cast.conftest import ROOT
from tests.cast.fhir_content import check
from tests.cast.memory_archive import CT_IMAGE, ct, dicom_json

PATIENT, ENDPOINT = "Patient/p", "Endpoint/e"


def image(**changes: Any) -> ImageValues:
    values: dict[str, Any] = {"sop_class": CT_IMAGE, "modality": "CT"}
    return ImageValues(**(values | changes))


def upsert(draft: StudyDraft, values: ImageValues, series: str = "1.2", sop: str = "1.3") -> Resource:
    draft.upsert(series, sop, values, subject=PATIENT, endpoint=ENDPOINT)
    assert draft.resource is not None
    check(draft.resource)
    return draft.resource


def new(values: ImageValues | None = None) -> Resource:
    return upsert(StudyDraft(None, "1.1", ROOT), values or image())


# --- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("date", "time", "offset", "started"),
    [
        ("20200102", "101112", "+00:00", "2020-01-02T10:11:12+00:00"),
        ("20200102", "101112.5", "-05:30", "2020-01-02T10:11:12.500-05:30"),
        ("20200102", "101112.123999", "+00:00", "2020-01-02T10:11:12.123+00:00"),
        ("20200102", "101112.0004", "+00:00", "2020-01-02T10:11:12+00:00"),
        ("20200102", "10", "+02:00", "2020-01-02T10:00:00+02:00"),
        ("20200102", "1011", "+02:00", "2020-01-02T10:11:00+02:00"),
        ("20200102", None, "+00:00", "2020-01-02"),
        ("20200102", "25", "+00:00", "2020-01-02"),
        ("20200102", "101112", None, "2020-01-02"),
        ("202001", "101112", "+00:00", "2020-01"),
        ("2020", None, "+00:00", "2020"),
        ("20200230", "101112", "+00:00", None),
        (None, "101112", "+00:00", None),
        (None, None, "+00:00", None),
    ],
)
def test_started(date: str | None, time: str | None, offset: str | None, started: str | None) -> None:
    assert imaging_study.started(date, time, offset) == started


@given(
    st.text(alphabet="0123456789", max_size=8),
    st.text(alphabet="0123456789.", max_size=13),
    st.sampled_from(["+00:00", "-11:30", None]),
)
def test_any_date_and_time_give_valid_fhir_or_nothing(date: str, time: str, offset: str | None) -> None:
    started = imaging_study.started(date, time, offset)
    if started is not None:
        study = new()
        study["started"] = started
        check(study)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        (None, "+00:00"),
        ("", "+00:00"),
        ("+0000", "+00:00"),
        ("-0500", "-05:00"),
        ("+05:30", "+05:30"),
        ("+5:30", "+05:30"),
        ("+1400", "+14:00"),
        (["+0100", "+0200"], "+00:00"),
    ],
)
def test_offset(text: Any, offset: str) -> None:
    assert imaging_study.offset(Values(dicom_json(TimezoneOffsetFromUTC=text))) == offset


@pytest.mark.parametrize("text", ["0500", "+1401", "+0560", "Z", "+05:30:00", "CET"])
def test_anything_else_is_an_invalid_offset(text: str) -> None:
    with pytest.raises(EntryRefused) as refused:
        imaging_study.offset(Values(dicom_json(TimezoneOffsetFromUTC=text)))
    assert refused.value.message == f"The value '{text}' is not valid for DICOM tag 'TimezoneOffsetFromUTC'."


# --- values of an instance -----------------------------------------------------------------------------------------


def test_read() -> None:
    values = Values(ct(TimezoneOffsetFromUTC="+0100"))
    assert imaging_study.read(values, imaging_study.offset(values)) == ImageValues(
        sop_class=CT_IMAGE,
        modality="CT",
        study_started="2024-01-31T10:11:12+01:00",
        accession_number="A1",
        study_description="Chest",
        series_number=3,
        series_description="Axial",
        series_started="2024-01-31T10:12:13+01:00",
        instance_number=7,
    )


def test_an_invalid_offset_leaves_both_started_with_the_date() -> None:
    read = imaging_study.read(Values(ct()), None)
    assert (read.study_started, read.series_started) == ("2024-01-31", "2024-01-31")


def test_all_but_the_sop_class_may_be_absent() -> None:
    assert imaging_study.read(Values(dicom_json(SOPClassUID=CT_IMAGE)), "+00:00") == ImageValues(CT_IMAGE)
    with pytest.raises(EntryRefused, match="'SOPClassUID'"):
        imaging_study.read(Values(ct(SOPClassUID=None)), "+00:00")


# --- the resource --------------------------------------------------------------------------------------------------


def test_created() -> None:
    everything = image(
        study_started="2024-01-31",
        accession_number="A1",
        study_description="Chest",
        series_number=3,
        series_description="Axial",
        series_started="2024-02-01",
        instance_number=7,
    )
    assert new(everything) == {
        "resourceType": "ImagingStudy",
        "meta": {"source": ROOT},
        "identifier": [
            {"system": "urn:dicom:uid", "value": "urn:oid:1.1"},
            {
                "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
                "value": "A1",
            },
        ],
        "status": "available",
        "subject": {"reference": PATIENT},
        "started": "2024-01-31",
        "modality": [{"system": "DCM", "code": "CT"}],
        "endpoint": [{"reference": ENDPOINT}],
        "note": [{"text": "Chest"}],
        "series": [
            {
                "uid": "1.2",
                "number": 3,
                "modality": {"system": "DCM", "code": "CT"},
                "description": "Axial",
                "started": "2024-02-01",
                "instance": [{"uid": "1.3", "sopClass": {"code": CT_IMAGE}, "number": 7}],
            }
        ],
    }


def test_created_from_the_least() -> None:
    study = new()
    assert "started" not in study
    assert "note" not in study
    assert study["series"] == [
        {
            "uid": "1.2",
            "modality": {"system": "DCM", "code": "CT"},
            "instance": [{"uid": "1.3", "sopClass": {"code": CT_IMAGE}}],
        }
    ]


def test_the_same_instance_again_changes_nothing() -> None:
    values = image(study_started="2024", accession_number="A", study_description="D", series_number=1)
    study = new(values)
    before = copy.deepcopy(study)
    assert upsert(StudyDraft(study, "1.1", ROOT), values) == before


@pytest.mark.parametrize(
    ("element", "first", "second", "after"),
    [
        ("started", {"study_started": "2020"}, {"study_started": "2021"}, "2021"),
        ("started", {"study_started": "2020"}, {}, "2020"),
        ("status", {}, {}, "available"),
        ("subject", {}, {}, {"reference": PATIENT}),
        ("meta", {}, {}, {"source": ROOT}),
        ("endpoint", {}, {}, [{"reference": ENDPOINT}]),
        ("note", {"study_description": "A"}, {"study_description": "B"}, [{"text": "A"}, {"text": "B"}]),
        ("note", {"study_description": "A"}, {"study_description": "A"}, [{"text": "A"}]),
        ("note", {"study_description": "A"}, {}, [{"text": "A"}]),
        (
            "modality",
            {},
            {"modality": "MR"},
            [{"system": "DCM", "code": "CT"}, {"system": "DCM", "code": "MR"}],
        ),
        ("modality", {}, {"modality": "ct"}, [{"system": "DCM", "code": "CT"}]),
    ],
)
def test_study_elements_on_later_instances(
    element: str, first: dict[str, Any], second: dict[str, Any], after: Any
) -> None:
    draft = StudyDraft(new(image(**first)), "1.1", ROOT)
    draft.upsert("1.9", "1.4", image(**second), subject="Patient/other", endpoint=ENDPOINT)
    assert draft.resource is not None
    assert draft.resource[element] == after


def test_accession_numbers_add_up() -> None:
    study = new(image(accession_number="A"))
    for number in ("A", "B", "B"):
        upsert(StudyDraft(study, "1.1", ROOT), image(accession_number=number))
    assert study["identifier"][1:] == [accession_identifier("A"), accession_identifier("B")]


@pytest.mark.parametrize(
    ("element", "first", "second", "after"),
    [
        ("number", {"series_number": 1}, {"series_number": 2}, 2),
        ("number", {"series_number": 1}, {}, 1),
        ("description", {"series_description": "A"}, {"series_description": "B"}, "B"),
        ("description", {"series_description": "A"}, {}, "A"),
        ("started", {"series_started": "2020"}, {"series_started": "2021"}, "2021"),
        ("started", {"series_started": "2020"}, {}, "2020"),
        ("modality", {}, {"modality": "MR"}, {"system": "DCM", "code": "MR"}),
        ("modality", {}, {"modality": None}, {"system": "DCM", "code": "CT"}),
    ],
)
def test_series_elements_on_later_instances(
    element: str, first: dict[str, Any], second: dict[str, Any], after: Any
) -> None:
    study = upsert(StudyDraft(new(image(**first)), "1.1", ROOT), image(**second), sop="1.4")
    assert len(study["series"]) == 1
    assert study["series"][0][element] == after


@pytest.mark.parametrize(
    ("first", "second", "after"),
    [
        ({}, {"sop_class": "1.9"}, {"uid": "1.3", "sopClass": {"code": "1.9"}}),
        (
            {"instance_number": 1},
            {"instance_number": 2},
            {"uid": "1.3", "sopClass": {"code": CT_IMAGE}, "number": 2},
        ),
        ({"instance_number": 1}, {}, {"uid": "1.3", "sopClass": {"code": CT_IMAGE}, "number": 1}),
    ],
)
def test_instance_elements_on_later_versions(first: dict[str, Any], second: dict[str, Any], after: Any) -> None:
    study = upsert(StudyDraft(new(image(**first)), "1.1", ROOT), image(**second))
    assert study["series"][0]["instance"] == [after]


def test_a_series_without_modality_is_refused_and_changes_nothing() -> None:
    draft = StudyDraft(None, "1.1", ROOT)
    with pytest.raises(EntryRefused, match="'Modality'"):
        draft.upsert("1.2", "1.3", image(modality=None), subject=PATIENT, endpoint=ENDPOINT)
    assert draft.resource is None
    study = new()
    before = copy.deepcopy(study)
    with pytest.raises(EntryRefused, match="'Modality'"):
        StudyDraft(study, "1.1", ROOT).upsert("1.99", "1.3", image(modality=None), subject=PATIENT, endpoint=ENDPOINT)
    assert study == before


def test_a_foreign_study_keeps_its_other_content() -> None:
    foreign = {
        "resourceType": "ImagingStudy",
        "id": "f",
        "meta": {"versionId": "3", "source": "urn:ris"},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.1"}, {"system": "urn:ris", "value": "7"}],
        "status": "registered",
        "subject": {"reference": "Patient/foreign"},
        "endpoint": [{"reference": f"http://fhir.example/{ENDPOINT}"}],
        "numberOfSeries": 5,
        "note": [{"text": "by hand", "time": "2020"}],
        "series": [{"uid": "1.8", "modality": {"system": "DCM", "code": "US"}, "laterality": {"code": "L"}}],
    }
    expected = copy.deepcopy(foreign) | {"modality": [{"system": "DCM", "code": "CT"}]}
    study = upsert(StudyDraft(foreign, "1.1", ROOT), image())
    added = study["series"].pop()
    assert added["uid"] == "1.2"
    assert study == expected


# --- removal -------------------------------------------------------------------------------------------------------


def three_instances() -> StudyDraft:
    draft = StudyDraft(None, "1.1", ROOT)
    for series, sop in (("1.2", "1.3"), ("1.2", "1.4"), ("1.5", "1.6")):
        upsert(draft, image(), series, sop)
    return draft


def uids(study: Resource | None) -> dict[str, list[str]]:
    assert study is not None
    return {series["uid"]: [one["uid"] for one in series["instance"]] for series in study.get("series", [])}


def test_removing_instance_series_study() -> None:
    draft = three_instances()
    draft.remove("1.2", "1.3")
    assert uids(draft.resource) == {"1.2": ["1.4"], "1.5": ["1.6"]}
    draft.remove("1.2", "1.4")
    assert uids(draft.resource) == {"1.5": ["1.6"]}
    draft.remove("1.5", "1.6")
    assert draft.resource is None


@pytest.mark.parametrize(("series", "sop"), [("1.2", "1.99"), ("1.99", "1.3"), ("1.5", "1.3")])
def test_removing_what_is_not_there_changes_nothing(series: str, sop: str) -> None:
    draft = three_instances()
    before = copy.deepcopy(draft.resource)
    draft.remove(series, sop)
    assert draft.resource == before
    nothing = StudyDraft(None, "1.1", ROOT)
    nothing.remove(series, sop)
    assert nothing.resource is None


def test_removed_and_stored_again_in_one_draft_is_a_new_study() -> None:
    draft = StudyDraft(new(image(study_description="old", accession_number="old")), "1.1", ROOT)
    draft.remove("1.2", "1.3")
    assert upsert(draft, image()) == new()


@pytest.mark.parametrize(
    ("source", "is_ours"),
    [
        (ROOT, True),
        (ROOT.rstrip("/"), True),
        (f"{ROOT}#abc", True),
        (f"{ROOT}studies", False),
        ("urn:ris", False),
        (None, False),
    ],
)
def test_only_a_study_of_ours_is_deleted(source: str | None, is_ours: bool) -> None:
    study = new()
    study["meta"] = {"versionId": "2"} | ({"source": source} if source else {})
    draft = StudyDraft(study, "1.1", ROOT)
    draft.remove("1.2", "1.3")
    if is_ours:
        assert draft.resource is None
    else:
        assert draft.resource is not None
        assert "series" not in draft.resource


def test_removal_recomputes_nothing_else() -> None:
    draft = three_instances()
    upsert(
        draft,
        image(modality="MR", study_description="MR", accession_number="M", study_started="2020"),
        "1.9",
        "1.9",
    )
    draft.remove("1.9", "1.9")
    study = draft.resource
    assert study is not None
    assert [coding["code"] for coding in study["modality"]] == ["CT", "MR"]
    assert study["note"] == [{"text": "MR"}]
    assert study["started"] == "2020"


# --- replaced values -----------------------------------------------------------------------------------------------


def test_keep_only_drops_our_own_values() -> None:
    study = new(image(study_description="old", accession_number="old"))
    study["note"] += [{"text": "by hand", "time": "2020"}, {"text": "new"}]
    study["identifier"] += [{"system": "urn:ris", "value": "old"}, accession_identifier("new")]
    StudyDraft(study, "1.1", ROOT).keep_only({"new"}, {"new"})
    assert study["note"] == [{"text": "by hand", "time": "2020"}, {"text": "new"}]
    assert study["identifier"][1:] == [{"system": "urn:ris", "value": "old"}, accession_identifier("new")]


def test_keep_only_leaves_foreign_studies_alone() -> None:
    study = new(image(study_description="old"))
    study["meta"]["source"] = "urn:ris"
    StudyDraft(study, "1.1", ROOT).keep_only(set(), set())
    assert study["note"] == [{"text": "old"}]


def test_set_subject_keeps_an_absolute_reference_to_the_same_patient() -> None:
    study = new()
    study["subject"] = {"reference": f"http://fhir.example/{PATIENT}", "display": "x"}
    StudyDraft(study, "1.1", ROOT).set_subject(PATIENT)
    assert study["subject"]["display"] == "x"
    StudyDraft(study, "1.1", ROOT).set_subject("Patient/q")
    assert study["subject"] == {"reference": "Patient/q"}

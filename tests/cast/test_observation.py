"""Observations from dose reports (dicom-cast.md §6.4)."""

import warnings
from typing import Any

import pytest
from pydicom import dcmread

from hounsfield.cast import observation
from hounsfield.cast.reference import accession_identifier, study_identifier
from hounsfield.cast.values import Values
from hounsfield.fhir.target import Resource
from tests.cast.dose_report import code, coded, event, node, num, report
from tests.cast.fhir_content import check
from tests.cast.memory_archive import ct
from tests.dicom.samples import LARGE, WITHOUT_LARGE

DCM = "http://dicom.nema.org/resources/ontology/DCM"
UCUM = "http://unitsofmeasure.org"


def read(metadata: dict[str, Any]) -> list[Resource]:
    found = list(observation.read(Values(metadata), "1.1", "1.3"))
    for one in found:
        check(one | {"subject": {"reference": "Patient/p"}})
    return found


def components(one: Resource) -> dict[str, Any]:
    return {
        component["code"]["coding"][0]["code"]: next(value for key, value in component.items() if key != "code")
        for component in one.get("component", [])
    }


def test_summary() -> None:
    assert read(report(num("113813", "415.82"))) == [
        {
            "resourceType": "Observation",
            "identifier": [
                study_identifier("1.1"),
                accession_identifier("A1"),
                {"system": "urn:hounsfield:observation", "value": "1.3#0"},
            ],
            "status": "preliminary",
            "code": {
                "coding": [{"system": "http://loinc.org", "code": "73569-6"}],
                "text": "Radiation exposure and protection information",
            },
            "component": [
                {
                    "code": {
                        "coding": [{"system": DCM, "code": "113813"}],
                        "text": "CT Dose Length Product Total",
                    },
                    "valueQuantity": {"value": 415.82, "unit": "mGy.cm", "system": UCUM, "code": "mGy.cm"},
                }
            ],
        }
    ]


def test_event() -> None:
    region = coded(code("123014"), code("T-D3000", "SRT", "Chest"))
    phantom = coded(code("113835"), code("113691", "DCM", "IEC Body Dosimetry Phantom"))
    found = read(report(event(region, num("113830", 5.3, "mGy"), num("113838", 161, "mGy.cm"), phantom), kind="0"))
    assert found == [
        {
            "resourceType": "Observation",
            "identifier": [
                study_identifier("1.1"),
                {"system": "urn:hounsfield:observation", "value": "1.3#0"},
            ],
            "status": "preliminary",
            "code": {"coding": [{"system": DCM, "code": "113852"}], "text": "Irradiation Event"},
            "bodySite": {"coding": [{"system": "SRT", "code": "T-D3000"}], "text": "Chest"},
            "component": [
                {
                    "code": {"coding": [{"system": DCM, "code": "113830"}], "text": "Mean CTDIvol"},
                    "valueQuantity": {"value": 5.3, "unit": "mGy", "system": UCUM, "code": "mGy"},
                },
                {
                    "code": {"coding": [{"system": DCM, "code": "113838"}], "text": "DLP"},
                    "valueQuantity": {"value": 161, "unit": "mGy.cm", "system": UCUM, "code": "mGy.cm"},
                },
                {
                    "code": {"coding": [{"system": DCM, "code": "113835"}], "text": "CTDIw Phantom Type"},
                    "valueCodeableConcept": {
                        "coding": [{"system": DCM, "code": "113691"}],
                        "text": "IEC Body Dosimetry Phantom",
                    },
                },
            ],
        }
    ]


@pytest.mark.parametrize("kind", ["113701", "113500"])
def test_kinds_of_report(kind: str) -> None:
    assert [one["code"]["text"] for one in read(report(node(code("1")), kind=kind))] == [
        "Radiation exposure and protection information"
    ]


@pytest.mark.parametrize("kind", ["113706", "113819", "113502"])
def test_kinds_of_event(kind: str) -> None:
    found = read(report(node(code("1"), event(kind=kind)), kind="0"))
    assert [one["code"]["text"] for one in found] == ["Irradiation Event"]


def test_an_event_needs_its_uid_as_a_direct_child() -> None:
    uid = node(code("113769"), ValueType="UIDREF", UID="1.9")
    for child in (node(code("1"), uid), node(code("113769"), ValueType="UIDREF"), num("113838", 1)):
        assert read(report(node(code("113819"), child), kind="0")) == []


@pytest.mark.parametrize(
    ("number", "text"),
    [
        ("113725", "Dose (RP) Total"),
        ("111637", "Accumulated Average Glandular Dose"),
        ("113722", "Dose Area Product Total"),
        ("113726", "Fluoro Dose Area Product Total"),
        ("113727", "Acquisition Dose Area Product Total"),
        ("113730", "Total Fluoro Time"),
        ("113507", "Administered activity"),
        ("113813", "CT Dose Length Product Total"),
        ("113830", "Mean CTDIvol"),
        ("123005", "Radiopharmaceutical Volume"),
    ],
)
def test_quantities_of_a_summary(number: str, text: str) -> None:
    (one,) = read(report(node(code("1"), num(number, "1.5", "u"))))
    assert one["component"] == [
        {
            "code": {"coding": [{"system": DCM, "code": number}], "text": text},
            "valueQuantity": {"value": 1.5, "unit": "u", "system": UCUM, "code": "u"},
        }
    ]


@pytest.mark.parametrize(("number", "text"), [("113731", "Total Number of Radiographic Frames"), ("113812", None)])
def test_integers_of_a_summary(number: str, text: str | None) -> None:
    (one,) = read(report(num(number, "27", "1")))
    named: dict[str, Any] = {"coding": [{"system": DCM, "code": number}]} | ({"text": text} if text else {})
    assert one["component"] == [{"code": named, "valueInteger": 27}]
    (none,) = read(report(num(number, "0", "1")))
    assert "component" not in none


@pytest.mark.parametrize(("number", "name"), [("349358000", "Radiopharmaceutical agent"), ("89457008", "Radionuclide")])
def test_strings_of_a_summary(number: str, name: str) -> None:
    of_code = coded(code(number, "SCT"), code("1", "SCT", "Fluorine"))
    of_text = node(code(number, "SCT"), ValueType="TEXT", TextValue="Fluorine")
    for item in (of_code, of_text):
        (one,) = read(report(item))
        assert one["component"] == [
            {
                "code": {"coding": [{"system": "http://snomed.info/sct", "code": number}], "text": name},
                "valueString": "Fluorine",
            }
        ]


def test_route_of_administration() -> None:
    (one,) = read(report(coded(code("410675002", "SCT"), code("G-D101", "SRT", "Intravenous"))))
    value = {"coding": [{"system": "SRT", "code": "G-D101"}], "text": "Intravenous"}
    assert components(one) == {"410675002": value}


@pytest.mark.parametrize(
    "child",
    [
        num("113813", "x"),
        num("113813", None),
        node(code("113813"), ValueType="NUM"),
        node(code("113813"), ValueType="TEXT", TextValue="5"),
        num("113813", 1, scheme="99LOCAL"),
        coded(code("410675002", "SCT"), {}),
    ],
)
def test_what_cannot_be_read_is_left_out(child: dict[str, Any]) -> None:
    (one,) = read(report(child))
    assert "component" not in one


def test_only_the_first_child_of_a_node_counts_but_every_node() -> None:
    acquisitions = [event(num("113830", value, "mGy"), num("113830", 99, "mGy"), uid=f"1.{value}") for value in (1, 2)]
    summary, *events = read(report(*acquisitions))
    assert [component["valueQuantity"]["value"] for component in summary["component"]] == [1, 2]
    assert [one["component"][0]["valueQuantity"]["value"] for one in events] == [1, 2]


def test_keys_count_in_document_order() -> None:
    found = read(report(node(code("1"), event()), event(), event()))
    assert [observation.key(one) for one in found] == ["1.3#0", "1.3#1", "1.3#2", "1.3#3"]
    assert [observation.is_summary(one) for one in found] == [True, False, False, False]


@pytest.mark.parametrize(
    ("item", "tag", "number"),
    [
        (node(code("121022"), ValueType="TEXT", TextValue="FromReport"), "A1", "FromReport"),
        (node(code("121022"), ValueType="TEXT"), "A1", "A1"),
        (node(code("1"), node(code("121022"), ValueType="TEXT", TextValue="Deep")), "A1", "A1"),
        (node(code("1")), None, None),
    ],
)
def test_accession_number_of_a_summary(item: dict[str, Any], tag: str | None, number: str | None) -> None:
    (one,) = read(report(item, AccessionNumber=tag))
    expected = [accession_identifier(number)] if number else []
    assert one["identifier"][1:-1] == expected


def test_no_report_no_observations() -> None:
    assert read(report(num("113813", 1), kind="121058")) == []
    assert read(ct()) == []
    (bare,) = read(report(kind="113701"))
    assert "component" not in bare


@pytest.mark.parametrize(
    ("one", "is_from_dose_report"),
    [
        ({"code": observation.DOSE_SUMMARY}, True),
        ({"code": {"coding": [{"system": DCM, "code": "113852"}]}}, True),
        ({"code": {"text": "x"}, "identifier": [{"system": "urn:hounsfield:observation", "value": "1#0"}]}, True),
        ({"code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]}}, False),
        ({}, False),
    ],
)
def test_is_from_dose_report(one: Resource, is_from_dose_report: bool) -> None:
    assert observation.is_from_dose_report(one) == is_from_dose_report


def test_a_key_belongs_to_one_instance_only() -> None:
    assert observation.is_of("1.3#0", "1.3")
    assert not observation.is_of("1.33#0", "1.3")


@pytest.mark.skipif(not LARGE.is_dir(), reason=WITHOUT_LARGE)
@pytest.mark.parametrize(
    ("name", "events", "some"),
    [
        ("CT-ESR-GE_Optima.dcm", 6, {"113813": 415.82, "113812": 6}),
        ("CT-RDSR-Siemens_Flash-TAP-SS.dcm", 4, {"113813": 724.52, "113812": 4}),
        ("MG-RDSR-Hologic_2D.dcm", 2, {"111637": 1.3}),
        ("DX-RDSR-Canon_CXDI.dcm", 1, {"113722": 1.07e-05}),
        ("RF-RDSR-Philips_Allura.dcm", 3, {"113730": 13.0, "113731": 27}),
        ("NM-RRDSR-Siemens.dcm", 0, {"113507": 394.0}),
    ],
)
def test_reports_of_real_devices(name: str, events: int, some: dict[str, float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metadata = dcmread(LARGE / "objects" / "dose-sr" / name).to_json_dict(suppress_invalid_tags=True)
    summary, *rest = read(metadata)
    assert len(rest) == events
    found = components(summary)
    values = {key: value["value"] if isinstance(value, dict) else value for key, value in found.items()}
    assert {key: values[key] for key in some} == some

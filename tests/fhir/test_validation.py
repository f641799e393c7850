"""Resources that R4 allows, and those it does not."""

import copy
from typing import Any

import pytest
from fhir.resources.R4B import get_fhir_model_class

from hounsfield.fhir.definitions import resource_names, types
from hounsfield.fhir.outcomes import Invalid
from hounsfield.fhir.search_parameters import TYPES
from hounsfield.fhir.validation import MAX_ISSUES, Checked, validate
from tests.fhir.resources import endpoint, observation, patient, study

Json = dict[str, Any]
DIV = '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'


def check(resource: Json) -> Checked:
    return validate(resource, resource["resourceType"], ("http://own.example/fhir",))


def problems(resource: Json) -> list[tuple[str, str]]:
    """Path and code of each issue."""
    with pytest.raises(Invalid) as caught:
        check(resource)
    assert caught.value.status == 400
    return [(issue.expression, issue.code) for issue in caught.value.issues]


RICH_PATIENT: Json = {
    "resourceType": "Patient",
    "id": "a",
    "meta": {"source": "http://x", "profile": ["http://p"], "tag": [{"system": "http://t", "code": "c"}]},
    "language": "de",
    "text": {"status": "generated", "div": DIV},
    "contained": [
        {"resourceType": "Organization", "id": "org", "name": "X", "active": True},
        {"resourceType": "Patient", "id": "inner", "link": [{"other": {"reference": "#"}, "type": "refer"}]},
    ],
    "extension": [
        {"url": "http://e", "extension": [{"url": "sub", "valueDecimal": 1.5}, {"url": "code", "valueCode": "a"}]},
        {"url": "http://f", "valueReference": {"reference": "Practitioner/1"}},
        {"url": "http://g", "valueDosage": {"doseAndRate": [{"doseQuantity": {"value": 1}}]}},
    ],
    "modifierExtension": [{"url": "http://m", "valueBoolean": True}],
    "identifier": [{"use": "official", "system": "urn:s", "value": "1", "assigner": {"reference": "#org"}}],
    "active": True,
    "name": [{"family": "A", "given": ["B", None], "_given": [None, {"id": "g"}], "_family": {"id": "f"}}],
    "telecom": [{"system": "phone", "value": "1", "rank": 1, "period": {"start": "2020", "end": "2020"}}],
    "gender": "other",
    "birthDate": "1970-01",
    "_birthDate": {"extension": [{"url": "http://time", "valueDateTime": "1970-01-01T10:00:00Z"}]},
    "deceasedBoolean": False,
    "address": [{"line": ["x"], "type": "both"}],
    "multipleBirthInteger": 2,
    "photo": [{"contentType": "image/png", "data": "YQ=="}],
    "contact": [{"name": {"text": "C"}}],
    "communication": [{"language": {"text": "Deutsch"}, "preferred": True}],
    "managingOrganization": {"reference": "#org"},
    "link": [{"other": {"reference": "http://own.example/fhir/Patient/b"}, "type": "seealso"}],
}
RICH_OBSERVATION = observation(
    "Patient/a",
    valueQuantity={"value": 1.5, "unit": "mGy", "system": "http://unitsofmeasure.org", "code": "mGy"},
    component=[
        {"code": {"text": "x"}, "valueInteger": 1, "referenceRange": [{"low": {"value": 1}, "high": {"value": 2}}]},
        {"code": {"text": "y"}, "dataAbsentReason": {"text": "z"}},
    ],
    effectiveTiming={"event": ["2020-01-01"], "repeat": {"boundsPeriod": {"start": "2020"}, "dayOfWeek": ["mon"]}},
    referenceRange=[{"text": "x", "age": {"low": {"value": 1, "unit": "a"}}}],
    note=[{"text": "x", "authorString": "y", "time": "2020-01-01T00:00:00Z"}],
)
RICH_STUDY = study("1.2", "Patient/a", 2, started="2020-01-01", note=[{"text": "x"}], numberOfSeries=0)


@pytest.mark.parametrize(
    "resource",
    [
        RICH_PATIENT,
        RICH_OBSERVATION,
        RICH_STUDY,
        patient(),
        endpoint(),
        study("1.2", "Group/a"),
        observation("Location/1"),
    ],
)
def test_good_resources(resource: Json) -> None:
    kept = copy.deepcopy(resource)
    get_fhir_model_class(resource["resourceType"]).model_validate(copy.deepcopy(resource))
    assert check(resource).resource == kept


def test_an_extension_may_have_a_value_that_has_only_extensions() -> None:
    check(patient(extension=[{"url": "http://h", "_valueString": {"extension": [{"url": "u", "valueCode": "x"}]}}]))


BAD: list[tuple[str, Json, tuple[str, str]]] = [
    ("unknown element", patient(zzz=1), ("Patient", "structure")),
    ("element of another type", patient(series=[]), ("Patient", "structure")),
    (
        "resourceType inside",
        patient(name=[{"resourceType": "HumanName", "family": "x"}]),
        ("Patient.name[0]", "structure"),
    ),
    ("empty string", patient(language=""), ("Patient.language", "value")),
    ("empty array", patient(name=[]), ("Patient.name", "structure")),
    ("empty object", patient(name=[{}]), ("Patient.name[0]", "structure")),
    ("null", patient(gender=None), ("Patient.gender", "value")),
    ("null for complex", patient(name=None), ("Patient.name", "structure")),
    ("null in array", patient(name=[None]), ("Patient.name[0]", "structure")),
    ("null in primitives", patient(name=[{"given": ["x", None]}]), ("Patient.name[0].given[1]", "structure")),
    ("single for array", patient(name={"family": "x"}), ("Patient.name", "structure")),
    ("array for single", patient(gender=["male"]), ("Patient.gender", "value")),
    ("array for complex", patient(maritalStatus=[{"text": "x"}]), ("Patient.maritalStatus", "structure")),
    ("string for complex", patient(name=["x"]), ("Patient.name[0]", "structure")),
    ("array of strings for array of arrays", patient(name=[{"given": "x"}]), ("Patient.name[0].given", "structure")),
    ("required code", patient(gender="M"), ("Patient.gender", "code-invalid")),
    ("bad id", patient(id="a b"), ("Patient.id", "value")),
    ("bad date", patient(birthDate="1970-02-30"), ("Patient.birthDate", "value")),
    ("dateTime for date", patient(birthDate="1970-01-01T00:00:00Z"), ("Patient.birthDate", "value")),
    ("two types", patient(deceasedBoolean=True, deceasedDateTime="2020"), ("Patient.deceased[x]", "structure")),
    ("type of choice not allowed", patient(deceasedString="x"), ("Patient", "structure")),
    ("untyped choice", patient(deceased=True), ("Patient", "structure")),
    ("missing status", {k: v for k, v in endpoint().items() if k != "status"}, ("Endpoint.status", "required")),
    (
        "missing payloadType",
        {k: v for k, v in endpoint().items() if k != "payloadType"},
        ("Endpoint.payloadType", "required"),
    ),
    (
        "missing uid",
        study("1.2", "Patient/a", series=[{"modality": {"code": "CT"}}]),
        ("ImagingStudy.series[0].uid", "required"),
    ),
    (
        "missing modality",
        study("1.2", "Patient/a", series=[{"uid": "1"}]),
        ("ImagingStudy.series[0].modality", "required"),
    ),
    (
        "missing sopClass",
        study("1.2", "Patient/a", series=[{"uid": "1", "modality": {"code": "CT"}, "instance": [{"uid": "1"}]}]),
        ("ImagingStudy.series[0].instance[0].sopClass", "required"),
    ),
    ("reference to another type", study("1.2", "Endpoint/a"), ("ImagingStudy.subject.reference", "value")),
    ("reference to no type", study("1.2", "Nonsense/a"), ("ImagingStudy.subject.reference", "value")),
    (
        "own absolute URL of another type",
        study("1.2", "http://own.example/fhir/Endpoint/a"),
        ("ImagingStudy.subject.reference", "value"),
    ),
    ("no reference at all", study("1.2", "not a reference"), ("ImagingStudy.subject.reference", "value")),
    (
        "contradicting type",
        {**study("1.2", "x"), "subject": {"reference": "Patient/a", "type": "Device"}},
        ("ImagingStudy.subject.type", "value"),
    ),
    ("local reference to nothing", study("1.2", "#nobody"), ("ImagingStudy", "invariant")),
    ("extension without url", patient(extension=[{"valueString": "x"}]), ("Patient.extension[0].url", "required")),
    ("extension with nothing", patient(extension=[{"url": "http://x"}]), ("Patient.extension[0]", "invariant")),
    (
        "extension with value and extension",
        patient(extension=[{"url": "http://x", "valueCode": "a", "extension": [{"url": "a", "valueCode": "a"}]}]),
        ("Patient.extension[0]", "invariant"),
    ),
    ("shadow of a complex element", patient(_name={"id": "x"}), ("Patient", "structure")),
    ("empty shadow", patient(_gender={}), ("Patient.gender", "structure")),
    ("shadow with a value", patient(_gender={"value": "x"}), ("Patient.gender", "structure")),
    (
        "shadows of another length",
        patient(name=[{"given": ["x"], "_given": [None, {"id": "x"}]}]),
        ("Patient.name[0]._given", "structure"),
    ),
    ("shadows all null", patient(name=[{"given": ["x"], "_given": [None]}]), ("Patient.name[0]._given", "structure")),
    (
        "contained without id",
        patient(contained=[{"resourceType": "Organization"}]),
        ("Patient.contained[0].id", "required"),
    ),
    (
        "contained of no type",
        patient(contained=[{"resourceType": "Nonsense", "id": "x"}]),
        ("Patient.contained[0]", "structure"),
    ),
    (
        "contained in contained",
        patient(
            contained=[{"resourceType": "Patient", "id": "x", "contained": [{"resourceType": "Basic", "id": "y"}]}],
            generalPractitioner=[{"reference": "#x"}, {"reference": "#y"}],
        ),
        ("Patient.contained[0].contained", "invariant"),
    ),
    (
        "contained with version",
        patient(
            contained=[{"resourceType": "Organization", "id": "x", "meta": {"versionId": "1"}}],
            managingOrganization={"reference": "#x"},
        ),
        ("Patient.contained[0].meta", "invariant"),
    ),
    (
        "contained that nobody uses",
        patient(contained=[{"resourceType": "Organization", "id": "x"}]),
        ("Patient", "invariant"),
    ),
    (
        "bad contained resource",
        patient(contained=[{"resourceType": "Patient", "id": "x", "gender": "M"}], link=[]),
        ("Patient.contained[0].gender", "code-invalid"),
    ),
    (
        "empty in contained of other type",
        patient(
            contained=[{"resourceType": "Organization", "id": "x", "name": ""}],
            managingOrganization={"reference": "#x"},
        ),
        ("Patient.contained[0]", "value"),
    ),
    (
        "period",
        patient(identifier=[{"period": {"start": "2021", "end": "2020"}}]),
        ("Patient.identifier[0].period", "invariant"),
    ),
    ("contact", patient(contact=[{"gender": "male"}]), ("Patient.contact[0]", "invariant")),
    ("telecom", patient(telecom=[{"value": "1"}]), ("Patient.telecom[0]", "invariant")),
    ("photo", patient(photo=[{"data": "YQ=="}]), ("Patient.photo[0]", "invariant")),
    ("quantity", observation("Patient/a", valueQuantity={"code": "x"}), ("Observation.valueQuantity", "invariant")),
    (
        "range",
        observation("Patient/a", valueRange={"low": {"value": 2}, "high": {"value": 1}}),
        ("Observation.valueRange", "invariant"),
    ),
    (
        "ratio",
        observation("Patient/a", valueRatio={"numerator": {"value": 2}}),
        ("Observation.valueRatio", "invariant"),
    ),
    (
        "comparator in a range",
        observation("Patient/a", valueRange={"low": {"value": 2, "comparator": "<"}}),
        ("Observation.valueRange.low", "structure"),
    ),
    (
        "value and reason",
        observation("Patient/a", valueString="x", dataAbsentReason={"text": "x"}),
        ("Observation", "invariant"),
    ),
    (
        "component with the code of the whole",
        observation("Patient/a", valueString="x", component=[{"code": observation("Patient/a")["code"]}]),
        ("Observation", "invariant"),
    ),
    (
        "empty reference range",
        observation("Patient/a", referenceRange=[{"type": {"text": "x"}}]),
        ("Observation.referenceRange[0]", "invariant"),
    ),
    (
        "number as text",
        observation("Patient/a", valueQuantity={"value": "1"}),
        ("Observation.valueQuantity.value", "value"),
    ),
    ("fraction as integer", observation("Patient/a", valueInteger=1.5), ("Observation.valueInteger", "value")),
    ("negative number", study("1.2", "Patient/a", numberOfSeries=-1), ("ImagingStudy.numberOfSeries", "value")),
    (
        "script",
        patient(text={"status": "generated", "div": DIV.replace("x<", "<script/>x<")}),
        ("Patient.text.div", "value"),
    ),
]


@pytest.mark.parametrize(("resource", "problem"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_bad_resources(resource: Json, problem: tuple[str, str]) -> None:
    assert problem in problems(resource)


def test_the_wrong_kind_of_thing() -> None:
    things: list[Any] = [None, [], "x", {}, {"resourceType": "Endpoint"}, {"resourceType": 1}]
    for thing in things:
        with pytest.raises(Invalid):
            validate(thing, "Patient")


def test_many_problems_are_reported_together_up_to_a_limit() -> None:
    found = problems(patient(gender="M", birthDate="x", name=[{"use": "z"}]))
    assert [path for path, _ in found] == ["Patient.gender", "Patient.birthDate", "Patient.name[0].use"]
    assert len(problems(patient(name=[{"use": "z"}] * 100))) == MAX_ISSUES


def test_deep_nesting_is_refused() -> None:
    extension: Json = {"url": "x", "valueString": "x"}
    for _ in range(500):
        extension = {"url": "x", "extension": [extension]}
    assert problems(patient(extension=[extension]))[0][1] == "too-long"
    inner: Any = "x"
    for _ in range(500):
        inner = [inner]
    contained = [{"resourceType": "Basic", "id": "b", "code": inner}]
    assert problems(patient(contained=contained))[0][1] == "too-long"


def test_texts_hold_names_of_elements_but_no_values() -> None:
    with pytest.raises(Invalid) as caught:
        check({**patient(birthDate="SECRET", gender="SECRET", name=[{"family": ["SECRET"]}]), "SECRET name": 1})
    assert "SECRET" not in str(caught.value.outcome())
    assert "birthDate" in str(caught.value.outcome())


def test_references_are_gathered_with_their_places() -> None:
    resource = study("1.2", "Patient/a", endpoint=[{"reference": "Endpoint/b"}, {"display": "x"}])
    found = [(reference.literal, reference.path) for reference in check(resource).references]
    assert found == [
        ("Patient/a", "ImagingStudy.subject.reference"),
        ("Endpoint/b", "ImagingStudy.endpoint[0].reference"),
    ]
    assert [one.literal for one in check(RICH_PATIENT).references] == [
        "Practitioner/1",
        "http://own.example/fhir/Patient/b",
    ]


def test_the_table_knows_the_types() -> None:
    assert set(TYPES) <= resource_names()
    assert len(resource_names()) == 146
    for name in TYPES:
        assert {"id", "meta", "contained", "extension", "identifier"} <= set(types()[name].elements)
        model = get_fhir_model_class(name).elements_sequence()
        assert {element.removesuffix("_fhir") for element in model} <= set(types()[name].elements) | {"resource_type"}
    assert types()["ImagingStudy.series"].required == {"uid", "modality"}
    assert types()["ImagingStudy"].required == {"status", "subject"}

"""What a workitem says as a Task: PS3.3 §C.30 on one side, R4's Task on the other; pure."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hounsfield.cast import task, workitem
from hounsfield.cast.failure import EntryRefused
from hounsfield.cast.workitem import TaskValues
from hounsfield.fhir.target import Resource
from hounsfield.fhir.versions import to_r5
from hounsfield.worklist.changes import Content
from hounsfield.worklist.states import State
from tests.cast import full_workitem as full
from tests.cast.conftest import OPTIONS, ROOT
from tests.cast.memory_fhir import check
from tests.worklist import make
from tests.worklist.make import Dataset, element, sequence

UID = "2.25.7"
CREATED = 1_700_000_000_123_456
ACSN = {
    "type": {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v2-0203", "code": "ACSN"}]},
    "value": "A1",
}


def said(dataset: Dataset, state: State = State.SCHEDULED, *, is_claimed: bool = False, **changes: Any) -> TaskValues:
    content = Content(1, UID, 1, state, is_claimed, CREATED, CREATED + 1_000_000, dataset)
    return workitem.read(content, replace(OPTIONS, **changes))


def written(values: TaskValues, found: Resource | None = None, **names: Any) -> Resource:
    """The Task, which must be valid in both versions."""
    given_names = {"subject": "Patient/p", "order_names": [None] * len(values.orders), "study": None} | names
    resource = task.merge(found, values, root=ROOT, **given_names)
    check(resource, "R4")
    check(to_r5(resource), "R5")
    return resource


def made(dataset: Dataset, state: State = State.SCHEDULED, *, is_claimed: bool = False) -> Resource:
    return written(said(dataset, state, is_claimed=is_claimed))


def test_everything_that_is_scheduled() -> None:
    assert made(full.scheduled()) == {
        "resourceType": "Task",
        "meta": {"source": ROOT},
        "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:2.25.7"}],
        "status": "ready",
        "businessStatus": {"text": "SCHEDULED, READY"},
        "intent": "order",
        "priority": "stat",
        "code": {
            "coding": [
                {
                    "system": "http://dicom.nema.org/resources/ontology/DCM",
                    "code": "110005",
                    "display": "Interpretation",
                }
            ],
            "text": "Interpretation",
        },
        "description": "Read CT of the chest",
        "for": {"reference": "Patient/p"},
        "basedOn": [{"type": "ServiceRequest", "identifier": ACSN}],
        "focus": {"type": "ImagingStudy", "identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.10"}},
        "encounter": {"type": "Encounter", "identifier": ACSN | _type("VN") | {"value": "V1"}},
        "authoredOn": "2023-11-14T22:13:20.123+00:00",
        "lastModified": "2023-11-14T22:13:21.123+00:00",
        "requester": {"type": "Practitioner", "display": "James Wilson"},
        "performerType": [
            {
                "coding": [
                    {
                        "system": "http://dicom.nema.org/resources/ontology/DCM",
                        "code": "WSD",
                        "display": "Workstation",
                    }
                ],
                "text": "Workstation",
            }
        ],
        "owner": {"type": "Practitioner", "display": "Dr. Gregory House"},
        "location": {"type": "Location", "display": "Basement"},
        "reasonCode": {
            "coding": [{"system": "http://snomed.info/sct", "code": "49727002", "display": "Cough"}],
            "text": "Cough",
        },
        "note": [{"text": "With contrast"}],
        "restriction": {"period": {"start": "2026-01-10T08:00:00.500-05:00", "end": "2026-01-10T09:00:00-05:00"}},
        "input": [
            {
                "type": {
                    "coding": [{"system": "http://hl7.org/fhir/resource-types", "code": "ImagingStudy"}],
                    "text": "Input Information",
                },
                "valueReference": {
                    "type": "ImagingStudy",
                    "identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.10"},
                },
            }
        ],
    }


def _type(code: str) -> Resource:
    return {"type": {"coding": [ACSN["type"]["coding"][0] | {"code": code}]}}  # type: ignore[index]


def test_the_least_a_workitem_says() -> None:
    values = said(make.workitem())
    assert values.patient is None and values.orders == () and values.study is None
    resource = written(values, subject=None)
    assert resource["code"] == {"text": "Read it"}
    assert not resource.keys() & {"for", "basedOn", "focus", "input", "output", "executionPeriod", "owner"}


@pytest.mark.parametrize(
    ("state", "readiness", "is_claimed", "reason", "expected"),
    [
        (State.SCHEDULED, "READY", False, None, ("ready", "SCHEDULED, READY")),
        (State.SCHEDULED, "INCOMPLETE", False, None, ("requested", "SCHEDULED, INCOMPLETE")),
        (State.SCHEDULED, "UNAVAILABLE", False, None, ("requested", "SCHEDULED, UNAVAILABLE")),
        (State.IN_PROGRESS, "READY", True, None, ("in-progress", "IN PROGRESS, 40 %, Dictating")),
        (State.COMPLETED, "READY", True, None, ("completed", "COMPLETED")),
        (State.CANCELED, "READY", False, "110500", ("cancelled", "CANCELED")),
        (State.CANCELED, "READY", True, "110501", ("failed", "CANCELED")),
        (State.CANCELED, "READY", True, "110530", ("rejected", "CANCELED")),
    ],
)
def test_status(state: State, readiness: str, is_claimed: bool, reason: str | None, expected: tuple[str, str]) -> None:
    dataset = full.scheduled() | full.performed() | {"00404041": element("CS", readiness)}
    if reason:
        dataset |= full.discontinued(reason)
    found = made(dataset, state, is_claimed=is_claimed)
    assert (found["status"], found["businessStatus"]["text"]) == expected
    assert ("statusReason" in found) == (state is State.CANCELED)
    if reason:
        assert found["statusReason"]["coding"][0]["code"] == reason
        assert found["statusReason"]["text"] == "The display broke"


def test_what_was_performed() -> None:
    dataset = full.scheduled() | full.performed()
    under_way = made(dataset, State.IN_PROGRESS, is_claimed=True)
    assert under_way["executionPeriod"] == {"start": "2026-01-10T08:00:00+00:00"}
    completed = made(dataset, State.COMPLETED, is_claimed=True)
    assert completed["executionPeriod"] == {"start": "2026-01-10T08:00:00+00:00", "end": "2026-01-10T08:30:00+00:00"}
    assert completed["owner"] == {"type": "Practitioner", "display": "Allison Cameron"}
    assert [one["valueReference"]["identifier"]["value"] for one in completed["output"]] == ["urn:oid:1.2.11"]
    canceled = made(dataset | full.discontinued(), State.CANCELED, is_claimed=True)
    assert canceled["executionPeriod"]["end"] == "2026-01-10T08:45:00+00:00"


@pytest.mark.parametrize(
    ("written_as", "expected"),
    [
        ("2026", "2026"),
        ("202601", "2026-01"),
        ("20260110", "2026-01-10"),
        ("20260110+0100", "2026-01-10"),
        ("2026011008", "2026-01-10T08:00:00+02:00"),
        ("202601100830+0100", "2026-01-10T08:30:00+01:00"),
        ("20260110083015.123456", "2026-01-10T08:30:15.123+02:00"),
        ("20260110083015-9900", "2026-01-10"),
        ("tomorrow", None),
        ("20261350", None),
    ],
)
def test_times(written_as: str, expected: str | None) -> None:
    dataset = make.workitem(t00404005=element("DT", written_as)) | {"00080201": element("SH", "+0200")}
    assert made(dataset).get("restriction", {}).get("period", {}).get("start") == expected


def test_an_end_before_the_start_is_left_out() -> None:
    dataset = make.workitem(t00404005=element("DT", "20260110"), t00404008=element("DT", "20260109"))
    assert made(dataset)["restriction"] == {"period": {"start": "2026-01-10"}}


def test_stations_without_people() -> None:
    dataset = full.scheduled(t00404034=None) | make.performed()
    assert made(full.scheduled(t00404034=None))["owner"] == {"type": "Device", "display": "Reading room 1"}
    assert made(dataset)["owner"] == {"type": "Device", "display": "a code"}


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ({"t00080050": element("SH", "A1")}, ("ACSN", "A1")),
        ({"t00080050": element("SH"), "t00402016": element("LO", "PL1")}, ("PLAC", "PL1")),
        ({"t00080050": element("SH"), "t00402017": element("LO", "FI1")}, ("FILL", "FI1")),
        ({"t00080050": element("SH")}, None),
    ],
)
def test_orders(numbers: dict[str, Dataset], expected: tuple[str, str] | None) -> None:
    values = said(full.scheduled(t0040A370=sequence(full.request(**numbers))))
    found = [(one.identifier["type"]["coding"][0]["code"], one.identifier["value"]) for one in values.orders]
    assert found == ([expected] if expected else [])
    assert "basedOn" in written(values) if expected else "basedOn" not in written(values)


def test_what_is_there_is_referred_to() -> None:
    values = said(full.scheduled())
    resource = written(values, order_names=["ServiceRequest/o"], study="ImagingStudy/s")
    assert resource["basedOn"][0]["reference"] == "ServiceRequest/o"
    assert resource["focus"]["reference"] == "ImagingStudy/s"
    assert resource["focus"]["identifier"]["value"] == "urn:oid:1.2.10"
    gone = task.released(resource, "ImagingStudy/s")
    assert gone is not None and gone == resource | {"focus": made(full.scheduled())["focus"]}
    assert task.released(resource, "ImagingStudy/other") is None
    assert task.released(resource | {"focus": {"reference": "ImagingStudy/s"}}, "ImagingStudy/s") is None
    absolute = written(
        values,
        resource | {"focus": resource["focus"] | {"reference": "http://f/ImagingStudy/s"}},
        order_names=["ServiceRequest/o"],
        study="ImagingStudy/s",
    )
    assert absolute["focus"]["reference"] == "http://f/ImagingStudy/s"


def test_what_others_add_stays_and_what_is_ours_follows() -> None:
    before = made(full.scheduled() | full.performed(), State.IN_PROGRESS, is_claimed=True)
    theirs: Resource = {
        "id": "t",
        "extension": [{"url": "urn:mine", "valueString": "x"}],
        "intent": "plan",
        "owner": {"reference": "Practitioner/7"},
        "groupIdentifier": {"value": "G"},
    }
    note = {"text": "Call me", "authorString": "Ward"}
    found = before | theirs
    found["identifier"] = [{"system": "urn:ris", "value": "1"}, *before["identifier"]]
    found["note"] = [*before["note"], note]
    found["input"] = [*before["input"], {"type": {"text": "Protocol"}, "valueString": "low dose"}]
    found["restriction"] = before["restriction"] | {"repetitions": 1}
    found["basedOn"] = [{"reference": "CarePlan/1"}, *before["basedOn"]]
    changed = full.scheduled(t00400400=element("LT"), t00404021=sequence(full.study("1.2.12"))) | full.discontinued()
    after = written(said(changed, State.CANCELED, is_claimed=True), found)
    assert {key: after[key] for key in theirs} == theirs
    assert after["note"] == [note]
    assert after["identifier"] == [before["identifier"][0], {"system": "urn:ris", "value": "1"}]
    assert [one.get("valueString") for one in after["input"]] == [None, "low dose"]
    assert after["restriction"]["repetitions"] == 1
    assert after["basedOn"] == found["basedOn"]
    assert "output" not in after and after["status"] == "failed"
    assert after["focus"]["identifier"]["value"] == "urn:oid:1.2.12"


def test_saying_the_same_again_changes_nothing() -> None:
    values = said(full.scheduled())
    first = written(values, order_names=["ServiceRequest/o"], study="ImagingStudy/s")
    assert written(values, first, order_names=["ServiceRequest/o"], study="ImagingStudy/s") == first


def test_the_patient_is_the_one_casting_would_take() -> None:
    values = said(full.scheduled(), patient_system_id="urn:hospital")
    assert values.patient is not None
    assert (values.patient.identity.system, values.patient.identity.value) == ("urn:hospital", "P1")
    values = said(full.scheduled(), patient_system_id="urn:hospital", is_issuer_id_used=True)
    assert values.patient is not None and values.patient.identity.system == "urn:issuer"
    assert (values.patient.gender, values.patient.birth_date) == ("female", "1970-01-01")


def test_invalid_values() -> None:
    dataset = full.scheduled(t00100040=element("CS", "X"), t00080201=element("SH", "soon"))
    dataset["00404005"] = element("DT", "20260110080000")
    values = said(dataset)
    assert [error.name for error in values.invalid] == ["InvalidDicomTagValueException"] * 2
    assert values.patient is not None and values.patient.gender is None
    assert written(values)["restriction"]["period"]["start"] == "2026-01-10"
    with pytest.raises(EntryRefused):
        said(dataset, enforce_validation=True)


_values = st.recursive(
    st.none() | st.integers() | st.text(max_size=8) | st.sampled_from(["20260110", "CT", "110005", " ", "1.2.3"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["Alphabetic", "x"]), inner, max_size=2)
    ),
    max_leaves=3,
)
_keys = sorted(full.scheduled() | full.performed() | full.discontinued())


@given(
    st.dictionaries(
        st.sampled_from(_keys),
        st.builds(lambda values: {"vr": "LO", "Value": values}, st.lists(_values, max_size=2)),
        max_size=8,
    ),
    st.sampled_from(State),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_in_a_workitem_becomes_a_valid_task(changes: Dataset, state: State) -> None:
    values = said(full.scheduled() | full.performed() | changes, state, is_claimed=True)
    resource = task.merge(None, values, root=ROOT, subject=None, order_names=[None] * len(values.orders), study=None)
    check(resource, "R4")

"""The worklist through HTTP: statuses, texts and headers of every transaction (worklist.md)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.acceptance.test_faults import does_not_answer, fault
from tests.acceptance.test_lifecycle import running
from tests.worklist import make
from tests.worklist.make import Dataset, element, new_uid, sequence, to_state

pytestmark = pytest.mark.acceptance

DICOM_JSON = "application/dicom+json"
HEADERS = {"content-type": DICOM_JSON, "accept": DICOM_JSON}
VERSIONS = ("v1.0-prerelease", "v1", "v2")
EXISTS = "The workitem instance already exists. Try creating using a different UID."
NOT_FOUND = "The workitem instance is not found."
NOT_CLAIMED = "The target URI did not reference a claimed Workitem."


def send(
    client: httpx.Client, method: str, path: str, body: Any = None, headers: Mapping[str, str] = HEADERS
) -> httpx.Response:
    content = body if isinstance(body, bytes | None) else json.dumps([body])
    url = path if path.startswith("/") else f"/v2/workitems{'/' if path[:1] != '?' and path else ''}{path}"
    return client.request(method, url, content=content, headers=headers)


def created(client: httpx.Client, **changes: Dataset | None) -> str:
    uid = new_uid()
    answer = send(client, "POST", f"?{uid}", make.workitem(**changes))
    assert answer.status_code == 201, answer.text
    return uid


def retrieved(client: httpx.Client, uid: str) -> Dataset:
    answer = send(client, "GET", uid)
    assert answer.status_code == 200, answer.text
    found: Dataset = answer.json()
    return found


def found(client: httpx.Client, query: str) -> list[str]:
    answer = send(client, "GET", f"?{query}")
    assert answer.status_code in (200, 204), answer.text
    return [one["00080018"]["Value"][0] for one in answer.json()] if answer.content else []


def claimed(client: httpx.Client, lock: str = "1.2.3") -> str:
    uid = created(client)
    assert send(client, "PUT", f"{uid}/state", to_state("IN PROGRESS", lock)).status_code == 200
    return uid


def warning(text: str) -> str:
    return f'299 127.0.0.1: "{text}"'


@pytest.mark.parametrize("version", VERSIONS)
def test_the_whole_way_of_a_workitem(client: httpx.Client, version: str) -> None:
    uid, lock = new_uid(), new_uid()
    root = f"/{version}/workitems"
    answer = send(client, "POST", f"{root}?{uid}", make.workitem(t00100020=element("LO", uid[-60:])))
    assert (answer.status_code, answer.content) == (201, b"")
    assert answer.headers["location"] == answer.headers["content-location"] == f"{client.base_url}{root}/{uid}"
    answer = send(client, "GET", f"{root}/{uid}")
    assert answer.headers["content-type"] == DICOM_JSON
    assert answer.json()["00741000"]["Value"] == ["SCHEDULED"]
    assert answer.json()["00741202"]["Value"] == ["worklist"]
    assert answer.json()["00080016"]["Value"] == ["1.2.840.10008.5.1.4.34.6.1"]
    answer = send(client, "POST", f"{root}/{uid}", {"00741204": element("LO", "changed")})
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-location"] == f"{client.base_url}{root}/{uid}"
    answer = send(client, "PUT", f"{root}/{uid}/state", to_state("IN PROGRESS", lock))
    assert (answer.status_code, answer.content, "warning" in answer.headers) == (200, b"", False)
    assert send(client, "POST", f"{root}/{uid}?{lock}", make.performed()).status_code == 200
    assert send(client, "PUT", f"{root}/{uid}/state", to_state("COMPLETED", lock)).status_code == 200
    answer = send(client, "PUT", f"{root}/{uid}/state", to_state("COMPLETED", lock))
    assert answer.status_code == 200
    assert answer.headers["warning"] == warning(
        "The workitem instance is already in the final state 'COMPLETED'. B306."
    )
    answer = send(client, "GET", f"{root}?PatientID={uid[-60:]}&includefield=all")
    assert answer.headers["content-type"] == DICOM_JSON
    (one,) = answer.json()
    assert one["00741204"]["Value"] == ["changed"]
    assert one["00741216"] == make.performed()["00741216"]
    assert "00081195" not in one


@pytest.mark.parametrize(
    ("method", "path", "wants"),
    [
        ("POST", "?{new}", make.workitem()),
        ("GET", "", None),
        ("GET", "{uid}", None),
    ],
)
def test_who_takes_no_dicom_json_is_told_so(client: httpx.Client, method: str, path: str, wants: Any) -> None:
    uid = created(client)
    for accept, accepted in (
        ("*/*", True),
        ("application/*", True),
        ("text/html, application/dicom+json;q=0.1", True),
        ("application/json", False),
        ("text/html", False),
        ("", False),
        (None, False),
    ):
        del client.headers["accept"]
        headers = {"content-type": DICOM_JSON, **({} if accept is None else {"accept": accept})}
        answer = send(client, method, path.format(new=new_uid(), uid=uid), wants, headers)
        assert (answer.status_code == 406) == (not accepted), (accept, answer.status_code)
        client.headers["accept"] = "*/*"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", ""), ("POST", "1.2"), ("PUT", "1.2/state"), ("POST", "1.2/cancelrequest")]
)
def test_bodies_of_other_types_and_no_dataset(client: httpx.Client, method: str, path: str) -> None:
    for content_type in ("application/json", "text/plain", "application/dicom+json+x"):
        answer = send(client, method, path, {}, {**HEADERS, "content-type": content_type})
        assert answer.status_code == 415, content_type
        warns = path in ("1.2", "1.2/state")
        assert answer.headers.get("warning") == (warning(answer.text) if warns else None)
    for body in (b"", b"[]", b"{}", b"[1]", b"nothing", b'[{"PatientName": {"vr": "PN"}}]'):
        if body or not path.endswith("cancelrequest"):
            answer = send(client, method, path, body)
            assert answer.status_code == 400, body


@pytest.mark.parametrize("name", ["%E5%B1%B1", "%0D%0AX-Mine:1", "a%00", "%FF"])
def test_a_warning_holds_nothing_a_header_cannot(client: httpx.Client, name: str) -> None:
    answer = send(client, "POST", f"1.2?{name}", {})
    assert answer.status_code == 400
    assert answer.headers["warning"].startswith("299 127.0.0.1: \"The query parameter '")
    assert "x-mine" not in answer.headers


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("POST", ""), ("PUT", "/state"), ("POST", "/cancelrequest")])
def test_what_is_no_uid(client: httpx.Client, method: str, path: str) -> None:
    for uid in ("1.2.x", "1.2.", "1" * 65, "%20"):
        answer = send(client, method, f"{uid}{path}", {} if method != "GET" else None)
        assert answer.status_code == 400
        assert answer.headers["content-type"].startswith("text/plain")
        assert "UID" in answer.text
        warns = (method, path) in (("POST", ""), ("PUT", "/state"))
        assert answer.headers.get("warning") == (warning(answer.text) if warns else None)


def test_where_the_uid_of_a_new_workitem_comes_from(client: httpx.Client) -> None:
    uid = new_uid()
    inside = make.workitem(t00080018=element("UI", uid))
    for query in ("?foo=1.2.3", "?1.2.x", f"?x&{uid}", "?workitem="):
        answer = send(client, "POST", query, inside)
        assert answer.status_code == 400, query
        assert answer.headers["content-type"].startswith("text/plain")
    answer = send(client, "POST", f"?{new_uid()}", inside)
    assert answer.status_code == 400
    assert answer.json() == "SOPInstanceUID in the payload does not match the workitem query parameter."
    assert send(client, "POST", "", inside).headers["location"].endswith(f"/workitems/{uid}")
    other = new_uid()
    assert send(client, "POST", f"?workitem={other}", make.workitem()).headers["location"].endswith(other)
    assert send(client, "POST", f"?{new_uid()}=&x=y", make.workitem()).status_code == 201
    assert send(client, "POST", "", make.workitem()).json() == "The required tag '(0008,0018)' is missing."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"t00741200": None}, "The required tag '(0074,1200)' is missing."),
        ({"t00741200": element("CS", " ")}, "The value for tag '(0074,1200)' is missing."),
        ({"t00100030": element("DA")}, "The attribute with tag '(0010,0030)' must not be empty."),
        ({"t00081195": element("UI", "1.2")}, "The attribute with tag '(0008,1195)' must be empty."),
        (
            {"t00741002": sequence({"00741004": element("DS", 1)})},
            "The attribute with tag '(0074,1004)' cannot be present.",
        ),
        ({"t00404025": sequence({"00080100": element("SH", "A")})}, "The required tag '(0008,0104)' is missing."),
    ],
)
def test_a_create_that_breaks_a_requirement(client: httpx.Client, changes: dict[str, Any], said: str) -> None:
    uid = new_uid()
    answer = send(client, "POST", f"?{uid}", make.workitem(**changes))
    assert (answer.status_code, answer.json()) == (400, said)
    assert send(client, "GET", uid).status_code == 404


def test_what_exists_is_not_created_and_what_does_not_is_not_found(client: httpx.Client) -> None:
    uid = created(client)
    answer = send(client, "POST", f"?{uid}", make.workitem())
    assert (answer.status_code, answer.text) == (409, json.dumps(EXISTS))
    unknown = new_uid()
    answer = send(client, "GET", unknown)
    assert (answer.status_code, answer.text, "warning" in answer.headers) == (404, json.dumps(NOT_FOUND), False)
    answer = send(client, "POST", f"{unknown}/cancelrequest", {})
    assert (answer.status_code, answer.text, "warning" in answer.headers) == (404, json.dumps(NOT_FOUND), False)
    answer = send(client, "PUT", f"{unknown}/state", to_state("IN PROGRESS", "1.2"))
    assert (answer.status_code, answer.text) == (404, json.dumps(NOT_FOUND))
    assert answer.headers["warning"] == warning(NOT_FOUND)
    answer = send(client, "POST", unknown, {})
    assert (answer.status_code, answer.text) == (400, json.dumps(NOT_CLAIMED))
    assert answer.headers["warning"] == warning(NOT_CLAIMED)
    answer = send(client, "POST", unknown, {}, {"content-type": DICOM_JSON})
    assert (answer.status_code, answer.text) == (400, NOT_CLAIMED)


def test_updates_that_are_refused_change_nothing(client: httpx.Client) -> None:
    scheduled, mine = created(client), claimed(client, "1.2.3")
    for uid, query, body, said in (
        (scheduled, "?1.2.3", {}, "Invalid TransactionUID for the specified Workitem Instance UID."),
        (scheduled, "", {"00100010": element("PN")}, "The attribute with tag '(0010,0010)' cannot be present."),
        (scheduled, "", {"00741204": element("LO")}, "The attribute with tag '(0074,1204)' must not be empty."),
        (mine, "", {}, NOT_CLAIMED),
        (mine, "?1.2.4", {}, NOT_CLAIMED),
    ):
        before = retrieved(client, uid)
        answer = send(client, "POST", f"{uid}{query}", body | {"00741200": element("CS", "HIGH")})
        assert (answer.status_code, answer.json()) == (400, said)
        assert answer.headers["warning"] == warning(said)
        assert retrieved(client, uid) == before
    answer = send(client, "POST", f"{mine}?1.x", {})
    assert answer.status_code == 400
    assert answer.text in answer.headers["warning"]
    assert send(client, "POST", f"{mine}?transaction-uid=1.2.3", {}).status_code == 200
    assert send(client, "POST", f"{mine}?1.2.3", {}).status_code == 200


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"00741000": element("CS", "IN PROGRESS")}, "The required tag '(0008,1195)' is missing."),
        ({**to_state("COMPLETED", "1"), "00081195": element("UI")}, "The value for tag '(0008,1195)' is missing."),
        (to_state("COMPLETED", "1.x"), "The value for tag '(0008,1195)' is not a valid UID."),
        ({"00081195": element("UI", "1.2")}, "The required tag '(0074,1000)' is missing."),
        (
            to_state("in progress", "1.2"),
            "The value for tag '(0074,1000)' must be IN PROGRESS, COMPLETED or CANCELED.",
        ),
        (to_state("SCHEDULED", "1.2"), "The value for tag '(0074,1000)' must be IN PROGRESS, COMPLETED or CANCELED."),
    ],
)
def test_requests_for_a_state_are_looked_at_before_the_workitem_is(
    client: httpx.Client, asked: Dataset, said: str
) -> None:
    answer = send(client, "PUT", f"{new_uid()}/state", asked)
    assert (answer.status_code, answer.json(), answer.headers["warning"]) == (400, said, warning(said))


def test_states(client: httpx.Client) -> None:
    uid = created(client)
    refusal = "The workitem instance can not transition to '{}' state: {}."
    for state, lock, code in (
        ("COMPLETED", "1.2", "C301"),
        ("IN PROGRESS", "1.2", ""),
        ("IN PROGRESS", "1.2", "C302"),
        ("IN PROGRESS", "1.3", "C301"),
    ):
        answer = send(client, "PUT", f"{uid}/state", to_state(state, lock))
        said = refusal.format(state, code) if code else ""
        assert (answer.status_code, answer.json() if code else "") == (400 if code else 200, said)
        assert answer.headers.get("warning", "") == (warning(said) if code else "")
    answer = send(client, "PUT", f"{uid}/state", to_state("CANCELED", "1.2"))
    assert (answer.status_code, answer.json()) == (400, "The value for tag '(0074,1002)' is missing.")
    assert send(client, "POST", f"{uid}?1.2", make.discontinued()).status_code == 200
    assert send(client, "PUT", f"{uid}/state", to_state("CANCELED", "1.2")).status_code == 200
    answer = send(client, "PUT", f"{uid}/state", to_state("CANCELED", "1.2"))
    assert answer.headers["warning"] == warning("The workitem instance is already in the final state 'CANCELED'. B304.")
    answer = send(client, "POST", f"{uid}?1.2", {})
    assert answer.status_code == 409
    assert answer.json().endswith("The UPS is already in the requested state of CANCELED.")


def test_requests_to_cancel(client: httpx.Client) -> None:
    uid = created(client)
    request = {
        "00741238": element("LT", "The patient left."),
        "0074100A": element("UR", "tel:+31-20-123"),
        "0074100C": element("LO", "Front desk"),
        "00741216": make.performed()["00741216"],
    }
    answer = send(client, "POST", f"{uid}/cancelrequest", request)
    assert (answer.status_code, answer.json()) == (202, "The workitem instance has been cancelled.")
    one = retrieved(client, uid)
    assert one["00741000"]["Value"] == ["CANCELED"]
    (progress,) = one["00741002"]["Value"]
    assert progress["00404052"] == one["00404052"]
    assert progress["0074100E"] == one["0074100E"]
    assert progress["0074100E"]["Value"][0]["00741238"]["Value"] == ["The patient left."]
    (contact,) = progress["00741008"]["Value"]
    assert (contact["0074100A"], contact["0074100C"]) == (request["0074100A"], request["0074100C"])
    assert one["00741216"] == request["00741216"]
    answer = send(client, "POST", f"{uid}/cancelrequest", {})
    said = "The UPS is already in the requested state of CANCELED."
    assert (answer.status_code, answer.json(), answer.headers["warning"]) == (409, said, warning(said))
    answer = send(client, "POST", f"{claimed(client)}/cancelrequest", {})
    said = "The workitem instance can not transition to 'Canceled' state: C312."
    assert (answer.status_code, answer.json(), "warning" in answer.headers) == (400, said, False)
    mine = claimed(client, "1.2")
    send(client, "POST", f"{mine}?1.2", make.performed())
    assert send(client, "PUT", f"{mine}/state", to_state("COMPLETED", "1.2")).status_code == 200
    assert send(client, "POST", f"{mine}/cancelrequest", {}).json().endswith("state: C311.")
    answer = send(client, "POST", mine, {})
    assert (answer.status_code, answer.json()[-29:]) == (400, "The UPS is already COMPLETED.")
    # Without a body, as the standard has it.
    bare = created(client)
    assert send(client, "POST", f"{bare}/cancelrequest", headers={"accept": "*/*"}).status_code == 202


def test_searches_by_every_attribute(client: httpx.Client) -> None:
    mark = new_uid()[-14:]
    request = {
        "0020000D": element("UI", f"1.2.{mark}"),
        "00080050": element("SH", f"a{mark}"),
        "00080051": sequence(),
        "00400026": sequence(),
        "00400027": sequence(),
        "00401001": element("SH", f"r{mark}"),
        "00321060": element("LO"),
        "00321064": sequence(),
    }
    uid = created(
        client,
        t00100010=element("PN", {"Alphabetic": f"Müller^Jörg {mark}"}),
        t00100020=element("LO", f"p{mark}"),
        t0040A370=sequence(request | {"00080050": element("SH")}, request),
        t00404005=element("DT", "20260131083015.5+0100"),
        t00404025=sequence(make.code(f"n{mark}"), make.code("CT")),
        t00404026=sequence(make.code(f"c{mark}")),
        t00404027=sequence(make.code(f"l{mark}")),
        t0020000D=element("UI", f"1.2.{mark}"),
    )
    mine = f"PatientID=P{mark}"
    for query in (
        mine,
        f"00100020=p{mark}",
        f"PatientName=MULLER%5EJORG {mark}",
        f"PatientName=jor&fuzzymatching=true&{mine}",
        f"ReferencedRequestSequence.AccessionNumber=A{mark}",
        f"0040A370.00080050=A{mark}",
        f"ReferencedRequestSequence.00401001=R{mark}",
        f"ScheduledStationNameCodeSequence.CodeValue=N{mark}",
        f"ScheduledStationClassCodeSequence.CodeValue=c{mark}",
        f"ScheduledStationGeographicLocationCodeSequence.CodeValue=l{mark}",
        f"StudyInstanceUID=1.2.{mark}",
        f"{mine}&ProcedureStepState=scheduled",
        f"{mine}&ScheduledProcedureStepStartDateTime=20260131083015.5",
        f"{mine}&ScheduledProcedureStepStartDateTime=2026-202602",
        f"{mine}&00404005=-20260201",
        f"{mine}&00404005=2026013108-",
        f"{mine}&ProcedureStepState=SCHEDULED&00404005=20260131-20260201",
    ):
        assert found(client, query) == [uid], query
    for query in (
        f"{mine}x",
        f"PatientName=jorg {mark}",
        f"PatientName=org&fuzzymatching=true&{mine}",
        f"{mine}&ProcedureStepState=CANCELED",
        f"{mine}&00404005=20260131",
        f"{mine}&00404005=20260131083015.6-",
        f"{mine}&offset=1",
        f"PatientID=p*&{mine.replace('PatientID', 'StudyInstanceUID')}",
    ):
        assert found(client, query) == [], query
    send(client, "POST", uid, {"00404005": element("DT", "20300101")})
    assert found(client, f"{mine}&00404005=2030") == [uid]


def test_what_a_search_answers(client: httpx.Client) -> None:
    mark = new_uid()[-14:]
    uids = [created(client, t00100020=element("LO", mark)) for _ in range(3)]
    assert found(client, f"PatientID={mark}") == uids[::-1]
    assert found(client, f"PatientID={mark}&limit=2") == uids[:0:-1]
    assert found(client, f"PatientID={mark}&limit=2&offset=2") == uids[:1]
    one = send(client, "GET", f"?PatientID={mark}&limit=1").json()[0]
    everything = retrieved(client, uids[2])
    assert set(everything) - set(one) == {"00400400", "00404010", "00741216"}
    more = send(client, "GET", f"?PatientID={mark}&limit=1&includefield=00400400,SOPInstanceUID&includefield=00404010")
    assert set(everything) - set(more.json()[0]) == {"00741216"}
    assert send(client, "GET", f"?PatientID={mark}&limit=1&includefield=all").json() == [everything]
    answer = send(client, "GET", "?PatientID=nobody")
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("Modality=CT", "AttributeId Modality is not queryable"),
        ("patientid=1", "AttributeId patientid is not queryable"),
        ("CodeValue=1", "AttributeId CodeValue is not queryable"),
        ("PatientID=1&00100020=1", "specified more than once"),
        ("PatientID=1&PatientID=2", "specified more than once"),
        ("PatientID=", "empty string value"),
        ("limit=0", "The query parameter 'Limit' is invalid. The field Limit must be between 1 and 200."),
        ("limit=201", "between 1 and 200"),
        ("limit=x", "between 1 and 200"),
        ("offset=-1", "'Offset' is invalid"),
        ("fuzzymatching=perhaps", "fuzzymatching"),
        ("fuzzymatching=true&PatientName=%22a", "double quote"),
        ("includefield=all,PatientID", "in addition to 'all'"),
        ("includefield=Nothing", "unknown attribute 'Nothing'"),
        ("includefield=ReferencedRequestSequence.AccessionNumber", "includefield"),
        ("00404005=-", "A range needs a value"),
        ("00404005=2027-2026", "after its end"),
        ("00404005=20261301", "00404005"),
        ("00404005=2026010100%2B0100", "without a UTC offset"),
    ],
)
def test_searches_that_are_refused(client: httpx.Client, query: str, said: str) -> None:
    answer = send(client, "GET", f"?{query}")
    assert answer.status_code == 400
    assert answer.headers["content-type"].startswith("text/plain")
    assert said in answer.text


@pytest.mark.parametrize("point", ["transaction: before commit", "transaction: committed"])
def test_a_claim_during_which_the_server_dies(tmp_path: Path, point: str) -> None:
    with running(tmp_path / "data", "--no-worker") as server, server.client() as client:
        uid = created(client)
        server.kill()
    with running(tmp_path / "data", "--no-worker", environment=fault(point)) as server, server.client() as client:
        assert does_not_answer(lambda: send(client, "PUT", f"{uid}/state", to_state("IN PROGRESS", "1.2")))
        server.kill()
    with running(tmp_path / "data", "--no-worker") as server, server.client() as client:
        expected = "IN PROGRESS" if point.endswith("committed") else "SCHEDULED"
        assert retrieved(client, uid)["00741000"]["Value"] == [expected]
        assert (uid in found(client, "ProcedureStepState=IN PROGRESS")) == (expected == "IN PROGRESS")
        answer = send(client, "PUT", f"{uid}/state", to_state("IN PROGRESS", "1.3"))
        assert answer.status_code == (400 if expected == "IN PROGRESS" else 200)

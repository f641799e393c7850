"""Interactions on one resource, through HTTP (FHIR R4 §3.1.0.2 to §3.1.0.9)."""

import asyncio
import re
from typing import Any

import httpx
import pytest

from hounsfield.database.engine import Database
from tests.fhir.conftest import BASE
from tests.fhir.resources import observation, patient, study


async def create(client: httpx.AsyncClient, resource: dict[str, Any], **headers: str) -> str:
    """Create a resource and return ``Type/id``."""
    answer = await client.post(resource["resourceType"], json=resource, headers=headers)
    assert answer.status_code == 201, answer.text
    return f"{resource['resourceType']}/{answer.json()['id']}"


def is_outcome(answer: httpx.Response, status: int, code: str = "") -> bool:
    """Whether an answer refuses with ``status`` and an OperationOutcome with that issue code."""
    assert answer.status_code == status, answer.text
    content = answer.json()
    assert content["resourceType"] == "OperationOutcome"
    assert content["issue"][0]["diagnostics"]
    return not code or code in [issue["code"] for issue in content["issue"]]


async def test_create_answers_with_version_location_and_resource(client: httpx.AsyncClient) -> None:
    sent = patient("P1", "urn:hospital", meta={"source": "http://s/", "versionId": "77", "lastUpdated": "2001-01-01"})
    del sent["meta"]["lastUpdated"]
    answer = await client.post("Patient", json={"id": "ignored", **sent})
    assert answer.status_code == 201
    made = answer.json()
    assert made["id"] != "ignored"
    assert answer.headers["etag"] == 'W/"1"'
    assert answer.headers["location"] == f"{BASE}/Patient/{made['id']}/_history/1"
    assert answer.headers["content-type"] == "application/fhir+json; charset=utf-8"
    assert made["meta"]["versionId"] == "1"
    assert made["meta"]["source"] == "http://s/"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", made["meta"]["lastUpdated"])
    assert answer.headers["last-modified"].endswith(" GMT")
    assert made["identifier"] == sent["identifier"]
    read = await client.get(f"Patient/{made['id']}")
    assert read.content == answer.content
    assert read.headers["etag"] == 'W/"1"'


async def test_head_has_headers_only(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    answer = await client.head(name)
    assert answer.status_code == 200
    assert answer.content == b""
    assert answer.headers["etag"] == 'W/"1"'
    assert int(answer.headers["content-length"]) == len((await client.get(name)).content)


@pytest.mark.parametrize("header", ['W/"1"', '"1"', '"0", W/"1"', "*"])
async def test_if_none_match_of_the_current_version_is_304(client: httpx.AsyncClient, header: str) -> None:
    name = await create(client, patient())
    answer = await client.get(name, headers={"If-None-Match": header})
    assert answer.status_code == 304
    assert answer.content == b""
    assert (await client.get(name, headers={"If-None-Match": 'W/"2"'})).status_code == 200


async def test_if_modified_since(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    modified = (await client.get(name)).headers["last-modified"]
    assert (await client.get(name, headers={"If-Modified-Since": modified})).status_code == 304
    before = {"If-Modified-Since": "Mon, 01 Jan 2001 00:00:00 GMT"}
    assert (await client.get(name, headers=before)).status_code == 200
    assert (await client.get(name, headers={"If-Modified-Since": "yesterday"})).status_code == 200


async def test_update_makes_the_next_version(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    resource = (await client.get(name)).json()
    answer = await client.put(name, json={**resource, "gender": "female"})
    assert answer.status_code == 200
    assert answer.headers["etag"] == 'W/"2"'
    assert answer.json()["gender"] == "female"
    assert (await client.get(name)).json()["meta"]["versionId"] == "2"


async def test_update_creates_what_is_not_there(client: httpx.AsyncClient) -> None:
    answer = await client.put("Patient/my-id.1", json={"id": "my-id.1", **patient()})
    assert answer.status_code == 201
    assert answer.headers["location"] == f"{BASE}/Patient/my-id.1/_history/1"
    assert (await client.get("Patient/my-id.1")).status_code == 200


@pytest.mark.parametrize("identity", [None, "other", 7, "not valid!", "x" * 65])
async def test_update_needs_the_id_of_the_url(client: httpx.AsyncClient, identity: Any) -> None:
    resource = patient() if identity is None else {"id": identity, **patient()}
    assert is_outcome(await client.put("Patient/one", json=resource), 400)


async def test_update_refuses_a_url_that_is_no_id(client: httpx.AsyncClient) -> None:
    assert is_outcome(await client.put("Patient/no_id", json={"id": "no_id", **patient()}), 400)


async def test_if_match_guards_update_and_delete(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    resource = (await client.get(name)).json()
    stale = {"If-Match": 'W/"2"'}
    assert is_outcome(await client.put(name, json=resource, headers=stale), 412)
    assert is_outcome(await client.delete(name, headers=stale), 412)
    assert (await client.get(name)).headers["etag"] == 'W/"1"'
    assert (await client.put(name, json=resource, headers={"If-Match": 'W/"1"'})).status_code == 200
    assert (await client.delete(name, headers={"If-Match": 'W/"2"'})).status_code == 204


async def test_if_match_needs_an_existing_resource(client: httpx.AsyncClient) -> None:
    headers = {"If-Match": 'W/"1"'}
    assert is_outcome(await client.put("Patient/a", json={"id": "a", **patient()}, headers=headers), 412)
    assert is_outcome(await client.delete("Patient/a", headers=headers), 412)
    assert is_outcome(await client.get("Patient/a"), 404)


async def test_deleted_is_410_and_may_come_back(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    answer = await client.delete(name)
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (204, b"", 'W/"2"')
    gone = await client.get(name)
    assert is_outcome(gone, 410, "deleted")
    assert gone.headers["etag"] == 'W/"2"'
    assert (await client.delete(name)).status_code == 204
    assert is_outcome(await client.get(f"{name}/_history/2"), 410)
    again = await client.put(name, json={"id": name.partition("/")[2], **patient("P2")})
    assert (again.status_code, again.headers["etag"]) == (201, 'W/"3"')
    assert (await client.get("Patient?identifier=P1")).json()["total"] == 0
    assert (await client.get("Patient?identifier=P2")).json()["total"] == 1


async def test_deleting_what_never_was_is_204(client: httpx.AsyncClient) -> None:
    assert (await client.delete("Patient/never")).status_code == 204
    assert is_outcome(await client.get("Patient/never"), 404, "not-found")


async def test_vread(client: httpx.AsyncClient) -> None:
    name = await create(client, patient(gender="male"))
    identity = name.partition("/")[2]
    for gender in ("female", "other"):
        await client.put(name, json={"id": identity, **patient(gender=gender)})
    for version, gender in ((1, "male"), (2, "female"), (3, "other")):
        answer = await client.get(f"{name}/_history/{version}")
        assert answer.headers["etag"] == f'W/"{version}"'
        assert (answer.json()["gender"], answer.json()["meta"]["versionId"]) == (gender, str(version))
    for unknown in ("0", "4", "x", "99999999999"):
        assert is_outcome(await client.get(f"{name}/_history/{unknown}"), 404)


async def test_references_must_lead_to_something(client: httpx.AsyncClient) -> None:
    answer = await client.post("ImagingStudy", json=study("1.2", "Patient/nobody"))
    assert is_outcome(answer, 400)
    assert answer.json()["issue"][0]["expression"] == ["ImagingStudy.subject.reference"]
    assert "nobody" not in answer.text
    assert is_outcome(await client.post("ImagingStudy", json=study("1.2", f"{BASE}/Patient/nobody")), 400)
    assert is_outcome(await client.post("ImagingStudy", json=study("1.2", "urn:uuid:" + "0" * 8)), 400)
    assert (await client.get("ImagingStudy")).json()["total"] == 0
    await create(client, study("1.2", "http://elsewhere.example/fhir/Patient/1"))
    await create(client, study("1.3", "Device/phantom"))


async def test_a_deleted_patient_cannot_be_referred_to(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    await client.delete(name)
    assert is_outcome(await client.post("ImagingStudy", json=study("1.2", name)), 400)


async def test_delete_of_a_referenced_resource_is_409(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    referring = await create(client, study("1.2", f"{BASE}/{name}/_history/1"))
    assert is_outcome(await client.delete(name), 409, "conflict")
    assert (await client.get(name)).status_code == 200
    assert (await client.delete(referring)).status_code == 204
    assert (await client.delete(name)).status_code == 204


async def test_a_delete_and_a_new_reference_at_once_do_not_both_succeed(client: httpx.AsyncClient) -> None:
    for number in range(6):
        name = await create(client, patient(str(number)))
        deletion, creation = await asyncio.gather(
            client.delete(name), client.post("ImagingStudy", json=study(f"1.{number}", name))
        )
        assert (deletion.status_code, creation.status_code) in ((204, 400), (409, 201))


async def test_a_resource_may_refer_to_itself(client: httpx.AsyncClient) -> None:
    link = [{"other": {"reference": "Patient/me"}, "type": "seealso"}]
    assert (await client.put("Patient/me", json={"id": "me", **patient(link=link)})).status_code == 201
    assert (await client.delete("Patient/me")).status_code == 204


async def test_prefer_return(client: httpx.AsyncClient) -> None:
    minimal = await client.post("Patient", json=patient(), headers={"Prefer": "return=minimal"})
    assert (minimal.status_code, minimal.content) == (201, b"")
    assert minimal.headers["location"].startswith(f"{BASE}/Patient/")
    outcome = await client.post("Patient", json=patient(), headers={"Prefer": "return=OperationOutcome"})
    assert outcome.json()["issue"][0]["severity"] == "information"
    full = await client.post("Patient", json=patient(), headers={"Prefer": "return=representation"})
    assert full.json()["resourceType"] == "Patient"


async def test_conditional_create(client: httpx.AsyncClient) -> None:
    criteria = {"If-None-Exist": "identifier=urn:hospital%7CP1"}
    first = await client.post("Patient", json=patient("P1", "urn:hospital"), headers=criteria)
    again = await client.post("Patient", json=patient("P1", "urn:hospital", gender="male"), headers=criteria)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == first.json()
    assert again.headers["etag"] == 'W/"1"'
    await create(client, patient("P1", "urn:hospital"))
    third = await client.post("Patient", json=patient("P1", "urn:hospital"), headers=criteria)
    assert is_outcome(third, 412, "multiple-matches")
    assert (await client.get("Patient")).json()["total"] == 2


@pytest.mark.parametrize("criteria", ["nonsense=1", "identifier=", "_sort=name", "?", "birthdate=never"])
async def test_criteria_must_be_understood(client: httpx.AsyncClient, criteria: str) -> None:
    assert is_outcome(await client.post("Patient", json=patient(), headers={"If-None-Exist": criteria}), 400)
    assert (await client.get("Patient")).json()["total"] == 0


async def test_conditional_creates_at_once_make_one_resource(client: httpx.AsyncClient) -> None:
    headers = {"If-None-Exist": "identifier=P1"}
    answers = await asyncio.gather(*(client.post("Patient", json=patient(), headers=headers) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [201]
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert (await client.get("Patient")).json()["total"] == 1


async def test_updates_at_once_with_if_match_let_one_through(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    resource = (await client.get(name)).json()
    headers = {"If-Match": 'W/"1"'}
    answers = await asyncio.gather(*(client.put(name, json=resource, headers=headers) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7


async def test_conditional_update(client: httpx.AsyncClient) -> None:
    made = await client.put("Patient?identifier=P1", json=patient())
    assert made.status_code == 201
    identity = made.json()["id"]
    updated = await client.put("Patient?identifier=P1", json=patient(gender="male"))
    assert (updated.status_code, updated.json()["id"], updated.headers["etag"]) == (200, identity, 'W/"2"')
    with_id = await client.put("Patient?identifier=P1", json={"id": identity, **patient()})
    assert with_id.status_code == 200
    assert is_outcome(await client.put("Patient?identifier=P1", json={"id": "other", **patient()}), 400)
    named = await client.put("Patient?identifier=P2", json={"id": "named", **patient("P2")})
    assert (named.status_code, named.json()["id"]) == (201, "named")
    assert is_outcome(await client.put("Patient?identifier=P3", json={"id": "named", **patient("P3")}), 409)
    stale = {"If-Match": 'W/"9"'}
    assert is_outcome(await client.put("Patient?identifier=P1", json=patient(), headers=stale), 412)
    await create(client, patient())
    assert is_outcome(await client.put("Patient?identifier=P1", json=patient()), 412, "multiple-matches")
    assert is_outcome(await client.put("Patient", json=patient()), 400)


async def test_conditional_delete(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    assert (await client.delete("Patient?identifier=P9")).status_code == 204
    assert (await client.delete("Patient?identifier=P1&_format=json")).status_code == 204
    assert (await client.get(name)).status_code == 410
    await create(client, patient())
    await create(client, patient())
    assert is_outcome(await client.delete("Patient?identifier=P1"), 412, "multiple-matches")
    assert is_outcome(await client.delete("Patient"), 400)
    assert (await client.get("Patient")).json()["total"] == 2


async def test_decimals_keep_their_precision(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    body = observation(name)
    text = httpx.Request("POST", BASE, json=body).content[:-1] + b',"valueQuantity":{"value":1.10}}'
    answer = await client.post("Observation", content=text)
    assert answer.status_code == 201
    assert b'"value":1.10}' in answer.content


async def test_history_of_an_instance(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    identity = name.partition("/")[2]
    await client.put(name, json={"id": identity, **patient(gender="male")})
    await client.delete(name)
    bundle = (await client.get(f"{name}/_history")).json()
    assert (bundle["type"], bundle["total"]) == ("history", 3)
    methods = [(entry["request"]["method"], entry["request"]["url"]) for entry in bundle["entry"]]
    assert methods == [("DELETE", name), ("PUT", name), ("POST", "Patient")]
    assert [entry["response"]["etag"] for entry in bundle["entry"]] == ['W/"3"', 'W/"2"', 'W/"1"']
    assert [entry["response"]["status"][:3] for entry in bundle["entry"]] == ["204", "200", "201"]
    assert "resource" not in bundle["entry"][0]
    assert [entry["resource"].get("gender") for entry in bundle["entry"][1:]] == ["male", None]
    assert {entry["fullUrl"] for entry in bundle["entry"]} == {f"{BASE}/{name}"}
    assert is_outcome(await client.get("Patient/never/_history"), 404)


async def test_history_pages_are_stable(client: httpx.AsyncClient) -> None:
    names = [await create(client, patient(f"P{number}")) for number in range(5)]
    seen: list[str] = []
    url = "Patient/_history?_count=2"
    while url:
        bundle = (await client.get(url)).json()
        seen += [entry["resource"]["id"] for entry in bundle["entry"]]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
        await create(client, patient("later"))
    assert seen == [name.partition("/")[2] for name in reversed(names)]


async def test_history_since_and_of_the_system(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    updated = (await client.get(name)).json()["meta"]["lastUpdated"]
    await asyncio.sleep(0.002)
    await create(client, study("1.2", name))
    everything = (await client.get("_history")).json()
    assert [entry["resource"]["resourceType"] for entry in everything["entry"]] == ["ImagingStudy", "Patient"]
    assert (await client.get("ImagingStudy/_history")).json()["total"] == 1
    assert (await client.get("_history", params={"_since": updated})).json()["total"] == 2
    later = everything["entry"][0]["resource"]["meta"]["lastUpdated"]
    assert (await client.get("_history", params={"_since": later})).json()["total"] == 1
    assert is_outcome(await client.get("_history?_since=now"), 400)
    assert is_outcome(await client.get("_history?_count=-1"), 400)
    assert is_outcome(await client.get("_history?_cursor=x"), 400)


async def test_every_version_of_a_growing_study_can_be_read(client: httpx.AsyncClient) -> None:
    """More versions than lie between two whole ones, with a deletion among them."""
    patient_name = await create(client, patient())
    for count in range(1, 71):
        body = {"id": "s", **study("1.2.3", patient_name, count)}
        assert (await client.put("ImagingStudy/s", json=body)).status_code in (200, 201)
        if count == 40:
            assert (await client.delete("ImagingStudy/s")).status_code == 204
    for version in (1, 2, 31, 32, 33, 39, 40, 42, 63, 64, 65, 71):
        resource = (await client.get(f"ImagingStudy/s/_history/{version}")).json()
        assert len(resource["series"][0]["instance"]) == (version if version <= 40 else version - 1)
    bundle = (await client.get("ImagingStudy/s/_history?_count=100")).json()
    counts = [len(entry["resource"]["series"][0]["instance"]) for entry in bundle["entry"] if "resource" in entry]
    assert counts == list(range(70, 0, -1))


async def test_deleting_leaves_no_index_rows(client: httpx.AsyncClient, database: Database) -> None:
    name = await create(client, patient(name=[{"family": "Roe", "given": ["Jo"]}], birthDate="1970-01-01"))
    referring = await create(client, study("1.2", name, 3, started="2020-01-01"))
    for one in (referring, name):
        assert (await client.delete(one)).status_code == 204
    for table in ("token", "string", "date", "reference"):
        assert await database.fetch(f"SELECT * FROM fhir_{table}") == []


async def test_the_further_types_are_validated_found_and_guarded(client: httpx.AsyncClient) -> None:
    who = await create(client, patient())
    order: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        "subject": {"reference": who},
    }
    order |= {"identifier": [{"system": "urn:ris", "value": "A1"}], "authoredOn": "2024-01-31"}
    device: dict[str, Any] = {
        "resourceType": "Device",
        "status": "active",
        "manufacturer": "Acme",
        "modelNumber": "Scan 3",
    }
    device |= {"deviceName": [{"name": "CT01", "type": "user-friendly-name"}], "type": {"coding": [{"code": "CT"}]}}
    report: dict[str, Any] = {"resourceType": "DiagnosticReport", "status": "final", "code": {"text": "Report"}}
    document: dict[str, Any] = {
        "resourceType": "DocumentReference",
        "status": "current",
        "masterIdentifier": {"system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2"},
        "content": [{"attachment": {"contentType": "application/dicom"}}],
        "date": "2024-01-31T12:00:00Z",
    }
    order_name, device_name = await create(client, order), await create(client, device)
    report |= {"subject": {"reference": who}, "basedOn": [{"reference": order_name}], "effectiveDateTime": "2024"}
    document |= {"subject": {"reference": who}, "context": {"related": [{"reference": order_name}]}}
    report_name, document_name = await create(client, report), await create(client, document)
    for query, expected in {
        "ServiceRequest?identifier=urn:ris|A1&authored=2024-01": order_name,
        "ServiceRequest?intent=order&status=http://hl7.org/fhir/request-status|active": order_name,
        "Device?manufacturer=ac&model=scan&device-name=ct0": device_name,
        "Device?type=CT&status=active": device_name,
        f"DiagnosticReport?patient={who}&based-on={order_name}&date=2024": report_name,
        f"DiagnosticReport?_include=DiagnosticReport:based-on&patient={who}": report_name,
        "DocumentReference?identifier=urn:oid:1.2&contenttype=application/dicom": document_name,
        f"DocumentReference?related={order_name}&date=2024-01-31": document_name,
    }.items():
        entries = (await client.get(query)).json().get("entry", [])
        assert [one["fullUrl"].rpartition("fhir/")[2] for one in entries][:1] == [expected], query
    assert (await client.get("DiagnosticReport?date=2023")).json()["total"] == 0
    refused = (
        device | {"status": "broken"},
        device | {"name": "x"},
        {"resourceType": "DocumentReference", "status": "current"},
        order | {"orderDetail": [{"text": "without a code"}]},
        report | {"subject": {"reference": "Patient/nobody"}},
    )
    for resource in refused:
        answer = await client.post(resource["resourceType"], json=resource)
        assert answer.status_code == 400, resource
    assert (await client.delete(order_name)).status_code == 409
    statement = (await client.get("metadata")).json()
    assert {one["type"] for one in statement["rest"][0]["resource"]} >= {"Device", "ServiceRequest"}


async def test_tasks_are_validated_found_and_guarded(client: httpx.AsyncClient) -> None:
    who = await create(client, patient())
    scan = await create(client, study("1.2", who))
    uid = {"system": "urn:dicom:uid", "value": "urn:oid:2.25.1"}
    task: dict[str, Any] = {
        "resourceType": "Task",
        "identifier": [uid],
        "status": "in-progress",
        "intent": "order",
        "priority": "stat",
        "code": {"coding": [{"system": "urn:codes", "code": "read"}]},
        "for": {"reference": who},
        "focus": {"reference": scan},
        "basedOn": [{"type": "ServiceRequest", "identifier": {"value": "A1"}}],
        "authoredOn": "2026-01-10T08:00:00Z",
        "lastModified": "2026-01-10T09:00:00Z",
        "executionPeriod": {"start": "2026-01-10T08:30:00Z"},
    }
    name = await create(client, task)
    for query in (
        "Task?identifier=urn:dicom:uid|urn:oid:2.25.1",
        f"Task?patient={who}&subject={who}&status=in-progress",
        "Task?status=http://hl7.org/fhir/task-status|in-progress&priority=stat&intent=order",
        f"Task?focus={scan}&code=urn:codes|read&period=ge2026-01-10",
        "Task?based-on:identifier=A1&authored-on=2026-01-10&modified=2026-01-10",
        "Task?focus.identifier=urn:dicom:uid|urn:oid:1.2&_include=Task:focus",
    ):
        entries = (await client.get(query)).json().get("entry", [])
        assert [one["fullUrl"].rpartition("fhir/")[2] for one in entries][:1] == [name], query
    assert (await client.get("Task?status=ready")).json()["total"] == 0
    for refused in (
        task | {"status": "started"},
        task | {"intent": "wish"},
        task | {"focus": {"reference": "ImagingStudy/none"}},
        task | {"lastModified": "2026-01-09"},
        task | {"input": [{"type": {"text": "without value"}}]},
    ):
        assert (await client.post("Task", json=refused)).status_code == 400, refused
    assert (await client.delete(scan)).status_code == 409

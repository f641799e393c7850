"""The store as cast's target."""

import copy

import pytest

from hounsfield.errors import StoreUnavailable
from hounsfield.fhir import search as search_module
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirError, FhirTarget
from tests.fhir.resources import entry, observation, patient, statuses, study, transaction, urn
from tests.fhir.test_transactions import cast_bundle


@pytest.fixture
def target(store: FhirStore) -> FhirTarget:
    return EmbeddedTarget(store, "http://hospital.example/fhir")


async def test_capabilities(target: FhirTarget) -> None:
    statement = await target.capabilities()
    assert statement["fhirVersion"] == "4.0.1"
    assert {"code": "transaction"} in statement["rest"][0]["interaction"]


async def test_first_instance_next_instance_last_instance(target: FhirTarget) -> None:
    bundle = cast_bundle("1.2", "P|1,2")
    bundle["entry"][3]["request"]["ifNoneExist"] = r"identifier=%7CP%5C%7C1%5C%2C2"
    sent = copy.deepcopy(bundle)
    assert statuses(await target.transaction(bundle)) == ["201 Created"] * 4
    assert bundle == sent
    assert statuses(await target.transaction(bundle))[1] == "200 OK"
    (who,) = await target.search("Patient", [("identifier", r"|P\|1\,2")])
    assert (who.mode, who.resource["identifier"]) == ("match", [{"value": "P|1,2"}])
    (found,) = await target.search("ImagingStudy", [("identifier", "urn:dicom:uid|urn:oid:1.2")])
    resource = found.resource
    assert resource["subject"]["reference"] == f"Patient/{who.resource['id']}"
    resource["series"][0]["instance"].append({"uid": "1.2.1.2", "sopClass": {"code": "1.2.3"}})
    name = f"ImagingStudy/{resource['id']}"
    put = entry("PUT", name, resource, name, ifMatch=f'W/"{resource["meta"]["versionId"]}"')
    assert statuses(await target.transaction(transaction(put))) == ["200 OK"]
    with pytest.raises(FhirError) as caught:
        await target.transaction(transaction(put))
    assert caught.value.status == 412
    again = (await target.search("ImagingStudy", [("identifier", "urn:dicom:uid|urn:oid:1.2")]))[0].resource
    assert {**again, "meta": None} == {**resource, "meta": None}
    assert again["meta"]["versionId"] == "2"
    reports = await target.search("Observation", [("part-of", name)])
    deletes = [entry("DELETE", f"Observation/{one.resource['id']}") for one in reports]
    answer = await target.transaction(transaction(entry("DELETE", name, ifMatch='W/"2"'), *deletes))
    assert statuses(answer) == ["204 No Content"] * 2
    assert await target.search("ImagingStudy", [("identifier", "urn:dicom:uid|urn:oid:1.2")]) == []


async def test_all_pages_are_read(target: FhirTarget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hounsfield.fhir.store.MAX_COUNT", 2)
    monkeypatch.setattr(search_module, "MAX_COUNT", 2)
    who = urn()
    parts = [entry("POST", "Observation", observation(who, identifier=[{"value": str(n)}])) for n in range(5)]
    await target.transaction(transaction(entry("POST", "Patient", patient(), who), *parts))
    found = await target.search("Observation", [("code", "73569-6"), ("_include", "Observation:subject")])
    assert [one.resource["identifier"][0]["value"] for one in found if one.mode == "match"] == list("01234")
    assert [one.resource["resourceType"] for one in found if one.mode == "include"] == ["Patient"]


async def test_refusals_carry_status_and_reason(target: FhirTarget) -> None:
    with pytest.raises(FhirError) as caught:
        await target.transaction(transaction(entry("POST", "ImagingStudy", study("1.2", "Patient/nobody"))))
    assert caught.value.status == 400
    assert "Bundle.entry[0]" in str(caught.value)
    assert "nobody" not in str(caught.value)
    with pytest.raises(FhirError) as caught:
        await target.search("Medication", [("identifier", "x")])
    assert caught.value.status == 404
    broken = entry("POST", "Patient", patient("\ud800"), urn())
    with pytest.raises(FhirError) as caught:
        await target.transaction(transaction(broken))
    assert caught.value.status == 400


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_an_unavailable_database_is_a_503(target: FhirTarget, store: FhirStore) -> None:
    await store._database.close()
    with pytest.raises(FhirError) as caught:
        await target.transaction(cast_bundle())
    assert isinstance(caught.value.__cause__, StoreUnavailable)
    assert caught.value.status == 503

"""The peers are what the other tests take them for."""

import asyncio
import time
from collections.abc import Callable, Mapping

import asyncpg
import httpx
import pytest

from tests.peers.azurite import AzuriteServer
from tests.peers.fhir_server import FhirServer
from tests.peers.s3 import S3Server

pytestmark = pytest.mark.peer

IMAGING_STUDY = {
    "resourceType": "ImagingStudy",
    "status": "available",
    "subject": {"reference": "Patient/p"},
    "identifier": [{"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}],
}


async def test_postgres_gives_each_test_an_empty_database(
    postgres_url: str, postgres_database: Callable[[], str]
) -> None:
    other = postgres_database()
    assert other != postgres_url
    first, second = await asyncpg.connect(postgres_url), await asyncpg.connect(other)
    await first.execute("CREATE TABLE t (x int)")
    assert await second.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await first.close()
    await second.close()


def test_s3_creates_buckets(s3_endpoint: S3Server) -> None:
    bucket = s3_endpoint.create_bucket()
    assert httpx.get(f"{s3_endpoint.url}/{bucket}").status_code == 200
    assert httpx.get(f"{s3_endpoint.url}/{bucket}x").status_code == 404


def test_azurite_asks_for_a_signature(azurite_endpoint: AzuriteServer) -> None:
    answer = httpx.get(f"{azurite_endpoint.endpoint}/devstoreaccount1?comp=list")
    assert answer.status_code == 403
    assert "Azurite" in answer.headers["Server"]


def test_fhir_says_what_it_can(fhir_server_url: str) -> None:
    statement = httpx.get(f"{fhir_server_url}/metadata").json()
    assert statement["fhirVersion"] == "4.0.1"
    assert {"code": "transaction"} in statement["rest"][0]["interaction"]
    assert {"Patient", "ImagingStudy", "Endpoint"} <= {row["type"] for row in statement["rest"][0]["resource"]}


def test_fhir_versions_and_if_match(fhir_server_url: str) -> None:
    created = httpx.post(f"{fhir_server_url}/Patient", json={"resourceType": "Patient", "gender": "female"})
    assert created.status_code == 201
    patient, tag = created.json(), created.headers["ETag"]
    assert created.headers["Location"].startswith(f"{fhir_server_url}/Patient/{patient['id']}/_history/")
    url = f"{fhir_server_url}/Patient/{patient['id']}"
    updated = httpx.put(url, json={**patient, "gender": "male"}, headers={"If-Match": tag})
    assert updated.status_code == 200
    assert updated.headers["ETag"] != tag
    assert httpx.put(url, json=patient, headers={"If-Match": tag}).status_code == 412
    assert httpx.get(url).json()["gender"] == "male"
    assert httpx.get(f"{fhir_server_url}/Patient/unknown").status_code == 404


def test_fhir_creates_conditionally_and_searches(fhir_server_url: str) -> None:
    condition = {"If-None-Exist": "identifier=urn:dicom:uid|urn:oid:1.2.3"}
    first = httpx.post(f"{fhir_server_url}/ImagingStudy", json=IMAGING_STUDY, headers=condition)
    second = httpx.post(f"{fhir_server_url}/ImagingStudy", json=IMAGING_STUDY, headers=condition)
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["id"] == second.json()["id"]
    search = {"identifier": "urn:dicom:uid|urn:oid:1.2.3"}
    assert httpx.get(f"{fhir_server_url}/ImagingStudy", params=search).json()["total"] == 1
    assert httpx.post(f"{fhir_server_url}/ImagingStudy/_search", data=search).json()["total"] == 1


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Patient", "gender": "F"},
        {"resourceType": "Patient", "name": [{"use": "bogus", "family": "x"}]},
        {"resourceType": "Patient", "birthDate": "yesterday"},
        {"resourceType": "Patient", "noSuchElement": 1},
        {"resourceType": "ImagingStudy", "status": "available"},
        {**IMAGING_STUDY, "status": "done"},
    ],
    ids=["required code", "nested required code", "bad date", "unknown element", "missing subject", "study status"],
)
def test_fhir_refuses_invalid_resources(fhir_server_url: str, resource: dict[str, object]) -> None:
    answer = httpx.post(f"{fhir_server_url}/{resource['resourceType']}", json=resource)
    assert answer.status_code == 400
    assert answer.json()["resourceType"] == "OperationOutcome"


def transaction(*entries: Mapping[str, object]) -> dict[str, object]:
    return {"resourceType": "Bundle", "type": "transaction", "entry": list(entries)}


def test_fhir_transaction_resolves_references(fhir_server_url: str) -> None:
    urn = "urn:uuid:7f0bcb4e-3b57-4a3e-9a77-5d9f3a4ac0de"
    bundle = transaction(
        {
            "fullUrl": urn,
            "resource": {"resourceType": "Patient"},
            "request": {"method": "POST", "url": "Patient", "ifNoneExist": "identifier=a|b"},
        },
        {
            "resource": {**IMAGING_STUDY, "subject": {"reference": urn}},
            "request": {"method": "POST", "url": "ImagingStudy"},
        },
    )
    answer = httpx.post(fhir_server_url, json=bundle)
    assert answer.status_code == 200
    patient, study = [entry["response"] for entry in answer.json()["entry"]]
    assert (patient["status"], study["status"]) == ("201", "201")
    stored = httpx.get(f"{fhir_server_url}/{study['location']}").json()
    assert stored["subject"]["reference"] == patient["location"]


@pytest.mark.parametrize(
    ("second", "status"),
    [
        (
            {"resource": {"resourceType": "Patient", "gender": "F"}, "request": {"method": "POST", "url": "Patient"}},
            400,
        ),
        (
            {
                "resource": {"resourceType": "Patient", "id": "known"},
                "request": {"method": "PUT", "url": "Patient/known", "ifMatch": 'W/"old"'},
            },
            412,
        ),
    ],
    ids=["invalid", "version conflict"],
)
def test_fhir_transaction_is_all_or_nothing(fhir_server_url: str, second: dict[str, object], status: int) -> None:
    httpx.put(f"{fhir_server_url}/Patient/known", json={"resourceType": "Patient", "id": "known"}).raise_for_status()
    first = {"resource": {"resourceType": "Patient"}, "request": {"method": "POST", "url": "Patient"}}
    assert httpx.post(fhir_server_url, json=transaction(first, second)).status_code == status
    assert httpx.get(f"{fhir_server_url}/Patient").json()["total"] == 1


def test_fhir_outages(fhir_peer: FhirServer) -> None:
    url = f"{fhir_peer.url}/Patient"
    fhir_peer.fail_next(1, 429, headers={"Retry-After": "7"}, match="POST")
    assert httpx.get(url).status_code == 200
    refused = httpx.post(url, json={"resourceType": "Patient"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "7")
    fhir_peer.fail_next(1, 0, after=True)
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.post(url, json={"resourceType": "Patient"})
    assert httpx.get(url).json()["total"] == 1
    assert [row["status"] for row in fhir_peer.requests()] == [200, 429, 0, 200]


async def test_fhir_pauses_and_delays(fhir_peer: FhirServer) -> None:
    fhir_peer.pause()
    async with httpx.AsyncClient() as client:
        waiting = asyncio.create_task(client.get(f"{fhir_peer.url}/Patient"))
        done, _ = await asyncio.wait({waiting}, timeout=0.3)
        assert not done
        fhir_peer.resume()
        assert (await waiting).status_code == 200
        fhir_peer.delay(0.2)
        start = time.monotonic()
        await client.get(f"{fhir_peer.url}/Patient")
        assert time.monotonic() - start >= 0.2

"""The HTTP side of web/fhir.py: formats, methods, bodies, errors."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import msgspec
import pytest
from fhir.resources.R4B.capabilitystatement import CapabilityStatement

from hounsfield.database.engine import Database
from hounsfield.errors import StoreUnavailable
from hounsfield.fhir.outcomes import UnsupportedFormat
from hounsfield.fhir.search_parameters import PARAMETERS
from hounsfield.fhir.store import FhirStore
from hounsfield.web import fhir
from hounsfield.web.fhir import FHIR_JSON, Form, fhir_routes, negotiate
from tests.fhir.conftest import BASE
from tests.fhir.resources import patient
from tests.fhir.test_store import create, is_outcome
from tests.web import anybody

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "parameter", "form"),
    [
        ("", "", Form()),
        ("*/*", "", Form()),
        ("application/*", "", Form()),
        ("application/fhir+json", "", Form()),
        ("application/fhir+json; fhirVersion=4.0", "", Form()),
        ("application/fhir+xml;q=0.5, application/fhir+json", "", Form()),
        ("application/json", "", Form("application/json")),
        ("text/json", "", Form("application/json")),
        ("application/json+fhir", "", Form()),
        ("Application/JSON, text/html", "", Form("application/json")),
        ("application/xml, */*;q=0.1", "", Form()),
        (BROWSER, "", Form("application/json", True)),
        ("application/fhir+xml", "json", Form()),
        ("", "application/fhir+json", Form()),
        ("", "application/fhir json", Form()),
        ("", "application/json", Form("application/json")),
        ("application/fhir+json", "html", Form("application/json", True)),
    ],
)
def test_formats(accept: str, parameter: str, form: Form, database_url: str) -> None:
    assert negotiate(accept, parameter, False) == form


@pytest.mark.parametrize(
    ("accept", "parameter"),
    [
        ("application/fhir+xml", ""),
        ("application/xml", ""),
        ("text/turtle", ""),
        ("application/fhir+json;q=0", ""),
        ("application/fhir+json; fhirVersion=5.0", ""),
        ("application/fhir+json", "xml"),
        ("", "application/fhir+xml"),
        ("", "nonsense"),
    ],
)
def test_formats_that_are_refused(accept: str, parameter: str, database_url: str) -> None:
    with pytest.raises(UnsupportedFormat):
        negotiate(accept, parameter, False)


async def test_xml_is_406_with_an_outcome_in_json(client: httpx.AsyncClient) -> None:
    answer = await client.get("Patient", headers={"Accept": "application/fhir+xml"})
    assert is_outcome(answer, 406, "not-supported")
    assert answer.headers["content-type"] == f"{FHIR_JSON}; charset=utf-8"
    assert is_outcome(await client.get("Patient?_format=xml"), 406)


async def test_pretty_and_browsers(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    plain = await client.get(name)
    pretty = await client.get(f"{name}?_pretty=true")
    assert pretty.content == msgspec.json.format(plain.content, indent=2)
    browser = await client.get("Patient", headers={"Accept": BROWSER})
    assert browser.headers["content-type"] == "application/json; charset=utf-8"
    assert b'\n  "resourceType": "Bundle"' in browser.content
    refused = await client.get("Patient/nobody", headers={"Accept": BROWSER})
    assert refused.status_code == 404
    assert b"\n" in refused.content


async def test_metadata(client: httpx.AsyncClient) -> None:
    answer = await client.get("metadata")
    CapabilityStatement.model_validate_json(answer.content)
    statement = answer.json()
    assert statement["fhirVersion"] == "4.0.1"
    rest = statement["rest"][0]
    assert {"transaction", "batch"} <= {one["code"] for one in rest["interaction"]}
    assert statement["implementation"]["url"] == BASE
    for resource in rest["resource"]:
        assert [one["name"] for one in resource["searchParam"]] == list(PARAMETERS[resource["type"]])
        for one in resource["searchParam"]:
            value = {"date": "2020", "reference": "a"}.get(one["type"], "x")
            strict = {"Prefer": "handling=strict"}
            found = await client.get(resource["type"], params={one["name"]: value}, headers=strict)
            assert found.status_code == 200
        for include in resource.get("searchInclude", []):
            found = await client.get(f"{resource['type']}?_include={include}")
            assert found.status_code == 200
        for include in resource.get("searchRevInclude", []):
            assert (await client.get(f"{resource['type']}?_revinclude={include}")).status_code == 200
    assert (await client.head("metadata")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "", 405),
        ("DELETE", "", 405),
        ("PATCH", "Patient/a", 405),
        ("POST", "Patient/a", 405),
        ("POST", "metadata", 405),
        ("GET", "Patient/_search", 405),
        ("PUT", "Patient/a/_history/1", 405),
        ("OPTIONS", "Patient", 405),
        ("GET", "Medication", 404),
        ("POST", "Medication", 404),
        ("GET", "Medication/1/_history", 404),
        ("POST", "Medication/_search", 404),
        ("GET", "patient", 404),
        ("GET", "nonsense", 404),
        ("GET", "Patient/a/b", 404),
        ("GET", "Patient/a/$everything", 404),
        ("GET", "Patient/a/_history/1/2", 404),
        ("GET", "_history/1", 404),
        ("GET", "Patient/%00", 404),
        ("DELETE", "Patient/%00", 404),
        ("GET", "Patient/%00/_history", 404),
        ("GET", "Patient/a_b/_history/1", 404),
        ("GET", "Patient/" + "x" * 65, 404),
    ],
)
async def test_what_is_not_there(client: httpx.AsyncClient, method: str, path: str, status: int) -> None:
    answer = await client.request(method, f"{BASE}/{path}".rstrip("/"))
    assert is_outcome(answer, status)
    assert ("allow" in answer.headers) == (status == 405)


async def test_who_tries_the_bare_address_is_told_where_to_go(client: httpx.AsyncClient) -> None:
    said = (await client.get("")).json()["issue"][0]["diagnostics"]
    for address in (word.rstrip(",") for word in said.split() if word.startswith("http")):
        assert (await client.get(address)).status_code == 200, address
    assert "/metadata" in said


async def test_allow_names_the_methods(client: httpx.AsyncClient) -> None:
    assert (await client.patch("Patient/a")).headers["allow"] == "GET, PUT, DELETE"


async def test_slashes_at_the_end_do_not_matter(client: httpx.AsyncClient) -> None:
    assert (await client.post(BASE + "/", json={"resourceType": "Bundle", "type": "batch"})).status_code == 200
    assert (await client.get("Patient/")).status_code == 200


@pytest.mark.parametrize("media_type", ["application/fhir+xml", "text/plain", "application/x-www-form-urlencoded"])
async def test_bodies_that_are_no_json(client: httpx.AsyncClient, media_type: str) -> None:
    headers = {"Content-Type": media_type}
    assert is_outcome(await client.post("Patient", content=b"x", headers=headers), 415)
    assert is_outcome(await client.put("Patient/a", content=b"x", headers=headers), 415)
    assert is_outcome(await client.post(BASE, content=b"x", headers=headers), 415)


@pytest.mark.parametrize("media_type", ["application/json", "application/fhir+json; charset=utf-8", "text/json"])
async def test_bodies_that_are_json(client: httpx.AsyncClient, media_type: str) -> None:
    body = msgspec.json.encode(patient())
    answer = await client.post("Patient", content=body, headers={"Content-Type": media_type})
    assert answer.status_code == 201


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"x"', b"{}", b'{"resourceType":"Endpoint"}', b"\xff"])
async def test_bad_bodies(client: httpx.AsyncClient, body: bytes) -> None:
    assert is_outcome(await client.post("Patient", content=body), 400)
    assert is_outcome(await client.put("Patient/a", content=body), 400)
    assert is_outcome(await client.post(BASE, content=body), 400)


async def test_bodies_have_a_limit(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir, "MAX_BODY", 100)
    assert is_outcome(await client.post("Patient", content=b" " * 101), 413, "too-long")


async def test_posted_searches_join_url_and_form(client: httpx.AsyncClient) -> None:
    await create(client, patient("P1", gender="male"))
    await create(client, patient("P1", gender="female"))
    headers = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
    answer = await client.post("Patient/_search?gender=male", content=b"identifier=P1", headers=headers)
    assert answer.json()["total"] == 1
    assert answer.json()["link"][0]["url"] == f"{BASE}/Patient?gender=male&identifier=P1"
    assert is_outcome(await client.post("Patient/_search", content=b"identifier=%FF", headers=headers), 400)
    assert is_outcome(await client.post("Patient/_search", content=b"{}"), 415)


async def test_links_use_the_address_of_the_request(client: httpx.AsyncClient) -> None:
    name = await create(client, patient())
    other = "https://proxy.example:8443/fhir"
    answer = (await client.get(f"{other}/Patient")).json()
    assert answer["link"][0]["url"] == f"{other}/Patient"
    assert answer["entry"][0]["fullUrl"] == f"{other}/{name}"
    located = await client.post(f"{other}/Patient", json=patient())
    assert located.headers["location"].startswith(f"{other}/Patient/")
    study = {"resourceType": "ImagingStudy", "status": "available", "subject": {"reference": f"{other}/{name}"}}
    assert (await client.post(f"{other}/ImagingStudy", json=study)).status_code == 201
    assert (await client.get(f"ImagingStudy?patient={name}")).json()["total"] == 1


class Broken:
    """A database that fails as told."""

    dialect = "sqlite"

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def fetch(self, *arguments: Any, **keywords: Any) -> Any:
        raise self._error

    read = write = fetch


@pytest.fixture
async def broken(request: pytest.FixtureRequest, database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a store whose database fails."""
    store = FhirStore(Broken(request.param), BASE)  # type: ignore[arg-type]
    transport = httpx.ASGITransport(app=anybody.application(fhir_routes(store)))
    async with httpx.AsyncClient(transport=transport, base_url=BASE + "/") as client:
        yield client


@pytest.mark.parametrize("broken", [StoreUnavailable("The database is away.")], indirect=True)
async def test_a_database_that_is_away_is_503(broken: httpx.AsyncClient) -> None:
    assert is_outcome(await broken.get("Patient/a"), 503, "transient")
    assert is_outcome(await broken.post("Patient", json=patient()), 503, "transient")


@pytest.mark.parametrize("broken", [RuntimeError("SECRET")], indirect=True)
async def test_unexpected_errors_are_500_and_say_nothing(broken: httpx.AsyncClient) -> None:
    answer = await broken.get("Patient/a")
    assert is_outcome(answer, 500, "exception")
    assert "SECRET" not in answer.text

"""Searches through HTTP (FHIR R4 §3.1.1; dicom-cast.md §9)."""

import asyncio
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from hounsfield.fhir import reads
from hounsfield.fhir import search as search_module
from hounsfield.fhir.conditions import escape
from hounsfield.fhir.periods import PREFIXES, parse_period
from hounsfield.fhir.store import FhirStore
from tests.fhir.conftest import BASE, found
from tests.fhir.resources import WADO, endpoint, entry, observation, patient, study, transaction
from tests.fhir.test_store import create, is_outcome

Json = dict[str, Any]


async def put(client: httpx.AsyncClient, identity: str, resource: Json) -> str:
    """Create a resource under an id of our choice."""
    name = f"{resource['resourceType']}/{identity}"
    answer = await client.put(name, json={"id": identity, **resource})
    assert answer.status_code == 201, answer.text
    return name


@pytest.fixture
async def filled(client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A client of a store with two of everything."""
    names = {
        "ann": [{"use": "usual", "family": "Müller-Lüdenscheidt", "given": ["Anna", "Maria"], "prefix": ["Dr."]}],
        "bob": [{"family": "Muller", "given": ["Bob"], "suffix": ["Jr."]}, {"text": "Roberto O'Neil"}],
    }
    await put(
        client, "ann", patient("P1", "urn:h", name=names["ann"], gender="female", birthDate="1970-05-06", active=True)
    )
    await put(client, "bob", patient("p1", name=names["bob"], gender="male", birthDate="1970"))
    await put(client, "none", {"resourceType": "Patient", "active": False})
    await put(client, "wado", endpoint(identifier=[{"value": "E1"}]))
    await put(client, "other", endpoint("http://dicom.example/longer/", status="off"))
    await put(client, "s1", study("1.2", "Patient/ann", 3, started="2020-01-02T10:00:00+01:00"))
    references = [{"reference": "Endpoint/wado"}, {"reference": "Endpoint/other"}]
    second = study("1.3", "Patient/bob", started="2020-02", endpoint=references, status="cancelled")
    second["series"][0]["modality"] = {"system": "http://dicom.nema.org/resources/ontology/DCM", "code": "MR"}
    second["series"][0]["instance"][0]["sopClass"] = {
        "system": "urn:ietf:rfc:3986",
        "code": "urn:oid:1.2.840.10008.5.1.4.1.1.4",
    }
    await put(client, "s2", second)
    subject = {"reference": "Device/d", "identifier": {"system": "urn:d", "value": "D1"}}
    await put(client, "s3", {**study("1.4", "Device/d"), "subject": subject})
    await put(
        client,
        "o1",
        observation(
            "Patient/ann", partOf=[{"reference": "ImagingStudy/s1"}], effectiveDateTime="2020-01-02T10:00:00.5Z"
        ),
    )
    period = {"start": "2020-01-01", "end": "2020-01-31"}
    await put(client, "o2", observation("Patient/bob", effectivePeriod=period, identifier=[{"value": "O2"}]))
    return client


SEARCHES = {
    # tokens, by the letter
    "Patient?identifier=P1": "ann",
    "Patient?identifier=p1": "bob",
    "Patient?identifier=urn:h|P1": "ann",
    "Patient?identifier=|P1": "",
    "Patient?identifier=|p1": "bob",
    "Patient?identifier=urn:h|": "ann",
    "Patient?identifier=urn:H|P1": "",
    "Patient?identifier=P": "",
    "Patient?identifier=urn:h|P1,p1": "ann bob",
    "Patient?identifier=P1,p1,x": "ann bob",
    "Patient?identifier=P1&identifier=p1": "",
    "Patient?identifier:not=P1": "bob none",
    "Patient?identifier:not=P1,p1": "none",
    "Patient?identifier:missing=true": "none",
    "Patient?identifier:missing=false": "ann bob",
    "Patient?gender=female": "ann",
    "Patient?gender=http://hl7.org/fhir/administrative-gender|male": "bob",
    "Patient?gender:not=male": "ann none",
    "Patient?gender=Male": "",
    # strings
    "Patient?name=mull": "ann bob",
    "Patient?name=MÜLLER-l": "ann",
    "Patient?name=ann": "ann",
    "Patient?name=rob": "bob",
    "Patient?name=dr": "ann",
    "Patient?name=jr": "bob",
    "Patient?name=nna": "",
    "Patient?name:contains=nna": "ann",
    "Patient?name:contains=LÜD": "ann",
    "Patient?name:contains=%25": "",
    "Patient?name:contains=_": "",
    "Patient?name:contains=o'n": "bob",
    "Patient?family=muller": "ann bob",
    "Patient?family:exact=Muller": "bob",
    "Patient?family:exact=muller": "",
    "Patient?family:exact=Müller-Lüdenscheidt": "ann",
    "Patient?given=mar": "ann",
    "Patient?given=anna&given=maria": "ann",
    "Patient?given=anna,bob": "ann bob",
    "Patient?family=roberto": "",
    "Patient?name:missing=true": "none",
    "Patient?given:missing=false&gender=male": "bob",
    # dates
    "Patient?birthdate=1970": "ann bob",
    "Patient?birthdate=1970-05": "ann",
    "Patient?birthdate=1970-05-06": "ann",
    "Patient?birthdate=ne1970-05-06": "bob",
    "Patient?birthdate=gt1970-05-06": "bob",
    "Patient?birthdate=lt1970-05-06": "bob",
    "Patient?birthdate=ge1970-05-06": "ann bob",
    "Patient?birthdate=sa1969": "ann bob",
    "Patient?birthdate=eb1971": "ann bob",
    "Patient?birthdate=ap1970-05": "ann bob",
    "Patient?birthdate=1969,1970-05-06": "ann",
    "Patient?birthdate=ge1970-01-01&birthdate=le1970-12-31": "ann bob",
    "Patient?birthdate:missing=true": "none",
    # ids
    "Patient?_id=ann": "ann",
    "Patient?_id=ann,bob,zoe": "ann bob",
    "Patient?_id=ann&gender=male": "",
    "Patient?_id=Patient/ann": "ann",
    f"Patient?_id={BASE}/Patient/ann": "ann",
    "Patient?_lastUpdated=gt2001": "ann bob none",
    "Patient?_lastUpdated=lt2001": "",
    # Endpoint
    "Endpoint?name=DICOM WADO-RS endpoint http://dicom.example/": "other wado",
    "Endpoint?name:exact=DICOM WADO-RS endpoint http://dicom.example/": "wado",
    f"Endpoint?connection-type={WADO['system']}|dicom-wado-rs&status=active": "wado",
    "Endpoint?connection-type=dicom-qido-rs": "",
    "Endpoint?identifier=E1": "wado",
    "Endpoint?status=off": "other",
    # ImagingStudy
    "ImagingStudy?identifier=urn:dicom:uid|urn:oid:1.2": "s1",
    "ImagingStudy?patient=Patient/ann": "s1",
    "ImagingStudy?patient=ann": "s1",
    f"ImagingStudy?patient={BASE}/Patient/ann": "s1",
    "ImagingStudy?patient=Patient/ann/_history/1": "s1",
    "ImagingStudy?patient=ann,bob": "s1 s2",
    "ImagingStudy?patient=d": "",
    "ImagingStudy?subject=d": "s3",
    "ImagingStudy?subject=Device/d": "s3",
    "ImagingStudy?subject:Device=d": "s3",
    "ImagingStudy?subject:Patient=d": "",
    "ImagingStudy?subject:identifier=urn:d|D1": "s3",
    "ImagingStudy?subject:missing=true": "",
    "ImagingStudy?patient:missing=true": "s3",
    "ImagingStudy?patient.identifier=urn:h|P1": "s1",
    "ImagingStudy?patient.name=mull&patient.gender=male": "s2",
    "ImagingStudy?subject:Patient.identifier=P1": "s1",
    "ImagingStudy?modality=CT": "s1 s3",
    "ImagingStudy?modality=DCM|MR": "s2",
    "ImagingStudy?modality=http://dicom.nema.org/resources/ontology/DCM|CT": "s1 s3",
    "ImagingStudy?modality=ct": "",
    "ImagingStudy?started=2020-01-02": "s1",
    "ImagingStudy?started=2020-01-02T09:00:00Z": "s1",
    "ImagingStudy?started=2020-01-02T10:00:00+01:00": "s1",
    "ImagingStudy?started=2020-01-02T10:00:00%2B01:00": "s1",
    "ImagingStudy?started=ge2020-02": "s2",
    "ImagingStudy?started=2020": "s1 s2",
    "ImagingStudy?status=available": "s1 s3",
    "ImagingStudy?endpoint=Endpoint/wado": "s2",
    "ImagingStudy?endpoint=wado&endpoint=other": "s2",
    "ImagingStudy?endpoint.status=off": "s2",
    "ImagingStudy?series=1.3.1": "s2",
    "ImagingStudy?instance=1.2.1.3": "s1",
    "ImagingStudy?instance=1.2.1": "",
    "ImagingStudy?dicom-class=1.2.840.10008.5.1.4.1.1.4": "s2",
    "ImagingStudy?dicom-class=urn:ietf:rfc:3986|urn:oid:1.2.840.10008.5.1.4.1.1.2": "s1 s3",
    # Observation
    "Observation?patient=ann": "o1",
    "Observation?subject=Patient/bob": "o2",
    "Observation?code=http://loinc.org|73569-6": "o1 o2",
    "Observation?code=73569-7": "",
    "Observation?part-of=ImagingStudy/s1": "o1",
    "Observation?part-of=s1": "o1",
    "Observation?part-of:missing=true": "o2",
    "Observation?part-of.patient.identifier=P1": "o1",
    "Observation?date=2020-01-02": "o1",
    "Observation?date=2020-01-02T10:00:00Z": "o1",
    "Observation?date=2020-01-02T10:00:00.5Z": "o1",
    "Observation?date=ap2020-01-20": "o1 o2",
    "Observation?date=2020-01": "o1 o2",
    "Observation?identifier=O2": "o2",
}


async def test_every_parameter(filled: httpx.AsyncClient) -> None:
    for search, expected in SEARCHES.items():
        assert sorted(await found(filled, search)) == expected.split(), search
        path, _, query = search.partition("?")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        answer = await filled.post(f"{path}/_search", content=query.replace("+", "%2B"), headers=form)
        assert answer.json()["total"] == len(expected.split()), search


@pytest.mark.parametrize(
    "search",
    [
        *("Patient?birthdate=x", "Patient?identifier=a|b|c", "Patient?_count=-1", "Patient?_count=x"),
        *("Patient?gender:above=x", "Patient?_total=perhaps", "Patient?_cursor=x", "Patient?_cursor=W10"),
        *("Patient?_include=Patient:nonsense", "Patient?_include=nonsense", "Patient?name=%ff", "Patient?name=%20"),
        *("Patient?name=%00", "Patient?_id=%00", "Patient?name=%CC%81"),
        "Patient?_include=ImagingStudy:patient:Endpoint",
    ],
)
async def test_what_cannot_be_understood_is_refused(client: httpx.AsyncClient, search: str) -> None:
    assert is_outcome(await client.get(search), 400)


async def test_answers_are_searchset_bundles(filled: httpx.AsyncClient) -> None:
    answer = await filled.get("Patient?name=mull&nonsense=1&_sort=birthdate&_format=json")
    bundle = answer.json()
    Bundle.model_validate_json(answer.content)
    assert (bundle["resourceType"], bundle["type"], bundle["total"]) == ("Bundle", "searchset", 2)
    assert bundle["link"] == [{"relation": "self", "url": f"{BASE}/Patient?name=mull&_sort=birthdate"}]
    assert [one["fullUrl"] for one in bundle["entry"]] == [f"{BASE}/Patient/bob", f"{BASE}/Patient/ann"]
    assert {one["search"]["mode"] for one in bundle["entry"]} == {"match"}
    empty = (await filled.get("Patient?name=nobody")).json()
    assert (empty["total"], "entry" in empty) == (0, False)


@pytest.mark.parametrize("unknown", ["nonsense=1", "_sort=nonsense", "_nonsense=1", "gender=", "_count:exact=1"])
async def test_unknown_parameters(filled: httpx.AsyncClient, unknown: str) -> None:
    lenient = await filled.get(f"Patient?gender=male&{unknown}")
    assert lenient.json()["total"] == 1
    assert lenient.json()["link"][0]["url"] == f"{BASE}/Patient?gender=male"
    strict = {"Prefer": "return=representation; handling=strict"}
    assert is_outcome(await filled.get(f"Patient?gender=male&{unknown}", headers=strict), 400)


async def test_count_total_and_summary(filled: httpx.AsyncClient) -> None:
    for query in ("_summary=count", "_count=0"):
        bundle = (await filled.get(f"Patient?{query}")).json()
        assert (bundle["total"], "entry" in bundle, len(bundle["link"])) == (3, False, 1)
    assert "total" not in (await filled.get("Patient?_total=none")).json()
    assert (await filled.get("Patient?_total=accurate&_count=1")).json()["total"] == 3
    assert len((await filled.get("Patient?_count=99999999999")).json()["entry"]) == 3


async def test_elements(filled: httpx.AsyncClient) -> None:
    resource = (await filled.get("ImagingStudy?_id=s1&_elements=started,identifier")).json()["entry"][0]["resource"]
    assert sorted(resource) == ["id", "identifier", "meta", "resourceType", "started", "status", "subject"]
    assert resource["meta"]["tag"][0]["code"] == "SUBSETTED"


async def test_sorting(client: httpx.AsyncClient) -> None:
    rows = [
        ("a", "Beta", "1980-01-01", "2"),
        ("b", "alpha", "1970", "3"),
        ("c", None, "1990-05", "1"),
        ("d", "Gamma", None, "1"),
    ]
    for identity, family, birth, value in rows:
        more = {} if birth is None else {"birthDate": birth}
        if family:
            more["name"] = [{"family": family}, {"family": "Zeta"}]  # type: ignore[assignment]
        await put(client, identity, patient(value, **more))
        await asyncio.sleep(0.002)
    for sort, expected in {
        "_id": "abcd",
        "-_id": "dcba",
        "_lastUpdated": "abcd",
        "-_lastUpdated": "dcba",
        "family": "badc",
        "-family": "dbac",
        "birthdate": "bacd",
        "-birthdate": "cabd",
        "identifier": "cdab",
        "identifier,-_id": "dcab",
        "-identifier,-_id": "badc",
    }.items():
        assert "".join(await found(client, f"Patient?_sort={sort}")) == expected, sort
        assert "".join(await found(client, f"Patient?_sort={sort}&_count=1")) == expected, sort
        assert "".join(await found(client, f"Patient?_sort={sort}&_count=3")) == expected, sort


async def test_pages_neither_repeat_nor_lose_resources_while_data_change(client: httpx.AsyncClient) -> None:
    for number in range(10):
        await put(client, f"p{number}", patient(str(number), birthDate=f"19{50 + number}-01-01"))
    seen: list[str] = []
    url = "Patient?_count=3&_sort=birthdate"
    page = 0
    while url:
        answer = await client.get(url)
        Bundle.model_validate_json(answer.content)
        bundle = answer.json()
        seen += [one["resource"]["id"] for one in bundle["entry"]]
        url = next((link["url"] for link in bundle["link"] if link["relation"] == "next"), "")
        # Behind us, ahead of us, and the last one we saw.
        await put(client, f"early{page}", patient("x", birthDate="1940-01-01"))
        await client.delete(f"Patient/{seen[-1]}")
        page += 1
    assert seen == [f"p{number}" for number in range(10)]
    assert "next" not in [link["relation"] for link in bundle["link"]]


async def test_page_links_keep_the_search(filled: httpx.AsyncClient) -> None:
    search = "Patient?name:contains=ü%26,mul&_count=1&_include=ImagingStudy:patient"
    first = (await filled.get(search)).json()
    following = first["link"][1]["url"]
    assert first["link"][1]["relation"] == "next"
    second = (await filled.get(following)).json()
    assert second["total"] == first["total"] == 2
    assert second["link"][0] == first["link"][0]
    assert second["entry"][0]["resource"]["id"] != first["entry"][0]["resource"]["id"]
    assert [link["relation"] for link in second["link"]] == ["self"]


async def test_a_cursor_of_another_search_is_refused(filled: httpx.AsyncClient) -> None:
    cursor = (await filled.get("Patient?_count=1")).json()["link"][1]["url"].rpartition("_cursor=")[2]
    assert is_outcome(await filled.get(f"Patient?_sort=name&_cursor={cursor}"), 400)


async def included(client: httpx.AsyncClient, search: str) -> list[str]:
    """What a search includes besides its matches."""
    answer = await client.get(search)
    assert answer.status_code == 200, answer.text
    entries = answer.json().get("entry", [])
    names = [f"{one['resource']['resourceType']}/{one['resource']['id']}" for one in entries]
    assert len(names) == len(set(names))
    return sorted(name for name, one in zip(names, entries, strict=True) if one["search"]["mode"] == "include")


INCLUDES = {
    "ImagingStudy?_id=s2&_include=ImagingStudy:patient": "Patient/bob",
    "ImagingStudy?_id=s2&_include=ImagingStudy:subject": "Patient/bob",
    "ImagingStudy?_id=s2&_include=ImagingStudy:endpoint": "Endpoint/other Endpoint/wado",
    "ImagingStudy?_id=s2&_include=ImagingStudy:*": "Endpoint/other Endpoint/wado Patient/bob",
    "ImagingStudy?_id=s2&_include=ImagingStudy:subject:Device": "",
    "ImagingStudy?_id=s3&_include=ImagingStudy:subject": "",
    "ImagingStudy?_include=ImagingStudy:patient": "Patient/ann Patient/bob",
    "Patient?_id=ann&_revinclude=ImagingStudy:patient": "ImagingStudy/s1",
    "Patient?_id=ann&_revinclude=ImagingStudy:patient&_revinclude=Observation:subject": "ImagingStudy/s1 "
    "Observation/o1",
    "Observation?_id=o1&_include=Observation:part-of": "ImagingStudy/s1",
    "Observation?_id=o1&_include=Observation:part-of&_include=ImagingStudy:patient": "ImagingStudy/s1",
    "Observation?_id=o1&_include=Observation:part-of&_include:iterate=ImagingStudy:patient": "ImagingStudy/s1 "
    "Patient/ann",
    "Endpoint?_id=wado&_revinclude=ImagingStudy:endpoint&_include:iterate=ImagingStudy:patient": "ImagingStudy/s2 "
    "Patient/bob",
    "Patient?_include=ImagingStudy:patient": "",
}


async def test_includes(filled: httpx.AsyncClient) -> None:
    for search, expected in INCLUDES.items():
        assert await included(filled, search) == expected.split(), search


async def test_too_many_includes_are_cut_and_said_so(
    filled: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (search_module, reads):
        monkeypatch.setattr(module, "MAX_INCLUDED", 1)
    bundle = (await filled.get("ImagingStudy?_include=ImagingStudy:patient")).json()
    modes = [one["search"]["mode"] for one in bundle["entry"]]
    assert modes == ["match", "match", "match", "include", "outcome"]
    assert bundle["entry"][-1]["resource"]["issue"][0]["code"] == "incomplete"


NASTY = ["a,b", "a|b", "a$b", "a\\b", "a\\,b", "\\", "%", "a b", "a+b", "'", '"', "ü", "a&b=c", "💡", "x" * 5000, "\t"]


async def test_identifiers_of_any_characters_are_found(client: httpx.AsyncClient) -> None:
    values = [*(f"v{value}" for value in NASTY), "v" + "x" * 5001]
    await client.post(
        BASE,
        json=transaction(
            *(
                entry("POST", "Patient", patient(v, f"urn:{v[:20].strip()}".replace(" ", "").replace("\t", "")))
                for v in values
            )
        ),
    )
    for value in values:
        answer = await client.post(
            "Patient/_search",
            content=str(httpx.QueryParams({"identifier": escape(value)})),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        bundle = answer.json()
        assert bundle["total"] == 1, value
        assert bundle["entry"][0]["resource"]["identifier"][0]["value"] == value
        assert (await client.get(bundle["link"][0]["url"])).json()["total"] == 1


async def test_names_of_any_characters_are_found(client: httpx.AsyncClient) -> None:
    names = [f"N{value}N" for value in NASTY]
    for place, name in enumerate(names):
        await put(client, str(place), patient(name=[{"family": name}]))
    for place, name in enumerate(names):
        for modifier in ("", ":exact", ":contains"):
            answer = await client.get("Patient", params={f"family{modifier}": escape(name)})
            ids = [one["resource"]["id"] for one in answer.json()["entry"]]
            assert str(place) in ids, (name, modifier)
            assert modifier != ":exact" or ids == [str(place)]


async def test_date_prefixes_on_partial_dates(store: FhirStore) -> None:
    """Every prefix with every precision, against the definition of the prefixes on periods."""
    texts = [
        "2020",
        "2020-02",
        "2020-02-29",
        "2020-02-29T12:00:00Z",
        "2020-02-29T12:00:00.500+00:00",
        "2019-12-31",
        "2021",
    ]
    for place, text in enumerate(texts):
        resource = {"id": str(place), **study("1.2", "Device/d", started=text)}
        await store.update("ImagingStudy", str(place), resource)
    for searched in texts:
        for prefix in ("", *PREFIXES):
            if prefix == "ap":
                continue
            matches, _ = await store.find("ImagingStudy", [("started", prefix + searched)])
            got = {texts[int(stored.name.partition("/")[2])] for stored in matches}
            assert got == {text for text in texts if fits(prefix or "eq", searched, text)}, prefix + searched


def fits(prefix: str, searched: str, target: str) -> bool:
    ours, theirs = parse_period(searched), parse_period(target)
    assert ours
    assert theirs
    contains = ours.low <= theirs.low and theirs.high <= ours.high
    return {
        "eq": contains,
        "ne": not contains,
        "gt": theirs.high > ours.high,
        "ge": theirs.high > ours.high or contains,
        "lt": theirs.low < ours.low,
        "le": theirs.low < ours.low or contains,
        "sa": theirs.low >= ours.high,
        "eb": theirs.high <= ours.low,
    }[prefix]


async def test_index_follows_updates(client: httpx.AsyncClient) -> None:
    name = await create(client, patient("old", name=[{"family": "Old"}], birthDate="1950"))
    identity = name.partition("/")[2]
    await client.put(name, json={"id": identity, **patient("new", name=[{"family": "New"}], birthDate="1960")})
    for search in ("identifier=old", "family=old", "birthdate=1950"):
        assert await found(client, f"Patient?{search}") == []
    for search in ("identifier=new", "family=new", "birthdate=1960"):
        assert await found(client, f"Patient?{search}") == [identity]


async def test_references_follow_updates(client: httpx.AsyncClient) -> None:
    for identity in ("a", "b"):
        await put(client, identity, patient())
    await put(client, "s", study("1.2", "Patient/a"))
    await client.put("ImagingStudy/s", json={"id": "s", **study("1.2", "Patient/b")})
    assert await found(client, "ImagingStudy?patient=a") == []
    assert await found(client, "ImagingStudy?patient=b") == ["s"]
    assert (await client.delete("Patient/a")).status_code == 204


async def test_pages_of_large_resources_hold_fewer(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(client, "p", patient())
    for number in range(5):
        await put(client, f"s{number}", study(f"1.{number}", "Patient/p", 20))
    monkeypatch.setattr(reads, "MAX_PAGE_BYTES", 5000)
    size = len((await client.get("ImagingStudy/s0")).content)
    assert size < 5000 < 3 * size
    first = (await client.get("ImagingStudy?_count=5")).json()
    assert (first["total"], len(first["entry"])) == (5, 5000 // size)
    assert await found(client, "ImagingStudy?_count=5") == [f"s{number}" for number in range(5)]
    history = (await client.get("ImagingStudy/_history")).json()
    assert len(history["entry"]) < 5
    assert history["link"][1]["relation"] == "next"
    including = (await client.get("Patient?_revinclude=ImagingStudy:patient")).json()["entry"]
    assert [one["search"]["mode"] for one in including[1:]] == ["include"] * (5000 // size) + ["outcome"]
    monkeypatch.setattr(reads, "MAX_PAGE_BYTES", 1)
    assert await found(client, "ImagingStudy") == [f"s{number}" for number in range(5)]


async def test_patients_of_other_servers(client: httpx.AsyncClient) -> None:
    elsewhere = "http://elsewhere.example/fhir/"
    await put(client, "s1", study("1.2", f"{elsewhere}Patient/1"))
    await put(client, "s2", study("1.3", f"{elsewhere}Device/1"))
    assert await found(client, f"ImagingStudy?patient={elsewhere}Patient/1") == ["s1"]
    assert await found(client, f"ImagingStudy?subject={elsewhere}Device/1") == ["s2"]
    assert await found(client, "ImagingStudy?patient:missing=true") == ["s2"]
    assert await included(client, "ImagingStudy?_include=ImagingStudy:subject") == []


async def test_many_alternatives(client: httpx.AsyncClient) -> None:
    await put(client, "p", patient("v399", "urn:s"))
    for form in ("v{}", "urn:s|v{}", "urn:s{}|x,v399"):
        values = ",".join(form.format(number) for number in range(400 if "," not in form else 200))
        answer = await client.post(
            "Patient/_search",
            content=str(httpx.QueryParams({"identifier": values})),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
        )
        assert answer.status_code == 200, answer.text
        assert answer.json()["total"] == 1
    names = ",".join(f"n{number}" for number in range(400))
    form_type = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.post("Patient/_search", content=f"name={names}", headers=form_type)).status_code == 200
    dates = ",".join(f"lt{1000 + number}" for number in range(400))
    assert (await client.post("Patient/_search", content=f"birthdate={dates}", headers=form_type)).status_code == 200

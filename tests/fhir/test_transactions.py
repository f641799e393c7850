"""Transactions and batches (FHIR R4 §3.1.0.11), through HTTP."""

import asyncio
from typing import Any

import httpx
import pytest
from fhir.resources.R4B.bundle import Bundle

from hounsfield.database.engine import Database
from hounsfield.fhir import entries, writes
from hounsfield.fhir.outcomes import Invalid
from hounsfield.fhir.store import FhirStore
from tests.fhir.conftest import BASE
from tests.fhir.resources import batch, endpoint, entry, observation, patient, statuses, study, transaction, urn
from tests.fhir.test_store import create, is_outcome

Json = dict[str, Any]


async def post(client: httpx.AsyncClient, bundle: Json, **headers: str) -> Json:
    answer = await client.post(BASE, json=bundle, headers=headers)
    assert answer.status_code == 200, answer.text
    Bundle.model_validate_json(answer.content)
    content: Json = answer.json()
    return content


def cast_bundle(uid: str = "1.2", patient_id: str = "P1") -> Json:
    """What cast sends for the first instance of a study."""
    who, where, what = urn(), urn(), urn()
    return transaction(
        entry(
            "POST",
            "Endpoint",
            endpoint(),
            where,
            ifNoneExist="name:exact=DICOM%20WADO-RS%20endpoint%20http://dicom.example/"
            "&connection-type=http://terminology.hl7.org/CodeSystem/endpoint-connection-type%7Cdicom-wado-rs",
        ),
        entry(
            "POST",
            "ImagingStudy",
            study(uid, who, endpoint=[{"reference": where}]),
            what,
            ifNoneExist=f"identifier=urn:dicom:uid%7Curn:oid:{uid}",
        ),
        entry(
            "POST",
            "Observation",
            observation(
                who,
                partOf=[{"reference": what}],
                identifier=[{"system": "urn:hounsfield:observation", "value": f"{uid}#0"}],
            ),
            urn(),
            ifNoneExist=f"identifier=urn:hounsfield:observation%7C{uid}%230",
        ),
        entry("POST", "Patient", patient(patient_id), who, ifNoneExist=f"identifier=%7C{patient_id}"),
    )


async def test_answers_in_request_order_and_links_the_entries(client: httpx.AsyncClient) -> None:
    answer = await post(client, cast_bundle())
    assert answer["type"] == "transaction-response"
    assert statuses(answer) == ["201 Created"] * 4
    kinds = [one["response"]["location"].removeprefix(BASE).split("/")[1] for one in answer["entry"]]
    assert kinds == ["Endpoint", "ImagingStudy", "Observation", "Patient"]
    for one in answer["entry"]:
        assert one["response"]["etag"] == 'W/"1"'
        assert one["response"]["lastModified"].endswith("Z")
        assert one["response"]["location"] == f"{one['fullUrl']}/_history/1"
    where, what, seen, who = (one["fullUrl"].removeprefix(BASE + "/") for one in answer["entry"])
    stored = (await client.get(what)).json()
    assert (stored["subject"], stored["endpoint"]) == ({"reference": who}, [{"reference": where}])
    assert (await client.get(seen)).json()["partOf"] == [{"reference": what}]


async def test_references_to_a_conditional_create_go_to_the_found_resource(client: httpx.AsyncClient) -> None:
    first = await post(client, cast_bundle("1.2"))
    second = await post(client, cast_bundle("1.3"))
    assert statuses(second) == ["200 OK", "201 Created", "201 Created", "200 OK"]
    assert second["entry"][3]["response"]["location"] == first["entry"][3]["response"]["location"]
    made = (await client.get(second["entry"][1]["fullUrl"])).json()
    assert made["subject"]["reference"] == first["entry"][3]["fullUrl"].removeprefix(BASE + "/")
    for kind, count in (("Patient", 1), ("Endpoint", 1), ("ImagingStudy", 2)):
        assert (await client.get(kind)).json()["total"] == count


async def test_the_same_transaction_many_times_at_once(client: httpx.AsyncClient) -> None:
    bundle = cast_bundle()
    del bundle["entry"][2]
    answers = await asyncio.gather(*(post(client, bundle) for _ in range(8)))
    assert sorted(statuses(answer)[0] for answer in answers) == ["200 OK"] * 7 + ["201 Created"]
    for kind in ("Patient", "Endpoint", "ImagingStudy"):
        assert (await client.get(kind)).json()["total"] == 1


async def test_equal_criteria_in_one_transaction_make_one_resource(client: httpx.AsyncClient) -> None:
    one, two = urn(), urn()
    answer = await post(
        client,
        transaction(
            entry("POST", "Patient", patient(), one, ifNoneExist="identifier=P1"),
            entry("POST", "Patient", patient(), two, ifNoneExist="identifier=P1"),
            entry("POST", "ImagingStudy", study("1.2", two)),
        ),
    )
    assert statuses(answer) == ["201 Created", "200 OK", "201 Created"]
    assert answer["entry"][0]["fullUrl"] == answer["entry"][1]["fullUrl"]


async def test_update_with_if_match(client: httpx.AsyncClient) -> None:
    await post(client, cast_bundle())
    resource = (await client.get("ImagingStudy")).json()["entry"][0]["resource"]
    name = f"ImagingStudy/{resource['id']}"
    put = entry("PUT", name, {**resource, "description": "x"}, name, ifMatch='W/"1"')
    answer = await post(client, transaction(put))
    assert statuses(answer) == ["200 OK"]
    assert answer["entry"][0]["response"]["etag"] == 'W/"2"'
    refused = await client.post(BASE, json=transaction(put))
    assert is_outcome(refused, 412, "conflict")
    assert refused.json()["issue"][0]["expression"] == ["Bundle.entry[0]"]


async def test_deletes_go_first_and_reads_last(client: httpx.AsyncClient) -> None:
    old = await create(client, patient())
    answer = await post(
        client,
        transaction(
            entry("GET", "Patient?identifier=P1"),
            entry("PUT", "Patient/new", {"id": "new", **patient()}),
            entry("POST", "Patient", patient("P2"), ifNoneExist="identifier=P1"),
            entry("DELETE", old),
        ),
    )
    assert statuses(answer) == ["200 OK", "201 Created", "201 Created", "204 No Content"]
    found = answer["entry"][0]["resource"]
    assert (found["type"], found["total"], found["entry"][0]["resource"]["id"]) == ("searchset", 1, "new")
    assert (await client.get(old)).status_code == 410


async def test_delete_study_with_its_observations(client: httpx.AsyncClient) -> None:
    """What cast sends when the last instance of a study goes; each of the two refers to the other's patient."""
    made = await post(client, cast_bundle())
    names = [one["fullUrl"].removeprefix(BASE + "/") for one in made["entry"]]
    deletes = transaction(entry("DELETE", names[1], ifMatch='W/"1"'), entry("DELETE", names[2]))
    assert statuses(await post(client, deletes)) == ["204 No Content", "204 No Content"]
    assert statuses(await post(client, transaction(entry("DELETE", names[1])))) == ["204 No Content"]
    assert (await client.get("ImagingStudy")).json()["total"] == 0


async def test_delete_of_what_another_entry_stops_referring_to(client: httpx.AsyncClient) -> None:
    one, two = await create(client, patient("P1")), await create(client, patient("P2"))
    name = await create(client, study("1.2", one))
    moved = {"id": name.partition("/")[2], **study("1.2", two)}
    assert statuses(await post(client, transaction(entry("PUT", name, moved), entry("DELETE", one)))) == [
        "200 OK",
        "204 No Content",
    ]
    assert is_outcome(await client.post(BASE, json=transaction(entry("DELETE", two))), 409)


async def test_references_in_a_circle(client: httpx.AsyncClient) -> None:
    one, two = urn(), urn()
    link = [{"other": {"reference": two}, "type": "seealso"}]
    back = [{"other": {"reference": one}, "type": "seealso"}]
    answer = await post(
        client,
        transaction(
            entry("POST", "Patient", patient("A", link=link), one),
            entry("POST", "Patient", patient("B", link=back), two),
        ),
    )
    names = [one["fullUrl"].removeprefix(BASE + "/") for one in answer["entry"]]
    assert (await client.get(names[0])).json()["link"][0]["other"]["reference"] == names[1]
    assert (await client.get(names[1])).json()["link"][0]["other"]["reference"] == names[0]


async def test_full_urls_of_another_server_are_rewritten_too(client: httpx.AsyncClient) -> None:
    other = "http://other.example/base"
    answer = await post(
        client,
        transaction(
            entry("POST", "Patient", patient(), f"{other}/Patient/7"),
            entry("POST", "ImagingStudy", study("1.2", "Patient/7"), f"{other}/ImagingStudy/8"),
            entry("POST", "ImagingStudy", study("1.3", f"{other}/Patient/7")),
        ),
    )
    name = answer["entry"][0]["fullUrl"].removeprefix(BASE + "/")
    for one in answer["entry"][1:]:
        assert (await client.get(one["fullUrl"])).json()["subject"]["reference"] == name


async def test_uris_that_name_an_entry_are_rewritten_others_not(client: httpx.AsyncClient) -> None:
    who, other = urn(), urn()
    extension = [{"url": "http://x/of", "valueUri": who}, {"url": "http://x/other", "valueUri": other}]
    answer = await post(client, transaction(entry("POST", "Patient", patient(extension=extension), who)))
    name = answer["entry"][0]["fullUrl"].removeprefix(BASE + "/")
    stored = (await client.get(name)).json()["extension"]
    assert [one["valueUri"] for one in stored] == [name, other]


async def test_conditional_references(client: httpx.AsyncClient) -> None:
    existing = await create(client, patient("old"))
    answer = await post(
        client,
        transaction(
            entry("POST", "ImagingStudy", study("1.2", "Patient?identifier=old")),
            entry("POST", "ImagingStudy", study("1.3", "Patient?identifier=new")),
            entry("POST", "Patient", patient("new")),
        ),
    )
    subjects = [(await client.get(one["fullUrl"])).json()["subject"]["reference"] for one in answer["entry"][:2]]
    assert subjects == [existing, answer["entry"][2]["fullUrl"].removeprefix(BASE + "/")]
    nobody = transaction(entry("POST", "ImagingStudy", study("1.4", "Patient?identifier=nobody")))
    assert is_outcome(await client.post(BASE, json=nobody), 400, "not-found")
    await create(client, patient("old"))
    several = transaction(entry("POST", "ImagingStudy", study("1.4", "Patient?identifier=old")))
    assert is_outcome(await client.post(BASE, json=several), 412, "multiple-matches")


async def test_conditional_update_and_delete(client: httpx.AsyncClient) -> None:
    full_url = urn()
    bundle = transaction(
        entry("PUT", "Patient?identifier=P1", patient(gender="male"), full_url),
        entry("POST", "ImagingStudy", study("1.2", full_url)),
        entry("DELETE", "Observation?identifier=none"),
    )
    first, second = await post(client, bundle), await post(client, bundle)
    assert statuses(first) == ["201 Created", "201 Created", "204 No Content"]
    assert statuses(second) == ["200 OK", "201 Created", "204 No Content"]
    assert first["entry"][0]["fullUrl"] == second["entry"][0]["fullUrl"]


async def test_prefer_representation_returns_the_resources(client: httpx.AsyncClient) -> None:
    answer = await post(client, cast_bundle(), Prefer="return=representation")
    assert [one["resource"]["resourceType"] for one in answer["entry"]] == [
        "Endpoint",
        "ImagingStudy",
        "Observation",
        "Patient",
    ]
    again = await post(client, cast_bundle(), Prefer="return=representation")
    assert again["entry"][0]["resource"] == answer["entry"][0]["resource"]


async def test_absolute_urls_of_entries(client: httpx.AsyncClient) -> None:
    answer = await post(client, transaction(entry("PUT", f"{BASE}/Patient/a", {"id": "a", **patient()})))
    assert statuses(answer) == ["201 Created"]


FAILURES: dict[str, tuple[Json, int]] = {
    "invalid": (entry("POST", "Patient", patient(gender="unheard-of")), 400),
    "dangling": (entry("POST", "ImagingStudy", study("1.9", "Patient/nobody")), 400),
    "urn of no entry": (entry("POST", "ImagingStudy", study("1.9", urn())), 400),
    "stale": (entry("PUT", "Patient/a", {"id": "a", **patient()}, ifMatch='W/"1"'), 412),
    "still referenced": (entry("DELETE", "Patient/used"), 409),
    "read of nothing": (entry("GET", "Patient/nobody"), 404),
    "read of nothing's version": (entry("GET", "Patient/used/_history/9"), 404),
    "unknown path": (entry("GET", "Patient/used/_history/1/2"), 404),
    "unknown type": (entry("POST", "Medication", {"resourceType": "Medication"}), 404),
    "other type": (entry("POST", "Patient", endpoint()), 400),
    "no resource": (entry("PUT", "Patient/a"), 400),
    "no request": ({"resource": patient()}, 400),
    "no entry": ("x", 400),  # type: ignore[dict-item]
    "patch": (entry("PATCH", "Patient/a"), 400),
    "create with id": (entry("POST", "Patient/a", patient()), 400),
    "number as method": ({"request": {"method": 1, "url": "Patient"}}, 400),
    "criteria": (entry("POST", "Patient", patient(), ifNoneExist="unheard-of=1"), 400),
    "same again": (entry("PUT", "Patient/good", {"id": "good", **patient()}), 400),
    "same full URL": (entry("POST", "Patient", patient(), "urn:uuid:good"), 400),
}


@pytest.mark.parametrize("failure", FAILURES)
async def test_all_or_nothing(client: httpx.AsyncClient, failure: str) -> None:
    await client.put("Patient/used", json={"id": "used", **patient("U")})
    await create(client, study("1.2", "Patient/used"))
    before = (await client.get("_history")).json()["total"]
    bad, status = FAILURES[failure]
    good = {"id": "good", **patient("G")}
    bundle = transaction(
        entry("POST", "Patient", patient("N")), entry("PUT", "Patient/good", good, "urn:uuid:good"), bad
    )
    answer = await client.post(BASE, json=bundle)
    assert is_outcome(answer, status)
    issue = answer.json()["issue"][0]
    assert "Bundle.entry[2]" in issue["diagnostics"]
    assert issue["expression"][0].startswith("Bundle.entry[2]")
    assert (await client.get("_history")).json()["total"] == before


@pytest.mark.parametrize(
    "bundle",
    [
        [],
        {"resourceType": "Patient"},
        {"resourceType": "Bundle"},
        {"resourceType": "Bundle", "type": "collection"},
        {"resourceType": "Bundle", "type": "transaction", "entry": {}},
    ],
)
async def test_what_is_no_transaction_is_refused(client: httpx.AsyncClient, bundle: Any) -> None:
    assert is_outcome(await client.post(BASE, json=bundle), 400)


async def test_an_empty_transaction_is_answered(client: httpx.AsyncClient) -> None:
    answer = await post(client, {"resourceType": "Bundle", "type": "transaction"})
    assert answer == {"resourceType": "Bundle", "type": "transaction-response"}


@pytest.mark.parametrize("step", ["save", "_log", "_index", "finish"])
async def test_a_crash_in_the_middle_leaves_nothing(
    client: httpx.AsyncClient, database: Database, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    await create(client, patient("before"))
    original = getattr(writes.Writes, step)
    calls = []

    async def failing(self: Any, *arguments: Any, **keywords: Any) -> Any:
        calls.append(step)
        result = await original(self, *arguments, **keywords)
        if len(calls) == (1 if step == "finish" else 3):
            raise RuntimeError("injected")
        return result

    tables = ["resource", "history", "token", "string", "date", "reference", "head"]
    before = [await database.fetch(f"SELECT * FROM fhir_{table} ORDER BY 1, 2, 3") for table in tables]
    monkeypatch.setattr(writes.Writes, step, failing)
    answer = await client.post(BASE, json=cast_bundle())
    assert is_outcome(answer, 500, "exception")
    assert "injected" not in answer.text
    monkeypatch.undo()
    assert [await database.fetch(f"SELECT * FROM fhir_{table} ORDER BY 1, 2, 3") for table in tables] == before
    assert statuses(await post(client, cast_bundle())) == ["201 Created"] * 4


async def test_a_unit_that_is_run_again_writes_the_same(store: FhirStore, database: Database) -> None:
    """PostgreSQL may abort a unit in favour of another; what the first run did must not show in the second."""
    original = type(database).write

    class Twice:
        dialect = database.dialect

        def __getattr__(self, name: str) -> Any:
            return getattr(database, name)

        async def write(self, unit: Any) -> Any:
            async def aborted(tx: Any) -> None:
                await unit(tx)
                raise Invalid("abort")

            with pytest.raises(Invalid):
                await original(database, aborted)
            return await original(database, unit)

    again = FhirStore(Twice(), BASE)
    answer = await again.bundle(cast_bundle())
    assert statuses(answer) == ["201 Created"] * 4
    name = answer["entry"][3]["fullUrl"].removeprefix(BASE + "/")
    assert (await store.search("ImagingStudy", [("patient", name)]))["total"] == 1
    assert (await store.search("Patient", []))["total"] == 1


async def test_bundles_have_a_limit(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(entries, "MAX_ENTRIES", 1)
    assert statuses(await post(client, transaction(entry("GET", "Patient")))) == ["200 OK"]
    bundle = transaction(entry("GET", "Patient"), entry("GET", "Patient"))
    assert is_outcome(await client.post(BASE, json=bundle), 413, "too-costly")


async def test_what_is_indexed_at_once_has_a_limit(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else can write meanwhile."""
    monkeypatch.setattr(writes, "MAX_ROWS", 100)
    names = [{"family": f"Name{number}"} for number in range(30)]  # two rows each
    few, many = patient(name=names), patient(name=names * 2 + [{"family": f"Other{number}"} for number in range(30)])
    assert (await client.post("Patient", json=few)).status_code == 201
    assert is_outcome(await client.post("Patient", json=many), 413, "too-costly")
    bundle = transaction(entry("POST", "Patient", few), entry("POST", "Patient", few))
    assert is_outcome(await client.post(BASE, json=bundle), 413, "too-costly")
    assert (await client.get("Patient")).json()["total"] == 1
    assert statuses(await post(client, {**bundle, "type": "batch"})) == ["201 Created"] * 2
    # What stays as it is does not count, what goes does.
    made = (await client.post("Patient", json=few)).json()
    for again in range(3):
        made["name"][0] = {"family": f"Again{again}"}
        assert (await client.put(f"Patient/{made['id']}", json=made)).status_code == 200
    made["name"] = [{"family": f"New{number}"} for number in range(30)]
    assert is_outcome(await client.put(f"Patient/{made['id']}", json=made), 413, "too-costly")


async def test_batch_entries_stand_alone(client: httpx.AsyncClient) -> None:
    await client.put("Patient/a", json={"id": "a", **patient()})
    answer = await post(
        client,
        batch(
            entry("GET", "Patient/a"),
            entry("POST", "Patient", patient(gender="unheard-of")),
            entry("POST", "Patient", patient("P2")),
            entry("GET", "Patient/nobody"),
            entry("GET", "Patient?identifier=P1"),
            entry("GET", "Patient/a/_history"),
            entry("GET", "Patient/a", ifNoneMatch='W/"1"'),
            entry("PATCH", "Patient/a"),
            entry("GET", "Medication/1"),
            entry("DELETE", "Patient/zzz"),
            entry("GET", "Patient/a/_history/1"),
            entry("GET", "Medication/_history"),
            entry("GET", "_history"),
            entry("GET", "Patient/%00"),
            entry("GET", "a/b/c/_history"),
        ),
    )
    assert answer["type"] == "batch-response"
    assert [status[:3] for status in statuses(answer)] == [
        *("200", "400", "201", "404", "200", "200", "304", "400", "404", "204", "200", "404", "200", "404", "404")
    ]
    assert answer["entry"][0]["resource"]["id"] == "a"
    assert answer["entry"][1]["response"]["outcome"]["resourceType"] == "OperationOutcome"
    assert answer["entry"][4]["resource"]["total"] == 1
    assert answer["entry"][5]["resource"]["type"] == "history"
    assert "resource" not in answer["entry"][6]

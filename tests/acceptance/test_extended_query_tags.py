"""Extended query tags over HTTP: adding, listing, changing, deleting, errors (extended-query-tags.md §§1–6, 9)."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb, query_tags
from tests.acceptance.query_tags import PRIVATE_CREATOR, add, added, enable, ended, entry, errors, get
from tests.acceptance.test_lifecycle import running
from tests.server import Server

pytestmark = pytest.mark.acceptance

JSON = {"content-type": "application/json"}
LISTS = "/v2/extendedquerytags"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this module's own: tags are the whole server's."""
    more = {"DicomServer__Services__ExtendedQueryTag__MaxAllowedCount": "5"}
    with running(tmp_path_factory.mktemp("tags") / "data", "--workers", "2", environment=more) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client
        query_tags.delete_all(client)


def refused(response: httpx.Response, *words: str, status: int = 400) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    for word in words:
        assert word in response.text


# --- §1, §2 ---


@pytest.mark.parametrize("version", ["v1.0-prerelease", "v1", "v2"])
def test_a_tag_from_being_added_to_being_gone(client: httpx.Client, version: str) -> None:
    root = f"{client.base_url}/{version}".replace("//v", "/v")
    response = add(client, entry("PatientAge", "Study"), entry("0018,0015".replace(",", "")), version=version)
    assert response.status_code == 202
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    reference = response.json()
    assert re.fullmatch("[0-9a-f]{32}", reference["id"])
    assert reference == {"id": reference["id"], "href": f"{root}/operations/{reference['id']}"}
    assert response.headers["location"] == reference["href"]

    tag = client.get(f"/{version}/extendedquerytags/PatientAge").json()
    if tag["status"] == "adding":
        assert tag.pop("operation") == reference
    operation = ended(client, reference["href"])
    assert operation["type"] == "reindex"
    assert operation["status"] == ("completed" if version != "v2" else "succeeded")
    assert operation["percentComplete"] == 100
    hrefs = [f"{root}/extendedquerytags/{path}" for path in ("00101010", "00180015")]
    assert operation["resources"] == hrefs

    age = {"path": "00101010", "vr": "AS", "level": "study", "status": "ready", "queryStatus": "enabled"}
    part = {"path": "00180015", "vr": "CS", "level": "instance", "status": "ready", "queryStatus": "enabled"}
    for path in ("PatientAge", "00101010"):
        response = client.get(f"/{version}/extendedquerytags/{path}")
        assert (response.status_code, response.json()) == (200, age)
    assert client.get(f"/{version}/extendedquerytags").json() == [age, part]

    for path in ("00101010", "BodyPartExamined"):
        response = client.delete(f"/{version}/extendedquerytags/{path}")
        assert (response.status_code, response.content) == (204, b"")
        assert client.get(f"/{version}/extendedquerytags/{path}").status_code == 404
    assert client.get(f"/{version}/extendedquerytags").json() == []
    assert client.get(reference["href"]).json()["resources"] == []


def test_an_operation_is_the_same_in_every_version(client: httpx.Client) -> None:
    operation = added(client, entry("PatientAge"))
    other = client.get(f"/v1/operations/{operation['operationId']}").json()
    assert other == {
        **operation,
        "status": "completed",
        "resources": [operation["resources"][0].replace("/v2/", "/v1/")],
    }


def test_the_list_is_paged_in_the_order_of_adding(client: httpx.Client) -> None:
    added(client, entry("StudyID"), entry("PatientAge"))
    added(client, entry("AcquisitionTime"))
    paths = ["00200010", "00101010", "00080032"]
    assert [tag["path"] for tag in client.get(LISTS).json()] == paths
    assert [tag["path"] for tag in client.get(LISTS, params={"limit": 1, "offset": 1}).json()] == paths[1:2]
    assert [tag["path"] for tag in client.get(LISTS, params={"OFFSET": 2}).json()] == paths[2:]
    assert client.get(LISTS, params={"offset": 3}).json() == []


@pytest.mark.parametrize("query", ["limit=0", "limit=201", "limit=x", "limit=", "offset=-1", "offset=x"])
@pytest.mark.parametrize("path", ["", "/PatientAge/errors"])
def test_pages_that_cannot_be(client: httpx.Client, path: str, query: str) -> None:
    refused(client.get(f"{LISTS}{path}?{query}"), query.partition("=")[0])


@pytest.mark.parametrize("path", ["NoSuchKeyword", "patientage", "0010101", "00101011Z", "00080002", "A.B", "x"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "errors"])
def test_paths_that_name_nothing(client: httpx.Client, method: str, path: str) -> None:
    url, method = (f"{LISTS}/{path}/errors", "GET") if method == "errors" else (f"{LISTS}/{path}", method)
    body = {"queryStatus": "Enabled"} if method == "PATCH" else None
    refused(client.request(method, url, json=body), "path")


@pytest.mark.parametrize("path", ["PatientAge", "00101010", "12051003", "RequestAttributesSequence"])
@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE", "errors"])
def test_tags_that_were_not_added(client: httpx.Client, method: str, path: str) -> None:
    url, method = (f"{LISTS}/{path}/errors", "GET") if method == "errors" else (f"{LISTS}/{path}", method)
    body = {"queryStatus": "Enabled"} if method == "PATCH" else None
    refused(client.request(method, url, json=body), status=404)


def test_there_are_none_below_a_partition(client: httpx.Client) -> None:
    path = "/v2/partitions/Microsoft.Default/extendedquerytags"
    assert client.get(path).status_code == 404
    assert client.post(path, json=[entry("PatientAge")]).status_code == 404


# --- §2: how bodies are read ---


def test_names_and_values_in_any_case_comments_and_trailing_commas(client: httpx.Client) -> None:
    body = """[ // first
      {"PATH": "patientAge", "Path": "PatientAge", "LEVEL": "sTuDy", "vr": "as", "other": 1, "privateCreator": null, },
      /* second */
      {"path": "0018,0015", "path": "00180015", "level": "instance", "vr": null,},
    ]"""
    response = client.post(LISTS, content=body, headers={"content-type": "application/json; charset=utf-8"})
    assert response.status_code == 202, response.text
    ended(client, response.json()["href"])
    assert [(tag["path"], tag["vr"], tag["level"]) for tag in client.get(LISTS).json()] == [
        ("00101010", "AS", "study"),
        ("00180015", "CS", "instance"),
    ]


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("", "JSON"),
        ("no json", "JSON"),
        ('{"path": "PatientAge", "level": "Study"}', "array"),
        ("null", "array"),
        ("[null]", "$[0]"),
        ('["PatientAge"]', "$[0]"),
        ("[" * 100_000, "JSON"),
        ('[{"level": "Study"}]', "[0].Path"),
        ('[{"path": "", "level": "Study"}]', "[0].Path"),
        ('[{"path": null, "level": "Study"}]', "[0].Path"),
        ('[{"path": 1, "level": "Study"}]', "$[0].path"),
        ('[{"path": "PatientAge"}]', "[0].Level"),
        ('[{"path": "PatientAge", "level": null}]', "[0].Level"),
        ('[{"path": "PatientAge", "level": 1}]', "$[0].Level"),
        ('[{"path": "PatientAge", "level": "Study"}, {"path": "PatientAge", "level": "Frame"}]', "$[1].Level"),
        ('[{"path": "PatientAge", "level": "Study", "vr": 5}]', "$[0].vr"),
    ],
)
def test_bodies_that_do_not_bind(client: httpx.Client, body: str, word: str) -> None:
    refused(client.post(LISTS, content=body, headers=JSON), word)
    assert client.get(LISTS).json() == []


def test_an_unknown_level_is_answered_with_the_known_ones(client: httpx.Client) -> None:
    refused(add(client, entry("PatientAge", "Frame")), "$[0].Level", "'Study'", "'Series'", "'Instance'")


@pytest.mark.parametrize("content_type", ["text/plain", "application/dicom+json", "text/json", ""])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_other_types(client: httpx.Client, method: str, content_type: str) -> None:
    url = LISTS if method == "POST" else f"{LISTS}/PatientAge"
    headers = {"content-type": content_type} if content_type else {}
    refused(client.request(method, url, content=b"[]", headers=headers), status=415)


def test_a_body_without_end(client: httpx.Client) -> None:
    refused(client.post(LISTS, content=b" " * 1_100_000, headers=JSON), "bytes", status=413)


# --- §3.4: what may be added ---

FAULTS: list[tuple[dict[str, Any], str]] = [
    (entry("NoSuchKeyword"), "NoSuchKeyword"),
    (entry("patientage"), "patientage"),
    (entry("0010101"), "0010101"),
    (entry("00080002"), "00080002"),
    (entry("RequestAttributesSequence.RequestedProcedureID"), "sequence"),
    (entry("PatientAge", creator=PRIVATE_CREATOR), "private creator"),
    (entry("PatientAge", creator=""), "private creator"),
    (entry("12051003", vr="LO"), "private creator"),
    (entry("12051003", vr="LO", creator=" "), "private creator"),
    (entry("12051003", vr="LO", creator="x" * 65), "private creator"),
    (entry("12051003", vr="LO", creator="a\\b"), "private creator"),
    (entry("12051003", vr="LO", creator="a\tb"), "private creator"),
    (entry("12050010", vr="LO", creator=PRIVATE_CREATOR), "private creator"),
    (entry("12051003", creator=PRIVATE_CREATOR), "VR"),
    (entry("12051003", vr="XX", creator=PRIVATE_CREATOR), "VR"),
    (entry("PatientAge", vr="ZZ"), "VR"),
    (entry("PatientAge", vr="LO"), "VR"),
    (entry("PatientWeight"), "DS"),
    (entry("RequestAttributesSequence"), "SQ"),
    (entry("PixelData"), "OB"),
]
FAULTS += [
    (entry("12051003", vr=vr, creator=PRIVATE_CREATOR), vr)
    for vr in ("AT", "DS", "LT", "OB", "OD", "OF", "OL", "OV", "OW", "SQ", "ST", "SV", "UC", "UN", "UR", "UT", "UV")
]
SEARCHABLE = [
    *("StudyInstanceUID", "PatientName", "PatientID", "PatientBirthDate", "AccessionNumber", "ReferringPhysicianName"),
    *("StudyDate", "StudyDescription", "ModalitiesInStudy", "SeriesInstanceUID", "Modality"),
    *("PerformedProcedureStepStartDate", "ManufacturerModelName", "SOPInstanceUID", "00100020"),
]


@pytest.mark.parametrize(("wrong", "word"), FAULTS, ids=lambda value: str(value)[:60])
def test_entries_that_are_refused(client: httpx.Client, wrong: dict[str, Any], word: str) -> None:
    refused(add(client, entry("PatientAge"), wrong), word)
    assert client.get(LISTS).json() == []


@pytest.mark.parametrize("path", SEARCHABLE)
def test_what_is_searchable_anyway(client: httpx.Client, path: str) -> None:
    refused(add(client, entry(path)), path, "searchable")


@pytest.mark.parametrize("again", ["PatientAge", "00101010"])
def test_the_same_path_twice(client: httpx.Client, again: str) -> None:
    refused(add(client, entry("PatientAge"), entry(again, "Study")), again, "more than once")
    refused(add(client, entry("1205100a", vr="LO", creator="A"), entry("1205100A", vr="LO", creator="B")), "more than")


def test_an_empty_array(client: httpx.Client) -> None:
    refused(add(client), "no extended query tag")


def test_private_attributes_creators_and_second_vrs(client: httpx.Client) -> None:
    added(
        client,
        entry("1205100a", vr="ss", creator=PRIVATE_CREATOR),
        entry("12050010", vr="LO"),
        entry("SmallestImagePixelValue", vr="SS"),
        entry("LargestImagePixelValue"),
    )
    assert [(tag["path"], tag["vr"], tag.get("privateCreator")) for tag in client.get(LISTS).json()] == [
        ("1205100A", "SS", PRIVATE_CREATOR),
        ("12050010", "LO", None),
        ("00280106", "SS", None),
        ("00280107", "US", None),
    ]


# --- §3.3, 3.5, 3.6 ---


def test_not_more_than_the_maximum(client: httpx.Client) -> None:
    added(client, *(entry(path) for path in ("PatientAge", "StudyID", "SeriesNumber", "InstanceNumber")))
    refused(add(client, entry("BodyPartExamined"), entry("AcquisitionTime")), "5", "MaxAllowedCount")
    assert len(client.get(LISTS).json()) == 4
    added(client, entry("BodyPartExamined"))
    refused(add(client, entry("AcquisitionTime")), "5")


def test_not_what_is_there(client: httpx.Client) -> None:
    added(client, entry("PatientAge"))
    refused(add(client, entry("StudyID"), entry("00101010", "Series")), "00101010", status=409)
    assert [tag["path"] for tag in client.get(LISTS).json()] == ["00101010"]


def test_not_while_others_are_being_added(client: httpx.Client) -> None:
    first = add(client, entry("PatientAge")).json()
    response = add(client, {"path": "anything", "level": "Study"}, version="v1")
    if response.status_code == 409:  # it is quicker than we are, at times
        refused(response, first["id"], status=409)
        assert response.headers["location"] == first["href"].replace("/v2/", "/v1/")
        refused(client.post(LISTS, content="no json", headers=JSON), "JSON")
    ended(client, first["href"])
    refused(add(client, {"path": "anything", "level": "Study"}, version="v1"), "anything")


# --- §§5, 6: errors and query status ---


def test_errors_of_what_is_stored(client: httpx.Client) -> None:
    bad = [factories.dataset(PatientAge="1Y", BodyPartExamined="HEAD") for _ in range(3)]
    good = factories.dataset(PatientAge="034Y", BodyPartExamined="HEAD")
    empty = factories.dataset(PatientAge="", BodyPartExamined="HEAD")
    for ds in (*bad, good, empty):
        dicomweb.store(client, ds, version="v1")
    added(client, entry("PatientAge"), entry("BodyPartExamined"))
    tag = get(client, "PatientAge")
    href = f"{client.base_url}/v2/extendedquerytags/00101010/errors".replace("//v2", "/v2")
    assert tag["errors"] == {"count": 3, "href": href}
    assert tag["queryStatus"] == "disabled"
    assert tag["status"] == "ready"
    other = get(client, "BodyPartExamined")
    assert "errors" not in other
    assert other["queryStatus"] == "enabled"

    found = errors(client, "PatientAge")
    assert {one["sopInstanceUid"] for one in found} == {str(ds.SOPInstanceUID) for ds in bad}
    assert found == sorted(found, key=lambda one: one["createdTime"])
    for one in found:
        assert one["partitionName"] == "Microsoft.Default"
        (ds,) = [ds for ds in bad if ds.SOPInstanceUID == one["sopInstanceUid"]]
        assert (one["studyInstanceUid"], one["seriesInstanceUid"]) == (ds.StudyInstanceUID, ds.SeriesInstanceUID)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", one["createdTime"])
        assert "4" in one["errorMessage"]
        assert "1Y" not in one["errorMessage"]
        assert set(one) == {
            *("partitionName", "studyInstanceUid", "seriesInstanceUid", "sopInstanceUid"),
            *("createdTime", "errorMessage"),
        }
    assert errors(client, "00101010", limit=1, offset=1) == found[1:2]
    assert errors(client, "PatientAge", offset=3) == []
    assert errors(client, "BodyPartExamined") == []

    assert client.delete(dicomweb.instance_path(bad[0])).status_code == 204
    assert get(client, "PatientAge")["errors"]["count"] == 2
    assert client.delete(dicomweb.series_path(bad[1])).status_code == 204
    assert client.delete(dicomweb.study_path(bad[2])).status_code == 204
    tag = get(client, "PatientAge")
    assert "errors" not in tag
    assert tag["queryStatus"] == "disabled"
    assert errors(client, "PatientAge") == []

    assert enable(client, "PatientAge", "enabled") == {**tag, "queryStatus": "enabled"}
    assert enable(client, "00101010", "DISABLED") == tag

    query_tags.delete(client, "PatientAge")
    added(client, entry("PatientAge", "Series"))
    tag = get(client, "PatientAge")
    assert (tag["level"], tag["queryStatus"], tag.get("errors")) == ("series", "enabled", None)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ("", "JSON"),
        ("[]", "queryStatus"),
        ("{}", "QueryStatus"),
        ('{"queryStatus": null}', "QueryStatus"),
        ('{"queryStatus": "On"}', "QueryStatus"),
        ('{"queryStatus": 0}', "QueryStatus"),
        ('{"queryStatus": "Enabled", "level": "Study"}', "queryStatus"),
    ],
)
def test_changes_that_are_refused(client: httpx.Client, body: str, word: str) -> None:
    refused(client.patch(f"{LISTS}/PatientAge", content=body, headers=JSON), word)


def test_a_tag_can_be_changed_and_deleted_while_it_is_being_added(client: httpx.Client) -> None:
    response = add(client, entry("PatientAge"))
    assert enable(client, "PatientAge", "Disabled")["queryStatus"] == "disabled"
    query_tags.delete(client, "PatientAge")
    operation = ended(client, response.json()["href"])
    assert (operation["status"], operation["resources"]) == ("succeeded", [])
    added(client, entry("PatientAge", "Study", vr="AS"))


def test_operations_can_be_switched_off(tmp_path_factory: pytest.TempPathFactory) -> None:
    more = {"DicomServer__Features__DisableOperations": "true"}
    with running(tmp_path_factory.mktemp("off") / "data", environment=more) as server, server.client() as client:
        refused(client.post(LISTS, content="no json", headers=JSON), "JSON")
        refused(add(client, entry("NoSuchKeyword")), "disabled")
        assert client.get(LISTS).json() == []
        update = {"studyInstanceUids": ["1.2"], "changeDataset": {}}
        refused(client.post("/v2/studies/$bulkUpdate", json=update), "temporarily disabled")
        assert client.get("/v2/operations").json() == []


# --- hounsfield tags ---


def hounsfield(client: httpx.Client, *arguments: str) -> subprocess.CompletedProcess[str]:
    url = f"{client.base_url}".rstrip("/") + "/v2"
    command = [sys.executable, "-m", "hounsfield", "tags", *arguments, "--at", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_command(client: httpx.Client) -> None:
    bad = factories.dataset(PatientAge="1Y")
    dicomweb.store(client, bad, version="v1")
    done = hounsfield(client, "add", "PatientAge", "StudyID", "--level", "study")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "The tags are ready."), done
    done = hounsfield(client, "list")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[1:] == [
        ["00101010", "AS", "study", "ready", "disabled", "1"],
        ["00200010", "SH", "study", "ready", "enabled", "0"],
    ]
    done = hounsfield(client, "errors", "PatientAge", "StudyID", "--json")
    assert [json.loads(line)["sopInstanceUid"] for line in done.stdout.splitlines()] == [bad.SOPInstanceUID]
    assert str(bad.SOPInstanceUID) in hounsfield(client, "errors", "PatientAge").stdout
    done = hounsfield(client, "enable", "PatientAge", "--json")
    assert json.loads(done.stdout)["queryStatus"] == "enabled"
    assert "disabled" in hounsfield(client, "disable", "StudyID").stdout
    assert hounsfield(client, "remove", "PatientAge").returncode == 0
    done = hounsfield(client, "show", "PatientAge")
    assert done.returncode == 2
    assert "cannot be found" in done.stderr
    assert "base URL" not in done.stderr
    done = hounsfield(client, "add", "AccessionNumberr", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    done = hounsfield(client, "add", "StationName", "--json")
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "succeeded", done
    done = hounsfield(client, "add", "12051003", "--vr", "LO", "--creator", "ACME", "--no-wait")
    assert "hounsfield operations watch" in done.stdout
    assert get(client, "12051003")["privateCreator"] == "ACME"
    assert client.delete(dicomweb.study_path(bad)).status_code == 204


@pytest.mark.parametrize("arguments", [["list", "PatientAge"], ["show"], ["add"]])
def test_what_the_command_cannot_do(client: httpx.Client, arguments: list[str]) -> None:
    assert hounsfield(client, *arguments).returncode == 2

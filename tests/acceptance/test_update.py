"""Bulk update over HTTP (operations.md §§1, 2; retrieve.md §9)."""

import io
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import ORIGINAL, WAS, instance_path, series_path, study_path
from tests.acceptance.query_tags import ended
from tests.acceptance.test_lifecycle import running
from tests.server import Server

pytestmark = pytest.mark.acceptance

URL = "/v2/studies/$bulkUpdate"
OCTETS = {"accept": "application/octet-stream; transfer-syntax=*"}
MORE = {
    "DicomServer__Services__DeletedInstanceCleanup__DeleteDelay": "00:00:00",
    "DicomCastWorker__PollInterval": "00:00:00.2",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of this module's own: only one update runs on a server at a time."""
    with running(tmp_path_factory.mktemp("update") / "data", "--cast", "--fhir", environment=MORE) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with server.client() as client:
        yield client


def element(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def name(text: str) -> dict[str, Any]:
    return element("PN", {"Alphabetic": text})


def updated(client: httpx.Client, study: Dataset | str, url: str = URL, **changes: Any) -> dict[str, Any]:
    """The operation that set these, by key without its first letter, once it has ended well."""
    uid = study if isinstance(study, str) else str(study.StudyInstanceUID)
    body = {"studyInstanceUids": [uid], "changeDataset": {key[1:]: value for key, value in changes.items()}}
    response = client.post(url, json=body)
    assert response.status_code == 202, response.text
    operation = ended(client, response.json()["href"])
    assert operation["status"] == "succeeded", operation
    return operation


def stored(client: httpx.Client, **attributes: Any) -> Dataset:
    ds = factories.dataset(PatientID=dicomweb.patient(), **attributes)
    dicomweb.store(client, ds)
    return ds


def test_an_update_from_request_to_result(client: httpx.Client) -> None:
    first = stored(client, Rows=64, Columns=64, PixelData=bytes(range(256)) * 32)
    second = dicomweb.sibling(first, same_series=False, PatientID=first.PatientID)
    dicomweb.store(client, second)
    file = client.get(instance_path(first), headers={"accept": ORIGINAL}).content
    before = client.get(f"{study_path(first)}/metadata")
    frame = client.get(f"{instance_path(first)}/frames/1", headers=OCTETS).content
    sequence = client.get("/v2/changefeed/latest").json()["sequence"]

    dataset = {"00100010": name("山田^太郎"), "00081030": element("LO", "New study")}
    body = {"studyInstanceUids": [f"{first.StudyInstanceUID} ", "1.2.3.4"], "changeDataset": dataset}
    response = client.post(URL, json=body)
    assert response.status_code == 202
    assert response.headers["content-type"] == "application/json; charset=utf-8"
    reference = response.json()
    href = f"{str(client.base_url).rstrip('/')}/v2/operations/{reference['id']}"
    assert reference == {"id": reference["id"], "href": href}
    assert response.headers["location"] == reference["href"]
    operation = ended(client, reference["href"])
    results = {"studyProcessed": 2, "studyUpdated": 1, "studyFailed": 0, "instanceUpdated": 2}
    assert (operation["type"], operation["status"], operation["percentComplete"]) == ("update", "succeeded", 100)
    assert operation["results"] == results
    assert "resources" not in operation
    assert client.get(f"/v1/operations/{reference['id']}").json()["status"] == "completed"

    # The file: but for these, and the character set, as it was.
    new = client.get(instance_path(first), headers={"accept": ORIGINAL}).content
    then, now = pydicom.dcmread(io.BytesIO(file)), pydicom.dcmread(io.BytesIO(new))
    assert (now.PatientName, now.StudyDescription, now.SpecificCharacterSet) == ("山田^太郎", "New study", "ISO_IR 192")
    for keyword in ("PatientName", "StudyDescription", "SpecificCharacterSet"):
        for ds in (then, now):
            ds.pop(keyword, None)
    assert now == then
    assert now.file_meta.ImplementationClassUID != then.file_meta.get("ImplementationClassUID")
    assert client.get(f"{instance_path(first)}/frames/1", headers=OCTETS).content == frame
    assert len(frame) == 8192

    # Metadata, old and new.
    after = client.get(f"{study_path(first)}/metadata")
    assert {one["00100010"]["Value"][0]["Alphabetic"] for one in after.json()} == {"山田^太郎"}
    old = client.get(f"{study_path(first)}/metadata", headers=WAS)
    assert old.json() == before.json()
    assert old.headers["etag"] == before.headers["etag"] != after.headers["etag"]
    versions = [int(client.get(f"{instance_path(ds)}/metadata").headers["etag"]) for ds in (first, second)]
    assert after.headers["etag"] == f"{max(versions)}-2"
    assert (
        client.get(f"{study_path(first)}/metadata", headers={"if-none-match": before.headers["etag"]}).status_code
        == 200
    )

    # Search and feed.
    (found,) = client.get("/v2/studies", params={"PatientName": "山田^太郎", "PatientID": first.PatientID}).json()
    assert found["00081030"]["Value"] == ["New study"]
    assert client.get("/v2/studies", params={"PatientName": "Doe", "PatientID": first.PatientID}).status_code == 204
    entries = client.get("/v2/changefeed", params={"limit": 200}).json()
    mine = [entry for entry in entries if entry["studyInstanceUid"] == first.StudyInstanceUID]
    states = [(entry["action"], entry["state"]) for entry in mine]
    assert states == [("Create", "Replaced")] * 2 + [("Update", "Current")] * 2
    assert {entry["metadata"]["00100010"]["Value"][0]["Alphabetic"] for entry in mine} == {"山田^太郎"}
    assert [entry["sequence"] for entry in mine[2:]] == [sequence + 1, sequence + 2]


def test_the_original_is_there_at_every_level(client: httpx.Client) -> None:
    first = stored(client)
    second = dicomweb.sibling(first, PatientID=first.PatientID)
    dicomweb.store(client, second)
    originals = {"accept": dicomweb.ORIGINALS}
    paths = [study_path(first), series_path(first), instance_path(first)]
    before = [client.get(path, headers=originals).content for path in paths]
    updated(client, first, _00100020=element("LO", "ANOTHER"))
    updated(client, first, _00100020=element("LO", "AND ANOTHER"))

    def parts(content: bytes) -> list[bytes]:
        return sorted(content.split(content.partition(b"\r\n")[0])[1:-1])

    for path, was in zip(paths, before, strict=True):
        for version in ("v1", "v2"):
            url = path.replace("/v2/", f"/{version}/")
            assert parts(client.get(url, headers={**originals, **WAS}).content) == parts(was)
            for value in ("false", "yes", ""):
                now = client.get(url, headers={**originals, "msdicom-request-original": value}).content
                assert b"AND ANOTHER" in now
    zipped = client.get(paths[0], headers={"accept": "application/zip", **WAS})
    assert zipped.status_code == 200
    # In another transfer syntax, too; frames and renderings take no notice of the header.
    transcoded = client.get(
        instance_path(first), headers={"accept": "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90", **WAS}
    )
    assert pydicom.dcmread(io.BytesIO(transcoded.content)).PatientID == first.PatientID
    rendered = client.get(f"{instance_path(first)}/rendered", headers=WAS)
    assert rendered.status_code == 200
    figures = client.get("/statistics").json()
    assert figures["updatedInstances"] >= 2 and figures["originalBytes"] > 0
    assert client.delete(study_path(first)).status_code == 204
    assert client.get(study_path(first), headers={**originals, **WAS}).status_code == 404


def test_emptied_values_are_gone_from_the_index(client: httpx.Client) -> None:
    ds = stored(client, AccessionNumber="ACC-77")
    updated(client, ds, _00080050=element("SH"))
    assert client.get("/v2/studies", params={"AccessionNumber": "ACC-77", "PatientID": ds.PatientID}).status_code == 204
    (found,) = client.get("/v2/studies", params={"PatientID": ds.PatientID}).json()
    assert "Value" not in found.get("00080050", {})


def test_an_empty_dataset_makes_equal_versions(client: httpx.Client) -> None:
    ds = stored(client)
    before = client.get(f"{study_path(ds)}/metadata")
    assert updated(client, ds)["results"]["instanceUpdated"] == 1
    after = client.get(f"{study_path(ds)}/metadata")
    assert after.json() == before.json()
    assert after.headers["etag"] != before.headers["etag"]


def refused(response: httpx.Response, *words: str, status: int = 400) -> None:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    for word in words:
        assert word in response.text, response.text


MISSING = "The required field 'StudyInstanceUids' is missing or empty."
STUDIES = {"studyInstanceUids": ["1.2"]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[]", "an object"),
        (json.dumps(STUDIES), "'ChangeDataset' is missing"),
        (json.dumps({**STUDIES, "changeDataset": None}), "'ChangeDataset' is missing"),
        (json.dumps({"changeDataset": {}}), MISSING),
        (json.dumps({"changeDataset": {}, "studyInstanceUids": []}), MISSING),
        (json.dumps({"changeDataset": {}, "studyInstanceUids": "1.2"}), "an array of UIDs"),
        (json.dumps({"changeDataset": {}, "studyInstanceUids": [1]}), "an array of UIDs"),
        (
            json.dumps({"changeDataset": {}, "studyInstanceUids": ["1.2"] * 51}),
            "StudyInstanceUids count exceeded maximum length '50'",
        ),
        (json.dumps({"changeDataset": {}, "studyInstanceUids": ["1.2", "1.x"]}), "no valid UID"),
        (json.dumps({"changeDataset": {}, "studyInstanceUids": ["1" * 65]}), "no valid UID"),
        (json.dumps({**STUDIES, "changeDataset": {"PatientName": name("X")}}), "eight hexadecimal digits"),
        (json.dumps({**STUDIES, "changeDataset": {"00100010": "X"}}), "has no vr"),
    ],
)  # fmt: skip
def test_bad_requests(client: httpx.Client, body: str, words: str) -> None:
    refused(client.post(URL, content=body, headers={"content-type": "application/json"}), words)


def test_a_body_is_read_with_tolerance(client: httpx.Client) -> None:
    body = '{"STUDYINSTANCEUIDS": ["1.2.3",], /* why */ "changedataset": {}, "more": 1} // end'
    response = client.post(URL, content=body, headers={"content-type": "application/json; charset=utf-8"})
    assert response.status_code == 202
    ended(client, response.json()["href"])
    assert client.post(URL, content=body, headers={"content-type": "application/dicom+json"}).status_code == 415


def test_every_bad_attribute_is_named_and_nothing_happens(client: httpx.Client) -> None:
    ds = stored(client)
    dataset = {
        "0020000d": element("UI", "1.2"),
        "00100010": name("Good"),
        "00100030": element("DA", "whenever"),
        "00100032": element("TM", "10-11"),
    }
    body = {"studyInstanceUids": [str(ds.StudyInstanceUID)], "changeDataset": dataset}
    before = client.get("/v2/operations").json()
    response = client.post(URL, json=body)
    assert response.status_code == 400
    assert response.headers["content-type"].startswith("application/dicom+json")
    items = response.json()["00741048"]["Value"]
    comments = [item["00000902"]["Value"][0] for item in items]
    assert comments[0] == "DICOM100: (0020,000d) - Updating the tag is not supported"
    assert comments[1].startswith("DICOM100: (0010,0030) - ") and "whenever" not in response.text
    assert comments[2].startswith("DICOM100: (0010,0032) - ")
    assert len(comments) == 3
    for date in ("20230229", "20230101-20230102"):
        body["changeDataset"] = {"00100030": element("DA", date)}
        response = client.post(URL, json=body)
        assert response.status_code == 400 and "(0010,0030)" in response.text and date not in response.text
    assert client.get("/v2/operations").json() == before


def test_one_update_at_a_time(client: httpx.Client) -> None:
    body = {**STUDIES, "changeDataset": {}}
    running_one = client.post(URL, json=body).json()
    refused(
        client.post(URL, json=body),
        f"There is already an active update operation with ID '{running_one['id']}'.",
        status=409,
    )
    ended(client, running_one["href"])
    ended(client, client.post(URL, json=body).json()["href"])


@pytest.mark.parametrize("version", ["v1", "v1.0-prerelease"])
def test_it_begins_with_version_2(client: httpx.Client, version: str) -> None:
    for method in ("POST", "GET", "OPTIONS"):
        assert client.request(method, f"/{version}/studies/$bulkUpdate", json={}).status_code == 404
    assert client.get(URL).status_code == 405
    assert client.options(URL).headers["allow"] == "OPTIONS, POST"


def test_readers_see_the_old_study_or_the_new(client: httpx.Client, server: Server) -> None:
    first = factories.dataset(PatientID=dicomweb.patient(), PatientName="Old")
    dicomweb.store(
        client, first, *(dicomweb.sibling(first, PatientID=first.PatientID, PatientName="Old") for _ in range(150))
    )
    body = {"studyInstanceUids": [str(first.StudyInstanceUID)], "changeDataset": {"00100010": name("New")}}
    href = client.post(URL, json=body).json()["href"]
    seen = set()
    with server.client() as reader:
        while True:
            over = client.get(href).status_code == 200
            metadata = reader.get(f"{study_path(first)}/metadata").json()
            names = {one["00100010"]["Value"][0]["Alphabetic"] for one in metadata}
            assert len(metadata) == 151 and len(names) == 1
            seen |= names
            content = reader.get(study_path(first), headers={"accept": dicomweb.ORIGINALS}).content
            assert {content.count(b"PN\4\0Old "), content.count(b"PN\4\0New ")} == {0, 151}
            if over:
                break
            time.sleep(0.02)
    assert "New" in seen


def test_cast_follows(client: httpx.Client) -> None:
    ds = stored(client, PatientName="Before^It")

    def patient(name: str) -> dict[str, Any]:
        """The Patient of the study once it has that name."""
        identifier = f"urn:dicom:uid|urn:oid:{ds.StudyInstanceUID}"
        deadline = time.monotonic() + 30
        while True:
            studies = client.get("/fhir/ImagingStudy", params={"identifier": identifier})
            for entry in studies.json().get("entry", ()):
                found = client.get(f"/fhir/{entry['resource']['subject']['reference']}").json()
                if found["name"][0]["family"] == name:
                    return dict(entry["resource"])
            assert time.monotonic() < deadline
            time.sleep(0.1)

    before = patient("Before")
    updated(client, ds, _00100010=name("After^It"))
    after = patient("After")
    assert after["id"] == before["id"] and after["subject"] == before["subject"]
    assert len(after["series"][0]["instance"]) == 1

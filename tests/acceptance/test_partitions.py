"""Data partitions through HTTP (server.md §4)."""

import json
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from openapi_spec_validator import OpenAPIV30SpecValidator
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.exports import body, export, files, folder, identifier
from tests.acceptance.query_tags import ended
from tests.acceptance.test_lifecycle import running, serve_fails
from tests.server import Server, free_port
from tests.worklist import make
from tests.worklist.make import new_uid

ON = {"DicomServer__Features__EnableDataPartitions": "true"}
DISABLED = "Data partitions feature is disabled."
MISSING = "PartitionName value is missing in the route segment."
INVALID = "The specified PartitionName is invalid. "
UNKNOWN = "Specified PartitionName does not exist."


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder exports may go to."""
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="module")
def partitioned(tmp_path_factory: pytest.TempPathFactory, allowed: Path) -> Iterator[Server]:
    environment = {**ON, "Export__Sinks__Folder__AllowedDirectories__0": str(allowed)}
    with running(tmp_path_factory.mktemp("partitions") / "data", "--workers", "2", environment=environment) as server:
        yield server


@pytest.fixture
def api(partitioned: Server) -> Iterator[httpx.Client]:
    with partitioned.client() as client:
        yield client


def put(client: httpx.Client, partition: str, ds: Dataset, version: str = "v2") -> httpx.Response:
    return dicomweb.post(client, [factories.part10(ds)], f"/{version}/partitions/{partition}/studies")


def below(partition: str, path: str) -> str:
    """A path of version 2 in a partition."""
    return path.replace("/v2/", f"/v2/partitions/{partition}/", 1)


def listed(client: httpx.Client, version: str = "v2") -> dict[str, dict[str, object]]:
    response = client.get(f"/{version}/partitions")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/json")
    return {item["partitionName"]: item for item in response.json()}


# --- off ---


def test_without_the_feature_every_partition_route_says_so(client: httpx.Client) -> None:
    ds = factories.dataset()
    for method, path in (
        ("GET", "/v2/partitions"),
        ("GET", "/v1/partitions/a/studies"),
        ("GET", below("a", dicomweb.instance_path(ds))),
        ("DELETE", below("a", dicomweb.study_path(ds))),
    ):
        response = client.request(method, path)
        assert (response.status_code, response.text) == (400, DISABLED), path
    response = put(client, "a", ds)
    assert (response.status_code, response.text) == (400, DISABLED)
    assert client.get("/v2/partitions/a/changefeed").status_code == 404
    assert client.get("/v2/partitions/a").status_code == 404


# --- on ---


def test_the_same_uids_live_in_each_partition_on_their_own(api: httpx.Client) -> None:
    first = factories.dataset(PatientID="one", StudyDescription="first")
    second = Dataset(first)
    second.PatientID = "two"
    names = (f"a-{factories.uid()[-8:]}", f"B.{factories.uid()[-8:]}")
    for name, ds in zip(names, (first, second), strict=True):
        response = put(api, name, ds)
        assert response.status_code == 200
        item = response.json()["00081199"]["Value"][0]
        assert item["00081190"]["Value"] == [str(api.base_url).rstrip("/") + below(name, dicomweb.instance_path(ds))]
        assert put(api, name, ds).status_code == 409
    for name, ds in zip(names, (first, second), strict=True):
        found = api.get(below(name, f"/v2/studies?StudyInstanceUID={ds.StudyInstanceUID}&includefield=PatientID"))
        assert [study["00100020"]["Value"] for study in found.json()] == [[ds.PatientID]]
        metadata = api.get(below(name, dicomweb.study_path(ds)) + "/metadata").json()
        assert [item["00100020"]["Value"] for item in metadata] == [[ds.PatientID]]
        stored = api.get(below(name, dicomweb.instance_path(ds)), headers={"accept": dicomweb.ORIGINAL})
        assert stored.content[128:] == factories.part10(ds)[128:]
    assert api.delete(below(names[0], dicomweb.study_path(first))).status_code == 204
    assert api.get(below(names[0], dicomweb.instance_path(first))).status_code == 404
    assert api.get(below(names[1], dicomweb.instance_path(first))).status_code == 200
    feed = api.get("/v2/changefeed?limit=200").json()
    mine = [(e["partitionName"], e["action"]) for e in feed if e["studyInstanceUid"] == first.StudyInstanceUID]
    assert mine == [(names[0], "Create"), (names[1], "Create"), (names[0], "Delete")]


def test_a_study_retrieve_url_names_the_partition(api: httpx.Client) -> None:
    ds = factories.dataset()
    path = below("urls", dicomweb.study_path(ds))
    body, headers = factories.multipart([factories.part10(ds)])
    response = api.post(path, content=body, headers={**headers, "accept": "application/dicom+json"})
    assert response.json()["00081190"]["Value"] == [str(api.base_url).rstrip("/") + path]


def test_every_unpartitioned_route_wants_a_partition(api: httpx.Client) -> None:
    ds = factories.dataset()
    study, series, instance = (path(ds) for path in (dicomweb.study_path, dicomweb.series_path, dicomweb.instance_path))
    for method, path in (
        ("GET", "/v2/studies"),
        ("GET", "/v1/instances"),
        ("GET", f"{study}/series"),
        ("GET", study),
        ("GET", f"{series}/metadata"),
        ("GET", f"{instance}/frames/1"),
        ("DELETE", instance),
    ):
        response = api.request(method, path)
        assert (response.status_code, response.text) == (400, MISSING), path
    response = dicomweb.post(api, [factories.part10(ds)])
    assert (response.status_code, response.text) == (400, MISSING)


@pytest.mark.parametrize("name", ["a b", "a%00b", "..%2e!", "ü", "x" * 65, "a'b", "a;DROP TABLE study", "%0d%0aX: y"])
def test_names_that_are_none(api: httpx.Client, name: str) -> None:
    for response in (put(api, name, factories.dataset()), api.get(f"/v2/partitions/{name}/studies")):
        assert (response.status_code, response.text) == (400, INVALID)
    assert all(len(known) <= 64 and known.isascii() for known in listed(api))


@pytest.mark.parametrize("name", [".", "..", "~", "con", "Microsoft.Default", "x" * 64, "-", "_.-"])
def test_odd_names_that_are_allowed_do_not_reach_beyond_their_folder(
    partitioned: Server, api: httpx.Client, name: str
) -> None:
    if name in (".", ".."):
        # Clients and proxies take these out of a path; what arrives is another path.
        target = f"/v2/partitions/%2e{'%2e' if name == '..' else ''}/studies"
    else:
        target = f"/v2/partitions/{name}/studies"
    ds = factories.dataset()
    response = dicomweb.post(api, [factories.part10(ds)], target)
    if name == "~":
        assert (response.status_code, response.text) == (400, INVALID)
        return
    assert response.status_code in (200, 404), response.text
    if response.status_code == 200:
        assert api.get(target, params={"StudyInstanceUID": ds.StudyInstanceUID}).status_code == 200
    outside = [path for path in partitioned.data_dir.parent.rglob("*.dcm") if partitioned.data_dir not in path.parents]
    assert outside == []


def test_only_storing_makes_a_partition(api: httpx.Client) -> None:
    ds = factories.dataset()
    for method, path in (
        ("GET", "/v2/studies"),
        ("GET", dicomweb.study_path(ds)),
        ("GET", dicomweb.instance_path(ds) + "/metadata"),
        ("DELETE", dicomweb.study_path(ds)),
    ):
        response = api.request(method, below("nobody", path))
        assert (response.status_code, response.text) == (400, UNKNOWN), path
    assert "nobody" not in listed(api)
    # Even if the request fails afterwards.
    broken = dicomweb.post(api, [b"no DICOM"], "/v2/partitions/failed/studies")
    assert broken.status_code == 409
    assert "failed" in listed(api)
    # But not one that is refused before its partition matters.
    body, headers = factories.multipart([factories.part10(ds)])
    path = "/v2/partitions/never/studies"
    assert api.post(path, content=body, headers={**headers, "accept": "text/plain"}).status_code == 406
    assert api.post(path, content=body, headers={"content-type": "text/plain"}).status_code == 415
    assert "never" not in listed(api)


def test_case_matters(api: httpx.Client) -> None:
    ds = factories.dataset()
    assert put(api, "Case", ds).status_code == 200
    assert put(api, "case", ds).status_code == 200
    assert {"Case", "case"} <= set(listed(api))


def test_the_list(api: httpx.Client) -> None:
    put(api, "listed", factories.dataset())
    for version in ("v1-prerelease", "v1", "v2"):
        found = listed(api, version)
        assert found["Microsoft.Default"]["partitionKey"] == 1
        assert found["listed"].keys() == {"partitionKey", "partitionName", "createdDate"}
        for item in found.values():
            moment = datetime.fromisoformat(str(item["createdDate"]))
            assert moment.utcoffset() is not None and moment.year >= 2026
    keys = [item["partitionKey"] for item in listed(api).values()]
    assert len(set(keys)) == len(keys)


def test_a_race_to_be_first_ends_in_one_partition(partitioned: Server, api: httpx.Client) -> None:
    datasets = [factories.dataset() for _ in range(8)]
    statuses: list[int] = []
    ready = threading.Barrier(len(datasets))

    def store(ds: Dataset) -> None:
        with partitioned.client() as client:
            ready.wait()
            statuses.append(put(client, "race", ds).status_code)

    threads = [threading.Thread(target=store, args=(ds,)) for ds in datasets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * len(datasets)
    assert [item["partitionName"] for item in api.get("/v2/partitions").json()].count("race") == 1
    found = api.get("/v2/partitions/race/studies").json()
    assert {study["0020000D"]["Value"][0] for study in found} == {ds.StudyInstanceUID for ds in datasets}


def test_an_export_is_of_its_partition(api: httpx.Client, allowed: Path) -> None:
    first, second = factories.dataset(PatientID="one"), factories.dataset()
    other = Dataset(first)
    other.PatientID = "two"
    assert put(api, "here", first).status_code == put(api, "there", other).status_code == 200
    assert put(api, "there", second).status_code == 200
    sent = body(folder(allowed), identifier(first, 1), identifier(second))
    for url, message in (("/v2/export", MISSING), ("/v2/partitions/nowhere/export", UNKNOWN)):
        response = api.post(url, json=sent)
        assert (response.status_code, response.text) == (400, message)
    assert "nowhere" not in listed(api)
    operation = export(api, sent, "/v2/partitions/here/export")
    written = files(allowed / operation["operationId"])
    log = written.pop("errors.log").decode().splitlines()
    assert written == {f"results/{identifier(first)}.dcm": factories.part10(first)}
    assert [json.loads(line)["identifier"] for line in log] == [identifier(second)]
    assert (operation["results"]["exported"], operation["results"]["skipped"]) == (1, 1)
    operation = export(api, sent, "/v1/partitions/there/export")
    written = files(allowed / operation["operationId"])
    assert written.pop("errors.log") == b""
    assert written == {f"results/{identifier(ds)}.dcm": factories.part10(ds) for ds in (other, second)}


def test_the_openapi_document_has_the_partition_routes(api: httpx.Client) -> None:
    document = api.get("/v2/api.json").json()
    OpenAPIV30SpecValidator(document).validate()
    assert "/v2/partitions/{partitionName}/studies" in document["paths"]
    assert "/v2/partitions" in document["paths"]
    assert "/v2/changefeed" in document["paths"]
    assert "/v2/studies" not in document["paths"]


# --- turning it on and off ---


def test_a_bulk_update_is_of_its_partition(api: httpx.Client) -> None:
    ds = factories.dataset()
    for partition in ("one", "two"):
        assert put(api, partition, ds).status_code == 200
    change = {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "Changed"}]}}
    body = {"studyInstanceUids": [str(ds.StudyInstanceUID)], "changeDataset": change}
    for url, message in (
        ("/v2/studies/$bulkUpdate", MISSING),
        ("/v2/partitions/nowhere/studies/$bulkUpdate", UNKNOWN),
    ):
        response = api.post(url, json=body)
        assert (response.status_code, response.text) == (400, message)
    assert api.post("/v1/partitions/one/studies/$bulkUpdate", json=body).status_code == 404
    response = api.post("/v2/partitions/one/studies/$bulkUpdate", json=body)
    assert response.status_code == 202
    assert "/partitions/" not in response.json()["href"]
    assert ended(api, response.json()["href"])["results"]["instanceUpdated"] == 1
    names = []
    for partition in ("one", "two"):
        metadata = api.get(below(partition, f"{dicomweb.study_path(ds)}/metadata")).json()
        names.append(metadata[0]["00100010"]["Value"][0]["Alphabetic"])
    assert names == ["Changed", "Doe^John"]
    entries = [entry for entry in api.get("/v2/changefeed").json() if entry["studyInstanceUid"] == ds.StudyInstanceUID]
    states = [(entry["partitionName"], entry["action"], entry["state"]) for entry in entries]
    assert states == [("one", "Create", "Replaced"), ("two", "Create", "Current"), ("one", "Update", "Current")]


def test_what_was_there_before_is_in_the_default_partition(tmp_path: Path) -> None:
    ds = factories.dataset()
    with running(tmp_path / "data") as server:
        with server.client() as client:
            dicomweb.store(client, ds)
        assert server.stop() == 0
    with running(tmp_path / "data", environment=ON) as server:
        with server.client() as client:
            assert client.get(below("Microsoft.Default", dicomweb.instance_path(ds))).status_code == 200
        assert server.stop() == 0
    with running(tmp_path / "data") as server:  # nothing but the default: it may be turned off again
        with server.client() as client:
            assert client.get(dicomweb.instance_path(ds)).status_code == 200
        assert server.stop() == 0
    with running(tmp_path / "data", environment=ON) as server:
        with server.client() as client:
            assert put(client, "other", ds).status_code == 200
        assert server.stop() == 0
    said = serve_fails("--port", str(free_port()), "--data-dir", str(tmp_path / "data"))
    assert "Data partitions feature cannot be disabled while existing data has already been partitioned." in said


# --- workitems ---


def test_each_partition_has_a_worklist_of_its_own(api: httpx.Client) -> None:
    uid, name = new_uid(), f"w-{free_port()}"
    here, there = f"/v2/partitions/{name}/workitems", f"/v2/partitions/{name}-b/workitems"
    headers = {"content-type": "application/dicom+json"}
    for path in ("", "/1.2", "?PatientID=1"):
        answer = api.get(here + path)
        assert (answer.status_code, answer.text) == (400, UNKNOWN)
    for root in (here, there):
        answer = api.post(f"{root}?{uid}", json=[make.workitem()], headers=headers)
        assert answer.status_code == 201
        assert answer.headers["location"] == f"{str(api.base_url).rstrip('/')}{root}/{uid}"
    assert api.post(f"{here}/{uid}/cancelrequest", json=[{}], headers=headers).status_code == 202
    assert api.get(f"{here}/{uid}").json()["00741000"]["Value"] == ["CANCELED"]
    assert api.get(f"{there}/{uid}").json()["00741000"]["Value"] == ["SCHEDULED"]
    assert len(api.get(f"{there}?ProcedureStepState=SCHEDULED").json()) == 1
    assert api.get(f"{here}?ProcedureStepState=SCHEDULED").status_code == 204
    assert api.get(f"/v2/workitems/{uid}").text == MISSING


def test_without_the_feature_there_is_one_worklist(client: httpx.Client) -> None:
    answer = client.get("/v1/partitions/a/workitems")
    assert (answer.status_code, answer.text) == (400, DISABLED)

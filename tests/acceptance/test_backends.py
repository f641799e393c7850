"""The same round on PostgreSQL with S3 and with Azure Blob, each served by two machines."""

import io
import zipfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import (
    ORIGINAL,
    ORIGINALS,
    VERSIONS,
    WAS,
    instance_path,
    parts,
    series_path,
    study_path,
    value,
)
from tests.acceptance.query_tags import ended
from tests.acceptance.test_crash import survive
from tests.peers.azurite import AzuriteServer
from tests.peers.s3 import S3Server
from tests.server import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.peer]

CRASH_ROUNDS = 2


Settings = Mapping[str, str]


@pytest.fixture(scope="module", params=["s3", "azure"])
def new_backend(request: pytest.FixtureRequest, postgres_database: Callable[[], str]) -> Callable[[], Settings]:
    """Call for settings of a database and an object store that nobody else uses."""

    def common() -> dict[str, str]:
        section = "DicomServer__Services__DeletedInstanceCleanup"
        settings = {f"{section}__DeleteDelay": "00:00:00", f"{section}__PollingInterval": "00:00:00.2"}
        return {**settings, "Database__Url": postgres_database()}

    def with_s3() -> Settings:
        s3: S3Server = request.getfixturevalue("s3_endpoint")
        return {
            **common(),
            "ObjectStore__Url": f"s3://{s3.create_bucket()}/some/prefix",
            "ObjectStore__Endpoint": s3.url,
            "ObjectStore__Region": s3.region,
            "ObjectStore__AccessKeyId": s3.access_key_id,
            "ObjectStore__SecretAccessKey": s3.secret_access_key,
            "ObjectStore__AllowHttp": "true",
        }

    def with_azure() -> Settings:
        # As the reference server is configured.
        azurite: AzuriteServer = request.getfixturevalue("azurite_endpoint")
        return {
            **common(),
            "BlobStore__ConnectionString": azurite.connection_string,
            "DicomWeb__DicomStore__ContainerName": azurite.new_container_name(),
        }

    return {"s3": with_s3, "azure": with_azure}[request.param]


@pytest.fixture(scope="module")
def machines(new_backend: Callable[[], Settings], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Server]]:
    """Two servers with nothing in common but the settings."""
    environment = new_backend()
    directory = tmp_path_factory.mktemp("machines")
    servers = [Server(directory / name, [*QUIET, "--workers", "1"], environment) for name in ("one", "other")]
    with ExitStack() as stack:
        for server in servers:
            stack.callback(server.end)
            server.start()
        yield servers
        for server in servers:
            assert server.stop() == 0
            assert "Unexpected error" not in server.log(), server.log()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_round(machines: list[Server], version: str) -> None:
    writer, reader = machines[0].client(), machines[1].client()
    with writer, reader:
        health = {check["name"]: check["status"] for check in reader.get("/health/check").json()["details"]}
        assert health == dict.fromkeys(("IndexDatabase", "ObjectStore", "OperationWorker"), "Healthy")
        name: dict[str, Any] = {"PatientName": "Köhler^Änne", "SpecificCharacterSet": "ISO_IR 192"}
        first = factories.dataset(**name)
        # One that is sent in several pieces, one of several frames.
        large = dicomweb.sibling(first, PixelData=bytes(range(256)) * 40_000, **name)
        two: dict[str, Any] = {"NumberOfFrames": 2, "PixelData": bytes(range(256)), "Modality": "MR"}
        other = dicomweb.sibling(first, same_series=False, **two, **name)
        datasets = [first, large, other]
        files = [factories.part10(ds) for ds in datasets]
        response = dicomweb.post(writer, files, f"/{version}/studies/{first.StudyInstanceUID}")
        assert response.status_code == 200, response.text
        assert dicomweb.post(reader, files, f"/{version}/studies").status_code == 409

        for ds, content in zip(datasets, files, strict=True):
            assert reader.get(instance_path(ds, version), headers={"accept": ORIGINAL}).content == content
        received = parts(reader.get(study_path(first, version), headers={"accept": ORIGINALS}))
        assert sorted(part.body for part in received) == sorted(files)
        frame = reader.get(f"{instance_path(other, version)}/frames/2", headers={"accept": "application/octet-stream"})
        assert frame.content == bytes(range(128, 256))
        part = reader.get(instance_path(large, version), headers={"accept": ORIGINAL, "range": "bytes=9000000-9000099"})
        assert (part.status_code, part.content) == (206, files[1][9_000_000:9_000_100])
        bulk = f"{instance_path(large, version)}/bulkdata"
        assert reader.get(f"{bulk}/7FE00010").content == large.PixelData
        assert reader.get(f"{bulk}/7FE00010", headers={"range": "bytes=-10"}).content == large.PixelData[-10:]
        (whole,) = parts(reader.get(bulk))
        assert whole.body == large.PixelData
        described = reader.get(f"{study_path(first, version)}/metadata?bulkdata=uri").json()
        assert sorted("BulkDataURI" in ds["7FE00010"] for ds in described) == [False, False, True]
        zipped = reader.get(study_path(first, version), headers={"accept": "application/zip"})
        with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
            assert sorted(map(archive.read, archive.namelist())) == sorted(files)
        metadata = reader.get(f"{series_path(first, version)}/metadata")
        assert sorted(value(ds, "00080018") for ds in metadata.json()) == sorted(
            ds.SOPInstanceUID for ds in datasets[:2]
        )
        again = reader.get(
            f"{series_path(first, version)}/metadata", headers={"if-none-match": metadata.headers["etag"]}
        )
        assert again.status_code == 304

        mine = {"StudyInstanceUID": first.StudyInstanceUID}
        queries: list[dict[str, str]] = [
            {"PatientName": "KOHLER^ANNE"},
            {"PatientName": "an", "fuzzymatching": "true"},
            {"PatientName": "koh änn", "fuzzymatching": "true"},
            {"StudyDate": "20240101-20240201", "ModalitiesInStudy": "mr"},
            {"PatientID": "pat-1", "includefield": "NumberOfStudyRelatedInstances"},
        ]
        for asked in queries:
            (study,) = reader.get(f"/{version}/studies", params={**mine, **asked}).json()
            assert value(study, "00100010") == {"Alphabetic": "Köhler^Änne"}
        for asked in (
            {"PatientName": "ohler", "fuzzymatching": "true"},
            {"StudyDate": "20240201-"},
            {"PatientID": "1"},
        ):
            assert reader.get(f"/{version}/studies", params={**mine, **asked}).status_code == 204

        assert reader.delete(series_path(first, version)).status_code == 204
        assert writer.get(series_path(first, version)).status_code == 404
        assert writer.get(instance_path(other, version), headers={"accept": ORIGINAL}).content == files[2]
        dicomweb.store(writer, first, version=version)
        assert reader.get(instance_path(first, version), headers={"accept": ORIGINAL}).content == files[0]
        entries = [
            entry
            for entry in reader.get("/v2/changefeed", params={"limit": 200}).json()
            if entry["studyInstanceUid"] == first.StudyInstanceUID
        ]
        assert [entry["action"] for entry in entries] == ["Create"] * 3 + ["Delete"] * 2 + ["Create"]
        states = {(entry["sopInstanceUid"], entry["action"]): entry["state"] for entry in entries[:5]}
        assert states[first.SOPInstanceUID, "Create"] == states[first.SOPInstanceUID, "Delete"] == "Replaced"
        assert states[large.SOPInstanceUID, "Create"] == states[large.SOPInstanceUID, "Delete"] == "Deleted"
        assert states[other.SOPInstanceUID, "Create"] == entries[5]["state"] == "Current"


def test_an_update(machines: list[Server]) -> None:
    """Of a file that is held in memory, of one that is streamed, and of one that is one compressed stream."""
    writer, reader = machines[0].client(), machines[1].client()
    with writer, reader:
        first = factories.dataset(Rows=16, Columns=8)
        large = dicomweb.sibling(first, PixelData=bytes(range(256)) * 40_000)
        deflated = dicomweb.sibling(first, same_series=False, Rows=16, Columns=8)
        files = {ds.SOPInstanceUID: factories.part10(ds) for ds in (first, large)}
        files[deflated.SOPInstanceUID] = factories.part10(deflated, DeflatedExplicitVRLittleEndian)
        assert dicomweb.post(writer, list(files.values())).status_code == 200
        study = {"studyInstanceUids": [first.StudyInstanceUID]}
        body = {**study, "changeDataset": {"00100010": {"vr": "PN", "Value": [{"Alphabetic": "New^Name"}]}}}
        started = writer.post("/v2/studies/$bulkUpdate", json=body)
        assert started.status_code == 202, started.text
        operation = ended(reader, started.json()["href"].replace(str(machines[0].port), str(machines[1].port)))
        assert (operation["status"], operation["results"]["instanceUpdated"]) == ("succeeded", 3)

        (found,) = reader.get(
            "/v2/studies", params={"PatientName": "New^Name", "StudyInstanceUID": first.StudyInstanceUID}
        ).json()
        assert value(found, "0020000D") == first.StudyInstanceUID
        for ds in (first, large, deflated):
            then = files[ds.SOPInstanceUID]
            was = reader.get(instance_path(ds), headers={"accept": ORIGINAL, **WAS}).content
            assert was == then
            now = pydicom.dcmread(io.BytesIO(reader.get(instance_path(ds), headers={"accept": ORIGINAL}).content))
            before = pydicom.dcmread(io.BytesIO(then))
            assert now.PatientName == "New^Name"
            now.PatientName = before.PatientName
            assert now == before
            frame = reader.get(f"{instance_path(ds)}/bulkdata/7FE00010")
            assert frame.content == ds.PixelData


HOSTILE = ["\0", "1\0.2", "zz\0zz", "%", "\\", "\ufffd", "\U0010ffff", "\u0301", "'", "(((", "[", "\r\n", "х" * 3000]


def test_hostile_values_are_only_values(machines: list[Server]) -> None:
    with machines[0].client() as client:
        for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "ModalitiesInStudy", "SOPInstanceUID"):
            for asked in HOSTILE:
                for fuzzy in ("false", "true"):
                    response = client.get("/v2/instances", params={keyword: asked, "fuzzymatching": fuzzy})
                    assert response.status_code in (204, 400), (keyword, asked, response.text)
        for path in ("/v1/changefeed?offset=9223372036854775807", "/v2/changefeed?offset=9223372036854775807"):
            assert client.get(path).json() == []
        assert client.get("/v2/studies?offset=9223372036854775807").status_code == 204


def test_stored_nulls_and_odd_characters(machines: list[Server]) -> None:
    with machines[0].client() as client:
        ds = factories.dataset(
            StudyDescription="Chest\0\0", PatientName="Doe^\U0001f600\0", SpecificCharacterSet="ISO_IR 192"
        )
        dicomweb.store(client, ds)
        for asked in ({"StudyDescription": "chest"}, {"PatientName": "\U0001f600", "fuzzymatching": "true"}):
            response = client.get("/v2/studies", params={"StudyInstanceUID": ds.StudyInstanceUID, **asked})
            assert response.status_code == 200


def test_the_feed_is_in_order_with_writers_on_both_machines(machines: list[Server]) -> None:
    clients = [server.client() for server in machines]
    first = factories.dataset(PixelData=None)
    start = len_of_feed(machines[0])

    def write(number: int) -> None:
        for _ in range(10):
            ds = dicomweb.sibling(first, same_series=number % 2 == 0, PixelData=None)
            dicomweb.store(clients[number % 2], ds)
            if number == 5:
                assert clients[0].delete(instance_path(ds)).status_code == 204

    def read() -> None:
        seen: list[dict[str, object]] = []
        while len(seen) < 6 * 10 + 10:
            parameters: dict[str, str | int] = {"offset": start + len(seen), "limit": 100, "includeMetadata": "false"}
            page = clients[len(seen) % 2].get("/v1/changefeed", params=parameters).json()
            # A sequence that was rolled back may be missing; what is there is in order, and nothing comes late.
            assert [entry["sequence"] for entry in page] == list(
                range(start + len(seen) + 1, start + len(seen) + 1 + len(page))
            )
            seen += page
        times = [datetime.fromisoformat(str(entry["timestamp"])) for entry in seen]
        assert times == sorted(times)

    with ThreadPoolExecutor(8) as pool:
        reading = [pool.submit(read), pool.submit(read)]
        list(pool.map(write, range(6)))
        for future in reading:
            future.result(60)
    for client in clients:
        client.close()


def len_of_feed(server: Server) -> int:
    with server.client() as client:
        response = client.get("/v1/changefeed/latest")
        return 0 if response.status_code == 204 else int(response.json()["sequence"])


def test_concurrent_stores_of_one_instance_on_both_machines(machines: list[Server]) -> None:
    ds: Dataset = factories.dataset()
    clients = [server.client() for server in machines]
    with ThreadPoolExecutor(8) as pool:
        body = factories.part10(ds)
        answers = list(pool.map(lambda number: dicomweb.post(clients[number % 2], [body]).status_code, range(8)))
    assert sorted(answers) == [200] + [409] * 7
    assert clients[0].get(instance_path(ds), headers={"accept": ORIGINAL}).content == body
    for client in clients:
        client.close()


def test_kill_minus_nine(new_backend: Callable[[], Settings], tmp_path: Path) -> None:
    survive(Server(tmp_path / "data", [*QUIET, "--workers", "2"], new_backend()), CRASH_ROUNDS)

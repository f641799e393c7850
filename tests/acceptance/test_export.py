"""Export over HTTP (operations.md §3): to Azure as the reference does it, and beyond it."""

import gzip
import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import obstore.store
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.exports import blob, body, export, files, folder, identifier
from tests.acceptance.test_lifecycle import running
from tests.acceptance.test_security import security
from tests.peers.azure_sas import Container
from tests.peers.azurite import AzuriteServer
from tests.peers.oidc_provider import OidcProvider
from tests.peers.s3 import S3Server
from tests.server import Server, free_port

pytestmark = pytest.mark.acceptance

SEVERAL = 66
"""Instances of a study: more than one page of them."""
PERSON: dict[str, Any] = {
    "PatientName": "Muster^Max",
    "PatientID": "4711",
    "PatientBirthDate": "19700101",
    "StudyDate": "20240203",
}


@pytest.fixture(scope="module")
def allowed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one folder exports may go to."""
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, allowed: Path) -> Iterator[Server]:
    environment = {
        "Export__Sinks__Folder__AllowedDirectories__0": str(allowed),
        "Export__Sinks__S3__Enabled": "true",
        "DicomFunctions__Export__Batching__Size": "2",
        "Logging__LogLevel__Default": "Debug",
    }
    with running(tmp_path_factory.mktemp("export") / "data", *QUIET, environment=environment) as server:
        yield server
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()


@pytest.fixture(scope="module")
def client(served: Server) -> Iterator[httpx.Client]:
    with served.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def study(client: httpx.Client) -> list[Dataset]:
    """Two series of one study."""
    first = factories.dataset(**PERSON)
    several = [first, *(dicomweb.sibling(first, InstanceNumber=number, **PERSON) for number in range(2, SEVERAL))]
    several.append(dicomweb.sibling(first, same_series=False, **PERSON))
    dicomweb.store(client, *several)
    return several


@pytest.fixture(scope="module")
def container(azurite_endpoint: AzuriteServer) -> Container:
    return Container(azurite_endpoint, azurite_endpoint.new_container_name()).create()


def expected(*datasets: Dataset) -> dict[str, bytes]:
    return {f"results/{identifier(ds)}.dcm": factories.part10(ds) for ds in datasets}


def lines(log: bytes) -> list[dict[str, str]]:
    return [json.loads(line) for line in log.decode().splitlines()]


@pytest.mark.peer
@pytest.mark.parametrize("permissions", ["cwa", "ca"])
def test_files_and_log_in_azure(
    served: Server, client: httpx.Client, study: list[Dataset], container: Container, permissions: str
) -> None:
    other = factories.dataset()
    dicomweb.store(client, other)
    there, gone = identifier(study[0], 2), f"{identifier(study[0], 2)}/1.2.3"
    values = [identifier(study[0], 1), f" {identifier(other, 1)} / {other.SeriesInstanceUID} ", "1.2.3.4", gone]
    sent = body(blob(container, permissions), *values)
    operation = export(client, sent)
    folder = operation["operationId"]
    assert re.fullmatch("[0-9a-f]{32}", folder)
    assert (operation["type"], operation["status"]) == ("export", "succeeded")
    assert "percentComplete" not in operation and "resources" not in operation
    href = f"{container.url}/{folder}/errors.log"
    assert operation["results"] == {"exported": SEVERAL + 1, "skipped": 2, "errorHref": href}
    written = {name.removeprefix(f"{folder}/"): data for name, data in container.blobs(folder)}
    log = lines(written.pop("errors.log"))
    assert written == expected(*study, other)
    assert {line["identifier"] for line in log} == {"1.2.3.4", gone} and len(log) == 2
    assert all(line.keys() == {"timestamp", "identifier", "error"} for line in log)
    assert all(line["timestamp"].endswith("+00:00") and "cannot be found" in line["error"] for line in log)
    # The signature: nowhere, in no form, not even at level Debug.
    signature = sent["destination"]["settings"]["blobContainerUri"].partition("sig=")[2]
    for secret in (signature, signature.replace("%2B", "+").replace("%2F", "/").replace("%3D", "=")):
        assert secret not in served.log() and secret not in json.dumps(operation)
        for path in served.data_dir.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert there in gone
    assert client.get("/v2/changefeed/latest").json()["sequence"] == len(client.get("/v2/changefeed?limit=200").json())


def test_many_identifiers(client: httpx.Client, study: list[Dataset], allowed: Path) -> None:
    missing = [f"1.{number}{'1' * 55}/1.2{'2' * 59}/1.3{'3' * 59}" for number in range(1000, 7000)]
    sent = body(folder(allowed), *missing, identifier(study[0]))
    assert len(json.dumps(sent)) > 1024 * 1024
    assert export(client, sent)["results"].items() >= {"exported": 1, "skipped": 6000}.items()


@pytest.mark.peer
def test_a_connection_string_of_the_emulator_in_version_1(
    client: httpx.Client, study: list[Dataset], container: Container, azurite_endpoint: AzuriteServer
) -> None:
    settings = {"ConnectionString": azurite_endpoint.connection_string, "BLOBCONTAINERNAME": container.name}
    source = f'{{"type": "Identifiers", "settings": {{"values": ["{identifier(study[0])}",]}}}}'
    destination = f'{{"Type": "azureblob", "settings": {json.dumps(settings)}}}'
    text = f'{{/* a comment */ "SOURCE": {source},\n// another\n"destination": {destination}, "unknown": 1}}'
    response = client.post("/v1/export", content=text, headers={"content-type": "application/json; charset=utf-8"})
    assert response.status_code == 202, response.text
    assert response.headers["api-supported-versions"] == "1, 2"
    assert response.json()["href"].endswith(f"/v1/operations/{response.json()['id']}")
    while (operation := client.get(response.json()["href"])).status_code == 202:
        assert operation.json()["status"] in ("notStarted", "running")
    assert operation.json()["status"] == "completed" and operation.json()["results"]["exported"] == 1
    assert container.read(f"{response.json()['id']}/errors.log") == b""


@pytest.mark.peer
@pytest.mark.parametrize(
    ("permissions", "suffix", "text"),
    [
        ("rl", "", "Unable to authenticate"),
        ("cwa", "x", "does not exist"),
        ("", "", "Unable to authenticate"),
    ],
)
def test_a_destination_that_refuses_is_400_at_once(
    client: httpx.Client, container: Container, permissions: str, suffix: str, text: str
) -> None:
    before = client.get("/v2/operations").json()
    uri = f"{container.url}{suffix}?{container.sas(permissions)}" if permissions else container.url
    response = client.post("/v2/export", json=body({"type": "azureBlob", "settings": {"blobContainerUri": uri}}, "1.2"))
    # Azurite cannot tell whether a container is missing from a signature that is for another one.
    assert response.status_code == 400 and (text in response.text or (suffix and "authenticate" in response.text))
    assert "sig=" not in response.text
    assert client.get("/v2/operations").json() == before


def test_a_destination_that_is_away_is_400_within_seconds(client: httpx.Client) -> None:
    uri = f"http://127.0.0.1:{free_port()}/account/container?sv=1&sig=abc"
    sent = body({"type": "azureBlob", "settings": {"blobContainerUri": uri}}, "1.2")
    response = client.post("/v2/export", json=sent, timeout=10)
    assert (response.status_code, response.text) == (
        400,
        "Cannot connect to Azure Blob Storage container 'container' in account 'account'.",
    )


URI = "https://account.blob.core.windows.net/container"
SIGNED = "BlobEndpoint=https://account.blob.core.windows.net;SharedAccessSignature=sv=1&sig=abc"
MISSING = "Please specify both ConnectionString and BlobContainerName."
KEY = "Account key authentication is not supported."
IDENTITY = "Managed identity cannot be used with a ConnectionString."
BOTH = "ConnectionString and BlobContainerName cannot be specified along with BlobContainerUri."
QUERY = "UseManagedIdentity cannot be specified if the BlobContainerUri container query string parameters."


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, MISSING),
        ({"connectionString": SIGNED}, MISSING),
        ({"connectionString": " ", "blobContainerName": "abc"}, MISSING),
        (
            {"connectionString": "AccountName=a;AccountKey=b", "blobContainerName": "abc", "useManagedIdentity": True},
            KEY,
        ),
        ({"connectionString": SIGNED, "blobContainerName": "abc", "useManagedIdentity": True}, IDENTITY),
        ({"connectionString": "nonsense", "blobContainerName": "abc"}, "malformed"),
        ({"connectionString": SIGNED, "blobContainerName": "a/../b"}, "blobContainerName"),
        ({"blobContainerUri": URI, "connectionString": SIGNED}, BOTH),
        ({"blobContainerUri": URI, "blobContainerName": "abc", "useManagedIdentity": True}, BOTH),
        ({"blobContainerUri": f"{URI}?sig=abc", "useManagedIdentity": True}, QUERY),
        ({"blobContainerUri": "container"}, "absolute"),
        ({"blobContainerUri": "ftp://host/container"}, "absolute"),
        ({"blobContainerUri": "https://host"}, "not the address of a container"),
        ({"blobContainerUri": 5}, "blobContainerUri"),
        ({"blobContainerUri": URI, "useManagedIdentity": "yes"}, "useManagedIdentity"),
    ],
)
def test_settings_of_a_container_that_are_refused(client: httpx.Client, settings: dict[str, Any], text: str) -> None:
    response = client.post("/v2/export", json=body({"type": "azureBlob", "settings": settings}, "1.2"))
    assert response.status_code == 400 and text in response.text, response.text
    assert response.headers["content-type"].startswith("text/plain") and "sig=" not in response.text


NOWHERE = {"type": "folder", "settings": {"path": "/"}}


@pytest.mark.parametrize(
    "sent",
    [
        None,
        [],
        {},
        {"destination": NOWHERE},
        {"source": {"type": "identifiers", "settings": {"values": ["1.2"]}}},
        {"sources": {"type": "identifiers", "settings": {"values": ["1.2"]}}, "destination": NOWHERE},
        body(NOWHERE) | {"source": {"type": 0, "settings": {"values": ["1.2"]}}},
        body(NOWHERE) | {"source": {"type": "studies", "settings": {"values": ["1.2"]}}},
        body({"type": 1, "settings": {}}, "1.2"),
        body({"type": "ftp", "settings": {}}, "1.2"),
        body({"type": "folder"}, "1.2"),
        *(body(NOWHERE, value) for value in ("", "1.2/", "/1.2", "1/2/3/4", "x", "1." + "1" * 64, "1.2 3")),
        body(NOWHERE),
        body(NOWHERE, "1.2", format="tar"),
        body(NOWHERE, "1.2", deidentify=1),
        body(NOWHERE, "1.2", deidentify={"retainUids": "no"}),
    ],
    ids=str,
)
def test_bodies_that_are_refused(client: httpx.Client, sent: object) -> None:
    response = client.post("/v2/export", content=json.dumps(sent), headers={"content-type": "application/json"})
    assert response.status_code == 400 and response.text and "AllowedDirectories" not in response.text


def test_the_edges_of_the_route(client: httpx.Client) -> None:
    assert client.post("/v2/export", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.post("/v2/export", content=b"{", headers={"content-type": "application/json"}).status_code == 400
    assert client.post("/v2/partitions/one/export", json=body(NOWHERE, "1.2")).status_code == 400
    assert client.get("/v2/export").status_code == 405
    response = client.post("/v1.0-prerelease/export", json={})
    assert response.status_code == 400 and response.json()["error"]["code"] == "UnsupportedApiVersion"
    assert response.headers["api-supported-versions"] == "1, 2"


def test_a_folder(client: httpx.Client, study: list[Dataset], allowed: Path) -> None:
    (allowed / "below").mkdir()
    operation = export(client, body(folder(allowed / "below"), identifier(study[-1], 2), "9.9"))
    written = files(allowed / "below" / operation["operationId"])
    log = written.pop("errors.log")
    assert written == expected(study[-1])
    assert [line["identifier"] for line in lines(log)] == ["9.9"]
    assert operation["results"]["errorHref"] == (allowed / "below" / operation["operationId"] / "errors.log").as_uri()


def test_folders_that_are_not_allowed(client: httpx.Client, allowed: Path, tmp_path: Path) -> None:
    (allowed / "link").symlink_to(tmp_path)
    (allowed / "file").write_text("x")
    paths: list[Path | str] = [
        tmp_path,
        allowed.parent,
        allowed / "..",
        f"{allowed}/../{allowed.name}",
        allowed / "link",
        "relative",
    ]
    for path in (*paths, allowed / "none", allowed / "file", f"{allowed}x", f"{allowed}\0", "/", ""):
        response = client.post("/v2/export", json=body(folder(Path(path)) if path else NOWHERE, "1.2"))
        assert response.status_code == 400, path
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_zip_files(client: httpx.Client, study: list[Dataset], allowed: Path, levels: int) -> None:
    operation = export(client, body(folder(allowed), identifier(study[-1], levels), "9.9", format="zip"))
    inside = {1: study, 2: study[-1:], 3: study[-1:]}[levels]
    assert operation["results"]["exported"] == len(inside) and operation["results"]["skipped"] == 1
    written = files(allowed / operation["operationId"])
    assert set(written) == {"errors.log", f"results/{identifier(study[-1], levels)}.zip"}
    with zipfile.ZipFile(io.BytesIO(written[f"results/{identifier(study[-1], levels)}.zip"])) as archive:
        assert archive.testzip() is None
        found = {f"results/{name}": archive.read(name) for name in archive.namelist()}
    assert found == expected(*inside)


@pytest.mark.peer
def test_a_bucket(client: httpx.Client, study: list[Dataset], s3_endpoint: S3Server, served: Server) -> None:
    bucket = s3_endpoint.create_bucket()
    key = "a-key-that-nobody-sees"
    settings = {"bucket": bucket, "prefix": "a/b", "endpoint": s3_endpoint.url, "accessKeyId": "x"}
    destination = {"type": "s3", "settings": settings | {"secretAccessKey": key}}
    operation = export(client, body(destination, identifier(study[-1], 2), "9.9"))
    folder = f"a/b/{operation['operationId']}"
    assert operation["results"] == {
        "exported": 1,
        "skipped": 1,
        "errorHref": f"s3://{bucket}/{folder}/errors.log",
    }
    (name,) = expected(study[-1])
    store = obstore.store.S3Store(
        bucket, endpoint=s3_endpoint.url, access_key_id="x", secret_access_key="x", client_options={"allow_http": True}
    )
    assert obstore.get(store, f"{folder}/{name}").bytes() == factories.part10(study[-1])
    listed = httpx.get(f"{s3_endpoint.url}/{bucket}", params={"list-type": "2", "prefix": f"{folder}/errors"}).text
    logs = re.findall("<Key>(.*?)</Key>", listed)
    assert f"{folder}/errors.log" in logs and len(logs) == 2
    assert export(client, body(destination, identifier(study[-1], 2), format="zip"))["results"]["exported"] == 1
    assert key not in served.log()
    for wrong in ({"bucket": "nowhere-at-all"}, {"accessKeyId": ""}, {"prefix": "../up"}, {"endpoint": "file:///x"}):
        sent = {"type": "s3", "settings": {**destination["settings"], **wrong}}  # type: ignore[dict-item]
        assert client.post("/v2/export", json=body(sent, "1.2")).status_code == 400, wrong
    sent = {"type": "s3", "settings": settings | {"accessKeyId": None}}
    assert "AllowServerCredentials" in client.post("/v2/export", json=body(sent, "1.2")).text


def test_deidentified(client: httpx.Client, study: list[Dataset], allowed: Path) -> None:
    burned = dicomweb.sibling(study[0], BurnedInAnnotation="YES", **PERSON)
    dicomweb.store(client, burned)
    values = [identifier(ds) for ds in (study[0], study[-1], burned)]
    operation = export(client, body(folder(allowed), *values, deidentify=True))
    assert (operation["results"]["exported"], operation["results"]["skipped"]) == (2, 1)
    written = files(allowed / operation["operationId"])
    log = written.pop("errors.log")
    assert b"burned into" in log
    for data in (log, *written.values(), "".join(written).encode()):
        for secret in ("Muster", "4711", "19700101", "20240203", *(str(study[0].StudyInstanceUID),)):
            assert secret.encode() not in data
    one, other = (pydicom.dcmread(io.BytesIO(data)) for data in written.values())
    assert one.StudyInstanceUID == other.StudyInstanceUID and one.SeriesInstanceUID != other.SeriesInstanceUID
    assert {f"results/{identifier(ds)}.dcm" for ds in (one, other)} == set(written)
    assert one.PatientID == other.PatientID != "" and one.PatientIdentityRemoved == "YES"
    again = export(client, body(folder(allowed), values[0], deidentify={"retainUids": True}))
    assert f"results/{values[0]}.dcm" in files(allowed / again["operationId"])


def test_volumes(client: httpx.Client, allowed: Path) -> None:
    pytest.importorskip("dcm2niix")
    common: dict[str, Any] = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2",
        "Modality": "CT",
        "Rows": 8,
        "Columns": 8,
        "BitsAllocated": 16,
        "BitsStored": 16,
        "HighBit": 15,
        "PixelRepresentation": 0,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [1, 1],
        "SliceThickness": 2,
    }
    first = factories.dataset(**common, InstanceNumber=1, ImagePositionPatient=[0, 0, 0], PixelData=bytes(128))
    slices = [
        dicomweb.sibling(
            first, **common, InstanceNumber=n, ImagePositionPatient=[0, 0, 2 * n - 2], PixelData=bytes([n]) * 128
        )
        for n in (2, 3)
    ]
    report = dicomweb.sibling(first, same_series=False, Modality="SR", PixelData=None, Rows=None, Columns=None)
    dicomweb.store(client, first, *slices, report)
    operation = export(client, body(folder(allowed), identifier(first, 1), format="nifti"))
    written = files(allowed / operation["operationId"])
    log = lines(written.pop("errors.log"))
    assert [line["identifier"] for line in log] == [identifier(report, 2)]
    assert list(written) == [f"results/{identifier(first, 2)}.nii.gz"]
    assert operation["results"]["exported"] == 1
    volume = gzip.decompress(next(iter(written.values())))
    assert volume[344:347] == b"n+1" and [int.from_bytes(volume[at : at + 2], "little") for at in (42, 44, 46)] == [
        8,
        8,
        3,
    ]


IN_PARTITION = "/v2/partitions/Microsoft.Default/export"


@pytest.mark.peer
def test_what_can_be_switched_off(tmp_path: Path, oidc_provider_process: OidcProvider) -> None:
    """SAS and public access, partitions, permissions; and export as a whole."""
    environment = {
        "Export__Sinks__AzureBlob__AllowSasTokens": "false",
        "Export__Sinks__AzureBlob__AllowPublicAccess": "false",
        "DicomServer__Features__EnableDataPartitions": "true",
        **security(oidc_provider_process.authority, roles=True),
    }
    sas = {"connectionString": SIGNED, "blobContainerName": "abc"}
    emulator = {
        "connectionString": "UseDevelopmentStorage=true",
        "blobContainerName": "abc",
        "useManagedIdentity": True,
    }

    with running(tmp_path / "data", *QUIET, environment=environment) as server, server.client() as client:
        tokens = {name: oidc_provider_process.token(name) for name in ("admin", "writer")}

        def ask(settings: dict[str, Any], path: str = IN_PARTITION, who: str = "admin") -> httpx.Response:
            headers = {"authorization": f"Bearer {tokens[who]}"}
            sent = body({"type": "azureBlob", "settings": settings}, "1.2")
            return client.post(path, json=sent, headers=headers)

        for settings, text in (
            (sas, "Shared Access Signatures (SAS) are not supported."),
            ({"blobContainerUri": f"{URI}?SIG=abc"}, "Shared Access Signatures (SAS) are not supported."),
            (emulator, "Public access to Azure Blob Storage containers is not supported."),
            ({"blobContainerUri": URI}, "Public access to Azure Blob Storage containers is not supported."),
        ):
            response = ask(settings)
            assert (response.status_code, response.text) == (400, text)
        assert ask(sas, who="writer").status_code == 403
        assert '"Action":"export"' in server.log()
        assert ask(sas, "/v2/export").text == "PartitionName value is missing in the route segment."
        assert ask(sas, "/v2/partitions/none/export").text == "Specified PartitionName does not exist."
    environment = {"DicomServer__Features__EnableExport": "false"}
    with running(tmp_path / "off", *QUIET, "--no-worker", environment=environment) as server, server.client() as client:
        response = client.post("/v2/export", json=body(NOWHERE, "1.2"))
        assert (response.status_code, response.content) == (404, b"")
        assert response.headers["api-supported-versions"] == "1, 2"

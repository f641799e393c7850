"""Every operation of the OpenAPI documents, with every status it declares, on a real server (server.md §6).

What comes back must be declared: status, content type, headers, and the body by its schema. A status that nothing here
provokes fails the walk, so the documents cannot promise what the server never says.
"""

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openapi_schema_validator import OAS30Validator
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import (
    dicomweb,
    openapi_cast,
    openapi_export,
    openapi_operations,
    openapi_tags,
    openapi_update,
    openapi_workitems,
)
from tests.acceptance.test_lifecycle import running
from tests.acceptance.test_security import security
from tests.peers.azurite import AzuriteServer
from tests.peers.oidc_provider import OidcProvider
from tests.peers.postgres import PostgresServer
from tests.server import Server

pytestmark = pytest.mark.acceptance

DOCUMENTS = ("v1-prerelease", "v1", "v2")
METHODS = ("get", "post", "put", "patch", "delete", "options")
LEVELS = ("Study", "Series", "Instance", "Frame")
LARGEST = 100_000
DICOM_OR_BYTES = "application/dicom, application/octet-stream"
OPTIONAL_HEADERS = {"warning", "erroneous-dicom-attributes", "accept-encoding"}
DECLARED_HEADERS = OPTIONAL_HEADERS | {
    "etag",
    "content-range",
    "api-supported-versions",
    "location",
    "www-authenticate",
}
ELSEWHERE = {"503", "424"}
"""Provoked by the tests at the end: the whole server has to fail for them."""

Json = dict[str, Any]


@dataclass
class Operation:
    """One operation of a document, and how to call it."""

    client: httpx.Client
    document: Json
    path: str
    method: str
    described: Json
    partition: str = "walk"
    stored: Dataset = field(default_factory=factories.dataset)
    """An instance that is there."""

    @property
    def name(self) -> str:
        return str(self.described["operationId"])

    def url(self, ds: Dataset, **replaced: str) -> str:
        values = {
            "studyInstanceUid": str(ds.StudyInstanceUID),
            "seriesInstanceUid": str(ds.SeriesInstanceUID),
            "sopInstanceUid": str(ds.SOPInstanceUID),
            "frames": "1",
            "frame": "1",
            "operationId": openapi_operations.ACTIVE,
            "attribute": "7FE00010",
            "partitionName": self.partition,
            "tagPath": "StudyComments",
            "workitemInstanceUid": "1.2",
            "aetitle": "ME",
        } | replaced
        path = re.sub(r"{(\w+)}", lambda found: values[found[1]], self.path)
        if self.name != "WadoUri":
            return path
        names = {"studyUID": "studyInstanceUid", "seriesUID": "seriesInstanceUid", "objectUID": "sopInstanceUid"}
        return f"{path}?requestType=WADO&" + "&".join(f"{name}={values[key]}" for name, key in names.items())

    def call(self, ds: Dataset, *, query: str = "", url: str = "", **headers: str) -> httpx.Response:
        """The operation on ``ds``; a store sends it."""
        target = url or self.url(ds)
        target += query.replace("?", "&") if "?" in target else query
        if self.method == "post":
            return self.send([factories.part10(ds)], target, **headers)
        return self.client.request(self.method, target, headers=headers)

    def send(self, files: list[bytes], target: str, **headers: str) -> httpx.Response:
        body, sent = factories.multipart(files)
        return self.client.request(self.method, target, content=body, headers={**sent, **headers})

    def store(self, *datasets: Dataset) -> Dataset:
        prefix = self.path.partition("/studies")[0].replace("{partitionName}", self.partition)
        answer = dicomweb.post(self.client, [factories.part10(ds) for ds in datasets], f"{prefix}/studies")
        assert answer.status_code == 200, answer.text
        return datasets[0]

    def has(self, parameter: str) -> bool:
        listed = self.described.get("parameters", [])
        return any(entry.get("$ref", entry.get("name", "")).endswith(parameter) for entry in listed)


def new(operation: Operation) -> Dataset:
    """An instance that is not there; of the stored study where the operation is on one."""
    return dicomweb.sibling(operation.stored) if "{studyInstanceUid}" in operation.path else factories.dataset()


def ok(operation: Operation) -> httpx.Response:
    if operation.name == openapi_export.NAME:
        return openapi_export.all_well(operation)
    if operation.name in openapi_tags.NAMES:
        return openapi_tags.all_well(operation)
    if operation.name == openapi_update.NAME:
        return openapi_update.all_well(operation)
    if operation.name in openapi_workitems.NAMES:
        return openapi_workitems.all_well(operation)
    if operation.method == "post":
        return operation.call(new(operation))
    if operation.name in ("ListCastErrors", "EmptyCastErrors"):
        return operation.call(operation.stored, query="?table=InvalidDicomTagExceptionTable&limit=1")
    return operation.call(operation.stored)


def bad(operation: Operation) -> httpx.Response:
    if operation.method == "post":
        return operation.client.post(
            operation.url(operation.stored),
            content=b"--b\r\nContent-Type: application/dicom\r\n\r\n",
            headers={"content-type": "multipart/related; type=application/dicom; boundary=b"},
        )
    if operation.has("includeMetadata"):
        return operation.call(operation.stored, query="?includeMetadata=perhaps")
    if operation.has("limit"):
        return operation.call(operation.stored, query="?limit=many")
    last = "sopInstanceUid" if operation.name == "WadoUri" else re.findall(r"{(\w+Uid)}", operation.path)[-1]
    return operation.call(operation.stored, url=operation.url(operation.stored, **{last: "1.2.x"}))


def missing(operation: Operation) -> httpx.Response:
    return operation.call(factories.dataset())


def deleted(operation: Operation) -> httpx.Response:
    if operation.method == "delete":
        return operation.call(operation.store(factories.dataset()))
    if operation.method == "post":
        return operation.client.post(
            operation.url(operation.stored),
            content=b"--b--",
            headers={"content-type": "multipart/related; type=application/dicom; boundary=b"},
        )
    if operation.name.startswith("Query"):
        return operation.call(operation.stored, query="?PatientID=nobody-is-called-so")
    raise AssertionError("nothing provokes it")


def partly(operation: Operation) -> httpx.Response:
    return operation.send(
        [factories.part10(new(operation)), factories.part10(operation.stored)], operation.url(operation.stored)
    )


def unchanged(operation: Operation) -> httpx.Response:
    etag = operation.call(operation.stored).headers["etag"]
    return operation.call(operation.stored, **{"if-none-match": etag})


def too_large(operation: Operation) -> httpx.Response:
    ds = new(operation)
    ds.PixelData = bytes(LARGEST)
    return operation.call(ds)


PROVOKED: dict[str, Callable[[Operation], httpx.Response]] = {
    "101": ok,
    "200": ok,
    "201": ok,
    "202": partly,
    "204": deleted,
    "206": lambda operation: operation.call(operation.stored, accept=DICOM_OR_BYTES, range="bytes=0-9"),
    "304": unchanged,
    "400": bad,
    "403": ok,
    "404": missing,
    "406": lambda operation: (
        operation.call(new(operation), accept="text/html")
        if operation.method == "post"
        else operation.call(operation.stored, accept="text/html")
    ),
    "409": lambda operation: operation.call(operation.stored),
    "413": too_large,
    "416": lambda operation: operation.call(operation.stored, accept=DICOM_OR_BYTES, range="bytes=999999-"),
    "415": lambda operation: operation.call(new(operation), **{"content-encoding": "br"}),
}


def probes(operation: Operation) -> Iterator[httpx.Response]:
    """Requests that every operation gets, whatever it declares: none may answer with what it does not declare."""
    if operation.method == "delete" and "{studyInstanceUid}" in operation.path:
        operation.stored = operation.store(factories.dataset())
    there, absent = operation.stored, factories.dataset()
    yield operation.call(absent, accept="text/html")
    yield operation.call(absent, **{"content-type": "text/plain"})
    yield operation.call(absent, query="?limit=0&unknown=1")
    yield operation.call(absent, **{"if-none-match": "*", "range": "bytes=0-1"})
    yield operation.call(absent, url=re.sub(r"1\.2\.[0-9.]+", "x", operation.url(absent)))
    yield operation.call(absent, url=operation.url(absent, frames="0", frame="0"))
    yield operation.call(there, url=operation.url(there, partitionName="no-such"))
    yield operation.call(there, url=operation.url(there, partitionName="a b"))
    yield operation.call(there, accept="text/html")


def check(operation: Operation, status: str, response: httpx.Response) -> None:
    """The answer is the one that is declared."""
    where = (operation.path, operation.method, status)
    assert str(response.status_code) == status, (where, response.status_code, response.text[:200])
    assert status in operation.described["responses"], (where, response.request.url, response.text[:200])
    declared = operation.described["responses"][status]
    content = declared.get("content", {})
    media_type = response.headers.get("content-type", "").partition(";")[0]
    if response.content:
        assert media_type in content, (where, media_type)
        schema = content[media_type]["schema"]
        body = response.json() if media_type.endswith("json") else response.text if schema.get("format") is None else ""
        problems = OAS30Validator({**schema, "components": operation.document["components"]}).iter_errors(body)
        assert [problem.message for problem in problems] == [], where
    else:
        assert not content or "may be empty" in declared["description"], where
    headers = {name.lower() for name in declared.get("headers", {})}
    assert {name for name in response.headers if name in DECLARED_HEADERS} <= headers, where
    # Of a conflict, only some kinds have a place to look at.
    optional = OPTIONAL_HEADERS | ({"location"} if status == "409" else set())
    assert headers - optional <= set(response.headers), where


def operations(client: httpx.Client, name: str, **more: Any) -> Iterator[Operation]:
    document = client.get(f"/{name}/api.json").json()
    assert yaml.safe_load(client.get(f"/{name}/api.yaml").text) == document
    for path, item in document["paths"].items():
        for method in METHODS:
            if method in item:
                yield Operation(client, document, path, method, item[method], **more)


@pytest.fixture(scope="module", params=["alone", "partitioned"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with everything on; the newest change of each document was looked for while there was none."""
    environment = {
        "DicomServer__Services__StoreServiceSettings__MaxAllowedDicomFileSize": str(LARGEST),
        "DicomServer__Features__EnableDataPartitions": str(request.param == "partitioned").lower(),
    }
    with (
        running(tmp_path_factory.mktemp("walk") / "data", "--cast", "--fhir", environment=environment) as server,
        server.client() as client,
    ):
        for name in DOCUMENTS:
            (latest,) = [each for each in operations(client, name) if each.path.endswith("/changefeed/latest")]
            check(latest, "204", latest.call(latest.stored))
        openapi_operations.make(server.data_dir)
        yield server


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_operation_and_every_status_it_declares(served: Server, name: str) -> None:
    walked: set[tuple[str, str]] = set()
    with served.client() as client:
        stored = factories.dataset()
        for operation in operations(client, name, stored=stored):
            if not walked:
                operation.path, kept = f"/{name}/studies", operation.path
                if any("partitions" in each.path for each in operations(client, name)):
                    operation.path = f"/{name}/partitions/{{partitionName}}/studies"
                operation.store(stored)
                operation.path = kept
            for status in operation.described["responses"]:
                if status in ELSEWHERE or (operation.path.endswith("/latest") and status == "204"):
                    continue
                asked = operation.name, status
                tables = (
                    openapi_operations.PROVOKED,
                    openapi_tags.PROVOKED,
                    openapi_update.PROVOKED,
                    openapi_workitems.PROVOKED,
                    openapi_cast.PROVOKED,
                    openapi_export.PROVOKED,
                )
                known = next((table[asked] for table in tables if asked in table), None)
                provoke: Callable[[Any], httpx.Response] = known or PROVOKED[status]
                check(operation, status, provoke(operation))
                walked.add((operation.name, status))
            for response in probes(operation):
                check(operation, str(response.status_code), response)
    assert len(walked) > 100
    assert {status for _, status in walked} == PROVOKED.keys()


def test_a_wrong_answer_would_be_noticed(served: Server) -> None:
    with served.client() as client:
        (health,) = [each for each in operations(client, "v2") if each.path == "/health/check"]
        good = client.get("/health/check")
        check(health, "200", good)
        for wrong in (
            httpx.Response(201, content=good.content, headers=good.headers),
            httpx.Response(200, content=b'{"overallStatus": "Fine", "details": []}', headers=good.headers),
            httpx.Response(200, content=good.content, headers={"content-type": "text/plain"}),
            httpx.Response(200, content=good.content, headers={**good.headers, "etag": "x"}),
            httpx.Response(200, headers={"content-type": "application/json"}),
        ):
            with pytest.raises(AssertionError):
                check(health, "200", wrong)


@pytest.mark.peer
@pytest.mark.parametrize("partitioned", ["false", "true"])
def test_every_operation_that_declares_it_is_503_without_its_database(
    tmp_path: Path, postgres: PostgresServer, partitioned: str
) -> None:
    url = postgres.create_database()
    environment = {"Database__Url": url, "DicomServer__Features__EnableDataPartitions": partitioned}
    with running(tmp_path / "data", "--cast", "--fhir", environment=environment) as server, server.client() as client:
        everything = [operation for name in DOCUMENTS for operation in operations(client, name)]
        postgres.drop_database(url)
        walked = 0
        for operation in everything:
            if "503" in operation.described["responses"]:
                check(operation, "503", ok(operation))
                walked += 1
        assert walked > 60
        # Those that need no database go on.
        for operation in everything:
            if operation.name.startswith("RetrieveCapabilities"):
                check(operation, "200", ok(operation))


@pytest.mark.peer
@pytest.mark.parametrize("partitioned", ["false", "true"])
def test_every_operation_that_asks_for_a_token_refuses_as_it_declares(
    tmp_path: Path, oidc_provider_process: OidcProvider, partitioned: str
) -> None:
    more = {"DicomServer__Features__EnableDataPartitions": partitioned}
    environment = security(oidc_provider_process.authority, more, roles=True)
    stranger = {"authorization": f"Bearer {oidc_provider_process.token('nobody')}"}
    with running(tmp_path / "data", "--cast", "--fhir", environment=environment) as server, server.client() as client:
        walked = 0
        for operation in [each for name in DOCUMENTS for each in operations(client, name)]:
            if operation.path == "/health/check":
                check(operation, "200", ok(operation))
                continue
            assert operation.described["security"] == [{"bearer": []}]
            check(operation, "401", ok(operation))
            client.headers.update(stranger)
            check(operation, "403", ok(operation))
            del client.headers["authorization"]
            walked += 1
        assert walked > 60


@pytest.mark.peer
def test_every_operation_that_declares_it_is_424_when_an_external_store_refuses(
    tmp_path: Path, azurite_endpoint: AzuriteServer
) -> None:
    good = azurite_endpoint.connection_string
    environment = {
        "DicomServer__Features__EnableExternalStore": "true",
        "ExternalBlobStore__ConnectionString": good,
        "ExternalBlobStore__ContainerName": azurite_endpoint.new_container_name(),
    }
    own = {"BlobStore__ConnectionString": good, "ObjectStore__Url": ""}
    own["DicomWeb__DicomStore__ContainerName"] = environment["ExternalBlobStore__ContainerName"]
    ds = factories.dataset()
    with running(tmp_path / "data", environment=own) as server, server.client() as client:
        dicomweb.store(client, factories.dataset())  # makes the container
        assert server.stop() == 0
    with running(tmp_path / "data", environment=environment) as server:
        with server.client() as client:
            dicomweb.store(client, ds)
        assert server.stop() == 0
    wrong = re.sub("AccountKey=[^;]+", "AccountKey=d3Jvbmc=", good)
    environment["ExternalBlobStore__ConnectionString"] = wrong
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        everything = itertools.chain.from_iterable(operations(client, name, stored=ds) for name in DOCUMENTS)
        walked = set()
        for operation in everything:
            if "424" in operation.described["responses"]:
                check(operation, "424", ok(operation))
                walked.add(operation.name)
        assert walked == {
            *("StoreInstance", "StoreInstancesInStudy"),
            *("RetrieveStudy", "RetrieveSeries", "RetrieveInstance", "RetrieveFrame"),
            *("RetrieveStudyBulkData", "RetrieveSeriesBulkData", "RetrieveInstanceBulkData", "RetrieveBulkData"),
            *(f"RetrieveRendered{level}" for level in LEVELS),
            *(f"Retrieve{level}Thumbnail" for level in LEVELS),
            "WadoUri",
        }

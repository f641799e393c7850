import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openapi_schema_validator import OAS30Validator
from openapi_spec_validator import OpenAPIV30SpecValidator
from starlette.applications import Starlette

from hounsfield.cli import application
from hounsfield.cli.process_options import ProcessOptions
from hounsfield.database import migrate
from hounsfield.index.attributes import SEARCHABLE
from hounsfield.security import roles
from hounsfield.settings import load
from hounsfield.web.api_route import ApiRoute
from hounsfield.web.openapi import VERSIONS, document, openapi_route, to_yaml

INFO: dict[str, Any] = {
    "title": "Archive of tests",
    "license_name": "MIT License",
    "license_url": "https://example.com/licence",
    "server_uri": "https://dicom.example.com",
}
METHODS = ("get", "post", "put", "patch", "delete", "options")
NAMES = list(VERSIONS)


def documents(name: str, **more: Any) -> dict[str, Any]:
    return document(name, **INFO, **more)


def operations(content: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in content["paths"].items():
        for method in METHODS:
            if method in item:
                yield path, method, item[method]


def validator(schema: dict[str, Any], content: dict[str, Any]) -> Any:
    return OAS30Validator({**schema, "components": content["components"]})


@pytest.mark.parametrize("name", NAMES)
def test_is_valid_openapi(name: str) -> None:
    content = documents(name)
    assert content["openapi"] == "3.0.1"
    OpenAPIV30SpecValidator(content).validate()


@pytest.mark.parametrize("name", NAMES)
def test_a_server_that_asks_for_tokens_says_so(name: str) -> None:
    content, plain = documents(name, secured=True, partitioned=True), documents(name, partitioned=True)
    OpenAPIV30SpecValidator(content).validate()
    assert "securitySchemes" not in plain["components"]
    asked = {path for path, _, operation in operations(content) if operation.get("security") == [{"bearer": []}]}
    assert asked == content["paths"].keys() - {"/health/check"}
    for path, method, operation in operations(content):
        before = plain["paths"][path][method]["responses"].keys()
        refusals = operation["responses"].keys() - before
        assert refusals == ({"401", "403"} - before if path in asked else set())
        assert not any("security" in each for _, _, each in operations(plain))


@pytest.mark.parametrize("name", NAMES)
def test_yaml_and_json_are_the_same(name: str) -> None:
    content = documents(name)
    assert yaml.safe_load(to_yaml(content)) == content == json.loads(json.dumps(content))


@pytest.mark.parametrize("name", NAMES)
def test_examples_fit_their_schemas(name: str) -> None:
    content = documents(name)
    checked = 0
    for path, method, operation in operations(content):
        for status, answer in operation["responses"].items():
            for media in answer.get("content", {}).values():
                if "example" in media:
                    problems = validator(media["schema"], content).iter_errors(media["example"])
                    assert [str(problem) for problem in problems] == [], (path, method, status)
                    checked += 1
    assert checked > 20


def test_an_example_that_does_not_fit_would_be_noticed() -> None:
    content = documents("v2")
    entry = {**content["paths"]["/v2/changefeed/latest"]["get"]["responses"]["200"]["content"]["application/json"]}
    wrong = {**entry["example"], "metadata": {"00100010": {"Value": ["no VR"]}}}
    assert not validator(entry["schema"], content).is_valid(wrong)


@pytest.mark.parametrize("name", NAMES)
def test_info_and_servers(name: str) -> None:
    content = documents(name)
    assert content["info"] == {
        "title": "Archive of tests",
        "version": {"v1-prerelease": "1.0-prerelease", "v1": "1", "v2": "2"}[name],
        "license": {"name": "MIT License", "url": "https://example.com/licence"},
    }
    assert content["servers"] == [{"url": "https://dicom.example.com"}]
    bare = document(name, title="T", license_name="", license_url="", server_uri="")
    assert bare["info"] == {"title": "T", "version": VERSIONS[name]}
    assert "servers" not in bare
    OpenAPIV30SpecValidator(bare).validate()


@pytest.fixture
async def routes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partitioned: bool
) -> AsyncIterator[list[tuple[str, str]]]:
    """Path and method of every route of the application; those below a version without it."""
    monkeypatch.setattr(application, "configure_logging", lambda settings: None)
    migrate.upgrade(f"sqlite:///{tmp_path / 'index.db'}")
    settings, _ = load(
        environment={}, overrides={"DicomServer:Features:EnableDataPartitions": str(partitioned).lower()}
    )
    built = application.build(
        ProcessOptions(
            data_dir=str(tmp_path),
            host="127.0.0.1",
            port=8080,
            fhir=True,
            worker=True,
            cast=True,
            settings=settings.to_environment(),
            roles=roles.DEFAULT,
            supervisor=0,
        )
    )
    yield [
        (route.path if isinstance(route, ApiRoute) else f"/.{route.path}", method)
        for route in built.routes
        for method in route.methods or ()
    ]
    await built.close()


@pytest.mark.parametrize("partitioned", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_documents_exactly_the_routes_that_exist(name: str, partitioned: bool, routes: list[tuple[str, str]]) -> None:
    names = {"study": "studyInstanceUid", "series": "seriesInstanceUid", "instance": "sopInstanceUid"}
    names["workitem"] = "workitemInstanceUid"
    unpartitioned = ("/changefeed", "/partitions", "/extendedquerytags", "/operations")
    existing = set()
    for path, method in routes:
        # FHIR describes itself at /fhir/metadata, and the documents do not describe themselves.
        if path.startswith(("/./fhir", "/./{document}")) or method == "HEAD" or (path != "/" and method == "OPTIONS"):
            continue
        if (path == "/partitions" and not partitioned) or (path == "/export" and name == "v1-prerelease"):
            continue
        if path == "/studies/$bulkUpdate" and name != "v2":
            continue
        path = re.sub(r"{(\w+)(?::path)?}", lambda found: f"{{{names.get(found[1], found[1])}}}", path)
        if not path.startswith("/./"):
            alone = path == "/" or path.startswith(unpartitioned)
            path = f"/partitions/{{partitionName}}{path}" if partitioned and not alone else path
            path = f"/{name}{path}"
        existing.add((path.removeprefix("/."), method.lower()))
    content = document(name, **INFO, partitioned=partitioned)
    described = {(path, method) for path, method, _ in operations(content)}
    assert described == existing
    assert len(described) > 20


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_promised_that_is_not_there(name: str) -> None:
    text = json.dumps(documents(name)).lower()
    for absent in ("/partitions",):
        assert absent not in text


@pytest.mark.parametrize("name", NAMES)
def test_operations_have_unique_names_and_all_path_parameters(name: str) -> None:
    content = documents(name)
    ids = [operation["operationId"] for _, _, operation in operations(content)]
    assert len(ids) == len(set(ids))
    assert {"RetrieveStudy", "RetrieveFrame", "StoreInstance", "StoreInstancesInStudy"} <= set(ids)
    for path, item in content["paths"].items():
        declared = [parameter["$ref"].rpartition("/")[2] for parameter in item.get("parameters", [])]
        assert declared == re.findall(r"{(\w+)}", path)


@pytest.mark.parametrize("name", NAMES)
def test_every_versioned_answer_names_the_versions(name: str) -> None:
    for path, _, operation in operations(documents(name)):
        for answer in operation["responses"].values():
            assert ("api-supported-versions" in answer.get("headers", {})) == path.startswith(f"/{name}/")


def parameters(content: dict[str, Any], path: str) -> dict[str, dict[str, Any]]:
    shared = content["components"]["parameters"]
    listed = content["paths"][path]["get"]["parameters"]
    resolved = [shared[entry["$ref"].rpartition("/")[2]] if "$ref" in entry else entry for entry in listed]
    return {entry["name"]: entry["schema"] for entry in resolved}


def test_the_change_feed_differs_by_version() -> None:
    one, two = parameters(documents("v1"), "/v1/changefeed"), parameters(documents("v2"), "/v2/changefeed")
    assert list(one) == ["offset", "limit", "includeMetadata"]
    assert list(two) == ["startTime", "endTime", "offset", "limit", "includeMetadata"]
    assert (one["limit"]["maximum"], one["limit"]["default"]) == (100, 10)
    assert (two["limit"]["maximum"], two["limit"]["default"]) == (200, 100)
    before = parameters(documents("v1-prerelease"), "/v1-prerelease/changefeed")
    assert before == one
    assert list(parameters(documents("v2"), "/v2/changefeed/latest")) == ["includeMetadata"]


def test_searches_list_what_can_be_searched() -> None:
    content = documents("v2")
    keywords = {attribute.keyword for attribute in SEARCHABLE}
    everything = parameters(content, "/v2/instances")
    paging = {"limit", "offset", "cursor", "count"}
    matching = {"fuzzymatching", "emptyvaluematching", "multiplevaluematching"}
    assert everything.keys() == keywords | paging | matching | {"includefield"}
    assert "SeriesInstanceUID" not in parameters(content, "/v2/studies")
    below = parameters(content, "/v2/studies/{studyInstanceUid}/series/{seriesInstanceUid}/instances")
    assert not below.keys() & {"StudyInstanceUID", "SeriesInstanceUID"}
    assert "SOPInstanceUID" in below


@pytest.mark.parametrize(("name", "attributes"), [("v1", False), ("v2", True)])
def test_only_v2_always_reports_on_attributes(name: str, attributes: bool) -> None:
    answers = documents(name)["paths"][f"/{name}/studies"]["post"]["responses"]
    body = answers["200"]["content"]["application/dicom+json"]["example"]
    assert ("00741048" in body["00081199"]["Value"][0]) == attributes
    assert "00081199" not in answers["409"]["content"]["application/dicom+json"]["example"]


async def get(path: str) -> httpx.Response:
    transport = httpx.ASGITransport(Starlette(routes=[openapi_route(**INFO)]))
    async with httpx.AsyncClient(transport=transport, base_url="http://archive") as client:
        return await client.get(path)


@pytest.mark.parametrize("name", NAMES)
async def test_the_route_serves_both_forms(name: str) -> None:
    as_json, as_yaml = await get(f"/{name}/api.json"), await get(f"/{name}/api.yaml")
    assert as_json.headers["content-type"] == "application/json; charset=utf-8"
    assert as_yaml.headers["content-type"] == "text/yaml; charset=utf-8"
    assert as_json.json() == documents(name) == yaml.safe_load(as_yaml.text)


@pytest.mark.parametrize("path", ["/v3/api.json", "/v2/api.xml", "/V2/api.json", "/v2/api.json/x", "/api.json"])
async def test_other_documents_do_not_exist(path: str) -> None:
    assert (await get(path)).status_code == 404

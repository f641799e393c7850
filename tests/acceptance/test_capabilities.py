"""Retrieve Capabilities (PS3.18 §8.9, Annex H)."""

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import httpx
import pytest

from tests.acceptance.test_lifecycle import running
from tests.server import Server

pytestmark = pytest.mark.acceptance

WADL = "application/vnd.sun.wadl+xml"
NAMESPACE = "{http://wadl.dev.java.net/2009/02}"
METHODS = ("get", "post", "put", "patch", "delete")
SUPPORTED = "1.0-prerelease, 1, 2"

Listed = dict[str, set[tuple[str, str]]]
"""Method and identifier by path."""


def from_wadl(text: str) -> tuple[str, Listed]:
    """Base URL, and what it lists."""
    application = ElementTree.fromstring(text)
    assert application.tag == f"{NAMESPACE}application"
    (resources,) = application
    assert resources.tag == f"{NAMESPACE}resources"
    found: Listed = {}

    def walk(element: ElementTree.Element, above: str) -> None:
        path = f"{above}/{element.attrib['path']}"
        methods = {(each.attrib["name"], each.attrib["id"]) for each in element.findall(f"{NAMESPACE}method")}
        if methods:
            found[path] = methods
        names = {each.attrib["name"] for each in element.findall(f"{NAMESPACE}param")}
        assert names == set(re.findall(r"{(\w+)}", element.attrib["path"]))
        for below in element.findall(f"{NAMESPACE}resource"):
            walk(below, path)

    for resource in resources:
        walk(resource, "")
    return resources.attrib["base"], found


def from_json(content: Any) -> tuple[str, Listed]:
    """The same of the JSON form."""
    resources = content["application"]["resources"]
    found: Listed = {}

    def walk(resource: Any, above: str) -> None:
        path = f"{above}/{resource['path']}"
        if "method" in resource:
            found[path] = {(method["name"], method["id"]) for method in resource["method"]}
        for below in resource.get("resource", ()):
            walk(below, path)

    for resource in resources["resource"]:
        walk(resource, "")
    return resources["base"], found


def from_openapi(client: httpx.Client, name: str) -> Listed:
    found: Listed = {}
    for path, item in client.get(f"/{name}/api.json").json()["paths"].items():
        below = path.removeprefix(f"/{name}")
        if below not in (path, "/"):
            found[below] = {(method.upper(), item[method]["operationId"]) for method in METHODS if method in item}
    return found


@pytest.mark.parametrize("method", ["GET", "OPTIONS"])
@pytest.mark.parametrize(("segment", "name"), [("v1.0-prerelease", "v1-prerelease"), ("V1", "v1"), ("v2.0", "v2")])
def test_the_service_is_described(client: httpx.Client, method: str, segment: str, name: str) -> None:
    for path in (f"/{segment}/", f"/{segment}"):
        response = client.request(method, path)
        assert response.status_code == 200
        assert response.headers["content-type"] == WADL
        assert response.headers["api-supported-versions"] == SUPPORTED
        base, listed = from_wadl(response.text)
        assert base == f"{str(client.base_url).rstrip('/')}/{segment}"
        assert listed == from_openapi(client, name)
        assert len(listed) > 12
        as_json = client.request(method, path, headers={"accept": "application/json"})
        assert as_json.headers["content-type"] == "application/json"
        assert from_json(as_json.json()) == (base, listed)


def test_every_resource_is_described_with_what_is_below_it(client: httpx.Client) -> None:
    everything = from_openapi(client, "v2")
    for path, methods in everything.items():
        response = client.options(f"/v2{re.sub('{frames}', '1', re.sub('{[a-zA-Z]+Uid}', '1.2', path))}")
        assert response.status_code == 200, path
        _, listed = from_wadl(response.text)
        assert listed == {
            other: found for other, found in everything.items() if other == path or other.startswith(f"{path}/")
        }
        allowed = {name for name, _ in methods} | {"OPTIONS"} | ({"HEAD"} if "GET" in dict(methods) else set())
        assert set(response.headers["allow"].split(", ")) == allowed
        # What is allowed is what 405 says as well.
        refused = client.request("TRACE", response.request.url)
        assert (refused.status_code, refused.headers["allow"]) == (405, response.headers["allow"])
    root = client.options("/v2/")
    assert root.headers["allow"] == client.put("/v2/").headers["allow"] == "GET, HEAD, OPTIONS"


def test_methods_say_what_they_take_and_give(client: httpx.Client) -> None:
    tree = client.options("/v2/studies", headers={"accept": "application/json"}).json()
    (studies,) = tree["application"]["resources"]["resource"]
    store, search = studies["method"]
    assert (store["name"], search["name"]) == ("POST", "GET")
    sent = store["request"][0]["representation"]
    assert {"mediaType": "multipart/related"} in sent
    parameters = {parameter["name"]: parameter for parameter in search["request"][0]["param"]}
    assert parameters["limit"] == {"name": "limit", "style": "query", "type": "xsd:long", "default": "100"}
    assert parameters["includefield"]["repeating"] == "true"
    assert parameters["fuzzymatching"]["type"] == "xsd:boolean"
    assert parameters["Accept"]["option"] == [{"value": "application/dicom+json"}]
    answers = {answer["status"]: answer for answer in search["response"]}
    assert answers.keys() == {"200", "204", "400", "406", "503"}
    assert answers["200"]["representation"] == [{"mediaType": "application/dicom+json"}]


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, WADL),
        ("*/*", WADL),
        (WADL, WADL),
        ("application/xml", WADL),
        ("application/json, text/html", "application/json"),
        (f"{WADL};q=0.5, application/json", "application/json"),
        ("text/html, */*;q=0.1", WADL),
        ("text/html", None),
        ("application/dicom+json", None),
        ("application/json;q=0", None),
    ],
)
def test_negotiation(client: httpx.Client, accept: str | None, form: str | None) -> None:
    for method, path in (("GET", "/v2/"), ("OPTIONS", "/v1/studies/1.2")):
        request = client.build_request(method, path, headers={} if accept is None else {"accept": accept})
        if accept is None:
            del request.headers["accept"]
        response = client.send(request)
        if form is None:
            assert (response.status_code, response.content) == (406, b"")
        else:
            assert (response.status_code, response.headers["content-type"]) == (200, form)
        assert response.headers["api-supported-versions"] == SUPPORTED


def test_everything_else_is_as_before(client: httpx.Client) -> None:
    for method in ("GET", "OPTIONS"):
        for path in ("/v3", "/v3/", "/v2-beta/"):
            response = client.request(method, path)
            assert response.status_code == 400
            assert response.json()["error"]["code"] == "UnsupportedApiVersion"
        for path in ("/", "/vfoo", "/vfoo/", "/v2//", "/v2/nothing"):
            response = client.request(method, path)
            assert (response.status_code, response.content) == (404, b""), path
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        response = client.request(method, "/v2/")
        assert (response.status_code, response.content) == (405, b"")
    assert client.head("/v2/").status_code == 200
    # Without the feature there is nothing to describe.
    assert client.options("/v2/partitions").status_code == 405
    response = client.options("/v2/partitions/a/studies")
    assert (response.status_code, response.text) == (400, "Data partitions feature is disabled.")


def test_a_host_cannot_write_into_the_document(client: httpx.Client) -> None:
    host = "h&amp;'"
    response = client.get("/v2/", headers={"host": host})
    assert from_wadl(response.text)[0] == f"http://{host}/v2"


@pytest.fixture(scope="module")
def partitioned(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {
        "DicomServer__Features__EnableDataPartitions": "true",
        "DicomServer__Cors__Origins": "https://viewer.example.com",
        "DicomServer__Cors__Methods": "*",
    }
    with running(tmp_path_factory.mktemp("described") / "data", environment=environment) as server:
        yield server


def test_with_partitions(partitioned: Server) -> None:
    with partitioned.client() as client:
        base, listed = from_wadl(client.get("/v2").text)
        assert base == f"{partitioned.root}/v2"
        assert listed == from_openapi(client, "v2")
        assert "/partitions/{partitionName}/studies" in listed
        client.post(
            "/v2/partitions/a/studies", content=b"--b--", headers={"content-type": "multipart/related; boundary=b"}
        )
        base, listed = from_wadl(client.options("/v2/partitions/a/studies/1.2").text)
        assert base == f"{partitioned.root}/v2/partitions/a"
        assert "/studies/{studyInstanceUid}/metadata" in listed
        _, listed = from_wadl(client.options("/v2/changefeed").text)
        assert listed.keys() == {"/changefeed", "/changefeed/latest"}
        assert client.options("/v2/partitions").headers["allow"] == "GET, HEAD, OPTIONS"
        assert client.options("/v2/studies").text == "PartitionName value is missing in the route segment."
        assert client.options("/v2/partitions/nobody/studies").text == "Specified PartitionName does not exist."


def test_a_preflight_stays_one(partitioned: Server) -> None:
    with partitioned.client() as client:
        headers = {"origin": "https://viewer.example.com"}
        preflight = client.options("/v2/", headers={**headers, "access-control-request-method": "GET"})
        assert (preflight.status_code, preflight.content) == (204, b"")
        assert preflight.headers["access-control-allow-methods"] == "GET"
        described = client.options("/v2/", headers=headers)
        assert (described.status_code, described.headers["content-type"]) == (200, WADL)
        assert described.headers["access-control-allow-origin"] == "https://viewer.example.com"

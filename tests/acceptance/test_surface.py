"""What holds for every request: versions, headers, errors, unknown paths and methods, health (server.md §§1–3, 5)."""

import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINAL, instance_path, study_path
from tests.server import Server

pytestmark = pytest.mark.acceptance

SUPPORTED = "1.0-prerelease, 1, 2"
SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "content-security-policy": "frame-src 'self';",
}
SAME = [
    "v1",
    "v1.0",
    "V1",
    "v01",
    "v1-prerelease",
    "v1.0-prerelease",
    "v1-PreRelease",
    "V1.0-PRERELEASE",
    "v2",
    "v2.0",
    "V2.0",
]


@pytest.mark.parametrize("segment", SAME)
def test_spellings_of_supported_versions(client: httpx.Client, segment: str) -> None:
    for path in ("studies?limit=1&PatientID=nobody", "changefeed?limit=1", "studies/1.2/metadata"):
        response = client.get(f"/{segment}/{path}")
        assert response.status_code in (200, 204, 404)
        assert response.headers["api-supported-versions"] == SUPPORTED
        assert "api-deprecated-versions" not in response.headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("studies/", 200),
        ("STUDIES", 200),
        ("Studies/1.2/Metadata/", 404),
        ("studies/1.2/Series/1.3/instances/1.4/FRAMES/1", 404),
        ("ChangeFeed/Latest", 200),
        ("Partitions/", 400),
        ("PARTITIONS/p/studies", 400),
        ("Workitems/", 204),
    ],
)
def test_case_and_a_slash_at_the_end_do_not_matter(client: httpx.Client, path: str, status: int) -> None:
    """As in the reference, whose clients may rely on it."""
    dicomweb.store(client, factories.dataset())
    for version in ("v1", "v2"):
        response = client.get(f"/{version}/{path}")
        assert response.status_code == status
        assert response.headers["api-supported-versions"] == SUPPORTED


def test_an_upload_to_an_address_with_a_slash_at_its_end(client: httpx.Client) -> None:
    ds = factories.dataset()
    body, headers = factories.multipart([factories.part10(ds)])
    assert client.post("/v2/studies/", content=body, headers=headers).status_code == 200
    assert client.put("/v2/Studies/$BulkUpdate/").headers["allow"] == "OPTIONS, POST"
    assert client.delete("/v2/studies/").status_code == 405
    assert client.delete(f"/v2/studies/{ds.StudyInstanceUID}/series/").status_code == 405
    assert client.delete(f"/v2/studies/{ds.StudyInstanceUID}/").status_code == 204


@pytest.mark.parametrize("segment", ["v3", "v0", "v1.1", "v2.1", "v2-prerelease", "v1-beta", "v20", "v3.0-alpha"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "studies"),
        ("POST", "studies"),
        ("GET", "studies/1.2/series/1.3/instances/1.4/frames/1"),
        ("DELETE", "studies/1.2"),
        ("GET", "changefeed/latest"),
    ],
)
def test_other_versions_are_refused_as_json(client: httpx.Client, segment: str, method: str, path: str) -> None:
    response = client.request(method, f"/{segment}/{path}?limit=1")
    assert response.status_code == 400
    assert response.headers["content-type"] == "application/json"
    assert response.headers["api-supported-versions"] == SUPPORTED
    error = response.json()["error"]
    url = f"{str(client.base_url).rstrip('/')}/{segment}/{path}"
    assert error["code"] == "UnsupportedApiVersion"
    assert error["message"] == (
        f"The HTTP resource that matches the request URI '{url}' does not support the API version '{segment[1:]}'."
    )


@pytest.mark.parametrize(
    "path",
    [
        "studies",
        "vfoo/studies",
        "v/studies",
        "v1x/studies",
        "v1./studies",
        "v1.0-/studies",
        "v1.0-pre_release/studies",
        "v1.0.0/studies",
        "v2 /studies",
        "v%D9%A2/studies",
        "v" + "9" * 5000 + "/studies",
        "v-1/studies",
        "1/studies",
        "v3/nothing",
        "v2/nothing",
        "v2/studies/1.2/nothing",
        "v2/studies//",
        "v2//studies",
        "v2/studies//metadata",
        "v2/studies/1.2/series/1.3/instances/1.4/frames",
        "v2/changefeed/newest",
        "_schema/versions",
        "health",
        "",
        "v2/../etc/passwd",
        "%2e%2e/%2e%2e/etc/passwd",
        "v2/studies/%2e%2e%2fx",
        "v2/%ff%fe",
    ],
)
def test_unknown_paths_are_404_and_empty(client: httpx.Client, path: str) -> None:
    response = client.get(httpx.URL(f"/{path}"))
    if response.status_code == 400:
        assert path == "v2/studies/%2e%2e%2fx"  # one segment, and no UID
        return
    assert response.status_code == 404
    assert response.content == b""
    assert "api-supported-versions" not in response.headers


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("studies", {"GET", "POST"}),
        ("studies/1.2", {"GET", "POST", "DELETE"}),
        ("studies/1.2/series", {"GET"}),
        ("studies/1.2/series/1.3", {"GET", "DELETE"}),
        ("studies/1.2/series/1.3/instances/1.4", {"GET", "DELETE"}),
        ("studies/1.2/metadata", {"GET"}),
        ("instances", {"GET"}),
        ("changefeed", {"GET"}),
        ("changefeed/latest", {"GET"}),
    ],
)
def test_other_methods_are_405_with_all_that_are_allowed(client: httpx.Client, path: str, allowed: set[str]) -> None:
    for method in ("PUT", "PATCH", "POST", "DELETE", "TRACE", "PROPFIND"):
        if method in allowed:
            continue
        for version in ("v1", "v2"):
            response = client.request(method, f"/{version}/{path}")
            assert response.status_code == 405, method
            assert response.content == b""
            assert set(response.headers["allow"].split(", ")) == allowed | {"OPTIONS"} | (
                {"HEAD"} if "GET" in allowed else set()
            )


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/health/check", "GET, HEAD"),
        ("/statistics", "GET, HEAD"),
        ("/cast/status", "GET, HEAD"),
        ("/cast/errors", "DELETE, GET, HEAD"),
        ("/cast/retry", "POST"),
        ("/cast/rebuild", "POST"),
        ("/v2/api.json", "GET, HEAD"),
    ],
)
def test_routes_without_a_version_are_405_likewise(client: httpx.Client, path: str, allowed: str) -> None:
    for method in {"PUT", "POST", "DELETE", "OPTIONS"} - set(allowed.split(", ")):
        response = client.request(method, path)
        assert (response.status_code, response.content) == (405, b"")
        assert response.headers["allow"] == allowed
        assert "api-supported-versions" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/nothing",
        "/health/check",
        "/statistics",
        "/cast/status",
        "/v2/api.yaml",
        "/v2/",
        "/v2/studies",
        "/v9/studies",
        "/v2/studies/1.2/metadata",
        "/v2/changefeed/latest",
        "/v2/partitions",
    ],
)
@pytest.mark.parametrize("query", ["<", "x=%3c", "a=b&%3Cscript%3E", "%3C"])
def test_markup_in_a_query_is_refused_everywhere(client: httpx.Client, path: str, query: str) -> None:
    for method in ("GET", "POST", "DELETE", "OPTIONS"):
        response = client.request(method, httpx.URL(client.base_url, raw_path=f"{path}?{query}".encode()))
        assert (response.status_code, response.text) == (400, "The query string included invalid characters.")
        assert response.headers["content-type"] == "text/plain; charset=utf-8"
        assert "api-supported-versions" not in response.headers
    # In a path it is an ordinary character, and so is what only looks like it.
    assert client.get("/v2/%3Cx").status_code == 404
    assert client.get("/health/check?x=%253C%3e").status_code == 200


def test_head_answers_like_get_without_a_body(client: httpx.Client) -> None:
    ds = factories.dataset()
    dicomweb.store(client, ds)
    for path, accept in (
        (instance_path(ds), ORIGINAL),
        (study_path(ds), "*/*"),
        (f"{study_path(ds)}/metadata", "*/*"),
        (f"/v2/studies?StudyInstanceUID={ds.StudyInstanceUID}", "*/*"),
        ("/health/check", "*/*"),
    ):
        get = client.get(path, headers={"accept": accept})
        head = client.head(path, headers={"accept": accept})
        assert (head.status_code, head.content) == (get.status_code, b"")
    # The connection is still in order.
    assert client.get("/health/check").status_code == 200


def test_security_headers_are_on_every_answer(client: httpx.Client) -> None:
    ds = factories.dataset()
    stored = dicomweb.post(client, [factories.part10(ds)])
    answers = [
        stored,
        dicomweb.post(client, [b"nonsense"]),
        client.post("/v2/studies", content=b"x", headers={"content-type": "text/plain"}),
        client.get("/health/check"),
        client.get("/statistics"),
        client.get("/nowhere"),
        client.get("/v9/studies"),
        client.put("/v2/studies"),
        client.get("/v2/studies?x=%3c"),
        client.get("/v2/studies?limit=x"),
        client.get(f"{study_path(ds)}/metadata"),
        client.get(study_path(ds)),
        client.get(instance_path(ds), headers={"accept": ORIGINAL}),
        client.get(instance_path(ds), headers={"accept": "image/png"}),
        client.get("/v2/changefeed"),
        client.delete(study_path(ds)),
    ]
    for response in answers:
        for name, content in SECURITY.items():
            assert response.headers.get_list(name) == [content], (response.request.url, name)
    assert {response.status_code for response in answers} == {200, 204, 400, 404, 405, 406, 409, 415}


def test_versions_are_announced_on_refusals_of_known_routes_too(client: httpx.Client) -> None:
    for response in (
        client.get("/v2/studies?limit=x"),
        client.get("/v2/studies", headers={"accept": "text/html"}),
        client.get("/v2/studies/x"),
        client.delete("/v2/studies/1.2.3.4.5"),
        dicomweb.post(client, [b"nonsense"]),
    ):
        assert response.headers["api-supported-versions"] == SUPPORTED
    for response in (client.get("/health/check"), client.get("/nowhere")):
        assert "api-supported-versions" not in response.headers


def test_requests_that_are_no_http_do_no_harm(server: Server, client: httpx.Client) -> None:
    for data in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
        b"GET\r\n\r\n",
        b"POST /v2/studies HTTP/1.1\r\nHost: h\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2/studies HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v2/studies HTTP/1.1\r\nHost: h\r\nX: " + b"y" * 2_000_000 + b"\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
            try:
                connection.sendall(data)
                connection.recv(10_000)
            except OSError:
                pass
    assert client.get("/health/check").status_code == 200


# --- a disk that fails ---


@pytest.fixture(scope="module")
def ailing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of which the disk takes no more for a while."""
    server = Server(tmp_path_factory.mktemp("ailing") / "data", [*QUIET, "--no-worker", "--workers", "1"])
    try:
        yield server.start()
    finally:
        server.end()


@contextmanager
def full_disk(server: Server) -> Iterator[None]:
    """No file may grow beyond 50,000 bytes: the write of a larger one fails as on a full disk."""

    def limit(size: int) -> None:
        for process in server.processes():
            resource.prlimit(process, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    limit(50_000)
    try:
        yield
    finally:
        limit(resource.RLIM_INFINITY)


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_disk_that_takes_no_more_is_503_and_nothing_stays(ailing: Server, size: int) -> None:
    with ailing.client() as client:
        small = factories.dataset()
        dicomweb.store(client, small)
        before = client.get("/v2/changefeed/latest").json()["sequence"]
        ds = factories.dataset(PixelData=bytes(size))
        with full_disk(ailing):
            response = dicomweb.post(client, [factories.part10(ds)])
            assert response.status_code == 503
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
            assert client.get(instance_path(small), headers={"accept": ORIGINAL}).status_code == 200
        assert client.get(instance_path(ds)).status_code == 404
        assert not (ailing.data_dir / "dicom" / ds.StudyInstanceUID).exists()
        assert not list((ailing.data_dir / "spool").iterdir())
        assert dicomweb.post(client, [factories.part10(ds)]).status_code == 200
        assert client.get("/v2/changefeed/latest").json()["sequence"] == before + 1


def test_statistics(ailing: Server) -> None:
    with ailing.client() as client:
        before = client.get("/statistics").json()
        first = factories.dataset()
        datasets = [first, dicomweb.sibling(first), dicomweb.sibling(first, same_series=False), factories.dataset()]
        dicomweb.store(client, *datasets)
        after = client.get("/statistics").json()
        size = sum(len(factories.part10(ds)) for ds in datasets)
        added = {"studies": 2, "series": 3, "instances": 4, "bytes": size}
        added |= {"recompressedInstances": 0, "receivedBytes": size, "originalBytes": 0, "updatedInstances": 0}
        assert {name: after[name] - before[name] for name in after} == added
        client.delete(study_path(first))
        assert client.get("/statistics").json()["instances"] == before["instances"] + 1

"""``/viewer`` over HTTP: its page, its files, its configuration, and who may have them (server.md §7).

What a browser makes of it is in test_viewer_in_chromium.py.
"""

import gzip
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hounsfield.cli.viewer_package import install
from tests.acceptance.test_lifecycle import running
from tests.acceptance.test_security import security
from tests.cli.viewer_package import ICON, MAIN, package
from tests.peers.oidc_provider import OidcProvider
from tests.server import Server

pytestmark = pytest.mark.acceptance

ON = {"DicomServer__Features__EnableOhifViewer": "true"}
STUDY = "1.2.826.0.1.3680043.2.1143.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small viewer, as installed."""
    folder = tmp_path_factory.mktemp("viewer") / "files"
    install(io.BytesIO(package()), folder)
    return folder


@pytest.fixture(scope="module")
def viewing(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Iterator[Server]:
    environment = {**ON, "Viewer__Directory": str(folder)}
    with running(tmp_path_factory.mktemp("viewing") / "data", environment=environment) as server:
        yield server


@pytest.fixture(scope="module")
def client(viewing: Server) -> Iterator[httpx.Client]:
    with viewing.client() as client:
        yield client


def known_to_page(client: httpx.Client) -> dict[str, object]:
    """What the server tells the page."""
    script = client.get("/viewer/app-config.js")
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    found = re.match(r"const server = (.*);\n", script.text)
    assert found
    known: dict[str, object] = json.loads(found[1])
    return known


def policy(response: httpx.Response) -> str:
    """The Content-Security-Policy that is more than every answer has."""
    (ours,) = [text for text in response.headers.get_list("content-security-policy") if "default-src" in text]
    return ours


@pytest.mark.parametrize(
    "path",
    ["/viewer", "/viewer/", f"/viewer/{STUDY}", f"/viewer/viewer?StudyInstanceUIDs={STUDY}", "/viewer/callback?code=x"],
)
def test_every_path_below_is_the_page(client: httpx.Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert response.headers["cache-control"] == "no-cache"
    assert f'/{MAIN}"></script>' in response.text
    rules = policy(response)
    assert "default-src 'none'" in rules
    assert "media-src 'self' blob:" in rules  # videos
    assert "http" not in rules
    assert "unsafe-inline" not in rules.partition("script-src")[2].partition(";")[0]


def test_the_root_leads_to_it(client: httpx.Client) -> None:
    response = client.get("/")
    assert (response.status_code, response.headers["location"]) == (302, "/viewer/")


def test_all_that_the_page_names_is_there(client: httpx.Client) -> None:
    names = re.findall(r'(?:src|href)="([^"]+)"', client.get("/viewer/").text)
    assert len(names) == 4
    for name in names:
        response = client.get(name)
        assert response.status_code == 200
        assert "html" not in response.headers["content-type"], name


def test_files_are_for_ever_and_come_compressed_to_whoever_takes_that(client: httpx.Client, folder: Path) -> None:
    files = known_to_page(client)["files"]
    url = f"{files}codec.wasm"
    content = (folder / "codec.wasm").read_bytes()
    for accepted, compressed in (("gzip", True), ("br, gzip;q=0.5", True), ("*", True), ("br", False), ("", False)):
        with client.stream("GET", url, headers={"accept-encoding": accepted}) as response:
            body = b"".join(response.iter_raw())
            assert response.status_code == 200
            assert response.headers.get("content-encoding") == ("gzip" if compressed else None), accepted
            assert int(response.headers["content-length"]) == len(body)
            assert (gzip.decompress(body) if compressed else body) == content
            assert response.headers["content-type"] == "application/wasm"
            assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
            assert response.headers["vary"] == "Accept-Encoding"
            assert response.headers["x-content-type-options"] == "nosniff"
            assert "default-src 'none'" in policy(response)
    refused = client.get(url, headers={"accept-encoding": "gzip;q=0, identity"})
    assert "content-encoding" not in refused.headers
    icon = client.get(f"{files}assets/favicon.ico", headers={"accept-encoding": "gzip"})
    assert icon.content == ICON
    assert "content-encoding" not in icon.headers
    head = client.head(url, headers={"accept-encoding": "identity"})
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(content)


@pytest.mark.parametrize(
    "name",
    [
        "files.json",
        "LICENSE",
        "codec.wasm.gz",
        "assets",
        "assets/",
        "",
        "../files.json",
        "%2e%2e/files.json",
        "..%2ffiles.json",
        "assets/../files.json",
        "assets%2f..%2ffiles.json",
        "./files.json",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "codec.wasm%00.js",
        "link.js",
        "../../../../../../../../etc/passwd",
    ],
)
def test_only_files_of_the_list_are_served(client: httpx.Client, name: str) -> None:
    files = known_to_page(client)["files"]
    response = client.get(httpx.URL(client.base_url, raw_path=f"{files}{name}".encode()))
    assert response.status_code == 404 or "<div id=" in response.text, response.text
    assert b"root:" not in response.content


def test_a_file_of_another_revision_is_404_and_not_the_page(client: httpx.Client) -> None:
    response = client.get(f"/viewer/3.12.0-0123456789ab/{MAIN}")
    assert (response.status_code, response.content) == (404, b"")


@pytest.mark.parametrize("path", ["/viewer/", "/viewer/app-config.js"])
def test_what_may_change_is_asked_for_again(client: httpx.Client, path: str) -> None:
    first = client.get(path)
    again = client.get(path, headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get(path, headers={"if-none-match": '"other"'}).status_code == 200


@pytest.mark.parametrize("path", ["/viewer", "/viewer/", "/viewer/app-config.js", "/"])
def test_other_methods_are_405(client: httpx.Client, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        response = client.request(method, path)
        assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD")


def test_the_rest_of_the_server_is_as_ever(client: httpx.Client) -> None:
    assert client.get("/health/check").status_code == 200
    assert client.get("/v2/studies").status_code == 204
    assert client.get("/viewers").status_code == 404
    document = client.get("/v2/api.json").json()
    assert not any(path.startswith("/viewer") for path in document["paths"])
    assert client.get("/v2/studies").headers.get_list("content-security-policy") == ["frame-src 'self';"]


def test_it_is_off_by_default(tmp_path: Path, folder: Path) -> None:
    with (
        running(tmp_path / "data", environment={"Viewer__Directory": str(folder)}) as server,
        server.client() as client,
    ):
        for path in ("/", "/viewer", "/viewer/", f"/viewer/{STUDY}", "/viewer/app-config.js"):
            response = client.get(path)
            assert (response.status_code, response.content) == (404, b""), path


def test_without_files_it_says_what_to_do_and_begins_when_they_come(tmp_path: Path) -> None:
    folder = tmp_path / "later"
    environment = {**ON, "Viewer__Directory": str(folder)}
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        for path in ("/viewer", "/viewer/", f"/viewer/{STUDY}", "/viewer/app-config.js"):
            response = client.get(path)
            assert response.status_code == 404
            assert "hounsfield viewer install" in response.text
        assert client.get("/v2/studies").status_code == 204
        install(io.BytesIO(package()), folder)
        assert "<div id=" in client.get("/viewer/").text
        before = known_to_page(client)["files"]
        # Another version in its place, as an update of a running server brings it.
        changed = (folder / "files.json").read_text().replace(str(before).split("/")[2], "9.9.9-0123456789ab")
        (folder / "files.json").write_text(changed)
        assert known_to_page(client)["files"] == "/viewer/9.9.9-0123456789ab/"
        (folder / "files.json").write_text("{")
        assert client.get("/viewer/").status_code == 404


def test_what_the_page_is_told(client: httpx.Client, tmp_path: Path, folder: Path) -> None:
    known = known_to_page(client)
    assert known == {"files": known["files"], "partitioned": False, "signIn": None}
    environment = {
        **ON,
        "Viewer__Directory": str(folder),
        "DicomServer__Features__EnableDataPartitions": "true",
    }
    with running(tmp_path / "data", environment=environment) as server, server.client() as partitioned:
        assert known_to_page(partitioned)["partitioned"] is True
        assert "<div id=" in partitioned.get("/viewer/partitions/ward-7/").text


def test_files_need_no_token_and_the_page_learns_where_to_get_one(
    tmp_path: Path, folder: Path, oidc_provider_process: OidcProvider
) -> None:
    authority = oidc_provider_process.authority
    environment = {
        **security(authority),
        **ON,
        "Viewer__Directory": str(folder),
        "Viewer__ClientId": "viewer",
        "Viewer__Scope": "openid read",
    }
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        known = known_to_page(client)
        assert known["signIn"] == {"authority": authority, "client_id": "viewer", "scope": "openid read"}
        page = client.get("/viewer/")
        assert page.status_code == 200
        assert f"connect-src 'self' data: blob: {authority};" in policy(page)
        assert client.get(f"{known['files']}codec.wasm").status_code == 200
        assert client.get("/v2/studies").status_code == 401

"""Pages of other origins, and names of the server (server.md §§11, 14)."""

import socket
from collections.abc import Iterator

import httpx
import pytest

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.test_lifecycle import running, serve_fails
from tests.server import Server

VIEWER = "https://viewer.example.com"
NAMED = {
    "DicomServer__Cors__Origins__0": VIEWER,
    "DicomServer__Cors__Origins__1": "HTTP://LocalHost:3000/",  # browsers write http://localhost:3000
    "DicomServer__Cors__Methods": "GET,DELETE",
    "DicomServer__Cors__Headers": "content-type,accept",
    "DicomServer__Cors__MaxAge": "600",
    "DicomServer__Cors__AllowCredentials": "true",
    "AllowedHosts": "127.0.0.1;*.example.com;[::1]",
}
PREFLIGHT = {"access-control-request-method": "DELETE", "access-control-request-headers": "x-more"}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("named") / "data", environment=NAMED) as server:
        yield server


@pytest.fixture(scope="module")
def open_to_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    environment = {f"DicomServer__Cors__{name}": "*" for name in ("Origins", "Methods", "Headers")}
    with running(tmp_path_factory.mktemp("open") / "data", environment=environment) as server:
        yield server


def cors(response: httpx.Response) -> dict[str, str]:
    """The CORS headers of an answer, without their common beginning."""
    prefix = "access-control-"
    return {name.removeprefix(prefix): value for name, value in response.headers.items() if name.startswith(prefix)}


def test_a_named_origin_may_read_every_answer(named: Server) -> None:
    ds = factories.dataset()
    with named.client() as client:
        dicomweb.store(client, ds)
        for path, status in (
            (dicomweb.instance_path(ds), 200),
            ("/v2/studies", 200),
            ("/v2/studies/1.2.3", 404),
            ("/v2/studies/x", 400),
            ("/v3/studies", 400),
            ("/nothing", 404),
            ("/health/check", 200),
            ("/v2/api.json", 200),
        ):
            response = client.get(path, headers={"origin": VIEWER})
            assert response.status_code == status, path
            assert cors(response) == {"allow-origin": VIEWER, "allow-credentials": "true"}, path
            assert "Origin" in response.headers["vary"]


def test_another_origin_gets_no_header(named: Server) -> None:
    with named.client() as client:
        for origin in ("https://example.com", f"{VIEWER}.evil.example", VIEWER.upper(), f"{VIEWER}:443", "null", ""):
            assert cors(client.get("/v2/studies", headers={"origin": origin})) == {}, origin
            preflight = client.options("/v2/studies", headers={"origin": origin, **PREFLIGHT})
            assert (preflight.status_code, cors(preflight)) == (204, {}), origin
        assert cors(client.get("/v2/studies")) == {}


def test_a_cache_must_tell_origins_apart(named: Server) -> None:
    """What a page of our own, or of a stranger, was answered must not be given to one that needs the headers."""
    with named.client() as client:
        for headers in ({}, {"origin": VIEWER}, {"origin": "https://stranger.example"}):
            assert "Origin" in client.get("/v2/studies", headers=headers).headers["vary"], headers


def test_a_preflight_is_answered_before_anything_else(named: Server) -> None:
    with named.client() as client:
        for path in ("/v2/studies/1.2.3", "/v2/nothing", "/health/check"):
            response = client.options(path, headers={"origin": "http://localhost:3000", **PREFLIGHT})
            assert response.status_code == 204, path
            assert response.content == b""
            assert cors(response) == {
                "allow-origin": "http://localhost:3000",
                "allow-credentials": "true",
                "allow-methods": "GET,DELETE",
                "allow-headers": "content-type,accept",
                "max-age": "600",
            }
            assert response.headers["x-content-type-options"] == "nosniff"


def test_everything_may_be_allowed(open_to_all: Server) -> None:
    with open_to_all.client() as client:
        response = client.options("/v2/studies", headers={"origin": "https://anything.example", **PREFLIGHT})
        assert cors(response) == {"allow-origin": "*", "allow-methods": "DELETE", "allow-headers": "x-more"}
        assert cors(client.get("/v2/studies", headers={"origin": "null"})) == {"allow-origin": "*"}


def test_without_settings_there_is_no_header(client: httpx.Client) -> None:
    assert cors(client.get("/v2/studies", headers={"origin": VIEWER})) == {}
    assert client.options("/v2/studies", headers={"origin": VIEWER, **PREFLIGHT}).status_code == 200


def test_a_value_cannot_smuggle_a_header(open_to_all: Server) -> None:
    request = (
        b"OPTIONS /v2/studies HTTP/1.1\r\nHost: localhost\r\nOrigin: a\r\nAccess-Control-Request-Method: GET\r\n"
        b"Access-Control-Request-Headers: x\rSet-Cookie: a=b\r\nConnection: close\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", open_to_all.port), timeout=10) as connection:
        connection.sendall(request)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b"set-cookie" not in answer.lower().replace(b"x\rset-cookie", b"")
    assert answer.startswith((b"HTTP/1.1 204", b"HTTP/1.1 400"))


def test_credentials_of_anybody_are_refused() -> None:
    environment = {"DicomServer__Cors__Origins": "*", "DicomServer__Cors__AllowCredentials": "true"}
    assert "DicomServer:Cors:AllowCredentials" in serve_fails(environment=environment)


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("pacs.example.com", True),
        ("A.B.EXAMPLE.COM:443", True),
        ("[::1]:8080", True),
        ("example.com", False),
        ("badexample.com", False),
        ("127.0.0.1.evil.example", False),
        ("localhost", False),
        ("[::2]", False),
        (":8080", True),
        ("", True),
    ],
)
def test_only_allowed_hosts_are_answered(named: Server, host: str, allowed: bool) -> None:
    with named.client() as client:
        response = client.get("/health/check", headers={"host": host})
    assert response.status_code == (200 if allowed else 400)
    assert allowed or "Host" in response.text
    assert response.headers["x-content-type-options"] == "nosniff"


def test_the_probe_of_a_load_balancer_names_no_host(named: Server) -> None:
    with socket.create_connection(("127.0.0.1", named.port)) as connection:
        connection.sendall(b"GET /health/check HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 ")

"""Store: requests, refusals and answers (store.md §§1–6)."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import httpx
import pytest
from pydicom.dataset import Dataset

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import VERSIONS, comments, failed, reason, referenced
from tests.server import Server

pytestmark = pytest.mark.acceptance

VALIDATION = 43264
EXISTS = 45070
DICOM = "application/dicom"
MULTIPART = 'multipart/related; type="application/dicom"; boundary=frontier'


def post(
    client: httpx.Client, body: bytes, content_type: str = DICOM, path: str = "/v2/studies", **headers: str
) -> httpx.Response:
    return client.post(path, content=body, headers={"content-type": content_type, **headers})


def is_stored(client: httpx.Client, ds: Dataset) -> bool:
    return client.get(f"{dicomweb.instance_path(ds)}/metadata").status_code == 200


def latest(client: httpx.Client) -> int:
    """The newest sequence of the feed: it stays when nothing is stored."""
    response = client.get("/v2/changefeed/latest?includeMetadata=false")
    return 0 if response.status_code == 204 else int(response.json()["sequence"])


# --- the request ---


@pytest.mark.parametrize(
    "content_type", ["application/json", "text/plain", "multipart/form-data; boundary=b", "dicom", ""]
)
def test_another_content_type_is_415_with_an_empty_body(client: httpx.Client, content_type: str) -> None:
    response = post(client, factories.instance(), content_type)
    assert response.status_code == 415
    assert response.content == b""


def test_without_content_type_it_is_415_with_a_text(client: httpx.Client) -> None:
    response = client.post("/v2/studies", content=factories.instance())
    assert response.status_code == 415
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == "The specified content type '' is not supported."


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/*",
        "application/json",
        "application/dicom+json",
        "Application/DICOM+json; charset=utf-8",
        "text/html, application/dicom+json;q=0.1",
        "",
    ],
)
def test_an_accept_header_that_dicom_json_satisfies(client: httpx.Client, accept: str) -> None:
    response = post(client, factories.instance(), accept=accept)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/dicom+json"


def test_without_accept_header_anything_goes(server: Server) -> None:
    body = factories.instance()
    head = f"POST /v2/studies HTTP/1.1\r\nHost: h\r\nContent-Type: {DICOM}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(head.encode() + body)
        assert connection.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("accept", ["application/dicom", "application/data", "text/*", "application/dicom+json;q=0"])
def test_another_accept_header_is_406_and_nothing_is_stored(client: httpx.Client, accept: str) -> None:
    ds = factories.dataset()
    response = post(client, factories.part10(ds), accept=accept)
    assert response.status_code == 406
    assert response.content == b""
    assert not is_stored(client, ds)


def test_the_order_of_refusals(client: httpx.Client) -> None:
    """Content type, Accept, the study's UID, a missing content type, the body."""
    bad = "/v2/studies/nonsense"
    cases: list[tuple[dict[str, str], str, int]] = [
        ({"content-type": "text/plain", "accept": "text/plain"}, bad, 415),
        ({"content-type": "multipart/related", "accept": "text/plain"}, bad, 406),
        ({"accept": "text/plain"}, bad, 406),
        ({"content-type": "multipart/related"}, bad, 400),
        ({}, bad, 400),
        ({}, "/v2/studies/1.2", 415),
        ({"content-type": "multipart/related"}, "/v2/studies/1.2", 415),
    ]
    for headers, path, status in cases:
        assert client.post(path, content=b"nonsense", headers=headers).status_code == status, headers


@pytest.mark.parametrize("study", ["abc", "1.2.", "1" * 65, "1.2;3", "%20"])
def test_a_study_in_the_path_that_is_no_uid(client: httpx.Client, study: str) -> None:
    response = post(client, factories.instance(), path=f"/v2/studies/{study}")
    assert response.status_code == 400
    assert "StudyInstanceUid" in response.text


@pytest.mark.parametrize(
    "content_type", [DICOM, "Application/DICOM", "application/dicom; transfer-syntax=1.2.840.10008.1.2.1"]
)
@pytest.mark.parametrize("version", VERSIONS)
def test_a_single_part(client: httpx.Client, content_type: str, version: str) -> None:
    ds = factories.dataset()
    response = post(client, factories.part10(ds), content_type, f"/{version}/studies")
    assert response.status_code == 200
    assert is_stored(client, ds)


def test_a_body_of_unknown_length(client: httpx.Client) -> None:
    ds = factories.dataset()
    body, headers = factories.multipart([factories.part10(ds)])
    pieces = (body[start : start + 97] for start in range(0, len(body), 97))
    assert client.post("/v2/studies", content=pieces, headers=headers).status_code == 200
    assert is_stored(client, ds)


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ('multipart/related; type="application/dicom"', 415),
        ('multipart/related; type="application/dicom"; boundary=""', 415),
        (MULTIPART + "; start=x", 400),
        (MULTIPART + '; START="<x>"', 400),
    ],
)
def test_multipart_parameters_that_are_refused(client: httpx.Client, content_type: str, status: int) -> None:
    ds = factories.dataset()
    body, _ = factories.multipart([factories.part10(ds)])
    response = post(client, body, content_type)
    assert response.status_code == status
    if status == 400:
        assert response.text == "The start parameter in multipart/related request is not supported."
    assert not is_stored(client, ds)


def test_multipart_type_and_boundary_are_read_leniently(client: httpx.Client) -> None:
    for content_type in (
        "multipart/related; boundary=frontier",
        "multipart/related; type=application/dicom; boundary=frontier",
        'Multipart/Related; Boundary="frontier"; Type="application/dicom"',
    ):
        body, _ = factories.multipart([factories.instance()], part_type="Application/Dicom; transfer-syntax=1.2")
        assert post(client, body, content_type).status_code == 200, content_type


@pytest.mark.parametrize("part_type", ["application/json", "application/dicom+json", "text/plain", "nonsense"])
def test_a_part_of_another_type_refuses_the_whole_request(client: httpx.Client, part_type: str) -> None:
    before = latest(client)
    good, bad = factories.instance(), factories.instance()
    body = (
        b"--frontier\r\nContent-Type: application/dicom\r\n\r\n" + good
        + f"\r\n--frontier\r\nContent-Type: {part_type}\r\n\r\n".encode() + bad + b"\r\n--frontier--\r\n"
    )  # fmt: skip
    response = post(client, body, MULTIPART)
    assert response.status_code == 415
    assert response.text == f"The specified content type '{part_type}' is not supported."
    assert latest(client) == before


def test_only_the_first_part_may_lack_a_content_type(client: httpx.Client) -> None:
    first, second = factories.instance(), factories.instance()
    body = b"--frontier\r\n\r\n" + first + b"\r\n--frontier\r\nContent-Type: application/dicom\r\n\r\n" + second
    assert post(client, body + b"\r\n--frontier--", MULTIPART).status_code == 200
    before = latest(client)
    first, second = factories.instance(), factories.instance()
    body = b"--frontier\r\nContent-Type: application/dicom\r\n\r\n" + first + b"\r\n--frontier\r\n\r\n" + second
    assert post(client, body + b"\r\n--frontier--", MULTIPART).status_code == 415
    body = b"--frontier\r\n\r\n" + first + b"\r\n--frontier--"
    assert post(client, body, "multipart/related; type=application/json; boundary=frontier").status_code == 415
    assert latest(client) == before


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "body", [b"--frontier--", b"--frontier\r\n\r\n--frontier--", b"preamble\r\n--frontier--\r\nepilogue"]
)
def test_no_parts_are_204(client: httpx.Client, body: bytes, version: str) -> None:
    response = post(client, body, MULTIPART, f"/{version}/studies")
    assert response.status_code == 204
    assert response.content == b""


def test_preamble_and_epilogue_are_skipped(client: httpx.Client) -> None:
    body, headers = factories.multipart([factories.instance()])
    response = client.post("/v2/studies", content=b"Some text.\r\n" + body + b"More text.", headers=headers)
    assert response.status_code == 200
    assert len(referenced(response)) == 1


@pytest.mark.parametrize(
    "cut",
    [
        b"",
        b"no boundary at all",
        b"--frontier\r\nContent-Ty",
        b"--frontier\r\nContent-Type: application/dicom\r\n",
        b"--frontier\r\nContent-Type: application/dicom\r\n\r\n",
    ],
)
def test_a_body_that_ends_early_is_400(client: httpx.Client, cut: bytes) -> None:
    response = post(client, cut, MULTIPART)
    assert response.status_code == 400
    assert response.headers["content-type"].startswith("text/plain")
    assert response.text


@pytest.mark.parametrize("cut", [1, 20, 200, 700])
def test_a_body_that_ends_inside_a_later_part_stores_nothing(client: httpx.Client, cut: int) -> None:
    before = latest(client)
    body, headers = factories.multipart([factories.instance(), factories.instance()])
    response = client.post("/v2/studies", content=body[: -len("--\r\n") - cut], headers=headers)
    assert response.status_code == 400
    assert latest(client) == before


def test_a_client_that_goes_away_leaves_nothing(client: httpx.Client, server: Server) -> None:
    before = latest(client)
    body, headers = factories.multipart([factories.instance(), factories.instance(PixelData=bytes(3 << 20))])
    head = "".join(f"{name}: {text}\r\n" for name, text in headers.items())
    head = f"POST /v2/studies HTTP/1.1\r\nHost: h\r\n{head}Content-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 30) as connection:
        connection.sendall(head.encode() + body[:-100])
    assert post(client, factories.instance()).status_code == 200
    assert latest(client) == before + 1
    spooled = server.data_dir / "spool"
    for _ in range(100):
        if not list(spooled.iterdir()):
            break
        client.get("/health/check")
    assert not list(spooled.iterdir())


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/v2/studies", {"Content-Type": "text/plain"}, 415),
        ("/v2/studies", {"Content-Type": DICOM, "Accept": "text/plain"}, 406),
        ("/v2/studies/x", {"Content-Type": DICOM}, 400),
        ("/v2/studies", {"Content-Type": "multipart/related; boundary=zeros; start=x"}, 400),
    ],
)
def test_a_refused_upload_is_heard_out(server: Server, path: str, headers: dict[str, str], status: int) -> None:
    """Whoever sends everything before it listens gets the answer, and may go on with the connection."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.connect()
    connection.auto_open = 0
    for _ in range(3):
        connection.request("POST", path, bytes(4_000_000), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.close()


# --- limits and settings of a server of its own ---


@pytest.fixture(scope="module")
def strict_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A server with a limit of 3000 bytes a part that validates everything."""
    environment = {
        "DicomServer__Services__StoreServiceSettings__MaxAllowedDicomFileSize": "3000",
        "DicomServer__Features__EnableFullDicomItemValidation": "true",
    }
    server = Server(tmp_path_factory.mktemp("strict") / "data", [*QUIET, "--workers", "1"], environment)
    try:
        with server.start().client() as client:
            yield client
        assert server.stop() == 0
    finally:
        server.end()


@pytest.mark.parametrize("single", [True, False])
def test_a_part_over_the_limit_is_413_and_nothing_is_stored(strict_server: httpx.Client, single: bool) -> None:
    small, large = factories.dataset(), factories.dataset(PixelData=bytes(3000))
    if single:
        response = post(strict_server, factories.part10(large))
    else:
        response = dicomweb.post(strict_server, [factories.part10(small), factories.part10(large)])
    assert response.status_code == 413
    assert response.text == "The request exceeded the allowed limit of 3000 bytes."
    assert not is_stored(strict_server, small)


def test_a_part_at_the_limit_passes(strict_server: httpx.Client) -> None:
    room = 3000 - len(factories.instance(PixelData=b""))
    # UIDs differ in length by a byte at most, and files have an even one.
    for size in (room, room - 2):
        body = factories.instance(PixelData=bytes(size))
        assert post(strict_server, body).status_code == (200 if len(body) <= 3000 else 413)
        if len(body) == 3000:
            return
    raise AssertionError("no file of 3000 bytes was made")


def test_full_validation_refuses_in_v1_and_warns_in_v2(strict_server: httpx.Client) -> None:
    body = factories.instance(PatientSex="male")
    response = post(strict_server, body, path="/v1/studies")
    assert reason(response) == VALIDATION
    response = post(strict_server, body)
    assert response.status_code == 202
    for item in (failed(post(strict_server, body, path="/v1/studies"))[0], referenced(response)[0]):
        (comment,) = comments(item)
        assert comment.startswith('DICOM100: (0010,0040) - Content "male" does not validate VR CS: ')


# --- reading ---


UNREADABLE = {
    "empty": b"",
    "short": b"\0" * 131,
    "random": bytes(range(256)) * 8,
    "only a preamble": b"\0" * 128 + b"DICM",
    "meta cut off": factories.instance()[:200],
    "dataset cut off": factories.instance()[:-40],
    "unknown transfer syntax": factories.instance().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.99999.1.2.1\0"),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("name", UNREADABLE)
def test_an_unreadable_file_is_a_failure_with_only_a_reason(
    client: httpx.Client, name: str, single: bool, version: str
) -> None:
    body, path = UNREADABLE[name], f"/{version}/studies"
    response = post(client, body, path=path) if single else dicomweb.post(client, [body], path)
    assert response.status_code == 409
    assert response.json() == {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [VALIDATION]}}]}}


def test_files_without_preamble_or_meta_are_read(client: httpx.Client) -> None:
    for start in (132, None):
        ds = factories.dataset()
        body = factories.part10(ds)
        body = body[start:] if start else body[body.index(b"\x08\x00\x16\x00") :]
        assert post(client, body).status_code == 200
        back = client.get(dicomweb.instance_path(ds), headers={"accept": dicomweb.ORIGINAL})
        assert back.content == body


def test_the_preamble_is_zeroed_and_nothing_else(client: httpx.Client) -> None:
    for pixels in (b"\1\2" * 64, b"\1\2" * (1 << 20)):
        ds = factories.dataset(PixelData=pixels)
        body = factories.part10(ds, preamble=b"MZ" * 64)
        assert post(client, body).status_code == 200
        back = client.get(dicomweb.instance_path(ds), headers={"accept": dicomweb.ORIGINAL})
        assert back.content == bytes(128) + body[128:]


def test_pixel_data_need_not_be_there_or_make_sense(client: httpx.Client) -> None:
    changes: list[dict[str, Any]] = [{"PixelData": None}, {"PixelData": b""}, {"PixelData": b"\1\2"}, {"Rows": None}]
    for attributes in [*changes, {"Rows": 0}]:
        assert post(client, factories.instance(**attributes)).status_code == 200, attributes

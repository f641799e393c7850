"""Compressed request bodies (RFC 9110 §8.4): stored as if they had come plain, or refused as a whole."""

import gzip
import zlib
from collections.abc import Callable

import httpx
import pytest
from backports import zstd

from tests import factories
from tests.acceptance import dicomweb
from tests.server import Server

pytestmark = pytest.mark.acceptance

CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstd.compress,
    "identity": bytes,
}


def post(client: httpx.Client, body: bytes, coding: str, content_type: str) -> httpx.Response:
    headers = {"content-type": content_type, "content-encoding": coding, "accept": "application/dicom+json"}
    return client.post("/v2/studies", content=body, headers=headers)


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("size", [0, 3_000_000])
def test_a_multipart_body_is_stored_as_if_it_were_plain(client: httpx.Client, coding: str, size: int) -> None:
    sets = [factories.dataset(**({"PixelData": bytes(range(256)) * (size >> 8)} if size else {})) for _ in range(2)]
    files = [factories.part10(ds) for ds in sets]
    body, headers = factories.multipart(files)
    response = post(client, CODINGS[coding](body), coding, headers["content-type"])
    assert response.status_code == 200, response.text
    for ds, file in zip(sets, files, strict=True):
        assert client.get(dicomweb.instance_path(ds), headers={"accept": dicomweb.ORIGINAL}).content == file


@pytest.mark.parametrize("coding", CODINGS)
def test_so_is_a_single_file(client: httpx.Client, coding: str) -> None:
    ds = factories.dataset()
    response = post(client, CODINGS[coding](factories.part10(ds)), coding.upper(), "application/dicom")
    assert response.status_code == 200, response.text
    assert client.get(dicomweb.instance_path(ds)).status_code == 200


def test_members_and_frames_follow_each_other(client: httpx.Client) -> None:
    for coding in ("gzip", "zstd"):
        file = factories.instance()
        body = CODINGS[coding](file[:500]) + CODINGS[coding](file[500:])
        assert post(client, body, coding, "application/dicom").status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd"])
def test_a_damaged_body_is_refused_and_nothing_stored(client: httpx.Client, coding: str) -> None:
    ds = factories.dataset()
    file = factories.part10(ds)
    encoded = CODINGS[coding](file)
    broken = {
        "cut off": encoded[:-1],
        "nothing": b"",
        "plain": file,
        "garbage behind it": encoded + b"garbage",
        "another coding": CODINGS["zstd" if coding == "gzip" else "gzip"](file),
        "flipped": encoded[:-3] + bytes([encoded[-3] ^ 255]) + encoded[-2:],
    }
    if coding == "zstd":  # has no checksum unless asked for, so a flip in it may only show in the file
        del broken["flipped"]
    for name, body in broken.items():
        response = post(client, body, coding, "application/dicom")
        assert response.status_code == 400, (name, response.text)
        assert coding in response.text
    assert client.get(dicomweb.study_path(ds)).status_code == 404


@pytest.mark.parametrize("coding", ["br", "compress", "gzip, zstd", "gzip, gzip", "*", "gzip;q=1", "aes128gcm"])
def test_other_codings_are_415_and_name_those_that_are_served(client: httpx.Client, coding: str) -> None:
    response = post(client, factories.instance(), coding, "application/dicom")
    assert response.status_code == 415
    assert response.headers["accept-encoding"] == "gzip, deflate, zstd"
    assert "coding" in response.text
    assert "set-cookie" not in response.headers


def test_the_content_type_is_looked_at_first(client: httpx.Client) -> None:
    response = post(client, b"x", "br", "text/plain")
    assert (response.status_code, response.content) == (415, b"")
    assert "accept-encoding" not in response.headers


def test_limits_are_about_what_comes_out(tmp_path_factory: pytest.TempPathFactory) -> None:
    limit = {"DicomServer__Services__StoreServiceSettings__MaxAllowedDicomFileSize": "100000"}
    server = Server(tmp_path_factory.mktemp("limit") / "data", ["--no-cast"], environment=limit)
    try:
        with server.start().client() as client:
            ds = factories.dataset(PixelData=bytes(100_000))
            for coding in ("gzip", "deflate", "zstd"):
                body = CODINGS[coding](factories.part10(ds))
                assert len(body) < 10_000
                response = post(client, body, coding, "application/dicom")
                assert response.status_code == 413, response.text
                assert "100000 bytes" in response.text
            assert client.get(dicomweb.study_path(ds)).status_code == 404
            fhir(client)
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()


def fhir(client: httpx.Client) -> None:
    """The embedded FHIR store takes the same codings, and refuses in its own form."""
    patient = b'{"resourceType": "Patient", "active": true}'
    headers = {"content-type": "application/fhir+json"}
    for coding, encode in CODINGS.items():
        more = {**headers, "content-encoding": coding}
        created = client.post("/fhir/Patient", content=encode(patient), headers=more)
        assert created.status_code == 201, created.text
        assert created.json()["active"] is True
        if coding != "identity":
            damaged = client.post("/fhir/Patient", content=encode(patient)[:-1], headers=more)
            assert damaged.status_code == 400
            assert damaged.json()["issue"][0]["code"] == "invalid"
    unknown = client.post("/fhir/Patient", content=patient, headers={**headers, "content-encoding": "br"})
    assert unknown.status_code == 415
    assert unknown.headers["accept-encoding"] == "gzip, deflate, zstd"
    assert unknown.json()["issue"][0]["code"] == "not-supported"
    bomb = client.post("/fhir", content=gzip.compress(bytes(65 << 20)), headers={**headers, "content-encoding": "gzip"})
    assert bomb.status_code == 413
    assert bomb.json()["issue"][0]["code"] == "too-long"

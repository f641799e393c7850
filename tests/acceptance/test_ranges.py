"""Range requests on what is one piece (RFC 9110 §14): instances as stored and single frames."""

import httpx
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import ORIGINAL, ORIGINALS, VERSIONS, instance_path, study_path

pytestmark = pytest.mark.acceptance

OCTETS = "application/octet-stream"


def get(client: httpx.Client, path: str, accept: str, **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.get(path, headers={"accept": accept, **sent})


@pytest.fixture(scope="module", params=[10, 3 << 20], ids=["small", "large"])
def stored(client: httpx.Client, request: pytest.FixtureRequest) -> tuple[Dataset, bytes]:
    ds = factories.dataset(PixelData=bytes(range(250)) * (request.param // 250 + 1))
    body = factories.part10(ds)
    assert dicomweb.post(client, [body]).status_code in (200, 202)
    return ds, body


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=100-299", "bytes=300-", "bytes=-77", "bytes=128-99999999"])
def test_a_range_of_an_instance(client: httpx.Client, stored: tuple[Dataset, bytes], version: str, header: str) -> None:
    ds, body = stored
    response = get(client, instance_path(ds, version), ORIGINAL, range=header)
    first, _, last = header.removeprefix("bytes=").partition("-")
    offset = int(first) if first else len(body) - int(last)
    end = min(int(last) + 1, len(body)) if first and last else len(body)
    assert response.status_code == 206
    assert response.content == body[offset:end]
    assert response.headers["content-range"] == f"bytes {offset}-{end - 1}/{len(body)}"
    assert response.headers["content-length"] == str(end - offset)
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-type"] == f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"


def test_ranges_put_together_are_the_file(client: httpx.Client, stored: tuple[Dataset, bytes]) -> None:
    ds, body = stored
    step = len(body) // 7 + 1
    pieces = [
        get(client, instance_path(ds), ORIGINAL, range=f"bytes={start}-{start + step - 1}").content
        for start in range(0, len(body), step)
    ]
    assert b"".join(pieces) == body


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"range": "bytes=0-1,4-5"},
        {"range": "bytes=9-1"},
        {"range": "lines=0-1"},
        {"range": "bytes=0-1", "if_range": '"anything"'},
        {"range": "bytes=0-1", "if_range": "Sat, 21 Nov 2026 00:00:00 GMT"},
    ],
)
def test_the_whole_instance(client: httpx.Client, stored: tuple[Dataset, bytes], headers: dict[str, str]) -> None:
    ds, body = stored
    response = get(client, instance_path(ds), ORIGINAL, **headers)
    assert (response.status_code, response.content) == (200, body)
    assert response.headers["accept-ranges"] == "bytes"
    assert "content-range" not in response.headers


def test_a_range_behind_the_end(client: httpx.Client, stored: tuple[Dataset, bytes]) -> None:
    ds, body = stored
    for header in (f"bytes={len(body)}-", f"bytes={len(body) + 5}-{len(body) + 9}", "bytes=-0"):
        response = get(client, instance_path(ds), ORIGINAL, range=header)
        assert response.status_code == 416
        assert response.headers["content-range"] == f"bytes */{len(body)}"
        assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_head_says_the_length(client: httpx.Client, stored: tuple[Dataset, bytes]) -> None:
    ds, body = stored
    response = client.head(instance_path(ds), headers={"accept": ORIGINAL, "range": "bytes=0-1"})
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(len(body))
    assert response.headers["accept-ranges"] == "bytes"


def test_what_is_made_for_the_answer_has_no_ranges(client: httpx.Client, stored: tuple[Dataset, bytes]) -> None:
    ds, body = stored
    for accept in (ORIGINALS, "*/*", "application/zip"):
        for path in (instance_path(ds), study_path(ds)):
            response = get(client, path, accept, range="bytes=0-1")
            assert response.status_code == 200
            assert "accept-ranges" not in response.headers
            assert body in response.content
    implicit = factories.dataset()
    dicomweb.post(client, [factories.part10(implicit, ImplicitVRLittleEndian)])
    response = get(client, instance_path(implicit), "application/dicom", range="bytes=0-1")
    assert (response.status_code, response.content[128:132]) == (200, b"DICM")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", ["native", "encapsulated"])
def test_a_range_of_a_frame(client: httpx.Client, kind: str, version: str) -> None:
    frames = [bytes([number]) * 14 + bytes(range(50)) for number in range(3)]
    eight = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "Rows": 8, "Columns": 8, "NumberOfFrames": 3}
    if kind == "native":
        ds, syntax = factories.dataset(**eight, PixelData=b"".join(frames)), str(ExplicitVRLittleEndian)
    else:
        ds, syntax = factories.dataset(**eight, PixelData=encapsulate(frames)), str(JPEGBaseline8Bit)
        ds["PixelData"].is_undefined_length = True
    assert dicomweb.post(client, [factories.part10(ds, syntax)]).status_code in (200, 202)
    url = f"{instance_path(ds, version)}/frames/2"
    accept = f"{OCTETS}; transfer-syntax=*"
    whole = get(client, url, accept)
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, frames[1], "bytes")
    for header, expected in (
        ("bytes=10-20", frames[1][10:21]),
        ("bytes=-5", frames[1][-5:]),
        ("bytes=60-", frames[1][60:]),
    ):
        response = get(client, url, accept, range=header)
        assert (response.status_code, response.content) == (206, expected)
        assert response.headers["content-range"].endswith("/64")
        assert response.headers["content-type"] == f"{OCTETS}; transfer-syntax={syntax}"
    assert get(client, url, accept, range="bytes=64-").status_code == 416
    several = get(client, f"{instance_path(ds, version)}/frames/1,2", "*/*", range="bytes=0-1")
    assert several.status_code == 200
    assert "accept-ranges" not in several.headers
    # What is refused is refused before anybody looks at the range.
    assert get(client, f"{instance_path(ds, version)}/frames/9", accept, range="bytes=64-").status_code == 404

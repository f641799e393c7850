"""WADO-URI (PS3.18 §9)."""

from typing import Any

import httpx
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, JPEGBaseline8Bit

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.test_rendered import CHROME_PAGE, GIF, JPEG, PNG, STEPS, again, cine, pixels, steps
from tests.dicom.rendering.sources import grey
from tests.dicom.rendering.test_documents import FULL, document

pytestmark = pytest.mark.acceptance

DICOM = "application/dicom"
EXPLICIT = "1.2.840.10008.1.2.1"
ROOTS = ("/wado", "/v1/wado", "/v2/wado")


def fetch(client: httpx.Client, ds: Dataset, root: str = "/wado", **parameters: Any) -> httpx.Response:
    """The instance; a parameter of None is left out."""
    given = {
        "requestType": "WADO",
        "studyUID": ds.StudyInstanceUID,
        "seriesUID": ds.SeriesInstanceUID,
        "objectUID": ds.SOPInstanceUID,
        **parameters,
    }
    return client.get(root, params={name: value for name, value in given.items() if value is not None})


def put(client: httpx.Client, ds: Dataset, syntax: str = EXPLICIT) -> Dataset:
    response = dicomweb.post(client, [factories.part10(ds, syntax)])
    assert response.status_code in (200, 202), response.text
    return ds


@pytest.fixture
def image(client: httpx.Client) -> Dataset:
    return put(client, steps())


@pytest.mark.parametrize("root", ROOTS)
def test_an_image_is_a_jpeg_unless_wished_otherwise(client: httpx.Client, image: Dataset, root: str) -> None:
    for wish in (None, "", JPEG, "image/*", "*/*", "image/avif, image/jpeg"):
        response = fetch(client, image, root, contentType=wish)
        assert (response.status_code, response.headers["content-type"]) == (200, JPEG)
    response = fetch(client, image, root, contentType=PNG)
    assert (pixels(response.content) == STEPS).all()


@pytest.mark.parametrize("root", ROOTS)
def test_the_file(client: httpx.Client, image: Dataset, root: str) -> None:
    response = fetch(client, image, root, contentType=DICOM)
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{DICOM}; transfer-syntax={EXPLICIT}"
    assert response.content == factories.part10(image)


def test_a_transfer_syntax(client: httpx.Client) -> None:
    ds = steps()
    stored = factories.part10(ds, ImplicitVRLittleEndian)
    put(client, ds, ImplicitVRLittleEndian)
    for wish, expected in (
        (None, EXPLICIT),
        (EXPLICIT, EXPLICIT),
        ("*", ImplicitVRLittleEndian),
        (ImplicitVRLittleEndian, ImplicitVRLittleEndian),
        # What cannot be had comes in the default syntax (PS3.18 §9.1.2.2.2).
        ("1.2.3", EXPLICIT),
    ):
        response = fetch(client, ds, contentType=DICOM, transferSyntax=wish)
        assert response.headers["content-type"] == f"{DICOM}; transfer-syntax={expected}"
        assert (response.content == stored) is (expected == ImplicitVRLittleEndian)


def test_what_comes_without_a_wish(client: httpx.Client) -> None:
    for ds, expected in (
        (steps(), JPEG),
        (cine(), DICOM),
        (again(FULL), "text/html"),
        (again(document()), "application/pdf"),
        (factories.dataset(PixelData=None), DICOM),
    ):
        response = fetch(client, put(client, ds))
        assert response.status_code == 200
        assert response.headers["content-type"].partition(";")[0] == expected


def test_frames(client: httpx.Client) -> None:
    ds = put(client, cine())
    for number in (1, 4):
        response = fetch(client, ds, frameNumber=number, contentType=PNG)
        assert (pixels(response.content) == 50 * (number - 1)).all()
    assert fetch(client, ds, frameNumber=2).headers["content-type"] == JPEG
    assert fetch(client, ds, contentType=GIF).headers["content-type"] == GIF
    assert fetch(client, ds, frameNumber=6).status_code == 404
    assert fetch(client, ds, frameNumber=0).status_code == 400


def test_window_quality_and_annotation(client: httpx.Client, image: Dataset) -> None:
    response = fetch(client, image, contentType=PNG, windowCenter="50", windowWidth="21")
    assert (pixels(response.content) == np.rint(np.clip((STEPS - 49.5) / 20 + 0.5, 0, 1) * 255)).all()
    sizes = [len(fetch(client, image, imageQuality=quality).content) for quality in (1, 50, 100)]
    assert sizes == sorted(set(sizes))
    response = fetch(client, image, contentType=PNG, annotation="patient,technique")
    assert (pixels(response.content) != STEPS).any()


@pytest.mark.parametrize(
    ("parameters", "size"),
    [
        ({"rows": 24}, (24, 32)),
        ({"columns": 16}, (12, 16)),
        ({"rows": 24, "columns": 24}, (18, 24)),
        ({"region": "0,0,0.5,0.5"}, (24, 32)),
        ({"region": "0,0,1,0.5", "columns": 128}, (48, 128)),
    ],
)
def test_sizes(client: httpx.Client, image: Dataset, parameters: dict[str, Any], size: tuple[int, int]) -> None:
    assert pixels(fetch(client, image, contentType=PNG, **parameters).content).shape == size


def test_a_region(client: httpx.Client, image: Dataset) -> None:
    response = fetch(client, image, contentType=PNG, region="0.25,0.5,0.75,0.75")
    assert (pixels(response.content) == STEPS[24:36, 16:48]).all()


def test_the_first_type_that_the_instance_has(client: httpx.Client) -> None:
    report = put(client, again(FULL))
    for wish, expected in (
        ("text/plain", "text/plain"),
        ("application/pdf, text/plain;q=0.5", "text/plain"),
        ("application/pdf, application/dicom", DICOM),
        ("image/jpeg", JPEG),
    ):
        assert fetch(client, report, contentType=wish).headers["content-type"].partition(";")[0] == expected
    assert fetch(client, report, contentType="text/html", charset="iso-8859-1").encoding == "iso-8859-1"


@pytest.mark.parametrize("wish", ["video/mpeg", "application/pdf", "text/html", "jpeg", "application/octet-stream"])
def test_types_that_it_has_not(client: httpx.Client, image: Dataset, wish: str) -> None:
    assert fetch(client, image, contentType=wish).status_code == 406


def test_an_accept_header_counts_where_nothing_else_is_wished(client: httpx.Client, image: Dataset) -> None:
    for accept, status, expected in (
        (PNG, 200, PNG),
        (DICOM, 200, DICOM),
        (CHROME_PAGE, 200, JPEG),
        ("text/html", 406, "text/plain"),
        ("video/mp4", 406, "text/plain"),
    ):
        client.headers["accept"] = accept
        response = fetch(client, image)
        chosen = fetch(client, image, contentType=PNG)
        client.headers["accept"] = "*/*"
        assert (response.status_code, response.headers["content-type"].partition(";")[0]) == (status, expected)
        assert chosen.headers["content-type"] == PNG


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ({"requestType": None}, "requestType"),
        ({"requestType": "STOW"}, "requestType"),
        ({"studyUID": None}, "studyUID"),
        ({"seriesUID": ""}, "seriesUID"),
        ({"objectUID": "1.2.x"}, "objectUID"),
        ({"anonymize": "yes"}, "anonymize"),
        ({"presentationUID": "1.2.3", "presentationSeriesUID": "1.2"}, "presentationUID"),
        ({"frameNumber": "one"}, "frameNumber"),
        ({"frameNumber": "0"}, "frameNumber"),
        ({"imageQuality": "0"}, "imageQuality"),
        ({"imageQuality": "high"}, "imageQuality"),
        ({"windowCenter": "40"}, "windowWidth"),
        ({"windowWidth": "400"}, "windowCenter"),
        ({"windowCenter": "x", "windowWidth": "400"}, "windowCenter"),
        ({"windowCenter": "40", "windowWidth": "0"}, "windowWidth"),
        ({"rows": "0"}, "rows"),
        ({"columns": "many"}, "columns"),
        ({"region": "0,0,1"}, "region"),
        ({"region": "0.5,0,0.5,1"}, "region"),
        ({"region": "0,0,1,1.5"}, "region"),
        ({"charset": "klingon"}, "charset"),
        ({"transferSyntax": EXPLICIT, "contentType": JPEG}, "transferSyntax"),
        ({"frameNumber": "1", "contentType": DICOM}, "frameNumber"),
        ({"rows": "10", "contentType": DICOM}, "rows"),
        ({"imageQuality": "10", "contentType": DICOM}, "imageQuality"),
    ],
)
def test_bad_requests(client: httpx.Client, parameters: dict[str, Any], named: str) -> None:
    # Nothing is stored under those UIDs: the request is looked at first.
    response = fetch(client, factories.dataset(), **parameters)
    assert response.status_code == 400
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert f"'{named}'" in response.text


def test_what_is_not_there(client: httpx.Client, image: Dataset) -> None:
    assert fetch(client, factories.dataset()).status_code == 404
    assert fetch(client, image, seriesUID="1.2.3").status_code == 404
    assert client.post("/wado").status_code == 405
    assert client.get("/wado/more").status_code == 404


def test_compressed_files_that_nobody_can_decode_come_as_they_are(client: httpx.Client) -> None:
    content = factories.encapsulated([b"\xff\xd8 no picture \xff\xd9"])
    response = dicomweb.post(client, [content])
    url = dicomweb.value(dicomweb.referenced(response)[0], "00081190").split("/")
    uids = {"studyUID": url[-5], "seriesUID": url[-3], "objectUID": url[-1]}
    assert client.get("/wado", params={"requestType": "WADO", **uids}).status_code == 406
    for wish in ({}, {"transferSyntax": EXPLICIT}, {"transferSyntax": JPEGBaseline8Bit}, {"transferSyntax": "*"}):
        original = client.get("/wado", params={"requestType": "WADO", "contentType": DICOM, **wish, **uids})
        assert original.headers["content-type"] == f"{DICOM}; transfer-syntax={JPEGBaseline8Bit}"
        assert original.content == content


def test_names_of_parameters_in_any_case(client: httpx.Client, image: Dataset) -> None:
    response = client.get(
        "/wado",
        params={
            "requesttype": "wado",
            "STUDYUID": image.StudyInstanceUID,
            "seriesuid": image.SeriesInstanceUID,
            "objectuid": image.SOPInstanceUID,
            "contenttype": PNG,
        },
    )
    assert (pixels(response.content) == STEPS).all()


def test_an_image_of_sixteen_bits(client: httpx.Client) -> None:
    ds = put(client, grey(STEPS.astype("<u2") * 100))
    response = fetch(client, ds, contentType=PNG)
    assert (pixels(response.content) == STEPS).all()

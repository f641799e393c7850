"""Rendered resources (retrieve.md §8 and the order of §2) and thumbnails (PS3.18 §10.4)."""

import io
from copy import deepcopy
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import MPEG2MPML, MPEG4HP41, ExplicitVRBigEndian

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import VERSIONS, instance_path, parts, series_path, study_path
from tests.acceptance.test_lifecycle import running
from tests.dicom.rendering.sources import RAMP, Pixels, colour, grey
from tests.dicom.rendering.test_documents import FULL, document
from tests.dicom.samples import LARGE_SET, WITHOUT_LARGE, pydicom_read

pytestmark = pytest.mark.acceptance

JPEG, PNG, GIF = "image/jpeg", "image/png", "image/gif"
CHROME_PAGE = (
    "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
    "application/signed-exchange;v=b3;q=0.7"
)
CHROME_PICTURE = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8"
SHOWN: dict[str, Any] = {"WindowCenter": "128", "WindowWidth": "256"}
STEPS: Pixels = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)


def steps(**attributes: Any) -> Dataset:
    return grey(STEPS, **SHOWN, **attributes)


def cine(**attributes: Any) -> Dataset:
    """Five frames, each of one grey level."""
    frames = np.stack([np.full((48, 64), 50 * number, np.uint8) for number in range(5)])
    return grey(frames, **SHOWN, **attributes)


def again(ds: Dataset) -> Dataset:
    """The same content under UIDs of its own."""
    copy = deepcopy(ds)
    copy.StudyInstanceUID, copy.SeriesInstanceUID, copy.SOPInstanceUID = (factories.uid() for _ in range(3))
    return copy


def stored(client: httpx.Client, ds: Dataset, version: str = "v2") -> str:
    dicomweb.store(client, ds)
    return instance_path(ds, version)


def get(client: httpx.Client, path: str, accept: str | None = None, **headers: str) -> httpx.Response:
    """With the client's own Accept header taken away, unless one is given."""
    request = client.build_request("GET", path, headers=headers)
    del request.headers["accept"]
    if accept is not None:
        request.headers["accept"] = accept
    return client.send(request)


def shown(response: httpx.Response, media_type: str = PNG) -> Pixels:
    assert response.status_code == 200, (response.status_code, response.text)
    assert response.headers["content-type"] == media_type
    assert int(response.headers["content-length"]) == len(response.content)
    return pixels(response.content, media_type)


def pixels(body: bytes, media_type: str = PNG) -> Pixels:
    with Image.open(io.BytesIO(body)) as image:
        assert image.format == media_type.removeprefix("image/").upper()
        return np.asarray(image)


# --- one instance ---


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("route", ["rendered", "frames/1/rendered"])
@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, JPEG),
        ("", JPEG),
        (JPEG, JPEG),
        ("IMAGE/JPEG", JPEG),
        (PNG, PNG),
        ("Image/Png", PNG),
        ("*/*", JPEG),
        ("image/*", JPEG),
        ("image/webp", "image/webp"),
        (GIF, GIF),
        (CHROME_PAGE, "image/webp"),
        (CHROME_PICTURE, "image/webp"),
    ],
)
def test_accept(client: httpx.Client, version: str, route: str, accept: str | None, expected: str) -> None:
    path = stored(client, steps(), version)
    assert shown(get(client, f"{path}/{route}", accept), expected).shape[:2] == (48, 64)


@pytest.mark.parametrize("route", ["rendered", "frames/1/rendered"])
@pytest.mark.parametrize(
    "accept",
    [
        "image/jpeg, image/png",
        "image/png, image/jpeg;q=0.5",
        "image/jpeg, */*",
        "image/jpeg, image/png, image/gif",
        "image/avif",
        "text/html",
        "application/dicom",
        "application/octet-stream",
        'multipart/related; type="image/jpeg"',
        "jpeg",
    ],
)
def test_accept_that_is_refused(client: httpx.Client, route: str, accept: str) -> None:
    response = get(client, f"{stored(client, steps())}/{route}", accept)
    assert response.status_code == 406
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text.startswith("The specified Accept header is not supported")


def test_the_parameter_accept_is_for_links(client: httpx.Client) -> None:
    path = stored(client, steps())
    assert (shown(get(client, f"{path}/rendered?accept=image/png", CHROME_PAGE)) == STEPS).all()
    assert get(client, f"{path}/rendered?accept=text/html", PNG).status_code == 406


def test_the_values_of_a_grey_image(client: httpx.Client) -> None:
    ds = grey(RAMP, stored=12, RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="40", WindowWidth="400")
    expected = np.clip((RAMP * 2.0 - 1000 - 39.5) / 399 + 0.5, 0, 1) * 255
    path = stored(client, ds)
    assert (shown(get(client, f"{path}/rendered", PNG)) == np.rint(expected)).all()
    lossy = shown(get(client, f"{path}/rendered", JPEG), JPEG)
    assert np.abs(lossy.astype(int) - np.rint(expected)).max() <= 3


def test_the_values_of_a_colour_image(client: httpx.Client) -> None:
    samples = np.random.default_rng(4).integers(0, 256, (16, 24, 3), dtype=np.uint8)
    assert (shown(get(client, f"{stored(client, colour(samples))}/rendered", PNG)) == samples).all()


def test_a_big_endian_image(client: httpx.Client) -> None:
    ds = grey(RAMP, stored=12, WindowCenter="2048", WindowWidth="4096", PixelData=RAMP.astype(">u2").tobytes())
    response = dicomweb.post(client, [factories.part10(ds, ExplicitVRBigEndian)])
    assert response.status_code == 200
    assert (shown(get(client, f"{instance_path(ds)}/rendered", PNG)) == np.rint(RAMP / 4095 * 255)).all()


def test_quality(client: httpx.Client) -> None:
    noise = np.random.default_rng(4).integers(0, 256, (64, 64), dtype=np.uint8)
    path = stored(client, grey(noise, **SHOWN))
    sizes = [len(get(client, f"{path}/rendered?quality={quality}").content) for quality in (1, 50, 100)]
    assert sizes == sorted(set(sizes))
    assert get(client, f"{path}/rendered").content == get(client, f"{path}/rendered?quality=100").content
    assert get(client, f"{path}/rendered?Quality=1").content == get(client, f"{path}/rendered?quality=1").content
    assert get(client, f"{path}/rendered?quality=1", PNG).content == get(client, f"{path}/rendered", PNG).content


def test_frames(client: httpx.Client) -> None:
    path = stored(client, cine())
    assert (shown(get(client, f"{path}/rendered", PNG)) == 0).all()
    for number in range(1, 6):
        assert (shown(get(client, f"{path}/frames/{number}/rendered", PNG)) == 50 * (number - 1)).all()
    assert get(client, f"{path}/frames/6/rendered").status_code == 404


def test_a_gif_of_an_instance_moves_and_of_a_frame_does_not(client: httpx.Client) -> None:
    path = stored(client, cine(FrameTime="40"))
    for route, count in (("rendered", 5), ("frames/3/rendered", 1)):
        response = get(client, f"{path}/{route}", GIF)
        assert response.headers["content-type"] == GIF
        with Image.open(io.BytesIO(response.content)) as image:
            assert getattr(image, "n_frames", 1) == count


def test_window_viewport_and_annotation(client: httpx.Client) -> None:
    path = f"{stored(client, steps())}/rendered"
    assert (shown(get(client, f"{path}?viewport=20,10,5,7,20,10", PNG)) == STEPS[7:17, 5:25]).all()
    assert (shown(get(client, f"{path}?viewport=59,10,5,7,,10", PNG)) == STEPS[7:17, 5:]).all()
    assert (
        shown(get(client, f"{path}?window=50,21", PNG)) == np.rint(np.clip((STEPS - 49.5) / 20 + 0.5, 0, 1) * 255)
    ).all()
    exact = np.rint(np.clip((STEPS - 50.0) / 20 + 0.5, 0, 1) * 255)
    assert (shown(get(client, f"{path}?window=50,20,linear-exact", PNG)) == exact).all()
    assert (shown(get(client, f"{path}?annotation=patient", PNG)) != STEPS).any()
    for ignored in ("annotation=", "annotation=everything", "iccprofile=no", "charset=utf-8", "unheard=of"):
        assert (shown(get(client, f"{path}?{ignored}", PNG)) == STEPS).all()


INVALID = [
    "quality=0",
    "quality=101",
    "quality=-1",
    "quality=abc",
    "quality=1.5",
    "quality=",
    "window=",
    "window=40",
    "window=40,abc",
    "window=40,0",
    "window=40,0.5",
    "window=40,400,cubic",
    "window=40,0,sigmoid",
    "window=nan,400",
    "window=1,2,3,4",
    "viewport=",
    "viewport=100",
    "viewport=0,100",
    "viewport=100,-1",
    "viewport=100,9000",
    "viewport=1.5,100",
    "viewport=100,100,0,0",
    "viewport=100,100,0,0,0,10",
    "viewport=100,100,-1,0,10,10",
    "viewport=100,100,a,0,10,10",
    "iccprofile=perhaps",
    "iccprofile=adobergb",
    "charset=klingon",
    "charset=base64",
]


@pytest.mark.parametrize("query", INVALID)
def test_invalid_parameters(client: httpx.Client, query: str) -> None:
    # Before anything else is looked at: nothing is stored there, and nothing would be acceptable.
    path = f"{instance_path(factories.dataset())}/rendered?{query}"
    for accept in (JPEG, PNG, "text/csv"):
        response = get(client, path, accept)
        assert response.status_code == 400
        assert response.text.startswith(f"The query parameter '{query.partition('=')[0]}' is not valid. ")


def test_a_viewport_outside_the_image(client: httpx.Client) -> None:
    response = get(client, f"{stored(client, steps())}/rendered?viewport=10,10,64,0,5,5")
    assert response.status_code == 400
    assert "outside" in response.text


@pytest.mark.parametrize("frame", ["abc", "1.5", "1,2", "1,", "%20", "1-2"])
def test_a_frame_that_is_no_number(client: httpx.Client, frame: str) -> None:
    response = get(client, f"{instance_path(factories.dataset())}/frames/{frame}/rendered")
    assert response.status_code == 400
    assert response.text == "The specified frame is not valid. It must be one frame number."


NOWHERE = "/v2/studies/1.2.3.9.8.7"


@pytest.mark.parametrize(
    ("route", "accept", "status", "text"),
    [
        # Each row has every fault from its own on.
        ("/series/1/instances/x./frames/a/rendered?quality=0", "text/csv", 400, "The specified frame is not valid."),
        ("/series/1/instances/x./frames/0/rendered?quality=a", "text/csv", 400, "The query parameter 'quality'"),
        ("/series/1/instances/x./frames/0/rendered?quality=0", "text/csv", 400, "The specified SopInstanceUid"),
        ("/series/1/instances/1/frames/0/rendered?quality=0", "text/csv", 400, "The specified frame is not valid."),
        ("/series/1/instances/1/frames/1/rendered?quality=0", "text/csv", 400, "The query parameter 'quality'"),
        ("/series/1/instances/1/frames/1/rendered?window=0", "text/csv", 400, "The query parameter 'window'"),
        ("/series/1/instances/1/frames/1/rendered", "text/csv", 406, "The specified Accept header"),
        ("/series/1/instances/1/frames/1/rendered", JPEG, 404, "The specified instance"),
        ("/series/1/instances/1/rendered", JPEG, 404, "The specified instance"),
        ("/series/1/rendered", JPEG, 404, "The specified series"),
        ("/rendered", JPEG, 404, "The specified study"),
        ("/thumbnail", JPEG, 404, "The specified study"),
    ],
)
def test_the_order_of_checks(client: httpx.Client, route: str, accept: str, status: int, text: str) -> None:
    response = get(client, NOWHERE + route, accept)
    assert (response.status_code, response.text[: len(text)]) == (status, text)


def test_without_pixel_data(client: httpx.Client) -> None:
    path = stored(client, factories.dataset(PixelData=None))
    for route in ("rendered", "frames/1/rendered", "thumbnail"):
        for accept in (JPEG, PNG, "*/*", None):
            assert get(client, f"{path}/{route}", accept).status_code == 404


def test_pixels_that_cannot_be_decoded(client: httpx.Client) -> None:
    broken = factories.encapsulated([b"\xff\xd8 no picture \xff\xd9", b"\xff\xd8"])
    response = dicomweb.post(client, [broken])
    assert response.status_code == 200
    url = dicomweb.value(dicomweb.referenced(response)[0], "00081190")
    for route in ("rendered", "frames/2/rendered", "thumbnail"):
        refusal = get(client, f"{url}/{route}")
        assert refusal.status_code == 406
        assert refusal.headers["content-type"] == "text/plain; charset=utf-8"
        assert "Doe" not in refusal.text


def test_limits(tmp_path: Path) -> None:
    environment = {"DicomServer__Services__Retrieve__MaxDicomFileSize": "10000"}
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        # The file is larger than the limit, its frames are not.
        many = stored(client, cine())
        assert (shown(get(client, f"{many}/frames/5/rendered", PNG)) == 200).all()
        response = get(client, f"{many}/rendered", GIF)
        with Image.open(io.BytesIO(response.content)) as image:
            assert 1 < getattr(image, "n_frames", 1) < 5
        large = stored(client, grey(np.zeros((80, 128), np.uint8)))
        long = stored(client, factories.dataset(PixelData=None, ImageComments="x" * 10_000))
        for path in (large, long):
            refusal = get(client, f"{path}/rendered")
            assert refusal.status_code == 406
            assert "larger than this server decodes" in refusal.text


# --- documents ---


def test_a_report(client: httpx.Client) -> None:
    path = f"{stored(client, again(FULL))}/rendered"
    for accept in (None, "*/*", "text/html", CHROME_PAGE):
        page = get(client, path, accept)
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert "Right upper lobe" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
    text = get(client, f"{path}?charset=iso-8859-1", "text/plain")
    assert text.headers["content-type"] == "text/plain; charset=iso-8859-1"
    assert "Diameter: 12.5 mm" in text.text
    assert shown(get(client, path, PNG)).min() < 60
    assert get(client, path, "application/pdf").status_code == 406
    assert get(client, path.replace("/rendered", "/frames/1/rendered")).status_code == 404


def test_an_encapsulated_pdf(client: httpx.Client) -> None:
    path = f"{stored(client, document())}/rendered"
    for accept in (None, "*/*", "application/pdf", CHROME_PAGE):
        response = get(client, path, accept)
        assert (response.headers["content-type"], response.content[:5]) == ("application/pdf", b"%PDF-")
    refusal = get(client, path, JPEG)
    assert refusal.status_code == 406
    assert "application/pdf" in refusal.text


@pytest.mark.parametrize(("syntax", "media_type"), [(MPEG4HP41, "video/mp4"), (MPEG2MPML, "video/mpeg")])
def test_a_video_is_played_from_where_one_likes(client: httpx.Client, syntax: str, media_type: str) -> None:
    stream = bytes(range(256)) * 40
    response = dicomweb.post(client, [factories.encapsulated([stream], offset_table=False, syntax=syntax)])
    path = f"{dicomweb.value(dicomweb.referenced(response)[0], '00081190')}/rendered"
    for accept in (None, "*/*", media_type, "video/*", CHROME_PAGE):
        whole = get(client, path, accept)
        assert (whole.status_code, whole.headers["content-type"], whole.content) == (200, media_type, stream)
    part = get(client, path, "*/*", range="bytes=300-")
    assert (part.status_code, part.headers["content-range"]) == (206, "bytes 300-10239/10240")
    assert part.content == stream[300:]
    for route, accept in (("rendered", JPEG), ("rendered", "video/ogg"), ("frames/1/rendered", media_type)):
        assert get(client, path.replace("rendered", route), accept).status_code == 406


def test_a_picture_is_no_video(client: httpx.Client) -> None:
    refusal = get(client, f"{stored(client, steps())}/rendered", "video/mp4")
    assert (refusal.status_code, "image/jpeg" in refusal.text) == (406, True)


# --- studies and series ---


@pytest.fixture
def study(client: httpx.Client) -> list[Dataset]:
    """A report, then five images in one series and a segmentation."""
    report = again(FULL)
    segments = steps(Modality="SEG", StudyInstanceUID=report.StudyInstanceUID)
    series = factories.uid()
    images = [
        grey(
            np.full((48, 64), 50 * number, np.uint8),
            **SHOWN,
            StudyInstanceUID=report.StudyInstanceUID,
            SeriesInstanceUID=series,
            InstanceNumber=number,
        )
        for number in range(5)
    ]
    found = [report, segments, *images]
    for ds in found:
        dicomweb.store(client, ds)
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_one_image_stands_for_a_study_or_series(client: httpx.Client, study: list[Dataset], version: str) -> None:
    for path in (study_path(study[0], version), series_path(study[2], version)):
        assert (shown(get(client, f"{path}/rendered", PNG)) == 100).all()
        assert (shown(get(client, f"{path}/thumbnail", PNG)) == 100).all()
    assert get(client, f"{study_path(study[0])}/rendered").headers["content-type"] == JPEG
    assert get(client, f"{study_path(study[0])}/rendered", "image/png, image/jpeg").status_code == 406
    assert get(client, f"{series_path(study[0])}/rendered").headers["content-type"].startswith("text/html")


def test_all_images_of_a_study_as_parts(client: httpx.Client, study: list[Dataset]) -> None:
    response = get(client, f"{study_path(study[0])}/rendered?viewport=32,32", 'multipart/related; type="image/png"')
    found = parts(response)
    assert len(found) == 7
    wanted = {f"{client.base_url}{instance_path(ds)}/rendered" for ds in study}
    assert {part.headers["content-location"] for part in found} == wanted
    for part in found:
        assert part.headers["content-type"] == PNG
        assert max(pixels(part.body).shape) == 32
    levels = [int(pixels(part.body)[0, 0]) for part in found[2:]]
    assert levels == [0, 50, 100, 150, 200]


def test_parts_of_any_type_come_as_what_they_are(client: httpx.Client, study: list[Dataset]) -> None:
    found = parts(get(client, f"{study_path(study[0])}/rendered", 'multipart/related; type="*/*"'))
    assert [part.headers["content-type"].partition(";")[0] for part in found] == ["text/html", *[JPEG] * 6]


def test_a_study_without_anything_to_draw(client: httpx.Client) -> None:
    ds = factories.dataset(PixelData=None)
    dicomweb.store(client, ds)
    for accept in (JPEG, 'multipart/related; type="image/jpeg"'):
        for path in (study_path(ds), series_path(ds)):
            assert get(client, f"{path}/rendered", accept).status_code == 404
    assert get(client, f"{study_path(ds)}/thumbnail").status_code == 404


def test_documents_are_left_out_of_pictures(client: httpx.Client) -> None:
    image = steps()
    dicomweb.store(client, image, document(StudyInstanceUID=image.StudyInstanceUID))
    response = get(client, f"{study_path(image)}/rendered", 'multipart/related; type="image/png"')
    (part,) = parts(response)
    assert (pixels(part.body) == STEPS).all()


# --- thumbnails ---


@pytest.mark.parametrize("version", VERSIONS)
def test_a_thumbnail_is_small(client: httpx.Client, version: str) -> None:
    ds = grey(np.random.default_rng(4).integers(0, 256, (480, 640), dtype=np.uint8), **SHOWN)
    path = stored(client, ds, version)
    for route in (path, f"{path}/frames/1", series_path(ds, version), study_path(ds, version)):
        assert shown(get(client, f"{route}/thumbnail"), JPEG).shape == (96, 128)
        assert shown(
            get(client, f"{route}/thumbnail?viewport=64,64", "image/webp, image/png, */*"), "image/webp"
        ).shape[:2] == (
            48,
            64,
        )
        assert get(client, f"{route}/thumbnail", "text/html").status_code == 406
        assert get(client, f"{route}/thumbnail?viewport=0,0").status_code == 400


def test_the_middle_frame_stands_for_a_cine(client: httpx.Client) -> None:
    path = stored(client, cine())
    assert (shown(get(client, f"{path}/thumbnail", PNG)) == 100).all()
    assert (shown(get(client, f"{path}/frames/5/thumbnail", PNG)) == 200).all()
    assert get(client, f"{path}/frames/6/thumbnail").status_code == 404


def test_a_thumbnail_does_not_tell_whose_it_is(client: httpx.Client) -> None:
    path = stored(client, steps())
    plain = get(client, f"{path}/thumbnail", PNG).content
    assert get(client, f"{path}/thumbnail?annotation=patient,technique", PNG).content == plain
    for ds in (FULL, document()):
        assert shown(get(client, f"{stored(client, again(ds))}/thumbnail"), JPEG).shape == (128, 128)


def test_a_thumbnail_can_be_kept_and_asked_about(client: httpx.Client) -> None:
    ds = steps()
    path = stored(client, ds)
    first = get(client, f"{study_path(ds)}/thumbnail")
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for condition in (etag, f"W/{etag}", etag.strip('"'), f'"x", {etag}', "*"):
        again = get(client, f"{study_path(ds)}/thumbnail", **{"if-none-match": condition})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert get(client, f"{path}/thumbnail", **{"if-none-match": '"0"'}).status_code == 200
    # A study's thumbnail changes when another image becomes its middle.
    dicomweb.store(client, *(dicomweb.sibling(ds) for _ in range(3)))
    changed = get(client, f"{study_path(ds)}/thumbnail", **{"if-none-match": etag})
    assert changed.status_code == 200
    assert changed.headers["etag"] != etag


def test_in_a_partition(tmp_path: Path) -> None:
    environment = {"DicomServer__Features__EnableDataPartitions": "true"}
    ds = steps()
    with running(tmp_path / "data", environment=environment) as server, server.client() as client:
        response = dicomweb.post(client, [factories.part10(ds)], "/v2/partitions/a/studies")
        assert response.status_code == 200
        uids = f"studyUID={ds.StudyInstanceUID}&seriesUID={ds.SeriesInstanceUID}&objectUID={ds.SOPInstanceUID}"
        for path in (
            instance_path(ds) + "/rendered",
            instance_path(ds) + "/frames/1/rendered",
            series_path(ds) + "/rendered",
            study_path(ds) + "/thumbnail",
            f"/v2/wado?requestType=WADO&{uids}",
        ):
            assert get(client, path.replace("/v2", "/v2/partitions/a")).status_code == 200
            assert get(client, path.replace("/v2", "/v2/partitions/Microsoft.Default")).status_code == 404


def test_drawing_happens_elsewhere(client: httpx.Client, server: Any) -> None:
    """The process that answers loads neither numpy nor Pillow (they are 40 MB)."""
    get(client, f"{stored(client, steps())}/rendered")
    for pid in server.processes():
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"codec_process" not in command:
            assert b"_imaging" not in Path(f"/proc/{pid}/maps").read_bytes()
            assert b"numpy" not in Path(f"/proc/{pid}/maps").read_bytes()


def test_urls_with_escapes(client: httpx.Client) -> None:
    path = stored(client, steps())
    assert (shown(get(client, f"{path}/rendered?viewport={quote('20,10,5,7,20,10')}", PNG)) == STEPS[7:17, 5:25]).all()


# --- real files ---

UNIFORM = {
    "objects/GH1261.dcm",
    "objects/legacy-converted-ct.dcm",
    "objects/highdicom/seg_image_sm_dots_tiled_full.dcm",
    "objects/highdicom/sm_image_grayscale.dcm",
    "objects/highdicom/sm_image_grayscale_reversed.dcm",
    "objects/highdicom/sm_image_numbers.dcm",
}
"""Files whose first frame has one value throughout."""
WITHOUT_PICTURE = ("rtplan", "rtstruct", "presentation-state", "rwvm", "sm_annotations")
DOCUMENTS = ("encapsulated-pdf",)
REAL = [
    sample
    for number, sample in enumerate(LARGE_SET)
    # Slices of a series are alike.
    if (sample.name.startswith(("syntaxes/", "objects/")) or (sample.name.startswith("series/") and number % 10 == 0))
    and sample.outcomes[2] in ("stored", "stored-with-warning")
]


@pytest.mark.skipif(not REAL, reason=WITHOUT_LARGE)
def test_every_real_file_is_drawn_in_its_size_or_refused_as_it_should(client: httpx.Client) -> None:
    drawn = 0
    for sample in REAL:
        ds = pydicom_read(sample.path, force=True)
        response = dicomweb.post(client, [sample.path.read_bytes()])
        if response.status_code == 409:
            # The same image is there in several syntaxes, and other tests store some, too.
            client.delete(instance_path(ds))
            response = dicomweb.post(client, [sample.path.read_bytes()])
        url = dicomweb.value(dicomweb.referenced(response)[0], "00081190")
        picture = get(client, f"{url}/rendered", PNG)
        if any(name in sample.name for name in WITHOUT_PICTURE):
            assert picture.status_code == 404, sample.name
        elif any(name in sample.name for name in DOCUMENTS):
            assert picture.status_code == 406, sample.name
        else:
            values = shown(picture)
            if sample.frames and "Rows" in ds and "sr" not in sample.name:
                assert values.shape[:2] == (ds.Rows, ds.Columns), sample.name
            assert bool(values.std() > 0) is (sample.name not in UNIFORM), sample.name
            small = get(client, f"{url}/thumbnail")
            assert max(shown(small, JPEG).shape[:2]) == 128, sample.name
            drawn += 1
    assert drawn > 130

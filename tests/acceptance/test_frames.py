"""Frames of native and encapsulated pixel data (retrieve.md §6)."""

from collections.abc import Sequence
from typing import Any

import httpx
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import FRAMES, VERSIONS, instance_path, parts

pytestmark = pytest.mark.acceptance

EXPLICIT = str(ExplicitVRLittleEndian)
OCTETS = "application/octet-stream"
EXPLICIT_FRAMES = 'multipart/related; type="application/octet-stream"'


def put(client: httpx.Client, ds: Dataset, syntax: str = EXPLICIT) -> str:
    """Stores an instance; the path of its frames."""
    response = dicomweb.post(client, [factories.part10(ds, syntax)])
    assert response.status_code in (200, 202), response.text
    return f"{instance_path(ds)}/frames"


def get(client: httpx.Client, path: str, numbers: str, accept: str = FRAMES) -> httpx.Response:
    return client.get(f"{path}/{numbers}", headers={"accept": accept})


def bodies(client: httpx.Client, path: str, numbers: str, accept: str = FRAMES) -> list[bytes]:
    return [part.body for part in parts(get(client, path, numbers, accept))]


def native(frames: Sequence[bytes], **attributes: Any) -> Dataset:
    """An instance of 8-bit frames of 3 × 5 samples."""
    data = b"".join(frames)
    given = {"Rows": 3, "Columns": 5, "BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "NumberOfFrames": len(frames)}
    return factories.dataset(**{**given, "PixelData": data + bytes(len(data) % 2), **attributes})


FIVE = [bytes([number]) * 15 for number in range(5)]


@pytest.mark.parametrize("version", VERSIONS)
def test_one_frame_single_part(client: httpx.Client, version: str) -> None:
    path = put(client, native(FIVE)).replace("/v2/", f"/{version}/")
    response = get(client, path, "5", OCTETS)
    assert response.status_code == 200
    assert response.headers["content-type"] == f"{OCTETS}; transfer-syntax={EXPLICIT}"
    # 75 bytes of pixels and one of padding: the last frame comes without it.
    assert response.content == FIVE[4]
    assert int(response.headers["content-length"]) == 15


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ("1", [0]),
        ("1,2,3,4,5", [0, 1, 2, 3, 4]),
        ("5,1,3", [4, 0, 2]),
        ("2,2,2", [1, 1, 1]),
        ("1%2C3", [0, 2]),
        ("%201%20,%205%20", [0, 4]),
        (",".join("12345" * 5), [0, 1, 2, 3, 4] * 5),
    ],
)
def test_several_frames_come_in_the_order_asked(
    client: httpx.Client, numbers: str, expected: list[int], version: str
) -> None:
    path = put(client, native(FIVE)).replace("/v2/", f"/{version}/")
    for accept in (FRAMES, EXPLICIT_FRAMES, "*/*", 'multipart/related; type="*/*"'):
        received = parts(get(client, path, numbers, accept))
        assert [part.body for part in received] == [FIVE[number] for number in expected]
        assert all(part.length == len(part.body) for part in received)
        for part in received:
            assert part.headers == {"content-type": f"{OCTETS}; transfer-syntax={EXPLICIT}"}


@pytest.mark.parametrize(
    "numbers", ["abc", "1.5", "1,", ",1", "1,,2", "1-2", "%20", "1%202", "0x1", "0", "-1", "1,0", "1,-3", "١"]
)
def test_bad_frame_lists_are_400_even_where_nothing_is_stored(client: httpx.Client, numbers: str) -> None:
    for path in (put(client, native(FIVE)), "/v2/studies/1.2/series/1.3/instances/1.4/frames"):
        response = get(client, path, numbers, "text/html")
        assert response.status_code == 400
        assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_the_order_of_refusals(client: httpx.Client) -> None:
    nowhere = "/v2/studies/1.2/series/1.3/instances/1.4/frames"
    assert "frames" in get(client, "/v2/studies/x/series/1.3/instances/1.4/frames", "abc").text
    assert "StudyInstanceUid" in get(client, "/v2/studies/x/series/1.3/instances/1.4/frames", "0").text
    assert get(client, nowhere, "1,2", "image/jpeg").status_code == 406
    assert get(client, nowhere, "1,2", OCTETS).status_code == 400
    response = get(client, nowhere, "1", OCTETS)
    assert (response.status_code, response.text) == (404, "The specified instance cannot be found.")


@pytest.mark.parametrize("numbers", ["6", "1,6", "6,1", "2147483647", "9999999999"])
def test_a_frame_that_is_not_there_is_404_for_the_whole_request(client: httpx.Client, numbers: str) -> None:
    response = get(client, put(client, native(FIVE)), numbers)
    assert (response.status_code, response.text) == (404, "The specified frame cannot be found.")


@pytest.mark.parametrize("attributes", [{"PixelData": None}, {"Rows": None}, {"Columns": None}])
def test_no_frames_without_what_makes_them(client: httpx.Client, attributes: dict[str, None]) -> None:
    path = put(client, factories.dataset(**attributes))
    assert get(client, path, "1").status_code == 404


def test_no_frames_without_bits_allocated(client: httpx.Client) -> None:
    ds = factories.dataset()
    body = factories.part10(ds)
    at = body.index(b"\x28\x00\x00\x01US")
    response = dicomweb.post(client, [body[:at] + body[at + 10 :]])
    assert response.status_code == 200
    assert get(client, f"{instance_path(ds)}/frames", "1").status_code == 404


def test_float_pixel_data_are_no_frames(client: httpx.Client) -> None:
    ds = factories.dataset(PixelData=None, FloatPixelData=bytes(256), BitsAllocated=32)
    assert get(client, put(client, ds), "1").status_code == 404


@pytest.mark.parametrize(
    "accept",
    [
        "image/jp2",
        "image/jpeg",
        "image/jls",
        'multipart/related; type="image/jp2"; transfer-syntax=*',
        f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.4.90",
        f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2",
        "application/dicom",
        'multipart/related; type="application/dicom"',
    ],
)
def test_accept_headers_that_are_refused(client: httpx.Client, accept: str) -> None:
    assert get(client, put(client, native(FIVE)), "1", accept).status_code == 406


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian], ids=lambda uid: uid.name
)
def test_other_native_syntaxes(client: httpx.Client, syntax: str) -> None:
    samples = np.arange(3 * 4 * 5, dtype="<u2").reshape(3, 4, 5)
    ds = factories.dataset(NumberOfFrames=3, Rows=4, Columns=5, PixelData=samples.tobytes())
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = samples.astype(">u2").tobytes()
    path = put(client, ds, syntax)
    order = ">u2" if syntax == ExplicitVRBigEndian else "<u2"
    for number in range(3):
        (original,) = parts(get(client, path, str(number + 1)))
        assert original.headers["content-type"] == f"{OCTETS}; transfer-syntax={syntax}"
        assert original.body == samples[number].astype(order).tobytes()
        explicit = get(client, path, str(number + 1), OCTETS)
        assert explicit.headers["content-type"] == f"{OCTETS}; transfer-syntax={EXPLICIT}"
        assert explicit.content == samples[number].tobytes()


def test_frames_of_single_bits_are_repacked(client: httpx.Client) -> None:
    rng = np.random.default_rng(1)
    bits = rng.integers(0, 2, (5, 3, 5), dtype=np.uint8)  # 15 bits a frame: they begin and end inside bytes
    packed = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    one = {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "PixelData": packed + bytes(len(packed) % 2)}
    path = put(client, native(FIVE, **one))
    expected = [np.packbits(frame.reshape(-1), bitorder="little").tobytes() for frame in bits]
    assert bodies(client, path, "1,2,3,4,5") == expected
    assert [get(client, path, str(number), OCTETS).content for number in range(1, 6)] == expected


def test_colour_frames(client: httpx.Client) -> None:
    frames = [bytes(range(number, number + 45)) for number in range(3)]
    colour = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    path = put(client, native(frames, **colour))
    assert bodies(client, path, "3,1,2") == [frames[2], frames[0], frames[1]]


def encapsulated(data: bytes, count: int | None, **attributes: Any) -> Dataset:
    given = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "NumberOfFrames": count, "PixelData": data}
    if count is None:
        del given["NumberOfFrames"]
    ds = factories.dataset(**given, **attributes)
    ds["PixelData"].is_undefined_length = True
    return ds


JPEGS = [bytes([255, 216, number]) + bytes(range(number, number + 37)) for number in range(5)]


def extended() -> Dataset:
    data, offsets, lengths = encapsulate_extended(JPEGS)
    return encapsulated(data, 5, ExtendedOffsetTable=offsets, ExtendedOffsetTableLengths=lengths)


ENCAPSULATED = {
    "offset table": lambda: encapsulated(encapsulate(JPEGS), 5),
    "one fragment a frame": lambda: encapsulated(encapsulate(JPEGS, has_bot=False), 5),
    "several fragments a frame": lambda: encapsulated(encapsulate(JPEGS, fragments_per_frame=3), 5),
    "extended offset table": extended,
}


@pytest.mark.parametrize("kind", ENCAPSULATED)
@pytest.mark.parametrize("version", VERSIONS)
def test_encapsulated_frames_as_stored(client: httpx.Client, kind: str, version: str) -> None:
    path = put(client, ENCAPSULATED[kind](), JPEGBaseline8Bit).replace("/v2/", f"/{version}/")
    padded = [frame + bytes(len(frame) % 2) for frame in JPEGS]
    for accept in (FRAMES, "*/*"):
        received = parts(get(client, path, "4,1,5", accept))
        assert [part.body for part in received] == [padded[3], padded[0], padded[4]]
        for part in received:
            assert part.headers == {"content-type": f"{OCTETS}; transfer-syntax={JPEGBaseline8Bit}"}
    single = get(client, path, "2", f"{OCTETS}; transfer-syntax=*")
    assert single.content == padded[1]
    assert single.headers["content-type"] == f"{OCTETS}; transfer-syntax={JPEGBaseline8Bit}"
    assert get(client, path, "6").status_code == 404


@pytest.mark.parametrize("count", [1, None])
@pytest.mark.parametrize("has_table", [True, False])
def test_all_fragments_of_a_single_frame_belong_to_it(client: httpx.Client, count: int | None, has_table: bool) -> None:
    frame = bytes(range(200)) * 3
    ds = encapsulated(encapsulate([frame], fragments_per_frame=7, has_bot=has_table), count)
    assert bodies(client, put(client, ds, JPEGBaseline8Bit), "1") == [frame]


def test_broken_frames_are_not_decoded(client: httpx.Client) -> None:
    path = put(client, encapsulated(encapsulate(JPEGS), 5), JPEGBaseline8Bit)
    for accept in (OCTETS, EXPLICIT_FRAMES, 'multipart/related; type="image/jp2"'):
        assert get(client, path, "1", accept).status_code == 406
        # A frame that is missing is said to be so first.
        assert get(client, path, "6", accept).status_code == 404
    assert bodies(client, path, "1") == [JPEGS[0]]


def test_any_frame_of_many_is_found(client: httpx.Client) -> None:
    frames = [number.to_bytes(4, "big") * 3 for number in range(10_000)]
    ds = encapsulated(encapsulate(frames), len(frames))
    path = put(client, ds, JPEGBaseline8Bit)
    numbers = [1, 10_000, 5_000, 9_999, 2]
    assert bodies(client, path, ",".join(map(str, numbers))) == [frames[number - 1] for number in numbers]
    assert bodies(client, path, ",".join(str(number) for number in range(1, 301))) == frames[:300]

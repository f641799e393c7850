"""Bulk data: where metadata say it is, and the values themselves (PS3.18 §10.4.1.1.5, Annex F.2.6, F.2.7)."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from backports import zstd
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG4HP41,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import VERSIONS, Part, instance_path, parts, series_path, study_path
from tests.server import Server

pytestmark = pytest.mark.acceptance

EXPLICIT = str(ExplicitVRLittleEndian)
OCTETS = "application/octet-stream"
NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
LUT = np.arange(2000, dtype="<u2")
PIXELS = np.arange(64, dtype="<u2")
DOUBLES = np.arange(200, dtype="<f8")
Json = dict[str, Any]


def put(client: httpx.Client, ds: Dataset, syntax: str = EXPLICIT) -> str:
    """Stores an instance; its path."""
    response = dicomweb.post(client, [factories.part10(ds, syntax)])
    assert response.status_code in (200, 202), response.text
    assert not dicomweb.failed(response)
    return instance_path(ds)


def get(client: httpx.Client, path: str, accept: str = "*/*", **headers: str) -> httpx.Response:
    return client.get(path, headers={"accept": accept, **headers})


def rich(syntax: str = EXPLICIT, **attributes: Any) -> Dataset:
    """An instance with binary values of many kinds, at the top and in sequences; numbers in the syntax's byte order."""
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    deep, item = Dataset(), Dataset()
    deep.add_new(0x00420011, "OB", b"%PDF" + bytes(2000))
    item.CodeMeaning = "inner"
    item.ConceptNameCodeSequence = Sequence([deep])
    item.add_new("LUTData", "OW", LUT.astype(f"{order}u2").tobytes())
    item.LUTDescriptor = [2000, 0, 16]
    given = {"PixelData": PIXELS.astype(f"{order}u2").tobytes(), "ModalityLUTSequence": Sequence([Dataset(), item])}
    ds = factories.dataset(**{**given, **attributes})
    ds["PixelData"].VR = "OW"
    ds.add_new(0x00090010, "LO", "HOUNSFIELD TEST")
    ds.add_new(0x00091001, "OD", DOUBLES.astype(f"{order}f8").tobytes())
    ds.add_new(0x00091002, "UN", b"\1\2\3\4" * 300)
    ds.add_new(0x00091003, "OB", b"")
    return ds


EXPECTED = {
    "7FE00010": PIXELS.tobytes(),
    "00091001": DOUBLES.tobytes(),
    "00091002": b"\1\2\3\4" * 300,
    "00283000/2/00283006": LUT.tobytes(),
    "00283000/2/0040A043/1/00420011": b"%PDF" + bytes(2000),
}


def found(dataset: Json, path: str) -> Json:
    """The element at a path of tags and items."""
    steps = path.split("/")
    for sequence, item in zip(steps[:-1:2], steps[1::2], strict=True):
        dataset = dataset[sequence]["Value"][int(item) - 1]
    element: Json = dataset[steps[-1]]
    return element


def without_bulk(value: Any) -> Any:
    """DICOM JSON with bulk VRs left out at every depth."""
    if isinstance(value, list):
        return [without_bulk(entry) for entry in value]
    if isinstance(value, dict):
        kept = {name: entry for name, entry in value.items() if not is_bulk(entry)}
        return {name: without_bulk(entry) for name, entry in kept.items()}
    return value


def is_bulk(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("vr") in {"OB", "OD", "OF", "OL", "OV", "OW", "UN"}


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda uid: uid.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_every_value_is_where_the_metadata_say(client: httpx.Client, syntax: str, version: str) -> None:
    ds = rich(syntax)
    path = put(client, ds, syntax).replace("/v2/", f"/{version}/")
    plain = get(client, f"{path}/metadata").json()
    for level in (study_path, series_path, instance_path):
        response = get(client, f"{level(ds, version)}/metadata?bulkdata=uri")
        assert response.headers["content-type"] == "application/dicom+json"
        (dataset,) = response.json()
        assert without_bulk(dataset) == plain[0]
        assert list(dataset) == sorted(dataset)
    for where, value in EXPECTED.items():
        element = found(dataset, where)
        if len(value) <= 1024:
            assert base64.b64decode(element["InlineBinary"]) == value, where
            assert "BulkDataURI" not in element
            url = f"{path}/bulkdata/{where}"
        else:
            assert "InlineBinary" not in element
            url = element["BulkDataURI"]
            assert url == str(client.base_url.join(f"{path}/bulkdata/{where}"))
        response = get(client, url)
        assert response.status_code == 200
        assert response.content == value, where
        assert response.headers["content-type"] == f"{OCTETS}; transfer-syntax={EXPLICIT}"
        assert response.headers["accept-ranges"] == "bytes"
        assert int(response.headers["content-length"]) == len(value)
    assert dataset["00091003"].keys() == {"vr"}
    assert dataset["00283000"]["Value"][0] == {}
    stored = get(client, f"{path}/bulkdata/00283000/2/00283006", f"{OCTETS}; transfer-syntax=*")
    assert stored.content == LUT.astype(">u2" if syntax == ExplicitVRBigEndian else "<u2").tobytes()
    assert stored.headers["content-type"] == f"{OCTETS}; transfer-syntax={syntax}"


def test_inlined(client: httpx.Client) -> None:
    path = put(client, rich(PixelData=bytes(1024 * 1024 + 2)))
    (dataset,) = get(client, f"{path}/metadata?bulkdata=inline").json()
    for where, value in EXPECTED.items():
        element = found(dataset, where)
        if where == "7FE00010":
            assert element.keys() == {"vr", "BulkDataURI"}
        else:
            assert base64.b64decode(element["InlineBinary"]) == value


def test_inlined_values_of_one_instance_have_a_limit(client: httpx.Client) -> None:
    ds = factories.dataset(PixelData=None)
    ds.add_new(0x00090010, "LO", "HOUNSFIELD TEST")
    for number in range(20):
        ds.add_new(0x00091000 + number, "OB", bytes(1024 * 1024))
    path = put(client, ds)
    (dataset,) = get(client, f"{path}/metadata?bulkdata=inline").json()
    inline = ["InlineBinary" in dataset[f"000910{number:02X}"] for number in range(20)]
    assert inline == [True] * 16 + [False] * 4


def test_only_when_asked_for(client: httpx.Client) -> None:
    ds = rich()
    path = put(client, ds)
    plain = get(client, f"{path}/metadata")
    assert without_bulk(plain.json()) == plain.json()
    asking = "application/dicom+json; bulkdata=uri"
    assert get(client, f"{path}/metadata", asking).json() == get(client, f"{path}/metadata?bulkdata=uri").json()
    assert get(client, f"{path}/metadata", "Application/DICOM+json;BulkData=Inline, */*;q=0.1").json() != plain.json()
    assert get(client, f"{path.replace('/v2/', '/v1/')}/metadata", asking).json() == plain.json()


@pytest.mark.parametrize("query", ["bulkdata=", "bulkdata=all", "bulkdata=uri&bulkdata=uri", "bulkdata=true"])
def test_what_is_no_way_to_give_bulk_data_is_400(client: httpx.Client, query: str) -> None:
    nowhere = "/v2/studies/1.2"
    response = get(client, f"{nowhere}/metadata?{query}")
    assert response.status_code == 400
    assert "bulkdata" in response.text
    assert get(client, f"{nowhere}/metadata?{query}", "text/html").status_code == 406
    refused = get(client, f"{nowhere}/metadata", "application/dicom+json; bulkdata=all")
    assert (refused.status_code, refused.content) == (406, b"")
    assert get(client, f"{nowhere}/metadata?bulkdata=uri").status_code == 404


def test_validators_tell_the_forms_apart(client: httpx.Client) -> None:
    ds = rich()
    put(client, ds)
    for level in (study_path, series_path, instance_path):
        forms = ["", "?bulkdata=uri", "?bulkdata=inline"]
        tags = {form: get(client, f"{level(ds)}/metadata{form}").headers["etag"] for form in forms}
        assert len(set(tags.values())) == 3
        for form, tag in tags.items():
            for other in forms:
                answer = get(client, f"{level(ds)}/metadata{other}", **{"if-none-match": tag})
                assert answer.status_code == (304 if other == form else 200)


def test_a_series_of_many(client: httpx.Client) -> None:
    first = rich()
    datasets = [first, *(dicomweb.sibling(first, PixelData=bytes(2000 + 2 * number)) for number in range(20))]
    dicomweb.store(client, *datasets)
    for coding in ("identity", "gzip", "zstd"):
        answer = get(client, f"{series_path(first)}/metadata?bulkdata=uri", **{"accept-encoding": coding})
        body = zstd.decompress(answer.content) if coding == "zstd" else answer.content
        uris = {entry["7FE00010"].get("BulkDataURI") for entry in json.loads(body)}
        assert uris == {None, *(f"{client.base_url}{instance_path(ds)}/bulkdata/7FE00010" for ds in datasets[1:])}


# --- encapsulated pixel data ---

JPEGS = [b"\xff\xd8" + bytes([number]) * (37 + number) for number in range(5)]
PADDED = [frame + bytes(len(frame) % 2) for frame in JPEGS]


def encapsulated(data: bytes, frames: int, **attributes: Any) -> Dataset:
    given = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "NumberOfFrames": frames, "PixelData": data}
    ds = factories.dataset(**given, **attributes)
    ds["PixelData"].is_undefined_length = True
    return ds


@pytest.mark.parametrize(
    "accept", ["*/*", "image/*", 'multipart/related; type="image/jpeg"', 'multipart/related; type="*/*"']
)
@pytest.mark.parametrize("fragments", [1, 3])
def test_frames_of_compressed_pixel_data(client: httpx.Client, accept: str, fragments: int) -> None:
    ds = encapsulated(encapsulate(JPEGS, fragments_per_frame=fragments), 5)
    path = put(client, ds, JPEGBaseline8Bit)
    (dataset,) = get(client, f"{path}/metadata?bulkdata=inline").json()
    url = dataset["7FE00010"]["BulkDataURI"]
    response = get(client, url, accept)
    if accept == "image/*":  # a single part cannot hold five frames
        assert response.status_code == 406
        return
    received = parts(response)
    assert [part.body for part in received] == PADDED
    assert int(response.headers["content-length"]) == len(response.content)
    for number, part in enumerate(received, 1):
        assert part.length == len(part.body)
        assert part.headers == {
            "content-type": f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}",
            "content-location": f"{url}/frames/{number}",
        }
        single = get(client, part.headers["content-location"], "image/jpeg")
        assert single.content == part.body
        assert single.headers["content-type"] == f"image/jpeg; transfer-syntax={JPEGBaseline8Bit}"
    chosen = parts(get(client, f"{url}/frames/5,1", accept))
    assert [part.body for part in chosen] == [PADDED[4], PADDED[0]]
    assert get(client, f"{url}/frames/6").status_code == 404
    octets = parts(get(client, url, f'multipart/related; type="{OCTETS}"; transfer-syntax=*'))
    assert [part.body for part in octets] == PADDED
    assert octets[0].headers["content-type"] == f"{OCTETS}; transfer-syntax={JPEGBaseline8Bit}"
    # JPEGs that are none cannot be decoded.
    assert get(client, url, OCTETS).status_code == 406


def test_a_single_compressed_frame(client: httpx.Client) -> None:
    frame = bytes(range(200)) * 3
    path = put(client, encapsulated(encapsulate([frame], fragments_per_frame=7), 1), JPEGBaseline8Bit)
    for accept in ("*/*", "image/jpeg", f"{OCTETS}; transfer-syntax=*", "image/jp2, image/jpeg; q=0.1"):
        response = get(client, f"{path}/bulkdata/7FE00010", accept, range="bytes=10-19")
        assert (response.status_code, response.content) == (206, frame[10:20]), accept
    (part,) = parts(get(client, f"{path}/bulkdata/7FE00010", 'multipart/related; type="image/jpeg"'))
    assert part.body == frame
    assert part.headers["content-location"].endswith("/bulkdata/7FE00010")
    for accept in ("image/jp2", "image/jpeg; transfer-syntax=1.2.840.10008.1.2.4.70", "text/html"):
        assert get(client, f"{path}/bulkdata/7FE00010", accept).status_code == 406


def test_a_video_is_one_piece(client: httpx.Client) -> None:
    stream = bytes(range(256)) * 40
    ds = encapsulated(encapsulate([stream], fragments_per_frame=4, has_bot=False), 50)
    url = f"{put(client, ds, MPEG4HP41)}/bulkdata/7FE00010"
    response = get(client, url)
    assert (response.status_code, response.content) == (200, stream)
    assert response.headers["content-type"] == f"video/mp4; transfer-syntax={MPEG4HP41}"
    # A player seeks, across fragments as well.
    for first, last in ((0, 0), (2000, 8000), (2559, 2560), (10_000, 10_239)):
        answer = get(client, f"{url}?accept=video/mp4", "text/html", range=f"bytes={first}-{last}")
        assert answer.status_code == 206
        assert answer.content == stream[first : last + 1]


def test_an_icon(client: httpx.Client) -> None:
    icon = encapsulated(encapsulate([b"\xff\xd8icon"]), 1)
    item = Dataset()
    item.add(icon["PixelData"])
    ds = encapsulated(encapsulate(JPEGS[:1]), 1, IconImageSequence=Sequence([item]))
    path = put(client, ds, JPEGBaseline8Bit)
    assert get(client, f"{path}/bulkdata/00880200/1/7FE00010").content == b"\xff\xd8icon"
    bodies = [part.body for part in parts(get(client, f"{path}/bulkdata"))]
    assert bodies == [b"\xff\xd8icon", PADDED[0]]


# --- documents ---


PDF = b"%PDF-1.7\nhello!"


def document(media_type: str, content: bytes = PDF, length: int | None = None) -> Dataset:
    ds = factories.dataset(PixelData=None, MIMETypeOfEncapsulatedDocument=media_type)
    if length is not None:
        ds.EncapsulatedDocumentLength = length
    ds.add_new(0x00420011, "OB", content)
    return ds


@pytest.mark.parametrize("length", [None, 13, 14, 15, 16, 2**32 - 1])
def test_a_pdf_is_a_pdf(client: httpx.Client, length: int | None) -> None:
    url = f"{put(client, document('application/pdf', length=length))}/bulkdata/00420011"
    # The padding byte is no part of the document, if the instance says how long that is.
    expected = PDF if length == len(PDF) else PDF + b"\0"
    for accept in ("*/*", "application/pdf", "text/html, application/*;q=0.9"):
        response = get(client, url, accept)
        assert response.headers["content-type"] == "application/pdf"
        assert response.content == expected
    octets = get(client, url, OCTETS)
    assert octets.headers["content-type"].startswith(OCTETS)
    assert octets.content == PDF + b"\0"
    (part,) = parts(get(client, url, 'multipart/related; type="application/pdf"'))
    assert part.headers["content-type"] == "application/pdf"
    assert part.body == expected


@pytest.mark.parametrize("media_type", ["text/html", "image/svg+xml", "text/xml", "", "application/pdf\r\nX: y"])
def test_a_document_that_might_be_run_is_only_bytes(client: httpx.Client, media_type: str) -> None:
    url = f"{put(client, document(media_type, b'<script>'))}/bulkdata/00420011"
    response = get(client, url, "*/*")
    assert response.headers["content-type"] == f"{OCTETS}; transfer-syntax={EXPLICIT}"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert get(client, url, "text/html").status_code == 406


# --- everything at once ---


@pytest.mark.parametrize("version", VERSIONS)
def test_all_bulk_data_of_a_study(client: httpx.Client, version: str) -> None:
    first = rich()
    compressed = encapsulated(encapsulate(JPEGS), 5, StudyInstanceUID=first.StudyInstanceUID)
    other = dicomweb.sibling(first, PixelData=bytes(range(200)) * 20)
    put(client, first)
    put(client, other)
    put(client, compressed, JPEGBaseline8Bit)
    first_url, other_url, compressed_url = (
        f"{client.base_url}{instance_path(ds, version)}/bulkdata" for ds in (first, other, compressed)
    )
    expected = {f"{first_url}/{where}": value for where, value in EXPECTED.items()}
    assert located(get(client, f"{instance_path(first, version)}/bulkdata")) == expected
    expected[f"{other_url}/7FE00010"] = other.PixelData
    assert located(get(client, f"{series_path(first, version)}/bulkdata")) == expected
    expected |= {f"{compressed_url}/7FE00010/frames/{number}": frame for number, frame in enumerate(PADDED, 1)}
    for accept in ("*/*", 'multipart/related; type="*/*"', f'multipart/related; type="{OCTETS}"; transfer-syntax=*'):
        assert located(get(client, f"{study_path(first, version)}/bulkdata", accept)) == expected
    for url, value in expected.items():
        assert get(client, url).content == value
    refused = get(client, f"{study_path(first, version)}/bulkdata", f'multipart/related; type="{OCTETS}"')
    assert refused.status_code == 406
    assert str(JPEGBaseline8Bit) in refused.text


def located(response: httpx.Response) -> dict[str, bytes]:
    """The bodies of a multipart answer by their addresses."""
    received: list[Part] = parts(response)
    bodies = {part.headers["content-location"]: part.body for part in received}
    assert len(bodies) == len(received)
    assert all(part.length == len(part.body) for part in received)
    return bodies


def test_what_was_taken_apart_can_be_stored_again(client: httpx.Client) -> None:
    """Metadata with BulkDataURIs and the bulk data parts are a STOW-RS request (PS3.18 §10.5.2)."""
    ds = encapsulated(encapsulate(JPEGS), 5)
    path = put(client, ds, JPEGBaseline8Bit)
    metadata = get(client, f"{path}/metadata?bulkdata=uri").content
    bulk = get(client, f"{path}/bulkdata")
    boundary = bulk.headers["content-type"].partition("boundary=")[2]
    client.delete(path)
    body = f"--{boundary}\r\nContent-Type: application/dicom+json\r\n\r\n".encode() + metadata + b"\r\n" + bulk.content
    kind = f'multipart/related; type="application/dicom+json"; boundary={boundary}'
    answer = client.post("/v2/studies", content=body, headers={"content-type": kind, "accept": "*/*"})
    assert answer.status_code in (200, 202), answer.text
    again = get(client, f"{path}/frames/2,5")
    assert [part.body for part in parts(again)] == [PADDED[1], PADDED[4]]


# --- refusals ---


@pytest.mark.parametrize(
    "path",
    ["x", "7FE0001", "7FE000100", "7fe00010/1", "00283000/0/00283006", "7FE00010//", "7FE00010/frames/0", "a//b"],
)
def test_what_is_no_path_to_a_value_is_400(client: httpx.Client, path: str) -> None:
    response = get(client, f"/v2/studies/1.2/series/1.3/instances/1.4/bulkdata/{path}", "text/html")
    assert response.status_code == 400
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert get(client, f"/v2/studies/x/series/1.3/instances/1.4/bulkdata/{path}").text == response.text


def test_the_order_of_refusals(client: httpx.Client) -> None:
    nowhere = "/v2/studies/1.2/series/1.3/instances/1.4/bulkdata"
    assert "SeriesInstanceUid" in get(client, nowhere.replace("1.3", "x") + "/7FE00010", "text/html").text
    missing = get(client, f"{nowhere}/7FE00010", "text/html")
    assert (missing.status_code, missing.text) == (404, "The specified instance cannot be found.")
    assert get(client, nowhere, "text/html").status_code == 406
    assert get(client, nowhere).status_code == 404
    path = put(client, factories.dataset())
    for absent in ("00281201", "00100010", "00283000/1/00283006", "7FE00010/frames/2"):
        assert get(client, f"{path}/bulkdata/{absent}", "*/*").status_code == 404, absent
    assert get(client, f"{path}/bulkdata/7FE00010", "text/html").status_code == 406
    assert get(client, f"{path}/bulkdata/7fe00010", OCTETS).status_code == 200
    assert get(client, put(client, factories.dataset(PixelData=None)) + "/bulkdata").status_code == 404
    deep = "/".join(["00283000/1"] * 64) + "/00283006"
    assert get(client, f"{path}/bulkdata/{deep}").status_code == 404
    assert get(client, f"{path}/bulkdata/{'00283000/1/' * 100}00283006").status_code == 404
    assert client.post(f"{path}/bulkdata/7FE00010").status_code == 405


def test_a_file_that_is_gone_or_damaged(tmp_path: Path) -> None:
    server = Server(tmp_path / "data", [*QUIET, "--workers", "1"])
    try:
        server.start()
        with server.client() as client:
            first = rich()
            dicomweb.store(client, first, dicomweb.sibling(first))
            (file,) = (server.data_dir / "dicom").rglob(f"{first.SOPInstanceUID}_*.dcm")
            content = file.read_bytes()
            urls = [f"{instance_path(first)}/bulkdata/7FE00010", f"{study_path(first)}/bulkdata"]
            urls.append(f"{study_path(first)}/metadata?bulkdata=uri")
            for damaged in (content[:600], b"", None):
                if damaged is None:
                    file.unlink()
                else:
                    file.write_bytes(damaged)
                for url in urls:
                    assert get(client, url).status_code == 500, (damaged, url)
            file.write_bytes(content)
            assert get(client, urls[0]).status_code == 200
        assert server.stop() == 0
    finally:
        server.end()


@pytest.mark.slow
def test_two_gigabytes_of_one_value(tmp_path: Path) -> None:
    """Flat memory, in whole and in ranges, in other byte order as well."""
    from tests.acceptance.test_memory import FLAT, watched

    server = Server(tmp_path / "data", [*QUIET, "--workers", "1"])
    length = 2_000_000_000
    ds = factories.dataset(Rows=1000, Columns=500, NumberOfFrames=2000)
    try:
        server.start()
        with server.client() as client:
            put(client, ds, ExplicitVRBigEndian)
            (file,) = (server.data_dir / "dicom").rglob("*.dcm")
            header = file.read_bytes()[:-132]
            with file.open("wb") as out:
                out.write(header + length.to_bytes(4, "big"))
                out.truncate(len(header) + 4 + length)
                out.seek(len(header) + 4 + length - 6)
                out.write(b"abcdef")
            url = f"{instance_path(ds)}/bulkdata/7FE00010"
            get(client, url, range="bytes=0-0")
            with watched(server) as memory:
                for accept, end in ((f"{OCTETS}; transfer-syntax=*", b"abcdef"), (OCTETS, b"badcfe")):
                    size, tail = 0, b""
                    with client.stream("GET", url, headers={"accept": accept}) as response:
                        for chunk in response.iter_raw():
                            size += len(chunk)
                            tail = (tail + chunk)[-6:]
                    assert (size, tail) == (length, end)
                answer = get(client, url, OCTETS, range="bytes=-5")
                assert answer.content == b"adcfe"
                assert answer.headers["content-range"] == f"bytes {length - 5}-{length - 1}/{length}"
                before, peak = memory()
            assert peak - before < FLAT
        assert server.stop() == 0
    finally:
        server.end()

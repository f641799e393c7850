"""Metadata at the three levels, and its validators (retrieve.md §7)."""

import gzip
import json
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from backports import zstd
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import VERSIONS, instance_path, series_path, study_path, value

pytestmark = pytest.mark.acceptance

LEVELS = (study_path, series_path, instance_path)


def metadata(client: httpx.Client, path: str, **headers: str) -> httpx.Response:
    return client.get(f"{path}/metadata", headers={"accept": "application/dicom+json", **headers})


@pytest.mark.parametrize("version", VERSIONS)
def test_every_level_gives_an_array(client: httpx.Client, version: str) -> None:
    first = factories.dataset()
    same, other = dicomweb.sibling(first), dicomweb.sibling(first, same_series=False)
    dicomweb.store(client, first, same, other, factories.dataset())
    for path, expected in ((study_path, [first, same, other]), (series_path, [first, same]), (instance_path, [first])):
        response = metadata(client, path(first, version))
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/dicom+json"
        uids = [value(ds, "00080018") for ds in response.json()]
        assert sorted(uids) == sorted(ds.SOPInstanceUID for ds in expected)


def test_content(client: httpx.Client) -> None:
    item, inner = Dataset(), Dataset()
    inner.add_new(0x00420011, "OB", b"%PDF")
    inner.CodeMeaning = "inner"
    item.CodeValue = "C-1"
    item.add_new(0x00091010, "UN", b"\1\2")
    item.ConceptNameCodeSequence = Sequence([inner])
    ds = factories.dataset(
        SpecificCharacterSet="ISO_IR 192",
        PatientName="Wang^XiaoDong=王^小东=ㄨㄤ",
        InstanceNumber=7,
        ImageType=["ORIGINAL", "PRIMARY"],
        PixelSpacing=["0.5", "1.25"],
        AccessionNumber="",
        RedPaletteColorLookupTableData=b"\1\2",
        ImageComments="Ünïcode \\ text",
        AnatomicRegionSequence=Sequence([item, Dataset()]),
    )
    ds.add_new(0x00090010, "LO", "HOUNSFIELD TEST")
    ds.add_new(0x00091001, "LT", "private")
    ds.add_new(0x00091002, "UN", b"\0\1")
    ds.add_new(0x00091003, "FD", [1.5, -2.0])
    ds.add_new(0x00080119, "UC", "unlimited")
    dicomweb.store(client, ds)
    (found,) = metadata(client, instance_path(ds)).json()
    assert list(found) == sorted(found)
    assert not [tag for tag in found if tag.startswith("0002")]
    for tag in ("7FE00010", "00281201", "00091002"):
        assert tag not in found
    assert found["00080005"] == {"vr": "CS", "Value": ["ISO_IR 192"]}
    assert found["00080008"] == {"vr": "CS", "Value": ["ORIGINAL", "PRIMARY"]}
    assert found["00080050"] == {"vr": "SH"}
    assert found["00080119"] == {"vr": "UC", "Value": ["unlimited"]}
    name = {"Alphabetic": "Wang^XiaoDong", "Ideographic": "王^小东", "Phonetic": "ㄨㄤ"}
    assert found["00100010"] == {"vr": "PN", "Value": [name]}
    assert found["00200013"] == {"vr": "IS", "Value": [7]}
    assert found["00280030"] == {"vr": "DS", "Value": [0.5, 1.25]}
    assert found["00204000"] == {"vr": "LT", "Value": ["Ünïcode \\ text"]}
    assert found["00091001"] == {"vr": "LT", "Value": ["private"]}
    assert found["00091003"] == {"vr": "FD", "Value": [1.5, -2.0]}
    assert found["00082218"] == {
        "vr": "SQ",
        "Value": [
            {
                "00080100": {"vr": "SH", "Value": ["C-1"]},
                "0040A043": {"vr": "SQ", "Value": [{"00080104": {"vr": "LO", "Value": ["inner"]}}]},
            },
            {},
        ],
    }


def test_the_body_is_utf_8_whatever_the_file_s_character_set(client: httpx.Client) -> None:
    ds = factories.dataset(SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Ärzte")
    dicomweb.store(client, ds)
    response = metadata(client, instance_path(ds))
    assert "Müller^Ärzte".encode() in response.content
    assert value(json.loads(response.content.decode())[0], "00100010") == {"Alphabetic": "Müller^Ärzte"}


@pytest.mark.parametrize(
    "accept", ["application/json", "application/*", "*/*", "Application/DICOM+JSON; charset=utf-8", ""]
)
def test_accept_headers_that_are_satisfied(client: httpx.Client, accept: str) -> None:
    ds = factories.dataset()
    dicomweb.store(client, ds)
    for path in LEVELS:
        response = metadata(client, path(ds), accept=accept)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/dicom+json"


@pytest.mark.parametrize("accept", ["application/dicom", "application/dicom+xml", "text/html", "application/data"])
def test_the_accept_check_comes_first_and_has_no_body(client: httpx.Client, accept: str) -> None:
    for path in ("1.2", "1.2/series/1.3", "1.2/series/1.3/instances/1.4", "nonsense"):
        response = metadata(client, f"/v2/studies/{path}", accept=accept)
        assert response.status_code == 406
        assert response.content == b""


def test_then_the_uids_then_existence(client: httpx.Client) -> None:
    assert metadata(client, "/v2/studies/nonsense").status_code == 400
    ds = factories.dataset()
    for path, level in zip(LEVELS, ("study", "series", "instance"), strict=True):
        response = metadata(client, path(ds), **{"if-none-match": "*"})
        assert response.status_code == 404
        assert response.text == f"The specified {level} cannot be found."


def version_of(client: httpx.Client, ds: Dataset) -> int:
    return int(metadata(client, instance_path(ds)).headers["etag"])


@pytest.mark.parametrize("version", VERSIONS)
def test_etags(client: httpx.Client, version: str) -> None:
    first, second = factories.dataset(), factories.dataset()
    second.StudyInstanceUID = first.StudyInstanceUID
    dicomweb.store(client, first)
    assert metadata(client, study_path(first, version)).headers["etag"] == f"{version_of(client, first)}-1"
    dicomweb.store(client, second)
    newest = version_of(client, second)
    assert newest > version_of(client, first)
    tags = {path: metadata(client, path(first, version)).headers["etag"] for path in LEVELS}
    assert tags[study_path] == f"{newest}-2"
    assert tags[series_path] == f"{version_of(client, first)}-1"
    assert tags[instance_path] == f"{version_of(client, first)}"


@pytest.mark.parametrize("path", LEVELS)
@pytest.mark.parametrize("spelling", ["{}", '"{}"', 'W/"{}"', "W/{}", '"x", "{}"', "x, {}", "*", "x ,  {}"])
def test_if_none_match(client: httpx.Client, path: Any, spelling: str) -> None:
    ds = factories.dataset()
    dicomweb.store(client, ds)
    etag = metadata(client, path(ds)).headers["etag"]
    response = metadata(client, path(ds), **{"if-none-match": spelling.format(etag)})
    assert response.status_code == 304
    assert response.content == b""
    assert "etag" not in response.headers


@pytest.mark.parametrize("path", LEVELS)
@pytest.mark.parametrize("spelling", ["{}0", "0", '""', "", "{}-1x", '"x"'])
def test_if_none_match_of_something_else(client: httpx.Client, path: Any, spelling: str) -> None:
    ds = factories.dataset()
    dicomweb.store(client, ds)
    etag = metadata(client, path(ds)).headers["etag"]
    response = metadata(client, path(ds), **{"if-none-match": spelling.format(etag)})
    assert response.status_code == 200
    assert response.headers["etag"] == etag


def test_a_validator_ends_with_every_change(client: httpx.Client) -> None:
    first, second = factories.dataset(), factories.dataset()
    second.StudyInstanceUID = first.StudyInstanceUID
    seen: set[str] = set()

    def changed() -> None:
        response = metadata(client, study_path(first))
        assert response.headers["etag"] not in seen
        for etag in seen:
            assert metadata(client, study_path(first), **{"if-none-match": etag}).status_code == 200
        seen.add(response.headers["etag"])

    dicomweb.store(client, first)
    changed()
    dicomweb.store(client, second)
    changed()
    client.delete(instance_path(second))
    # The state of before second came is back, and so may be its validator: the content is the same.
    assert metadata(client, study_path(first)).json() == metadata(client, instance_path(first)).json()
    client.delete(instance_path(first))
    assert metadata(client, study_path(first)).status_code == 404
    dicomweb.store(client, first)
    changed()


def test_a_series_larger_than_a_page(client: httpx.Client) -> None:
    first = factories.dataset(PixelData=None)
    datasets = [first, *(dicomweb.sibling(first, PixelData=None) for _ in range(1200))]
    for start in range(0, len(datasets), 200):
        dicomweb.store(client, *datasets[start : start + 200])
    for path in (study_path, series_path):
        response = metadata(client, path(first))
        uids = [value(ds, "00080018") for ds in response.json()]
        assert sorted(uids) == sorted(ds.SOPInstanceUID for ds in datasets)
        assert response.headers["etag"].endswith(f"-{len(datasets)}")


# --- content codings ---


def raw(client: httpx.Client, path: str, coding: str | None, **headers: str) -> tuple[httpx.Response, bytes]:
    """The answer, and its body as it came over the wire."""
    request = client.build_request("GET", path, headers={"accept": "application/dicom+json", **headers})
    del request.headers["accept-encoding"]
    if coding is not None:
        request.headers["accept-encoding"] = coding
    response = client.send(request, stream=True)
    body = b"".join(response.iter_raw())
    response.close()
    return response, body


DECODERS: dict[str | None, Callable[[bytes], bytes]] = {None: bytes, "gzip": gzip.decompress, "zstd": zstd.decompress}


@pytest.fixture(scope="module")
def many(client: httpx.Client) -> Dataset:
    """The first instance of a series of more than one page."""
    first = factories.dataset(PixelData=None)
    for _ in range(3):
        dicomweb.store(client, *(dicomweb.sibling(first, PixelData=None) for _ in range(100)))
    dicomweb.store(client, first)
    return first


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", LEVELS)
@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br", None),
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("gzip;q=0.5, zstd;q=0.4", "gzip"),
        ("gzip;q=0, *", "zstd"),
        ("identity, gzip;q=0.9", None),
    ],
)
def test_content_codings(
    client: httpx.Client, many: Dataset, path: Any, version: str, accepted: str | None, expected: str | None
) -> None:
    url = f"{path(many, version)}/metadata"
    plain, text = raw(client, url, None)
    response, body = raw(client, url, accepted)
    assert response.headers.get("content-encoding") == expected
    assert DECODERS[expected](body) == text
    assert len(json.loads(text)) == (1 if path is instance_path else 301)
    assert (len(body) < len(text) / 2) is (expected is not None)
    for answer in (plain, response):
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-type"] == "application/dicom+json"
        assert answer.headers["etag"] == plain.headers["etag"]
    unchanged, nothing = raw(client, url, accepted, **{"if-none-match": plain.headers["etag"]})
    assert (unchanged.status_code, nothing) == (304, b"")
    assert unchanged.headers["vary"] == "Accept-Encoding"


def test_one_instance_is_sent_as_it_is_kept_and_a_series_as_small_as_can_be(
    client: httpx.Client, many: Dataset
) -> None:
    everything = "gzip, deflate, br, zstd"
    assert raw(client, f"{instance_path(many)}/metadata", everything)[0].headers["content-encoding"] == "gzip"
    assert raw(client, f"{series_path(many)}/metadata", everything)[0].headers["content-encoding"] == "zstd"


def test_refusals_are_never_compressed(client: httpx.Client) -> None:
    for path in ("/v2/studies/1.2/metadata", "/v2/studies/x/metadata"):
        response, body = raw(client, path, "gzip, zstd")
        assert response.status_code in (400, 404)
        assert "content-encoding" not in response.headers
        assert body.decode().startswith("The specified")


def test_searches_are_compressed_as_well(client: httpx.Client, many: Dataset) -> None:
    search = f"{series_path(many)}/instances?includefield=all"
    plain, text = raw(client, search, None)
    assert plain.headers["vary"] == "Accept-Encoding"
    assert len(json.loads(text)) == 100
    for coding in ("gzip", "zstd"):
        response, body = raw(client, search, coding)
        assert response.headers["content-encoding"] == coding
        assert DECODERS[coding](body) == text
    # What is smaller than a packet stays as it is.
    small, _ = raw(client, f"{search}&limit=1", "gzip")
    assert small.headers["vary"] == "Accept-Encoding"
    none, _ = raw(client, f"/v2/studies?StudyInstanceUID={factories.uid()}", "gzip")
    assert none.status_code == 204


# --- the original version ---


@pytest.mark.parametrize("value", ["true", "True", "TRUE", "false", "nonsense", ""])
@pytest.mark.parametrize("version", VERSIONS)
def test_an_instance_that_was_never_updated_is_its_own_original(client: httpx.Client, value: str, version: str) -> None:
    """retrieve.md §9: until there are updates, the header changes nothing, on files and on metadata."""
    ds = factories.dataset()
    dicomweb.store(client, ds, dicomweb.sibling(ds))
    for path in LEVELS:
        url = path(ds, version)
        plain, asked = (metadata(client, url, **more) for more in ({}, {"msdicom-request-original": value}))
        assert asked.status_code == 200
        assert (asked.content, asked.headers["etag"]) == (plain.content, plain.headers["etag"])
        etag = {"msdicom-request-original": value, "if-none-match": plain.headers["etag"]}
        assert metadata(client, url, **etag).status_code == 304
        headers = {"accept": dicomweb.ORIGINALS, "msdicom-request-original": value}
        latest = dicomweb.parts(client.get(url, headers={"accept": dicomweb.ORIGINALS}))
        original = dicomweb.parts(client.get(url, headers=headers))
        assert [part.body for part in original] == [part.body for part in latest]
    frame = client.get(f"{instance_path(ds)}/frames/1", headers={"msdicom-request-original": value})
    assert dicomweb.parts(frame)[0].body == ds.PixelData

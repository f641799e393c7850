"""Retrieve studies, series and instances (retrieve.md §§1–5, 10)."""

import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINAL, ORIGINALS, VERSIONS, instance_path, parts, series_path, study_path
from tests.server import Server

pytestmark = pytest.mark.acceptance

EXPLICIT = str(ExplicitVRLittleEndian)
MULTIPART = 'multipart/related; type="application/dicom"'


def get(client: httpx.Client, path: str, accept: str = "*/*") -> httpx.Response:
    return client.get(path, headers={"accept": accept})


def put(client: httpx.Client, *files: bytes) -> None:
    response = dicomweb.post(client, files)
    assert response.status_code in (200, 202), response.text
    assert not dicomweb.failed(response)


# --- as stored ---


@pytest.mark.parametrize("version", VERSIONS)
def test_one_instance_as_it_was_stored(client: httpx.Client, version: str) -> None:
    ds = factories.dataset()
    body = factories.part10(ds)
    put(client, body)
    single = get(client, instance_path(ds, version), ORIGINAL)
    assert single.status_code == 200
    assert single.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
    assert single.content == body
    for accept in (ORIGINALS, "*/*", 'multipart/related; type="*/*"'):
        (part,) = parts(get(client, instance_path(ds, version), accept))
        assert part.headers == {"content-type": f"application/dicom; transfer-syntax={EXPLICIT}"}
        assert part.body == body
    for answer in (single, get(client, instance_path(ds, version), ORIGINALS)):
        absent = {"content-location", "etag", "last-modified", "warning"}
        assert not absent & {name.lower() for name in answer.headers}
        assert answer.headers["api-supported-versions"] == "1.0-prerelease, 1, 2"


def test_without_accept_header_it_is_the_original(client: httpx.Client) -> None:
    ds = factories.dataset()
    body = factories.encapsulated(
        [b"jpeg"], **{name: ds[name].value for name in ("SOPInstanceUID", "StudyInstanceUID")}
    )
    put(client, body)
    request = client.build_request("GET", study_path(ds))
    del request.headers["accept"]
    (part,) = parts(client.send(request))
    assert part.body == body


@pytest.fixture(scope="module")
def mixed(client: httpx.Client) -> tuple[Dataset, dict[str, list[bytes]]]:
    """A study of two series; its files by the path below which they are found. Sizes from tiny to several reads."""
    first = factories.dataset()
    other = dicomweb.sibling(first, same_series=False)
    files: dict[str, list[bytes]] = {study_path(first): [], series_path(first): [], series_path(other): []}
    sizes = [1000 * number + 10 for number in range(40)]
    for place, size in ((3, 3 << 20), (4, (1 << 20) + 2), (9, 100_000), (25, 2 << 20), (40, 70_000), (45, 3 << 20)):
        sizes.insert(place, size)
    for number, size in enumerate(sizes):
        series = other if number % 3 == 0 else first
        ds = dicomweb.sibling(series, PixelData=bytes([number % 251]) * 10 + bytes(range(250)) * (size // 250))
        syntax = (EXPLICIT, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian)[number % 4]
        body = factories.part10(ds, syntax)
        files[study_path(first)].append(body)
        files[series_path(ds)].append(body)
    for start in range(0, len(files[study_path(first)]), 10):
        put(client, *files[study_path(first)][start : start + 10])
    return first, files


@pytest.mark.parametrize("version", VERSIONS)
def test_a_study_and_its_series_hold_every_instance(
    client: httpx.Client, mixed: tuple[Dataset, dict[str, list[bytes]]], version: str
) -> None:
    for path, files in mixed[1].items():
        response = get(client, path.replace("/v2/", f"/{version}/"), ORIGINALS)
        received = parts(response)
        assert sorted(part.body for part in received) == sorted(files)
        assert int(response.headers["content-length"]) == len(response.content)
        assert all(part.length == len(part.body) for part in received)
        for part in received:
            syntax = pydicom.dcmread(io.BytesIO(part.body), stop_before_pixels=True).file_meta.TransferSyntaxUID
            assert part.headers == {"content-type": f"application/dicom; transfer-syntax={syntax}"}


def test_what_is_none_of_its_own_is_left_out(
    client: httpx.Client, mixed: tuple[Dataset, dict[str, list[bytes]]]
) -> None:
    first, files = mixed
    assert len(files) == 3
    for path in (f"/v2/studies/{first.StudyInstanceUID}1", f"{study_path(first)}/series/{factories.uid()}"):
        assert get(client, path).status_code == 404
    stranger = factories.dataset()
    put(client, factories.part10(stranger))
    path = f"{study_path(first)}/series/{stranger.SeriesInstanceUID}"
    assert get(client, path).status_code == 404
    assert get(client, f"{path}/instances/{stranger.SOPInstanceUID}").status_code == 404


# --- as Explicit VR Little Endian ---

NATIVE = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]


def read(body: bytes) -> Dataset:
    ds = pydicom.dcmread(io.BytesIO(body))
    assert ds.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    return ds


@pytest.mark.parametrize("syntax", NATIVE, ids=lambda syntax: syntax.name)
@pytest.mark.parametrize("version", VERSIONS)
def test_native_instances_become_explicit_little_endian(client: httpx.Client, syntax: str, version: str) -> None:
    ds = factories.dataset()
    explicit = pydicom.dcmread(io.BytesIO(factories.part10(ds)))
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = np.frombuffer(ds.PixelData, "<u2").astype(">u2").tobytes()
    stored = factories.part10(ds, syntax)
    put(client, stored)
    for accept in ("application/dicom", f"application/dicom; transfer-syntax={EXPLICIT}"):
        response = get(client, instance_path(ds, version), accept)
        assert response.status_code == 200
        assert response.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}"
        assert read(response.content) == explicit
        if syntax == ExplicitVRLittleEndian:
            assert response.content == stored
    for path in (instance_path(ds, version), series_path(ds, version), study_path(ds, version)):
        (part,) = parts(get(client, path, MULTIPART))
        assert part.headers == {"content-type": f"application/dicom; transfer-syntax={EXPLICIT}"}
        assert part.body == response.content


def test_a_mixed_study_becomes_explicit_little_endian(
    client: httpx.Client, mixed: tuple[Dataset, dict[str, list[bytes]]]
) -> None:
    first, files = mixed
    received = parts(get(client, study_path(first), MULTIPART))
    found = {str(ds.SOPInstanceUID): ds for ds in map(read, (part.body for part in received))}
    stored = [pydicom.dcmread(io.BytesIO(body)) for body in files[study_path(first)]]
    assert set(found) == {str(ds.SOPInstanceUID) for ds in stored}
    for ds in stored:
        assert found[str(ds.SOPInstanceUID)].StudyInstanceUID == ds.StudyInstanceUID
        assert len(found[str(ds.SOPInstanceUID)].PixelData) == len(ds.PixelData)


def test_a_compressed_instance_that_is_broken_cannot_become_explicit(client: httpx.Client) -> None:
    ds = factories.dataset()
    uids = {"StudyInstanceUID": ds.StudyInstanceUID, "SeriesInstanceUID": ds.SeriesInstanceUID}
    body = factories.encapsulated([b"jpeg"], SOPInstanceUID=ds.SOPInstanceUID, **uids)
    put(client, body)
    for path, accept in ((instance_path(ds), "application/dicom"), (study_path(ds), MULTIPART)):
        response = get(client, path, accept)
        assert response.status_code == 406
        assert str(JPEGBaseline8Bit) in response.text
        assert EXPLICIT in response.text
    (part,) = parts(get(client, instance_path(ds), ORIGINALS))
    assert part.body == body


def test_what_can_be_had_of_lower_quality_is_had(client: httpx.Client) -> None:
    ds = factories.dataset()
    uids = {"StudyInstanceUID": ds.StudyInstanceUID, "SeriesInstanceUID": ds.SeriesInstanceUID}
    video = factories.encapsulated([b"mpeg"], syntax=MPEG2MPML, SOPInstanceUID=ds.SOPInstanceUID, **uids)
    put(client, video, factories.part10(dicomweb.sibling(ds)))
    for path, accept in ((instance_path(ds), "application/dicom"), (study_path(ds), MULTIPART)):
        response = get(client, path, accept)
        assert response.status_code == 406
        assert str(MPEG2MPML) in response.text and EXPLICIT in response.text
    (part,) = parts(get(client, instance_path(ds), f"application/dicom, {ORIGINALS}; q=0.5"))
    assert part.body == video


# --- refusals and their order ---


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("bad", ["abc", "1.2.", "1" * 65, "1.2_3", "%20", "1.2%00"])
def test_a_path_without_a_uid_is_400(client: httpx.Client, bad: str, version: str) -> None:
    for path, name in (
        (f"studies/{bad}", "StudyInstanceUid"),
        (f"studies/1.2/series/{bad}", "SeriesInstanceUid"),
        (f"studies/1.2/series/1.3/instances/{bad}", "SopInstanceUid"),
    ):
        response = get(client, f"/{version}/{path}", "text/html")
        assert response.status_code == 400
        assert name in response.text
        assert response.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.parametrize("uid", ["0", "00.01", "1..2", ".5", "1" * 64, "1.2%20%20"])
def test_odd_uids_pass(client: httpx.Client, uid: str) -> None:
    assert get(client, f"/v2/studies/{uid}").status_code == 404


@pytest.mark.parametrize("version", VERSIONS)
def test_what_is_not_there_is_404(client: httpx.Client, version: str) -> None:
    ds = factories.dataset()
    for path, level in ((study_path, "study"), (series_path, "series"), (instance_path, "instance")):
        response = get(client, path(ds, version))
        assert response.status_code == 404
        assert response.text == f"The specified {level} cannot be found."


SINGLE_PARTS = ["application/dicom", ORIGINAL, f"application/dicom; transfer-syntax={EXPLICIT}"]
REFUSED = [
    "application/octet-stream",
    "image/jpeg",
    "application/json",
    "multipart/related; type=application/octet-stream",
    f"{MULTIPART}; transfer-syntax=1.2.840.10008.1.2.4.100",
    f"{MULTIPART}; transfer-syntax=nonsense",
    "multipart/mixed; type=application/dicom",
    f"{ORIGINALS}; q=0",
]


@pytest.mark.parametrize("accept", [*REFUSED, *SINGLE_PARTS])
def test_accept_headers_no_study_is_sent_for(client: httpx.Client, accept: str) -> None:
    ds = factories.dataset()
    for stored in (False, True):
        if stored:
            dicomweb.store(client, ds)
        elif "transfer-syntax" in accept and "related" in accept and "q=0" not in accept:
            continue  # whether a syntax can be made is known once the instance is
        for path in (study_path(ds), series_path(ds)):
            assert get(client, path, accept).status_code == 406
        if accept in REFUSED:
            assert get(client, instance_path(ds), accept).status_code == 406


@pytest.mark.parametrize(
    "accept",
    [
        "Multipart/Related; Type=Application/DICOM; Transfer-Syntax=*",
        "multipart/related; type=application/dicom; transfer-syntax=*",
        'multipart/related;type="application/dicom";transfer-syntax="*"',
        'multipart/related; transfer-syntax=*; type="application/dicom"; q=0.3',
        f"image/jpeg, text/html; q=0.9, {ORIGINALS}; q=0.1",
        'multipart/related; type="*/*"; transfer-syntax=*',
    ],
)
def test_spellings_of_accept(client: httpx.Client, accept: str) -> None:
    ds = factories.dataset()
    put(client, factories.part10(ds, ImplicitVRLittleEndian))
    (part,) = parts(get(client, study_path(ds), accept))
    assert part.headers["content-type"] == "application/dicom; transfer-syntax=1.2.840.10008.1.2"


def test_several_accept_header_lines(client: httpx.Client) -> None:
    ds = factories.dataset()
    dicomweb.store(client, ds)
    headers = [("accept", "image/jpeg"), ("accept", "text/html, application/dicom")]
    assert client.get(instance_path(ds), headers=headers).headers["content-type"].startswith("application/dicom")


# Accept entries for an instance in implicit VR, and what each gets: single or multipart, original or explicit.
ENTRIES: dict[str, tuple[bool, bool] | None] = {
    "*/*": (True, True),
    MULTIPART: (True, False),
    ORIGINALS: (True, True),
    f"{MULTIPART}; transfer-syntax={EXPLICIT}": (True, False),
    "application/dicom": (False, False),
    ORIGINAL: (False, True),
    f"application/dicom; transfer-syntax={EXPLICIT}": (False, False),
    'multipart/related; type="*/*"': (True, True),
    "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.100": None,
    "application/octet-stream": None,
    "image/jpeg": None,
}
QUALITIES = [None, 1.0, 0.9, 0.5, 0.001, 0.0]


@pytest.fixture(scope="module")
def implicit(client: httpx.Client) -> Dataset:
    ds = factories.dataset()
    put(client, factories.part10(ds, ImplicitVRLittleEndian))
    return ds


@given(st.lists(st.tuples(st.sampled_from(list(ENTRIES)), st.sampled_from(QUALITIES)), min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_the_best_entry_wins(client: httpx.Client, implicit: Dataset, entries: list[tuple[str, float | None]]) -> None:
    header = ", ".join(entry if quality is None else f"{entry}; q={quality}" for entry, quality in entries)
    weighed = [(entry, 1.0 if quality is None else quality) for entry, quality in entries]
    usable = [(entry, quality) for entry, quality in weighed if ENTRIES[entry] is not None and quality > 0]
    response = get(client, instance_path(implicit), header)
    if not usable:
        assert response.status_code == 406
        return
    best = max(quality for _, quality in usable)
    candidates = [entry for entry, quality in usable if quality == best]
    chosen = next((entry for entry in candidates if entry.endswith("transfer-syntax=*")), candidates[0])
    expected = ENTRIES[chosen]
    assert expected is not None
    multipart, original = expected
    assert response.status_code == 200
    content_type = response.headers["content-type"]
    assert content_type.startswith("multipart/related" if multipart else "application/dicom")
    if multipart:
        content_type = parts(response)[0].headers["content-type"]
    assert content_type == f"application/dicom; transfer-syntax={ImplicitVRLittleEndian if original else EXPLICIT}"


# --- files that are damaged behind the server's back ---


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose log may hold errors, and that transcodes nothing above 10,000 bytes."""
    environment = {"DicomServer__Services__Retrieve__MaxDicomFileSize": "10000"}
    server = Server(tmp_path_factory.mktemp("frail") / "data", [*QUIET, "--workers", "1"], environment)
    try:
        yield server.start()
        assert server.stop() == 0
    finally:
        server.end()


@pytest.fixture
def damaged(frail: Server) -> tuple[Server, Dataset, Path]:
    """A server that holds a study of three instances, the first of them and where its file is."""
    with frail.client() as client:
        ds = factories.dataset(Rows=100, Columns=500, NumberOfFrames=2, PixelData=bytes(200_000))
        dicomweb.store(client, ds, dicomweb.sibling(ds), dicomweb.sibling(ds))
    (path,) = (frail.data_dir / "dicom").rglob(f"{ds.SOPInstanceUID}_*.dcm")
    return frail, ds, path


def test_files_over_the_limit_are_not_transcoded(frail: Server) -> None:
    with frail.client() as client:
        small, large = factories.dataset(), factories.dataset(Rows=200, Columns=200, PixelData=bytes(80_000))
        put(client, *(factories.part10(ds, ImplicitVRLittleEndian) for ds in (small, large)))
        assert get(client, instance_path(small), "application/dicom").status_code == 200
        assert get(client, instance_path(large), "application/dicom").status_code == 406
        assert get(client, study_path(large), MULTIPART).status_code == 406
        # As stored there is no limit, and frames are transcoded one by one.
        assert get(client, instance_path(large), ORIGINAL).status_code == 200
        frame = get(client, f"{instance_path(large)}/frames/1", "application/octet-stream")
        assert frame.content == bytes(80_000)


INTERNAL_ERROR = (
    "The server encountered an internal error. Please retry the request. If the issue persists, please contact support."
)


def test_a_missing_file_fails_the_whole_request(damaged: tuple[Server, Dataset, Path]) -> None:
    server, ds, path = damaged
    path.unlink()
    with server.client() as client:
        for url, accept in (
            (instance_path(ds), ORIGINAL),
            (instance_path(ds), "*/*"),
            (study_path(ds), ORIGINALS),
            (f"{instance_path(ds)}/frames/1", "*/*"),
            (f"{instance_path(ds)}/frames/1", "application/octet-stream"),
        ):
            response = get(client, url, accept)
            assert (response.status_code, response.text) == (500, INTERNAL_ERROR), (url, accept)
        assert get(client, f"{study_path(ds)}/metadata").status_code == 200
        assert ds.PatientID not in server.log()


@pytest.mark.parametrize("size", [0, 700, 50_000, 150_000])
def test_a_file_cut_short_never_gives_a_whole_answer(damaged: tuple[Server, Dataset, Path], size: int) -> None:
    server, ds, path = damaged
    with path.open("rb+") as file:
        file.truncate(size)
    with server.client() as client:
        for url, accept in (
            (instance_path(ds), ORIGINAL),
            (instance_path(ds), "*/*"),
            (study_path(ds), ORIGINALS),
            (f"{instance_path(ds)}/frames/2", "application/octet-stream"),
            (f"{instance_path(ds)}/frames/1,2", "*/*"),
        ):
            try:
                response = get(client, url, accept)
            except httpx.RemoteProtocolError:
                continue
            assert (response.status_code, response.text) == (500, INTERNAL_ERROR), (url, accept)

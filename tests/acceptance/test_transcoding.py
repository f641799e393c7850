"""Studies, instances and frames in other syntaxes than they are stored in, over HTTP (retrieve.md §§3, 5, 6)."""

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import MPEG2MPML

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import ORIGINALS, instance_path, parts, study_path
from tests.dicom import images
from tests.dicom.images import KINDS
from tests.server import Server

pytestmark = pytest.mark.acceptance

PREFIX = "1.2.840.10008.1.2"
EXPLICIT, RLE, J2K, HTJ2K, J2K_LOSSY = (PREFIX + suffix for suffix in (".1", ".5", ".4.90", ".4.201", ".4.91"))
SYNTAXES = [
    *(PREFIX, EXPLICIT, PREFIX + ".1.99", PREFIX + ".2", RLE, PREFIX + ".4.70", PREFIX + ".4.80", J2K, HTJ2K),
    *(PREFIX + ".4.110", PREFIX + ".4.202", PREFIX + ".1.98", PREFIX + ".8.1"),
]
MULTIPART = 'multipart/related; type="application/dicom"'
GREY = next(kind for kind in KINDS if kind.name == "grey-12-of-three-frames")
COLOUR = next(kind for kind in KINDS if kind.name == "rgb")


def frames_as(media_type: str, syntax: str = "") -> str:
    accept = f'multipart/related; type="{media_type}"'
    return f"{accept}; transfer-syntax={syntax}" if syntax else accept


def get(client: httpx.Client, path: str, accept: str) -> httpx.Response:
    return client.get(path, headers={"accept": accept})


def read(file: bytes) -> Dataset:
    return pydicom.dcmread(io.BytesIO(file))


def stored_in(client: httpx.Client, syntax: str, kind: images.Kind = GREY) -> Dataset:
    """An instance stored in that syntax; made from the server's own answers, as a client could."""
    plain = images.dataset(kind, images.samples(kind))
    dicomweb.store(client, plain)
    made = get(client, instance_path(plain), f"application/dicom; transfer-syntax={syntax}")
    assert made.status_code == 200, made.text
    dataset = read(made.content)
    dataset.SOPInstanceUID = factories.uid()
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    file = io.BytesIO()
    dataset.save_as(file)
    response = dicomweb.post(client, [file.getvalue()])
    assert response.status_code in (200, 202), response.text
    return dataset


@pytest.mark.parametrize("version", dicomweb.VERSIONS)
def test_an_instance_in_every_syntax(client: httpx.Client, version: str) -> None:
    plain = images.dataset(GREY, images.samples(GREY))
    dicomweb.store(client, plain)
    for syntax in SYNTAXES:
        for accept in (f"application/dicom; transfer-syntax={syntax}", f"{MULTIPART}; transfer-syntax={syntax}"):
            response = get(client, instance_path(plain, version), accept)
            if response.headers["content-type"].startswith("multipart"):
                (part,) = parts(response)
                content_type, body = part.headers["content-type"], part.body
            else:
                content_type, body = response.headers["content-type"], response.content
                assert int(response.headers["content-length"]) == len(body)
            assert content_type == f"application/dicom; transfer-syntax={syntax}"
            assert str(read(body).file_meta.TransferSyntaxUID) == syntax
            assert read(body).SOPInstanceUID == plain.SOPInstanceUID


@pytest.mark.parametrize("source", [RLE, J2K, HTJ2K, PREFIX + ".1.99"])
def test_a_study_of_several_syntaxes_comes_in_one(client: httpx.Client, source: str) -> None:
    first = stored_in(client, source)
    second = dicomweb.sibling(first, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated"):
        if keyword in second:
            del second[keyword]
    dicomweb.post(client, [factories.part10(second)])
    found = {str(read(part.body).SOPInstanceUID): part for part in parts(get(client, study_path(first), MULTIPART))}
    assert len(found) == 3 and all(
        part.headers["content-type"] == f"application/dicom; transfer-syntax={EXPLICIT}" for part in found.values()
    )
    assert read(found[str(first.SOPInstanceUID)].body).PixelData == images.samples(GREY).tobytes()


def test_a_pair_that_cannot_be_is_named_before_the_first_byte(client: httpx.Client) -> None:
    first = stored_in(client, J2K)
    uids = {"StudyInstanceUID": first.StudyInstanceUID, "SeriesInstanceUID": first.SeriesInstanceUID}
    response = dicomweb.post(client, [factories.encapsulated([b"mpeg"], syntax=MPEG2MPML, **uids)])
    assert response.status_code in (200, 202)
    refused = get(client, study_path(first), MULTIPART)
    assert refused.status_code == 406
    assert MPEG2MPML in refused.text and EXPLICIT in refused.text
    assert len(parts(get(client, study_path(first), ORIGINALS))) == 3
    # 12 bits are known not to fit, without a look at the pixels.
    refused = get(client, instance_path(first), f"application/dicom; transfer-syntax={PREFIX}.4.50")
    assert refused.status_code == 406
    assert J2K in refused.text and f"{PREFIX}.4.50" in refused.text


@pytest.mark.parametrize("source", [EXPLICIT, PREFIX + ".2", PREFIX + ".1.99", RLE, J2K, HTJ2K, PREFIX + ".4.80"])
def test_frames_of_every_media_type(client: httpx.Client, source: str) -> None:
    dataset = stored_in(client, source)
    pixels = images.samples(GREY)
    path = f"{instance_path(dataset)}/frames"
    (two, one) = parts(get(client, f"{path}/2,1", frames_as("application/octet-stream")))
    assert (one.body, two.body) == (pixels[0].tobytes(), pixels[1].tobytes())
    assert one.headers["content-type"] == f"application/octet-stream; transfer-syntax={EXPLICIT}"
    single = get(client, f"{path}/3", "application/octet-stream")
    assert single.content == pixels[2].tobytes()
    for media_type, asked, expected in (
        ("image/jp2", "", J2K),
        ("image/jp2", J2K, J2K),
        ("image/jp2", J2K_LOSSY, J2K_LOSSY),
        ("image/jpeg", PREFIX + ".4.70", PREFIX + ".4.70"),
        ("image/jls", "", PREFIX + ".4.80"),
        ("image/jphc", "", HTJ2K),
        ("image/jxl", PREFIX + ".4.110", PREFIX + ".4.110"),
        ("image/dicom-rle", "", RLE),
    ):
        (part,) = parts(get(client, f"{path}/2", frames_as(media_type, asked)))
        assert part.headers["content-type"] == f"{media_type}; transfer-syntax={expected}"
        whole = get(client, instance_path(dataset), f"application/dicom; transfer-syntax={expected}").content
        assert list(generate_frames(read(whole).PixelData, number_of_frames=3))[1] == part.body


def test_frames_as_stored_by_their_media_type(client: httpx.Client) -> None:
    dataset = stored_in(client, J2K_LOSSY, COLOUR)
    path = f"{instance_path(dataset)}/frames/1"
    (stored,) = parts(get(client, path, dicomweb.FRAMES))
    (typed,) = parts(get(client, path, frames_as("image/jp2", "*")))
    assert typed.body == stored.body
    assert typed.headers["content-type"] == f"image/jp2; transfer-syntax={J2K_LOSSY}"
    refused = get(client, path, frames_as("image/jls", "*"))
    assert refused.status_code == 406
    assert J2K_LOSSY in refused.text and "image/jls" in refused.text
    # Without a syntax: the one of the table, also where the other is stored.
    (made,) = parts(get(client, path, frames_as("image/jp2")))
    assert made.headers["content-type"] == f"image/jp2; transfer-syntax={J2K}"
    for accept in ("image/jp2", frames_as("application/octet-stream", J2K), "image/jpeg", "image/jls"):
        assert get(client, path, accept).status_code == 406


def test_colours_of_decoded_frames_are_rgb(client: httpx.Client) -> None:
    dataset = stored_in(client, J2K, COLOUR)
    (part,) = parts(get(client, f"{instance_path(dataset)}/frames/2", frames_as("application/octet-stream")))
    assert part.body == images.samples(COLOUR)[1].tobytes()
    whole = read(get(client, instance_path(dataset), "application/dicom").content)
    assert whole.PhotometricInterpretation == "RGB"
    assert np.array_equal(whole.pixel_array, images.samples(COLOUR))


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with one API process, whose codec processes are its children."""
    server = Server(tmp_path_factory.mktemp("frail") / "data", ["--no-cast", "--no-fhir", "--workers", "1"])
    try:
        yield server.start()
        assert server.stop() == 0
    finally:
        server.end()


def _codec_processes() -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes()
            environment = (entry / "status").read_text()
        except (OSError, ValueError):
            continue
        if b"hounsfield.archive.codec_process\0" in command:
            parent = int(environment.partition("PPid:")[2].split()[0])
            found += [int(entry.name)] if parent in _children_of_test() else []
    return found


def _children_of_test() -> set[int]:
    """All processes below this one."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "status").read_text().partition("PPid:")[2].split()[0])
            except OSError:
                continue
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below and pid not in below}:
        below |= more
    return below


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_killed_codec_processes_cost_nothing_but_a_moment(frail: Server) -> None:
    with frail.client() as client:
        dataset = stored_in(client, HTJ2K)
        path = instance_path(dataset)
        before = get(client, path, "application/dicom").content
        victims = _codec_processes()
        assert victims
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        response = get(client, path, "application/dicom")
        assert response.status_code == 200, response.text
        assert response.content == before
        assert not list((frail.data_dir / "spool").glob(".tmp-*"))

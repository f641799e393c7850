"""Real files: each is taken or refused as its manifest says, and comes back byte for byte."""

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pydicom
import pytest
from pydicom.encaps import generate_frames

from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import VERSIONS
from tests.server import Server

ROOT = Path(__file__).parents[2]
SAMPLES = Path(os.environ.get("HOUNSFIELD_SAMPLES", ROOT.parent / "shared" / "data" / "dicom"))
"""A folder of files with a MANIFEST.tsv that says what storing each must give."""

pytestmark = pytest.mark.acceptance

VALIDATION = 43264
IMPLICIT_VR = 45063
EXPLICIT = "1.2.840.10008.1.2.1"
_TAG = re.compile(r"DICOM100: \(([0-9a-f]{4}),([0-9a-f]{4})[:)]")


@dataclass(frozen=True)
class Sample:
    """A row of the manifest."""

    file: str
    outcomes: dict[str, str]
    transfer_syntax: str
    required: frozenset[str]
    tolerated: frozenset[str]
    """Tags the v2 answer must, and those it may, warn about."""

    @property
    def content(self) -> bytes:
        return (SAMPLES / self.file).read_bytes()


def _manifest() -> Iterator[Sample]:
    if not (SAMPLES / "MANIFEST.tsv").is_file():
        return
    with (SAMPLES / "MANIFEST.tsv").open(newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            warned = dict(entry.split("=", 1) for entry in row["warning_tags"].split())
            tolerated = {tag for tag, cause in warned.items() if "quirk" in cause}
            yield Sample(
                row["file"],
                {"v1": row["v1_outcome"], "v2": row["v2_outcome"]},
                row["transfer_syntax"],
                frozenset(warned) - tolerated,
                frozenset(tolerated),
            )


ALL = list(_manifest())
OURS = sorted((ROOT / "samples").glob("*/*.dcm"))


def without_preamble(content: bytes) -> bytes:
    """The file as it is to come back: with a preamble of zeros, if it has one."""
    return bytes(128) + content[128:] if content[128:132] == b"DICM" else content


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server of its own: other tests store some of these files on theirs."""
    server = Server(tmp_path_factory.mktemp("samples") / "data", QUIET)
    try:
        with server.start().client() as client:
            yield client
        assert server.stop() == 0
        assert "Traceback" not in server.log(), server.log()
    finally:
        server.end()


def stored_url(client: httpx.Client, response: httpx.Response) -> str:
    """The path of the only stored instance."""
    (item,) = dicomweb.referenced(response)
    url: str = dicomweb.value(item, "00081190")
    assert url.startswith(str(client.base_url))
    return url.removeprefix(str(client.base_url).rstrip("/"))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", OURS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_our_samples_come_back_as_they_were(client: httpx.Client, path: Path, version: str) -> None:
    content = path.read_bytes()
    response = dicomweb.post(client, [content], f"/{version}/studies")
    assert response.status_code in (200, 202), response.text
    url = stored_url(client, response)
    try:
        assert client.get(url, headers={"accept": dicomweb.ORIGINAL}).content == without_preamble(content)
    finally:
        assert client.delete(url).status_code == 204


def test_our_samples_exist() -> None:
    assert len(OURS) > 10


@pytest.mark.skipif(not ALL, reason=f"no MANIFEST.tsv in {SAMPLES} (set HOUNSFIELD_SAMPLES)")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.file)
def test_a_sample_ends_as_the_manifest_says(client: httpx.Client, sample: Sample, version: str) -> None:
    content = sample.content
    response = dicomweb.post(client, [content], f"/{version}/studies")
    outcome = sample.outcomes[version]
    if outcome == "rejected":
        assert response.status_code == 409, response.text
        assert dicomweb.reason(response) == VALIDATION
        return
    if outcome == "either":
        assert response.status_code in (200, 202, 409), response.text
        if response.status_code == 409:
            return
    url = stored_url(client, response)
    try:
        if outcome != "either":
            _check_answer(response, sample, version)
            _check_metadata(client, url, sample, version)
        back = client.get(url, headers={"accept": dicomweb.ORIGINAL})
        assert back.status_code == 200
        assert back.content == without_preamble(content)
    finally:
        assert client.delete(url).status_code == 204


def _check_answer(response: httpx.Response, sample: Sample, version: str) -> None:
    (item,) = dicomweb.referenced(response)
    warning = dicomweb.value(item, "00081196") if "00081196" in item else None
    implicit = sample.transfer_syntax == "1.2.840.10008.1.2"
    if version == "v1":
        assert response.status_code == 200
        assert warning == (IMPLICIT_VR if implicit else None)
        assert "00741048" not in item
        return
    warned = {"".join(found.groups()).upper() for text in dicomweb.comments(item) if (found := _TAG.match(text))}
    assert len(warned) == len(dicomweb.comments(item))
    assert sample.required <= warned <= sample.required | sample.tolerated
    assert warning == (IMPLICIT_VR if implicit else 1 if warned else None)
    assert response.status_code == (200 if warning is None else 202)
    assert (sample.outcomes[version] == "stored-with-warning") == (warning is not None) or sample.tolerated


def _check_metadata(client: httpx.Client, url: str, sample: Sample, version: str) -> None:
    (metadata,) = client.get(f"{url}/metadata").json()
    assert list(metadata) == sorted(metadata)
    if version == "v2":
        kept = {"0020000D", "0020000E", "00080018"}
        assert not (sample.required - kept) & set(metadata)


@pytest.mark.skipif(not ALL, reason=f"no MANIFEST.tsv in {SAMPLES} (set HOUNSFIELD_SAMPLES)")
@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom has an opinion on what is in these files
@pytest.mark.parametrize(
    "sample", [one for one in ALL if "stored" in one.outcomes["v2"]], ids=lambda sample: sample.file
)
def test_frames_are_those_pydicom_finds(client: httpx.Client, sample: Sample) -> None:
    ds = pydicom.dcmread(SAMPLES / sample.file, force=True)
    expected = _frames(ds)
    response = dicomweb.post(client, [sample.content])
    assert response.status_code in (200, 202)
    url = stored_url(client, response)
    try:
        numbers = sorted({1, len(expected) // 2 + 1, max(1, len(expected))})
        answer = client.get(f"{url}/frames/{','.join(map(str, numbers))}", headers={"accept": dicomweb.FRAMES})
        if not expected:
            assert answer.status_code == 404
            return
        assert [part.body for part in dicomweb.parts(answer)] == [expected[number - 1] for number in numbers]
        assert client.get(f"{url}/frames/{len(expected) + 1}", headers={"accept": dicomweb.FRAMES}).status_code == 404
        # Every frame comes as Explicit VR Little Endian too, and what calls itself that comes as it is.
        compressed = ds["PixelData"].is_undefined_length and sample.transfer_syntax != EXPLICIT
        explicit = client.get(f"{url}/frames/1", headers={"accept": "application/octet-stream"})
        # What is broken on purpose may be so in its pixels.
        broken = compressed and sample.file.startswith("broken/")
        assert explicit.status_code in ((200, 406) if broken else (200,)), explicit.text
    finally:
        assert client.delete(url).status_code == 204


def _frames(ds: pydicom.Dataset) -> list[bytes]:
    """The frames as they are stored; none where the attributes that make them are missing."""
    if any(ds.get(keyword) is None for keyword in ("PixelData", "Rows", "Columns", "BitsAllocated")):
        return []
    try:
        count = int(ds.get("NumberOfFrames") or 1)
    except ValueError:
        pytest.skip("the number of frames is no number")
    if ds["PixelData"].is_undefined_length:
        return list(generate_frames(ds.PixelData, number_of_frames=count))
    bits = ds.Rows * ds.Columns * ds.get("SamplesPerPixel", 1) * ds.BitsAllocated
    if ds.get("PhotometricInterpretation") == "YBR_FULL_422":
        bits = bits // 3 * 2
    if bits % 8:
        whole = int.from_bytes(ds.PixelData, "little")
        return [
            (whole >> number * bits & (1 << bits) - 1).to_bytes((bits + 7) // 8, "little") for number in range(count)
        ]
    return [ds.PixelData[number * bits // 8 : (number + 1) * bits // 8] for number in range(count)]

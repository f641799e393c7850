"""Uncompressed images stored as HTJ2K (DicomServer:Services:Recompression): nothing is lost, and files get smaller.

Judges: a server without the setting, which answers from the files as they came, and OpenJPEG.
"""

import asyncio
import copy
import io
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames

from hounsfield.database.connect import open_database
from hounsfield.operations.orphans import sweep_orphans
from hounsfield.storage.local import LocalStore
from tests import factories
from tests.acceptance import dicomweb, test_crash
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import ORIGINAL, instance_path, parts, study_path
from tests.acceptance.test_cleanup import metrics, settings
from tests.acceptance.test_lifecycle import running, until
from tests.acceptance.test_transcoding import GREY, MULTIPART, frames_as, get, stored_in
from tests.dicom import images
from tests.dicom.images import KINDS
from tests.dicom.samples import SMALL_SET
from tests.server import Server

pytestmark = pytest.mark.acceptance

PREFIX = "1.2.840.10008.1.2"
IMPLICIT, EXPLICIT, DEFLATED, BIG, HTJ2K = (PREFIX + suffix for suffix in ("", ".1", ".1.99", ".2", ".4.201"))
REPOSITORY = Path(__file__).parents[2]


def options(*, keep: bool, minimum: int = 0) -> dict[str, str]:
    given = {"Enabled": "true", "KeepOriginal": str(keep), "MinimumBytes": str(minimum)}
    return {f"DicomServer__Services__Recompression__{name}": value for name, value in given.items()}


@contextmanager
def serving(data_dir: Path, environment: dict[str, str]) -> Iterator[tuple[Server, httpx.Client]]:
    with running(data_dir, environment=environment) as server, server.client() as client:
        yield server, client
        assert "Traceback" not in server.log(), server.log()


@pytest.fixture(scope="module")
def compressing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a server that recompresses everything it can and keeps nothing else."""
    with serving(tmp_path_factory.mktemp("compressing") / "data", options(keep=False)) as (_, client):
        yield client


@pytest.fixture(scope="module")
def keeping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, httpx.Client]]:
    """A server that keeps what it received, and its client."""
    environment = {**options(keep=True), **settings()}
    with serving(tmp_path_factory.mktemp("keeping") / "data", environment) as found:
        yield found


def written(ds: Dataset, syntax: str) -> bytes:
    """The dataset as a file of an uncompressed syntax; its pixel data are little endian."""
    if syntax == DEFLATED:
        plain = factories.part10(ds, EXPLICIT)
        start = 132 + 12 + int.from_bytes(plain[140:144], "little")
        stream = zlib.compressobj(wbits=-15)
        head = factories.part10(ds, DEFLATED)
        head = head[: 132 + 12 + int.from_bytes(head[140:144], "little")]
        packed = stream.compress(plain[start:]) + stream.flush()
        return head + packed + b"\0" * (len(packed) % 2)
    if syntax == BIG and ds.BitsAllocated > 8:
        words = np.frombuffer(ds.PixelData, f"<u{ds.BitsAllocated // 8}").byteswap()
        ds = copy.deepcopy(ds)
        ds.PixelData = words.tobytes()
    return factories.part10(ds, syntax)


def large(frames: int = 1, **attributes: object) -> Dataset:
    """An image of 128 × 128 samples of 16 bits a frame that compresses well."""
    pixels = np.add.outer(np.arange(128 * frames), np.arange(128)).astype("<u2")
    image: dict[str, object] = {"Rows": 128, "Columns": 128, "NumberOfFrames": frames, "BitsStored": 16, "HighBit": 15}
    return factories.dataset(**(image | {"PixelData": pixels.tobytes()} | attributes))


def stored_as(client: httpx.Client, ds: Dataset) -> tuple[str, bytes]:
    """Transfer syntax and bytes of the file as it is stored."""
    response = get(client, instance_path(ds), ORIGINAL)
    assert response.status_code == 200, response.text
    syntax = str(pydicom.dcmread(io.BytesIO(response.content)).file_meta.TransferSyntaxUID)
    assert response.headers["content-type"] == f"application/dicom; transfer-syntax={syntax}"
    assert int(response.headers["content-length"]) == len(response.content)
    return syntax, response.content


def alike(answer: bytes) -> bytes:
    """An answer without the one thing an implicit file does not say: whether its bytes are of OB or of OW."""
    return answer.replace(b"\xe0\x7f\x10\0OW", b"\xe0\x7f\x10\0OB")


def same_answers(one: httpx.Client, other: httpx.Client, ds: Dataset, frames: int) -> None:
    """What clients see of an instance does not depend on how it is stored."""
    path = instance_path(ds)
    for accept, target in (
        (f"application/dicom; transfer-syntax={EXPLICIT}", path),
        (f"application/dicom; transfer-syntax={IMPLICIT}", path),
        ("application/dicom+json", f"{path}/metadata"),
    ):
        first, second = get(one, target, accept), get(other, target, accept)
        assert first.status_code == second.status_code == 200, first.text
        assert alike(first.content) == alike(second.content)
    numbers = ",".join(str(number) for number in range(frames, 0, -1))
    found = [
        [part.body for part in parts(get(client, f"{path}/frames/{numbers}", frames_as("application/octet-stream")))]
        for client in (one, other)
    ]
    assert len(found[0]) == frames
    assert found[0] == found[1]


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG])
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_kind_of_image_comes_back_as_it_was(
    compressing: httpx.Client, client: httpx.Client, kind: images.Kind, syntax: str
) -> None:
    pixels = images.samples(kind)
    ds = images.dataset(kind, pixels)
    file = written(ds, syntax)
    for each in (compressing, client):
        response = dicomweb.post(each, [file])
        assert response.status_code in (200, 202), response.text
    same_answers(compressing, client, ds, kind.frames)
    stored, content = stored_as(compressing, ds)
    assert stored_as(client, ds) == (syntax, file)
    if stored == syntax:
        assert content == file
        return
    assert stored == HTJ2K
    assert len(content) < len(file)
    if kind.name in ("grey-16", "grey-16-signed", "rgb", "ybr", "palette"):
        decoded = [imagecodecs.jpeg2k_decode(frame) for frame in codestreams(content)]
        assert np.array_equal(np.stack(decoded), pixels)


def codestreams(file: bytes) -> list[bytes]:
    ds = pydicom.dcmread(io.BytesIO(file))
    return list(generate_frames(ds.PixelData, number_of_frames=int(ds.get("NumberOfFrames", 1))))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED, BIG])
@pytest.mark.parametrize("frames", [1, 100])
def test_what_is_stored_is_smaller(compressing: httpx.Client, syntax: str, frames: int) -> None:
    ds = large(frames)
    noise = np.random.default_rng(1).integers(0, 4096, (frames, 128, 128), dtype="<u2")
    ds.PixelData = noise.tobytes()  # deflate gets little of it, HTJ2K the four bits that are always zero
    file = written(ds, syntax)
    assert (len(file) > 1 << 20) is (frames == 100), "one goes through memory, the other through files"
    assert dicomweb.post(compressing, [file]).status_code in (200, 202)
    stored, content = stored_as(compressing, ds)
    assert stored == HTJ2K
    assert len(content) < len(file)
    decoded = np.stack([imagecodecs.jpeg2k_decode(frame) for frame in codestreams(content)])
    assert np.array_equal(decoded, noise)
    two = parts(get(compressing, f"{instance_path(ds)}/frames/{frames}", frames_as("image/jphc", HTJ2K)))
    assert two[0].body == codestreams(content)[-1]


@pytest.mark.parametrize(
    "sample", [sample for sample in SMALL_SET if sample.outcomes[2] == "stored"], ids=lambda sample: sample.name
)
def test_samples(compressing: httpx.Client, client: httpx.Client, sample: object) -> None:
    path: Path = sample.path  # type: ignore[attr-defined]
    ds = pydicom.dcmread(path, force=True)
    answers = [dicomweb.post(each, [path.read_bytes()]) for each in (compressing, client)]
    assert {answer.status_code for answer in answers} <= {200, 202, 409}
    for accept in (f"application/dicom; transfer-syntax={EXPLICIT}", ORIGINAL):
        first, second = (get(each, instance_path(ds), accept) for each in (compressing, client))
        assert first.status_code == second.status_code
        if accept != ORIGINAL or f"transfer-syntax={HTJ2K}" not in first.headers["content-type"]:
            assert alike(first.content) == alike(second.content)
    first, second = (
        get(each, f"{instance_path(ds)}/metadata", "application/dicom+json") for each in (compressing, client)
    )
    assert first.content == second.content


def test_private_attributes_of_implicit_files(compressing: httpx.Client, client: httpx.Client) -> None:
    """They would get the VR of the dictionary, and no longer be among the binary values the metadata can have."""
    ds = large()
    ds.private_block(0x0009, "GEMS_IDEN_01", create=True).add_new(0x04, "SH", "HiSpeed CT/i")
    unknown = large()
    unknown.private_block(0x0009, "NOBODY KNOWS", create=True).add_new(0x04, "UN", b"1234")
    for each in (compressing, client):
        assert dicomweb.post(each, [written(ds, IMPLICIT), written(unknown, IMPLICIT)]).status_code == 202
    assert stored_as(compressing, ds)[0] == IMPLICIT
    assert stored_as(compressing, unknown)[0] == HTJ2K
    for instance in (ds, unknown):
        same_answers(compressing, client, instance, 1)
        found = [
            each.get(f"{instance_path(instance)}/metadata", params={"bulkdata": "uri"}).json()[0]
            for each in (compressing, client)
        ]
        assert found[0]["00091004"] == found[1]["00091004"]
        assert "InlineBinary" in found[0]["00091004"]


def short() -> Dataset:
    ds = large()
    ds.PixelData = ds.PixelData[:-1000]
    return ds


def overhanging() -> Dataset:
    ds = large()
    ds.PixelData += bytes(1000)
    return ds


def by_plane() -> Dataset:
    ds = large(BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=bytes(128 * 128 * 3))
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PlanarConfiguration = 3, "RGB", 1
    return ds


def incompressible() -> Dataset:
    return large(PixelData=np.random.default_rng(2).bytes(128 * 128 * 2))


@pytest.mark.parametrize(
    "ds",
    [
        short(),
        overhanging(),
        by_plane(),
        incompressible(),
        large(BitsStored=0),
        large(SamplesPerPixel=2),
        large(Rows=None),
        large(NumberOfFrames=2),
        large(PhotometricInterpretation="YBR_FULL_422", SamplesPerPixel=3, BitsAllocated=8, BitsStored=8, HighBit=7),
        large(PixelData=None),
        large(PlanarConfiguration=1),
    ],
    ids=[
        "short",
        "overhanging",
        "by-plane",
        "noise",
        "bits",
        "samples",
        "rows",
        "frames",
        "subsampled",
        "no-pixels",
        "planar-grey",
    ],
)
def test_what_cannot_be_compressed_is_stored_as_received(compressing: httpx.Client, ds: Dataset) -> None:
    file = factories.part10(ds)
    response = dicomweb.post(compressing, [file])
    assert response.status_code in (200, 202), response.text
    assert stored_as(compressing, ds) == (EXPLICIT, file)


def test_what_is_compressed_already_is_left_alone(compressing: httpx.Client) -> None:
    for syntax in (PREFIX + ".4.80", PREFIX + ".5", PREFIX + ".4.90"):
        assert stored_as(compressing, stored_in(compressing, syntax, GREY))[0] == syntax


def test_small_files_are_left_alone(tmp_path: Path) -> None:
    with serving(tmp_path / "data", options(keep=False, minimum=30_000)) as (_, client):
        small, enough = factories.dataset(), large()
        dicomweb.store(client, small, enough)
        assert stored_as(client, small)[0] == EXPLICIT
        assert stored_as(client, enough)[0] == HTJ2K


def files_of(server: Server, ds: Dataset) -> list[str]:
    # Path.rglob fails when a directory is removed while it looks.
    found = [name for _, _, names in os.walk(server.data_dir / "dicom") for name in names]
    return sorted(name.partition("_")[2][16:] for name in found if name.startswith(f"{ds.SOPInstanceUID}_"))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG])
@pytest.mark.parametrize("frames", [1, 100])
def test_the_original_is_served_in_its_own_syntax(
    keeping: tuple[Server, httpx.Client], syntax: str, frames: int
) -> None:
    server, client = keeping
    ds = large(frames)
    file = written(ds, syntax)
    other = dicomweb.sibling(ds, PixelData=b"\1\0" * 64, Rows=8, Columns=8, NumberOfFrames=1)
    assert dicomweb.post(client, [b"MZ" + file[2:], written(other, syntax)]).status_code in (200, 202)
    assert stored_as(client, ds)[0] == HTJ2K
    assert files_of(server, ds) == [".dcm", ".original.dcm"]
    accept = f"application/dicom; transfer-syntax={syntax}"
    response = get(client, instance_path(ds), accept)
    assert response.content == file  # the preamble emptied, as everywhere
    assert int(response.headers["content-length"]) == len(file)
    ranged = client.get(instance_path(ds), headers={"accept": accept, "range": "bytes=200-299"})
    assert (ranged.status_code, ranged.content) == (206, file[200:300])
    received = parts(get(client, study_path(ds), f"{MULTIPART}; transfer-syntax={syntax}"))
    assert file in [part.body for part in received]
    # Another syntax is made of the compressed file.
    another = IMPLICIT if syntax == EXPLICIT else EXPLICIT
    made = get(client, instance_path(ds), f"application/dicom; transfer-syntax={another}").content
    assert pydicom.dcmread(io.BytesIO(made)).PixelData == ds.PixelData


def test_deletion_takes_both_files(keeping: tuple[Server, httpx.Client]) -> None:
    server, client = keeping
    ds, stays = large(), large()
    dicomweb.store(client, ds, stays)
    assert len(files_of(server, ds)) == 2
    assert client.delete(instance_path(ds)).status_code == 204
    until(lambda: not files_of(server, ds), 30)
    assert len(files_of(server, stays)) == 2


def test_a_duplicate_leaves_no_files(keeping: tuple[Server, httpx.Client]) -> None:
    server, client = keeping
    ds = large()
    file = factories.part10(ds)
    assert dicomweb.post(client, [file, file]).status_code == 202
    assert files_of(server, ds) == [".dcm", ".original.dcm"]
    assert get(client, instance_path(ds), f"application/dicom; transfer-syntax={EXPLICIT}").content == file


def test_the_sweep_leaves_originals_of_living_instances(tmp_path: Path) -> None:
    with serving(tmp_path / "data", {**options(keep=True), **settings()}) as (server, client):
        ds = large()
        dicomweb.store(client, ds)
        folder = next((server.data_dir / "dicom").rglob("*.original.dcm")).parent
        name = f"{ds.SOPInstanceUID}_0000000000000000.original.dcm"
        (folder / name).write_bytes(b"left by a crash")
        for path in folder.iterdir():
            os.utime(path, (time.time() - 100, time.time() - 100))

        async def sweep() -> int:
            database = open_database(f"sqlite:///{server.data_dir / 'index.db'}")
            files = LocalStore(server.data_dir / "dicom")
            try:
                return await sweep_orphans(database, files, timedelta(0))
            finally:
                await files.close()
                await database.close()

        assert asyncio.run(sweep()) == 1
        until(lambda: not (folder / name).exists(), 30)
        assert files_of(server, ds) == [".dcm", ".original.dcm"]


@pytest.mark.parametrize("keep", [False, True])
def test_the_saving_is_reported_and_survives_a_restart(tmp_path: Path, *, keep: bool) -> None:
    datasets = [large() for _ in range(3)]
    plain = factories.encapsulated([b"\xff\xd8\xff\xd9"])
    sizes = [len(factories.part10(ds)) for ds in datasets]
    environment = options(keep=keep)
    with serving(tmp_path / "data", environment) as (server, client):
        dicomweb.store(client, *datasets)
        dicomweb.post(client, [plain])
        assert server.stop() == 0
    # The setting may be off by then.
    with serving(tmp_path / "data", {}) as (server, client):
        found = client.get("/statistics").json()
        compressed = sum(len(stored_as(client, ds)[1]) for ds in datasets)
        assert found == {
            "studies": 4, "series": 4, "instances": 4, "bytes": compressed + len(plain), "recompressedInstances": 3,
            "updatedInstances": 0,
            "receivedBytes": sum(sizes) + len(plain), "originalBytes": sum(sizes) if keep else 0,
        }  # fmt: skip
        figures = metrics(client)
        assert figures["stored_bytes"] == found["bytes"]
        assert figures["received_bytes"] == found["receivedBytes"]
        assert figures["original_bytes"] == found["originalBytes"]
        assert figures["recompressed_instances"] == 3
        command = [sys.executable, "-m", "hounsfield", "status", server.root]
        said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        assert "3 instances recompressed" in said
        assert ("extra" in said) is keep and ("saved" in said) is not keep
        assert (
            json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True, check=False).stdout)[
                "statistics"
            ]
            == found
        )
        if keep:
            accept = f"application/dicom; transfer-syntax={EXPLICIT}"
            assert len(get(client, instance_path(datasets[0]), accept).content) == sizes[0]


@pytest.mark.parametrize("keep", [False, True])
def test_kills_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keep: bool) -> None:
    """As without the setting; what is compared is the file as it was sent, or decoded into its syntax again."""
    monkeypatch.setattr(test_crash, "ORIGINALS", f"{MULTIPART}; transfer-syntax={EXPLICIT}")

    sibling = dicomweb.sibling

    def compressible(ds: Dataset, *, same_series: bool, PixelData: bytes) -> Dataset:  # noqa: N803
        length = len(PixelData)
        pixels = PixelData[:10] + PixelData[10:11] * (length - 10)
        return sibling(ds, same_series=same_series, PixelData=pixels, Rows=50, Columns=length // 100)

    monkeypatch.setattr(dicomweb, "sibling", compressible)
    environment = {**options(keep=keep), **settings()}
    server = Server(tmp_path / "data", [*QUIET, "--workers", "2"], environment)
    test_crash.survive(server, 2)
    with running(tmp_path / "data") as again, again.client() as client:
        assert client.get("/statistics").json()["recompressedInstances"] > 0

"""Studies, series and instances as zip files (retrieve.md §10.7)."""

import io
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.conftest import QUIET
from tests.acceptance.dicomweb import VERSIONS, series_path, study_path
from tests.server import Server

pytestmark = pytest.mark.acceptance

ZIP = "application/zip"


def get(client: httpx.Client, path: str, accept: str = ZIP) -> httpx.Response:
    return client.get(path, headers={"accept": accept})


def name_of(ds: Dataset) -> str:
    return f"{ds.StudyInstanceUID}/{ds.SeriesInstanceUID}/{ds.SOPInstanceUID}.dcm"


def content(response: httpx.Response) -> dict[str, bytes]:
    """The files of an answer by their names."""
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == ZIP
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def study(client: httpx.Client) -> dict[str, dict[str, bytes]]:
    """Files by name, by the path they are below; small ones, one above a read, and one compressed."""
    first = factories.dataset()
    other = dicomweb.sibling(first, same_series=False)
    files: dict[str, dict[str, bytes]] = {study_path(first): {}, series_path(first): {}, series_path(other): {}}
    for ds in (first, other, *(dicomweb.sibling(first, PixelData=bytes(size)) for size in (10, 1 << 20, 5 << 20))):
        files[study_path(ds)][name_of(ds)] = files[series_path(ds)][name_of(ds)] = factories.part10(ds)
    for body in files[study_path(first)].values():
        assert dicomweb.post(client, [body]).status_code in (200, 202)
    return files


@pytest.mark.parametrize("version", VERSIONS)
def test_every_level(client: httpx.Client, study: dict[str, dict[str, bytes]], version: str) -> None:
    for path, files in study.items():
        response = get(client, path.replace("/v2/", f"/{version}/"))
        assert content(response) == files
        assert int(response.headers["content-length"]) == len(response.content)
        uid = path.rpartition("/")[2]
        assert response.headers["content-disposition"] == f'attachment; filename="{uid}.zip"'
    (path, *_) = study
    name, body = next(iter(study[path].items()))
    _, series, instance = name.removesuffix(".dcm").split("/")
    assert content(get(client, f"{path}/series/{series}/instances/{instance}")) == {name: body}


def test_unzip_reads_it(client: httpx.Client, study: dict[str, dict[str, bytes]], tmp_path: Path) -> None:
    (path, *_) = study
    (tmp_path / "study.zip").write_bytes(get(client, path).content)
    subprocess.run(["unzip", "-q", "study.zip", "-d", "out"], cwd=tmp_path, check=True)
    found = {file.relative_to(tmp_path / "out").as_posix(): file.read_bytes() for file in tmp_path.rglob("*.dcm")}
    assert found == study[path]


def test_a_link_can_ask_for_it(client: httpx.Client, study: dict[str, dict[str, bytes]]) -> None:
    """A browser sends what it always accepts; the address says what is wanted (PS3.18 §8.3.3.1)."""
    (path, *_) = study
    response = get(client, f"{path}?accept=application/zip", "text/html,application/xhtml+xml,*/*;q=0.8")
    assert content(response) == study[path]
    assert get(client, f"{path}?accept=text/html", "*/*").status_code == 406


def test_files_in_another_transfer_syntax(client: httpx.Client) -> None:
    first = factories.dataset()
    second = dicomweb.sibling(first)
    for ds in (first, second):
        dicomweb.post(client, [factories.part10(ds, ImplicitVRLittleEndian)])
    for accept, syntax in (
        (ZIP, ImplicitVRLittleEndian),
        (f"{ZIP}; transfer-syntax=*", ImplicitVRLittleEndian),
        (f"{ZIP}; transfer-syntax={ImplicitVRLittleEndian}", ImplicitVRLittleEndian),
        (f"{ZIP}; transfer-syntax={ExplicitVRLittleEndian}", ExplicitVRLittleEndian),
    ):
        response = get(client, study_path(first), accept)
        found = content(response)
        assert found.keys() == {name_of(first), name_of(second)}
        for body in found.values():
            assert pydicom.dcmread(io.BytesIO(body)).file_meta.TransferSyntaxUID == syntax
        # A length is said where it is known, never a wrong one.
        assert int(response.headers.get("content-length", len(response.content))) == len(response.content)


def test_refusals(client: httpx.Client) -> None:
    assert get(client, "/v2/studies/x").status_code == 400
    assert get(client, "/v2/studies/1.2").status_code == 404
    ds = factories.dataset()
    body = factories.encapsulated([b"no jpeg"], SOPInstanceUID=ds.SOPInstanceUID, StudyInstanceUID=ds.StudyInstanceUID)
    dicomweb.post(client, [body])
    refused = get(client, study_path(ds), f"{ZIP}; transfer-syntax=1.2.840.10008.1.2.4.106.9")
    assert refused.status_code == 406
    assert str(JPEGBaseline8Bit) in refused.text
    assert get(client, study_path(ds), f'multipart/related; type="{ZIP}"').status_code == 406
    assert list(content(get(client, study_path(ds))).values()) == [body]


def test_the_best_of_several_is_sent(client: httpx.Client, study: dict[str, dict[str, bytes]]) -> None:
    (path, *_) = study
    assert get(client, path, f"{ZIP};q=0.5, {dicomweb.ORIGINALS}").headers["content-type"].startswith("multipart")
    assert get(client, path, f"{ZIP}, {dicomweb.ORIGINALS};q=0.5").headers["content-type"] == ZIP
    assert get(client, path, "*/*").headers["content-type"].startswith("multipart")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "data", [*QUIET, "--workers", "1"])
    try:
        yield server.start()
        assert server.stop() == 0
    finally:
        server.end()


def test_a_missing_file_and_one_cut_short(alone: Server) -> None:
    with alone.client() as client:
        first = factories.dataset(PixelData=bytes(3 << 20))
        dicomweb.store(client, first, dicomweb.sibling(first))
        (file,) = (alone.data_dir / "dicom").rglob(f"{first.SOPInstanceUID}_*.dcm")
        whole = file.read_bytes()
        file.write_bytes(whole[: 2 << 20])
        try:
            short = get(client, study_path(first))
            assert short.status_code == 500
        except httpx.RemoteProtocolError:
            pass
        file.unlink()
        assert get(client, study_path(first)).status_code == 500
        file.write_bytes(whole)
        assert len(content(get(client, study_path(first)))) == 2

"""Real files: each is taken or refused as its manifest says, and comes back byte for byte."""

import csv
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import VERSIONS

ROOT = Path(__file__).parents[2]
SAMPLES = Path(os.environ.get("HOUNSFIELD_SAMPLES", ROOT.parent / "shared" / "data" / "dicom"))
"""A folder of files with a MANIFEST.tsv that says what storing each must give."""

pytestmark = pytest.mark.acceptance

VALIDATION = 43264
IMPLICIT_VR = 45063
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

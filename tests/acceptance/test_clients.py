"""The Python library ``dicomweb-client``, which nobody here wrote, against our v2 and v1 roots."""

import io
from pathlib import Path

import pydicom
import pytest
from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit
from requests import HTTPError

from tests import factories
from tests.acceptance import dicomweb
from tests.acceptance.dicomweb import VERSIONS
from tests.server import Server

pytestmark = pytest.mark.acceptance

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(params=VERSIONS)
def library(server: Server, request: pytest.FixtureRequest) -> DICOMwebClient:
    return DICOMwebClient(f"{server.root}/{request.param}")


def as_file(ds: Dataset, transfer_syntax: str = ExplicitVRLittleEndian) -> Dataset:
    """``ds`` as if read from a file: without preamble and file meta information the library would send neither."""
    factories.part10(ds, transfer_syntax)
    ds.preamble = bytes(128)
    return ds


def uids(ds: Dataset) -> tuple[str, str, str]:
    return ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID


@pytest.fixture
def study(library: DICOMwebClient) -> list[Dataset]:
    """Three instances of two series, stored by the library."""
    first = factories.dataset(NumberOfFrames=2, PixelData=bytes(range(128)) * 2, PatientID=f"P{factories.uid()[-9:]}")
    same = {"PatientID": first.PatientID}
    datasets = [
        first,
        dicomweb.sibling(first, **same),
        dicomweb.sibling(first, same_series=False, Modality="SR", **same),
    ]
    answer = library.store_instances([as_file(ds) for ds in datasets])
    assert len(answer.ReferencedSOPSequence) == len(datasets)
    assert "FailedSOPSequence" not in answer
    return datasets


def test_store_into_a_study(library: DICOMwebClient) -> None:
    ds = as_file(factories.dataset())
    answer = library.store_instances([ds], study_instance_uid=ds.StudyInstanceUID)
    assert answer.RetrieveURL.endswith(f"/studies/{ds.StudyInstanceUID}")
    assert answer.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == ds.SOPInstanceUID


def test_a_duplicate_is_an_http_error(library: DICOMwebClient, study: list[Dataset]) -> None:
    with pytest.raises(HTTPError, match="409"):
        library.store_instances(study[:1])


def test_search(library: DICOMwebClient, study: list[Dataset]) -> None:
    first = study[0]
    (study_found,) = library.search_for_studies(search_filters={"PatientID": first.PatientID})
    assert Dataset.from_json(study_found).StudyInstanceUID == first.StudyInstanceUID
    found = library.search_for_series(first.StudyInstanceUID, search_filters={"Modality": "SR"})
    assert [Dataset.from_json(one).SeriesInstanceUID for one in found] == [study[2].SeriesInstanceUID]
    found = library.search_for_instances(
        search_filters={"PatientID": first.PatientID}, fields=["Rows"], limit=2, offset=1
    )
    assert len(found) == 2
    assert {Dataset.from_json(one).Rows for one in found} == {8}
    found = library.search_for_instances(first.StudyInstanceUID, first.SeriesInstanceUID)
    assert {Dataset.from_json(one).SOPInstanceUID for one in found} == {ds.SOPInstanceUID for ds in study[:2]}
    assert library.search_for_studies(search_filters={"PatientID": "nobody"}) == []
    asked = {"PatientName": "doe", "PatientID": first.PatientID}
    (study_found,) = library.search_for_studies(fuzzymatching=True, search_filters=asked)
    assert Dataset.from_json(study_found).PatientName == "Doe^John"


def test_search_pages(library: DICOMwebClient) -> None:
    first = factories.dataset(PixelData=None)
    datasets = [first, *(dicomweb.sibling(first, PixelData=None) for _ in range(249))]
    library.store_instances([as_file(ds) for ds in datasets])
    found = library.search_for_instances(first.StudyInstanceUID, get_remaining=True)
    assert {Dataset.from_json(one).SOPInstanceUID for one in found} == {ds.SOPInstanceUID for ds in datasets}


def test_retrieve(library: DICOMwebClient, study: list[Dataset]) -> None:
    first = study[0]
    assert library.retrieve_instance(*uids(first)) == first
    everything = library.retrieve_study(first.StudyInstanceUID)
    assert {ds.SOPInstanceUID: ds for ds in everything} == {ds.SOPInstanceUID: ds for ds in study}
    series = library.retrieve_series(first.StudyInstanceUID, first.SeriesInstanceUID)
    assert {ds.SOPInstanceUID for ds in series} == {ds.SOPInstanceUID for ds in study[:2]}
    original = (("application/dicom", "*"),)
    (ds,) = [*library.iter_series(first.StudyInstanceUID, study[2].SeriesInstanceUID, media_types=original)]
    assert ds == study[2]


def test_metadata(library: DICOMwebClient, study: list[Dataset]) -> None:
    first = study[0]
    found = Dataset.from_json(library.retrieve_instance_metadata(*uids(first)))
    expected = pydicom.dcmread(io.BytesIO(factories.part10(first)))
    del expected.PixelData
    assert found == expected
    assert len(library.retrieve_series_metadata(*uids(first)[:2])) == 2
    assert len(library.retrieve_study_metadata(first.StudyInstanceUID)) == 3


def test_frames(library: DICOMwebClient, study: list[Dataset]) -> None:
    first = study[0]
    frames = library.retrieve_instance_frames(*uids(first), frame_numbers=[2, 1])
    assert frames == [first.PixelData[128:], first.PixelData[:128]]
    octets = (("application/octet-stream", "1.2.840.10008.1.2.1"),)
    assert library.retrieve_instance_frames(*uids(first), [1], media_types=octets) == frames[1:]
    with pytest.raises(HTTPError, match="404"):
        library.retrieve_instance_frames(*uids(first), frame_numbers=[3])


def test_compressed_frames(library: DICOMwebClient) -> None:
    jpegs = [bytes([255, 216]) + bytes([number]) * 50 for number in range(3)]
    ds = factories.dataset(NumberOfFrames=3, BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=encapsulate(jpegs))
    ds["PixelData"].is_undefined_length = True
    library.store_instances([as_file(ds, JPEGBaseline8Bit)])
    original = (("application/octet-stream", "*"),)
    assert library.retrieve_instance_frames(*uids(ds), frame_numbers=[3, 1], media_types=original) == [
        jpegs[2],
        jpegs[0],
    ]


def test_delete(library: DICOMwebClient, study: list[Dataset]) -> None:
    library.delete_instance(*uids(study[1]))
    library.delete_series(*uids(study[0])[:2])
    library.delete_study(study[0].StudyInstanceUID)
    with pytest.raises(HTTPError, match="404"):
        library.retrieve_study_metadata(study[0].StudyInstanceUID)


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom has an opinion on what scanners write
@pytest.mark.parametrize("name", ["mr-head", "us-heart", "sm-slide", "ct-report"])
def test_real_studies(library: DICOMwebClient, name: str) -> None:
    datasets = [pydicom.dcmread(path) for path in sorted((SAMPLES / name).glob("*.dcm"))]
    try:
        library.store_instances(datasets)
        for ds in datasets:
            original = (("application/dicom", "*"),)
            assert library.retrieve_instance(*uids(ds), media_types=original) == ds
            assert Dataset.from_json(library.retrieve_instance_metadata(*uids(ds))).SOPInstanceUID == ds.SOPInstanceUID
    finally:
        for study_uid in {ds.StudyInstanceUID for ds in datasets}:
            library.delete_study(study_uid)

import io

import pydicom
import pytest
from pydicom.encaps import generate_frames
from pydicom.uid import JPEGBaseline8Bit

from benchmarks.studies import CINE, CT, DEEP, FRAGMENTED, PICTURE, PLAIN, SMALL, Collection, Instance, Kind, Series

BULK = {"OB", "OW", "UN"}


def read(instance: Instance) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(instance.file()))


@pytest.mark.parametrize("kind", [CT, SMALL, CINE, DEEP, PICTURE])
def test_an_instance_is_what_it_says(kind: Kind) -> None:
    series = Series(kind, 12, 3)
    instance = series.instance(41)
    dataset = read(instance)
    assert dataset.StudyInstanceUID == series.study
    assert dataset.SeriesInstanceUID == series.uid
    assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == instance.sop
    assert dataset.PatientID == series.patient_id
    assert dataset.StudyDate == series.study_date
    assert dataset.InstanceNumber == 100_041
    assert len(dataset.PixelData) == kind.frame_bytes * kind.frames
    assert dataset.PixelData.endswith(instance.frame(kind.frames))
    assert 80 <= len(dataset) <= 130
    assert len(instance.file()) == instance.size


@pytest.mark.parametrize("kind", [CT, CINE, PLAIN, FRAGMENTED])
def test_metadata_is_what_pydicom_makes_of_the_file(kind: Kind) -> None:
    instance = Series(kind, 7, 99).instance(5)
    expected = {tag: value for tag, value in read(instance).to_json_dict().items() if value["vr"] not in BULK}
    assert instance.metadata() == expected


def test_sizes_are_those_of_the_report() -> None:
    assert Series(CT, 1, 1).instance(0).size // 1024 == 515
    assert 8000 <= Series(SMALL, 1, 1).instance(0).size <= 8192


def test_instances_differ_in_identity_and_place() -> None:
    first, second = (read(instance) for instance in Collection(SMALL, 1, 10, 1, 2))
    different = {each.keyword for each in first if each.value != second[each.tag].value}
    assert different == {
        "SOPInstanceUID",
        "InstanceNumber",
        "ContentTime",
        "InstanceCreationTime",
        "ImagePositionPatient",
        "SliceLocation",
        "PixelData",
    }


def test_nothing_is_shared_between_studies_seeds_and_kinds() -> None:
    instances = [Series(kind, seed, study).instance(0) for kind in (CT, SMALL) for seed in (1, 2) for study in (1, 2)]
    assert len({instance.sop for instance in instances}) == 8
    assert len({instance.series.study for instance in instances}) == 8
    assert len({instance.series.patient_id for instance in instances}) == 8


def test_the_same_numbers_give_the_same_bytes() -> None:
    assert Series(CT, 5, 6).instance(7).file() == Series(CT, 5, 6).instance(7).file()


def test_a_collection_has_its_instances_in_order() -> None:
    collection = Collection(SMALL, 1, 10, 3, 4)
    found = list(collection)
    assert len(found) == len(collection) == 12
    assert len({instance.sop for instance in found}) == 12
    assert found[5] == collection.series(1).instance(1)


def test_frames_lie_behind_each_other() -> None:
    instance = Series(CINE, 1, 1).instance(0)
    assert b"".join(instance.frame(number) for number in range(1, 101)) == instance.pixels


@pytest.mark.parametrize("kind", [CINE, FRAGMENTED])
def test_frames_lie_in_the_file_where_they_are_said_to(kind: Kind) -> None:
    instance = Series(kind, 1, 1).instance(0)
    file = instance.file()
    for number in (1, 2, kind.frames):
        start = instance.frame_start(number)
        assert len(instance.frame(number)) == kind.frame_bytes
        assert file[start : start + kind.frame_bytes] == instance.frame(number)


def test_fragments_are_the_frames_as_pydicom_finds_them() -> None:
    instance = Series(FRAGMENTED, 1, 1).instance(0)
    dataset = read(instance)
    assert dataset.file_meta.TransferSyntaxUID == JPEGBaseline8Bit
    found = list(generate_frames(dataset.PixelData, number_of_frames=FRAGMENTED.frames))
    assert len(found) == dataset.NumberOfFrames == FRAGMENTED.frames
    assert found == [instance.frame(number) for number in range(1, FRAGMENTED.frames + 1)]
    assert all(b"\xff" not in frame[2:-2] for frame in found[:3])


def test_plain_instances_have_as_many_attributes_as_the_report_says() -> None:
    dataset = read(Series(PLAIN, 1, 1).instance(0))
    del dataset.PixelData
    assert len(dataset) == PLAIN.attributes == 79

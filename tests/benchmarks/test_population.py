import io
import warnings
from collections import Counter

import pydicom
import pytest

from benchmarks.headers import PRIVATE_CREATOR, SeriesFiles, protocol
from benchmarks.population import Population, describe
from hounsfield.dicom import uid


@pytest.fixture(scope="module")
def population() -> Population:
    return Population(1, 600, 6_000)


def test_there_are_as_many_as_asked_for(population: Population) -> None:
    assert len(population.all) == 600
    assert sum(study.instances for study in population.all) == 6_000
    assert "600 studies" in describe(population)
    assert sum(study.instances for study in Population(1, 100, 100).all) == 100
    assert sum(study.instances for study in Population(1, 100, 130).all) == 130
    assert sum(study.instances for study in Population(1, 10, 50_000).all) == 50_000
    with pytest.raises(ValueError, match="as many instances"):
        Population(1, 100, 99)


def test_the_seed_decides_everything(population: Population) -> None:
    assert Population(1, 600, 6_000).all == population.all
    assert Population(2, 600, 6_000).all != population.all


def test_every_uid_is_one_and_there_once(population: Population) -> None:
    studies = [study.uid for study in population.all]
    series = [series.uid for study in population.all for series in study.series]
    instances = [series.sop(number) for _, series, number in population.slice(0, 6_000)]
    found = studies + series + instances
    assert len(set(found)) == len(found)
    assert len(instances) == 6_000
    assert all(len(each) <= 64 and uid.normalise(each) == each for each in found)


def test_slices_are_all_instances_in_order(population: Population) -> None:
    whole = list(population.slice(0, 6_000))
    parts = [each for first in range(0, 6_000, 700) for each in population.slice(first, first + 700)]
    assert parts == whole
    assert list(population.slice(6_000, 6_100)) == []


def test_it_is_like_a_hospital(population: Population) -> None:
    patients = Counter(study.patient.id for study in population.all)
    assert max(patients.values()) > 3
    days = [study.day for study in population.all if study.day]
    assert days == sorted(days)
    assert sum(day >= "2020" for day in days) > sum(day < "2016" for day in days)
    names = "".join(study.patient.name for study in population.all)
    for letters in ("é", "山", "やま", "김", "ов", "ου", "م"):
        assert letters in names
    modalities = Counter(modality for study in population.all for modality in study.modalities)
    assert modalities["DX"] > modalities["CT"] > modalities["PT"] > 0
    assert {study.accession == "" for study in population.all} == {True, False}
    assert {study.description == "" for study in population.all} == {True, False}


def test_files_hold_what_the_plan_says(population: Population) -> None:
    checked = 0
    for study in population.all[::40]:
        for series in study.series:
            number = series.instances - 1
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                dataset = pydicom.dcmread(io.BytesIO(bytes(SeriesFiles(study, series).file(number))))
                assert dataset.StudyInstanceUID == study.uid
                assert dataset.SeriesInstanceUID == series.uid
                assert dataset.SOPInstanceUID == dataset.file_meta.MediaStorageSOPInstanceUID == series.sop(number)
                assert str(dataset.PatientName) == study.patient.name
                assert (dataset.PatientID, dataset.AccessionNumber) == (study.patient.id, study.accession)
                assert (dataset.StudyDate, dataset.Modality) == (study.day, series.modality)
                assert dataset.InstanceNumber == series.instances
                assert dataset.RequestAttributesSequence[0].ScheduledProcedureStepID == f"SPS{study.number:08d}"
                assert dataset.private_block(0x0009, PRIVATE_CREATOR)[1].value == protocol(study)
            checked += 1
    assert checked > 15

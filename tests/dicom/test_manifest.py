"""Every sample file comes out of reading and validation as its manifest says."""

import re

import pytest

from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.source import FileSource, UnreadableInstance
from hounsfield.dicom.validation import StoreVerdict, validate_for_store
from tests.dicom.samples import LARGE_SET, SMALL_SET, WITHOUT_LARGE, Sample


def store(sample: Sample, api_version: int) -> StoreVerdict | None:
    with FileSource(sample.path) as source:
        try:
            instance = read_instance(source)
        except UnreadableInstance:
            return None
    assert metadata_json(instance.dataset)
    if sample.frames is not None and sample.outcomes[2] != "either" and instance.frames is not None:
        assert instance.frames.count == sample.frames
    return validate_for_store(instance, api_version=api_version, expected_study=None)


def check(sample: Sample, api_version: int) -> None:
    verdict = store(sample, api_version)
    expected = sample.outcomes[api_version]
    if expected == "either":
        return
    if verdict is None or verdict.failed:
        assert expected == "rejected"
        return
    assert expected == ("stored-with-warning" if verdict.warning_reason else "stored")
    if api_version == 2:
        found = [re.match(r"DICOM100: \((....),(....)[:)]", comment) for comment in verdict.comments]
        tags = {(match[1] + match[2]).upper() for match in found if match}
        assert len(tags) == len(verdict.comments)
        assert sample.warning_tags <= tags <= sample.warning_tags | sample.quirks


@pytest.mark.parametrize("api_version", [1, 2])
@pytest.mark.parametrize("sample", SMALL_SET, ids=lambda sample: sample.name)
def test_small_set(sample: Sample, api_version: int) -> None:
    check(sample, api_version)


@pytest.mark.skipif(not LARGE_SET, reason=WITHOUT_LARGE)
@pytest.mark.parametrize("api_version", [1, 2])
def test_large_set(api_version: int) -> None:
    wrong = []
    for sample in LARGE_SET:
        try:
            check(sample, api_version)
        except AssertionError as error:
            wrong.append(f"{sample.name}: {error}")
    assert not wrong


def test_small_set_covers_every_outcome() -> None:
    assert {sample.outcomes[2] for sample in SMALL_SET} == {"stored", "stored-with-warning", "rejected", "either"}

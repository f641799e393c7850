"""Whatever pydicom writes is read the same, and nothing breaks the reader."""

import io
import json
import logging
import re
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from hounsfield.archive.index_values import series_values, study_values
from hounsfield.dicom.frames import FrameIndex
from hounsfield.dicom.json_model import metadata_json
from hounsfield.dicom.part10 import Instance, read_instance
from hounsfield.dicom.source import ByteSource, BytesSource, InflatedSource, UnreadableInstance
from tests.dicom.datasets import (
    CHARACTER_SETS,
    MISREAD,
    NATIVE,
    SYNTAXES,
    Described,
    Image,
    Raw,
    built,
    described,
    encapsulated_images,
    native_images,
    raw_built,
    raw_datasets,
    spoiled,
    text_values,
    written,
)
from tests.dicom.elements import BIG_ENDIAN, EXPLICIT, IMPLICIT, RLE
from tests.dicom.oracle import differences, theirs
from tests.fuzz.targets import forget, reader, transcode

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's complaints about odd values

logging.getLogger("pydicom").setLevel(logging.CRITICAL)

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def read(data: bytes) -> Instance:
    return read_instance(BytesSource(data))


def compare(data: bytes) -> None:
    ours = json.loads(metadata_json(read(data).dataset))
    assert differences(ours, theirs(dcmread(io.BytesIO(data), force=True))) == []


def try_writing(dataset: Dataset, syntax: str, *, preamble: bool = True) -> bytes:
    """The file; skips what pydicom does not write (it looks at values whose VR its dictionary calls ambiguous)."""
    try:
        return written(dataset, syntax, preamble=preamble)
    except Exception:  # whatever pydicom raises: it is not what is tested
        assume(False)
        raise


# --- metadata

SIGNED_OUTSIDE: Described = {
    0x00091001: ("SQ", [({0x00189810: ("US", 0, False)}, False)], True),
    0x00280103: ("US", 1, False),
}
"""Pixel Representation behind a sequence of undefined length, whose number it decides."""


@settings(max_examples=250, deadline=None, suppress_health_check=SLOW)
@given(described(), st.sampled_from(SYNTAXES), st.booleans())
@example(SIGNED_OUTSIDE, IMPLICIT, True)
def test_whatever_pydicom_writes_is_read_as_pydicom_reads_it(content: Described, syntax: str, preamble: bool) -> None:
    data = try_writing(built(content), syntax, preamble=preamble)
    if len(data) < 132:  # store.md §2
        with pytest.raises(UnreadableInstance, match="too short"):
            read(data)
        return
    compare(data)
    instance = read(data)
    assert instance.transfer_syntax == syntax
    assert instance.has_preamble is preamble


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(raw_datasets(), st.sampled_from(NATIVE))
def test_odd_values_are_read_as_pydicom_reads_them(content: Raw, syntax: str) -> None:
    # What is known of UN is little endian whatever the rest is (PS3.5 §6.2.2); pydicom swaps it.
    assume(syntax != BIG_ENDIAN or all(vr != "UN" for vr, _ in content.values()))
    compare(try_writing(raw_built(content, syntax), syntax))


LOSSLESS = sorted(
    CHARACTER_SETS.keys() - {("", "ISO 2022 IR 58"), ("ISO_IR 13",), ("ISO 2022 IR 13", "ISO 2022 IR 87")}
)
"""Without those in which pydicom does not write all of the text: no escapes in the first, "?" in the others."""


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LOSSLESS), st.sampled_from(["LO", "SH", "UC", "PN"]), st.data())
def test_text_comes_back_as_it_was_before_pydicom_wrote_it(
    character_set: tuple[str, ...], vr: str, data: st.DataObject
) -> None:
    value = data.draw(text_values(vr, character_set))
    content: Described = {0x00080005: ("CS", list(character_set) or None, False), 0x00091001: (vr, value, False)}
    found = read(written(built(content), EXPLICIT)).dataset["00091001"].get("Value", [])
    values = value if isinstance(value, list) else [value]
    expected = [_name(each) if vr == "PN" else each.rstrip(" ") or None for each in values]
    assert found == expected or not (any(found) or any(expected))


def _name(value: str) -> dict[str, str] | None:
    groups = zip(("Alphabetic", "Ideographic", "Phonetic"), value.split("="), strict=False)
    return {name: group.rstrip(" ") for name, group in groups if group.strip(" ")} or None


_STUDY = {
    0x00080020: "StudyDate", 0x00080050: "AccessionNumber", 0x00080090: "ReferringPhysicianName",
    0x00081030: "StudyDescription", 0x00100010: "PatientName", 0x00100020: "PatientID", 0x00100030: "PatientBirthDate",
}  # fmt: skip
_SERIES = {0x00080060: "Modality", 0x00081090: "ManufacturerModelName", 0x00400244: "PerformedProcedureStepStartDate"}


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(LOSSLESS).filter(lambda terms: terms != MISREAD), st.sampled_from(NATIVE), st.data())
def test_what_is_searched_for_is_what_pydicom_finds(
    character_set: tuple[str, ...], syntax: str, data: st.DataObject
) -> None:
    content: Described = {0x00080005: ("CS", list(character_set) or None, False)}
    for tag, keyword in (_STUDY | _SERIES).items():
        vr = "PN" if keyword.endswith("Name") and "Model" not in keyword else "DA" if "Date" in keyword else "LO"
        days = st.dates().map(lambda day: day.strftime("%Y%m%d").rjust(8, "0"))
        content[tag] = vr, data.draw(days if vr == "DA" else text_values(vr, character_set)), False
    raw = written(built(content), syntax)
    found = read(raw).dataset
    indexed = asdict(study_values(found)) | asdict(series_values(found))
    for keyword, value in _firsts(dcmread(io.BytesIO(raw))).items():
        assert (indexed[keyword] or "") == value, keyword


def _firsts(dataset: Dataset) -> dict[str, str]:
    """The first values by the names the index gives them."""
    result = {}
    for keyword in (*_STUDY.values(), *_SERIES.values()):
        value: Any = dataset.get(keyword)
        first = value[0] if isinstance(value, MultiValue) and value else value
        name = re.sub("(?<=[a-z])(?=[A-Z])", "_", keyword).lower()
        text = "=".join(group.rstrip(" ") for group in str(first or "").split("=")).rstrip("=")
        result[name] = text if text.strip(" ") else ""
    return result


# --- frames


@settings(max_examples=150, deadline=None)
@given(native_images(), st.sampled_from(NATIVE))
def test_native_frames(image: Image, syntax: str) -> None:
    data = written(image.dataset, syntax)
    check_frames(data, image.frames)


@settings(max_examples=150, deadline=None)
@given(encapsulated_images())
def test_encapsulated_frames(image: Image) -> None:
    check_frames(written(image.dataset, RLE), image.frames)


def check_frames(data: bytes, expected: list[bytes]) -> None:
    """Every frame, by its span, is what was put in, but for the byte that makes a fragment even (PS3.5 §A.4)."""
    index = read(data).frames
    assert index is not None
    assert index.count == len(expected)
    source: ByteSource = BytesSource(data)
    if index.stream_start is not None:
        source = InflatedSource(source, index.stream_start)
    for number, frame in enumerate(expected, 1):
        found = bytes(index.frame(number, source.read_at(*index.span(number))))
        assert found == (frame + bytes(len(frame) % 2) if index.encapsulated else frame)
    assert FrameIndex.from_bytes(index.to_bytes()) == index


# --- where the bytes are and what was read before does not matter


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(described(depth=2), st.sampled_from(NATIVE), st.integers(15_500, 16_384))
def test_the_edge_of_what_is_read_at_once_does_not_matter(content: Described, syntax: str, length: int) -> None:
    shifted: Described = {**content, 0x00080119: ("UC", "x" * length, False)}
    short: Described = {**content, 0x00080119: ("UC", "x", False)}
    far, near = (read(try_writing(built(each), syntax)) for each in (shifted, short))
    assert far.dataset.pop("00080119") != near.dataset.pop("00080119")
    assert far.dataset == near.dataset
    assert far.left_out == near.left_out
    assert far.problems == near.problems


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(st.lists(st.tuples(described(depth=2), st.sampled_from(NATIVE)), min_size=2, max_size=3))
def test_what_was_read_before_does_not_matter(contents: list[tuple[Described, str]]) -> None:
    files = [try_writing(built(content), syntax) for content, syntax in contents]
    first = []
    for data in files:
        forget()
        first.append(read(data))
    assert [read(data) for data in (*files, *files)] == first * 2


@settings(max_examples=100, deadline=None, suppress_health_check=SLOW)
@given(described(depth=2), st.sampled_from(NATIVE))
def test_transcoding_changes_nothing_that_is_read(content: Described, syntax: str) -> None:
    transcode(try_writing(built(content), syntax))


# --- anything else


files = st.one_of(
    st.tuples(described(depth=2, most=5), st.sampled_from(SYNTAXES)).map(
        lambda drawn: try_writing(built(drawn[0]), drawn[1])
    ),
    native_images().map(lambda image: written(image.dataset, EXPLICIT)),
    encapsulated_images().map(lambda image: written(image.dataset, RLE)),
)


@settings(max_examples=300, deadline=None, suppress_health_check=SLOW)
@given(spoiled(files))
def test_spoiled_files_are_read_or_refused(data: bytes) -> None:
    reader(data)
    transcode(data)

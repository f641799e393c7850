"""Where bulk values lie: what the reader says, against pydicom, at every depth."""

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_fragments
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit

from hounsfield.dicom.dataset_reader import BulkValue
from hounsfield.dicom.part10 import read_bulk_data, read_instance
from hounsfield.dicom.source import BytesSource
from tests import factories
from tests.dicom.samples import LARGE_SET, SMALL_SET, Sample, pydicom_read

BULK = {"OB", "OD", "OF", "OL", "OV", "OW", "UN", "OB or OW"}


def located(file: bytes) -> dict[tuple[Any, str], bytes]:
    data = read_bulk_data(BytesSource(file))
    return {(value.path, value.key): content(data.source.read_at, value) for value in data.values}


def content(read_at: Any, value: BulkValue) -> bytes:
    pieces = value.fragments if value.fragments is not None else [(value.offset, value.length)]
    return b"".join(read_at(offset, length) for offset, length in pieces)


def by_pydicom(ds: Dataset, path: tuple[tuple[str, int], ...] = ()) -> Iterator[tuple[tuple[Any, str], bytes]]:
    for element in ds:
        key = f"{int(element.tag):08X}"
        if element.VR == "SQ":
            for index, item in enumerate(element.value):
                yield from by_pydicom(item, (*path, (key, index)))
        elif element.VR in BULK:
            yield (path, key), element.value or b""


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
@pytest.mark.parametrize("defined", [True, False])
def test_values_in_sequences(syntax: str, defined: bool) -> None:
    def item(number: int) -> Dataset:
        made = Dataset()
        made.add_new("LUTDescriptor", "US", [2, 0, 16])
        made.add_new("LUTData", "OW", bytes([number, 1, 2, 3]))
        made.is_undefined_length_sequence_item = not defined
        return made

    outer = item(1)
    outer.add_new("VOILUTSequence", "SQ", Sequence([item(2), Dataset(), item(3)]))
    ds = factories.dataset()
    ds.add_new("ModalityLUTSequence", "SQ", Sequence([outer, item(4)]))
    for sequence in (outer["VOILUTSequence"], ds["ModalityLUTSequence"]):
        sequence.is_undefined_length = not defined
    file = factories.part10(ds, syntax)
    lut = "00283006"
    above = ("00283000", 0)
    expected = {
        ((above,), lut): bytes([1, 1, 2, 3]),
        ((above, ("00283010", 0)), lut): bytes([2, 1, 2, 3]),
        ((above, ("00283010", 2)), lut): bytes([3, 1, 2, 3]),
        ((("00283000", 1),), lut): bytes([4, 1, 2, 3]),
        ((), "7FE00010"): ds.PixelData,
    }
    assert located(file) == expected
    # Short sequences are remembered by the reader of uploads; where their values lie must not be.
    read_instance(BytesSource(file))
    assert located(file) == expected


def test_fragments() -> None:
    frames = [bytes([number]) * 40 for number in range(3)]
    ds = factories.dataset(NumberOfFrames=3, PixelData=encapsulate(frames, fragments_per_frame=2))
    ds["PixelData"].is_undefined_length = True
    (value,) = read_bulk_data(BytesSource(factories.part10(ds, JPEGBaseline8Bit))).values
    assert value.fragments is not None
    assert [length for _, length in value.fragments] == [20] * 6
    assert located(factories.part10(ds, JPEGBaseline8Bit)) == {((), "7FE00010"): b"".join(frames)}


WELL_FORMED = [
    sample
    for sample in SMALL_SET + LARGE_SET
    if "broken" not in sample.path.parts and not {"either", "rejected"} & set(sample.outcomes.values())
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's complaints about odd values
@pytest.mark.parametrize("sample", WELL_FORMED, ids=lambda sample: sample.name)
def test_the_samples(sample: Sample) -> None:
    """What pydicom finds in the sample sets is found, at the same places and with the same bytes."""
    data = read_bulk_data(BytesSource(sample.path.read_bytes()))
    found = {(value.path, value.key): value for value in data.values}
    try:
        theirs = list(by_pydicom(pydicom_read(sample.path, force=True)))
    except NotImplementedError:
        pytest.skip("pydicom stumbles over a delimiter too many")
    for where, value in theirs:
        if where[1][:4] != "0002" and where[1][4:] != "0000":
            ours = found.pop(where)
            expected = value if ours.fragments is None else b"".join(list(generate_fragments(value))[1:])
            assert content(data.source.read_at, ours) == expected, where
    # Of private attributes written as UN, pydicom knows the VR of many.
    assert {value.vr for value in found.values()} <= {"UN"}

"""What is read of a header to draw a picture: less than there is, and the same."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from hounsfield.dicom.codecs import stored_values
from hounsfield.dicom.pixels import from_pydicom
from hounsfield.dicom.rendering.annotation import TAGS
from hounsfield.dicom.rendering.header import CannotRender, lenient, read_image_header
from tests import factories
from tests.dicom.rendering.sources import RAMP, drawn, grey, source_of
from tests.dicom.samples import LARGE_SET, SMALL_SET


def is_drawn_from(tag: int) -> bool:
    return tag >> 16 in (0x0028, 0x2050, 0x5200) or 0x6000 <= tag >> 16 <= 0x601F


def test_of_real_files_less_is_read_and_nothing_that_is_drawn_from_is_lost() -> None:
    read = left_out = 0
    for sample in SMALL_SET + LARGE_SET:
        try:
            source = source_of(sample.path)
        except Exception:  # what is refused is not here to be drawn
            continue
        if not source.frames or source.inflated:
            continue
        with lenient():
            try:
                whole = dcmread(io.BytesIO(source.header), force=True, stop_before_pixels=True)
            except OSError:  # pydicom takes this one for something else
                continue
            found = read_image_header(source.header, inflated=False, also=TAGS)
            for tag in sorted(whole.keys()):
                if is_drawn_from(tag) or tag in TAGS:
                    assert found[tag] == whole[tag], (sample.name, tag)
        read += len(found)
        left_out += len(whole) - len(found)
    assert left_out > read > 100


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_a_header_is_taken_apart_however_it_is_written(syntax: str) -> None:
    ds = grey(RAMP, stored=12, WindowCenter="2048", WindowWidth="1024", AnatomicRegionSequence=[Dataset()])
    ds["AnatomicRegionSequence"].is_undefined_length = True
    header = source_of(factories.part10(ds, syntax)).header
    with lenient():
        found = read_image_header(header, inflated=False)
    assert "WindowCenter" in found
    assert "PatientID" not in found
    assert "AnatomicRegionSequence" not in found
    expected = drawn(ds)
    if syntax == ExplicitVRBigEndian:
        ds.PixelData = RAMP.byteswap().tobytes()
    assert (drawn(factories.part10(ds, syntax)) == expected).all()


def test_a_header_that_cannot_be_taken_apart_is_read_as_it_is() -> None:
    header = source_of(grey(RAMP, stored=12)).header
    with lenient():
        found = read_image_header(header + b"\0\0", inflated=False)
        assert found == dcmread(io.BytesIO(header), stop_before_pixels=True)
        with pytest.raises(CannotRender):
            read_image_header(header[:-2], inflated=False)


@settings(deadline=None)
@given(st.integers(1, 16), st.data(), st.booleans(), st.integers(0, 2**32 - 1))
def test_only_the_bits_that_are_stored_count(stored: int, data: st.DataObject, signed: bool, seed: int) -> None:
    high = data.draw(st.integers(stored - 1, 15))
    samples = np.random.default_rng(seed).integers(0, 1 << 16, (4, 4), np.uint16)
    ds = grey(samples, stored=stored, HighBit=high, PixelRepresentation=int(signed))
    found = stored_values(samples.view(np.int16) if signed else samples, from_pydicom(ds))
    expected = [[int(f"{value:016b}"[15 - high : 16 - high + stored - 1], 2) for value in row] for row in samples]
    if signed:
        expected = [[value - (value >> (stored - 1) << stored) for value in row] for row in expected]
    assert found.tolist() == expected

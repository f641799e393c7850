"""Grey images against the formulas of the standard, and pydicom's own pipeline on real files."""

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.uid import ExplicitVRBigEndian

from hounsfield.dicom.codecs import decode, stored_values
from hounsfield.dicom.pixels import from_pydicom
from hounsfield.dicom.rendering.grey import window_function
from hounsfield.dicom.rendering.header import CannotRender, lenient
from hounsfield.dicom.rendering.options import Window, WindowFunction
from tests import factories
from tests.dicom.rendering.sources import RAMP, Pixels, colour, drawn, grey, source_of
from tests.dicom.samples import LARGE_SET, WITHOUT_LARGE, pydicom_read


def linear(values: Any, center: float, width: float) -> Pixels:
    """PS3.3 C.11.2.1.2.1, as it is printed there, to 0…255."""
    out = ((values - (center - 0.5)) / (width - 1) + 0.5) * 255
    out = np.where(
        values <= center - 0.5 - (width - 1) / 2, 0, np.where(values > center - 0.5 + (width - 1) / 2, 255, out)
    )
    shown: Pixels = np.rint(out).astype(np.uint8)
    return shown


def spread(values: Any) -> Pixels:
    """The range of the values to 0…255."""
    values = np.asarray(values, np.float64)
    shown: Pixels = np.rint((values - values.min()) / (values.max() - values.min()) * 255).astype(np.uint8)
    return shown


FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@given(FINITE, st.floats(1, 1e6), FINITE)
def test_linear_window(center: float, width: float, value: float) -> None:
    shown = float(np.clip(window_function(Window(center, width))(np.array(value)), 0, 1))
    if value <= center - 0.5 - (width - 1) / 2:
        expected = 0.0
    elif value > center - 0.5 + (width - 1) / 2:
        expected = 1.0
    else:
        expected = (value - (center - 0.5)) / (width - 1) + 0.5
    assert shown == pytest.approx(expected, abs=1e-6)


@given(FINITE, st.floats(1e-3, 1e6), FINITE)
def test_linear_exact_window(center: float, width: float, value: float) -> None:
    shown = float(np.clip(window_function(Window(center, width, WindowFunction.LINEAR_EXACT))(np.array(value)), 0, 1))
    if value <= center - width / 2:
        expected = 0.0
    elif value > center + width / 2:
        expected = 1.0
    else:
        expected = (value - center) / width + 0.5
    assert shown == pytest.approx(expected, abs=1e-6)


@given(FINITE, st.floats(1e-3, 1e6), FINITE)
def test_sigmoid_window(center: float, width: float, value: float) -> None:
    shown = float(window_function(Window(center, width, WindowFunction.SIGMOID))(np.array(value)))
    exponent = -4 * (value - center) / width
    expected = 0.0 if exponent > 700 else 1 / (1 + math.exp(exponent))
    assert shown == pytest.approx(expected, abs=1e-12)


def test_a_stored_window_is_applied_after_rescaling() -> None:
    ds = grey(RAMP, stored=12, RescaleSlope="2", RescaleIntercept="-1000", WindowCenter="40", WindowWidth="400")
    assert (drawn(ds) == linear(RAMP * 2.0 - 1000, 40, 400)).all()


def test_the_first_of_several_windows_counts() -> None:
    ds = grey(RAMP, stored=12, WindowCenter=["300", "2000"], WindowWidth=["200", "4000"])
    assert (drawn(ds) == linear(RAMP, 300, 200)).all()


def test_a_window_asked_for_goes_before_the_stored_one() -> None:
    ds = grey(RAMP, stored=12, WindowCenter="300", WindowWidth="200")
    assert (drawn(ds, window=Window(1000, 1500)) == linear(RAMP, 1000, 1500)).all()


def test_a_window_of_width_1_is_a_threshold() -> None:
    ds = grey(RAMP, stored=12, WindowCenter="300", WindowWidth="1")
    assert (drawn(ds) == np.where(RAMP <= 299.5, 0, 255)).all()


@pytest.mark.parametrize("function", ["LINEAR_EXACT", "SIGMOID"])
def test_the_stored_function_is_applied(function: str) -> None:
    ds = grey(RAMP, stored=12, WindowCenter="2000", WindowWidth="1000", VOILUTFunction=function)
    if function == "SIGMOID":
        expected = 255 / (1 + np.exp(-4 * (RAMP - 2000.0) / 1000))
    else:
        expected = np.clip((RAMP - 2000.0) / 1000 + 0.5, 0, 1) * 255
    assert (drawn(ds) == np.rint(expected)).all()


@pytest.mark.parametrize("width", ["0", "-5", "", "nonsense", "0.5"])
def test_a_window_that_is_none_is_ignored(width: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ds = grey(RAMP[:8], stored=12, WindowCenter="300")
        ds.add_new(0x00281051, "LO", width)
    assert (drawn(ds) == spread(RAMP[:8])).all()


def test_without_a_window_the_stated_range_is_shown() -> None:
    ds = grey(RAMP, stored=12, RescaleSlope="2", RescaleIntercept="7")
    ds.add_new(0x00280106, "US", 1000)
    ds.add_new(0x00280107, "US", 3000)
    assert (drawn(ds) == np.rint(np.clip((RAMP - 1000.0) / 2000, 0, 1) * 255)).all()


@pytest.mark.parametrize(("smallest", "largest"), [(0, 0), (3000, 1000), (None, 3000)])
def test_a_stated_range_that_is_none_is_ignored(smallest: int | None, largest: int) -> None:
    ds = grey(RAMP[10:20], stored=12)
    if smallest is not None:
        ds.add_new(0x00280106, "US", smallest)
    ds.add_new(0x00280107, "US", largest)
    assert (drawn(ds) == spread(RAMP[10:20])).all()


def test_without_anything_the_range_of_the_pixels_is_shown() -> None:
    samples = np.arange(-300, 300, dtype="<i2").reshape(20, 30)
    assert (drawn(grey(samples, RescaleSlope="0.5", RescaleIntercept="9")) == spread(samples)).all()


def test_padding_does_not_widen_the_range() -> None:
    samples = np.arange(1000, 1100, dtype="<i2").reshape(10, 10)
    samples[0, :5] = -2000
    ds = grey(samples)
    ds.add_new(0x00280120, "SS", -2000)
    shown = drawn(ds)
    assert (shown[0, :5] == 0).all()
    assert (shown == np.rint(np.clip((samples - 1005.0) / 94, 0, 1) * 255)).all()


def test_padding_of_the_wrong_sign_and_a_range_of_it() -> None:
    samples = np.arange(1000, 1100, dtype="<i2").reshape(10, 10)
    samples[0, :5] = (-2000, -1999, -1500, -1000, -1000)
    ds = grey(samples)
    ds.add_new(0x00280120, "US", 65536 - 2000)
    ds.add_new(0x00280121, "US", 65536 - 1000)
    assert (drawn(ds)[0, 5:] == np.rint((samples[0, 5:] - 1005.0) / 94 * 255)).all()


def test_low_values_of_monochrome1_are_bright() -> None:
    attributes: dict[str, Any] = {"stored": 12, "WindowCenter": "2048", "WindowWidth": "4096"}
    plain = drawn(grey(RAMP, **attributes))
    inverted = drawn(grey(RAMP, PhotometricInterpretation="MONOCHROME1", **attributes))
    both = drawn(grey(RAMP, PhotometricInterpretation="MONOCHROME1", PresentationLUTShape="INVERSE", **attributes))
    shaped = drawn(grey(RAMP, PresentationLUTShape="INVERSE", **attributes))
    assert (inverted == 255 - plain).all()
    assert (both == inverted).all()
    assert (shaped == inverted).all()
    assert (drawn(grey(RAMP, PresentationLUTShape="IDENTITY", **attributes)) == plain).all()


def test_bits_that_are_no_part_of_the_samples_are_ignored() -> None:
    dirty = RAMP | 0xA000
    attributes: dict[str, Any] = {"WindowCenter": "2048", "WindowWidth": "4096"}
    assert (drawn(grey(dirty, stored=12, **attributes)) == linear(RAMP, 2048, 4096)).all()


def test_twelve_bit_signed_samples() -> None:
    samples = np.arange(-2048, 2048, dtype="<i2").reshape(64, 64)
    stored = (samples & 0x0FFF).astype("<i2")
    assert (drawn(grey(stored, stored=12, WindowCenter="0", WindowWidth="1000")) == linear(samples, 0, 1000)).all()


def test_thirty_two_bits() -> None:
    samples = np.linspace(0, 2**32 - 1, 100).astype("<u4").reshape(10, 10)
    assert (drawn(grey(samples)) == spread(samples)).all()


def test_single_bits_are_black_and_white_even_where_all_are_alike() -> None:
    bits = np.zeros((2, 8, 8), np.uint8)
    bits[0] = 1
    bits[1, 3] = 1
    data = np.packbits(bits.reshape(-1), bitorder="little").tobytes()
    ds = grey(bits, BitsAllocated=1, BitsStored=1, HighBit=0, PixelData=data)
    assert (drawn(ds, 1) == 255).all()
    assert (drawn(ds, 2) == bits[1] * 255).all()


def test_fractions_of_a_segmentation_are_shares_of_the_largest_possible() -> None:
    samples = np.arange(100, dtype=np.uint8).reshape(10, 10)
    assert (drawn(grey(samples, MaximumFractionalValue=200)) == np.rint(samples / 200 * 255)).all()


def test_an_even_picture_is_drawn() -> None:
    assert (drawn(grey(np.full((8, 8), 7, "<u2"))) == 128).all()


def table(entries: list[int], first: int, bits: int = 16, vr: str = "US") -> Dataset:
    item = Dataset()
    item.add_new(0x00283002, vr, [len(entries) % 65536, first, bits])
    item.add_new(0x00283006, "OW", np.array(entries, "<u2").tobytes())
    return item


@pytest.mark.parametrize("beside", [{}, {"RescaleSlope": "1", "RescaleIntercept": "0"}])
def test_a_modality_lut_sequence_replaces_rescaling(beside: dict[str, str]) -> None:
    entries = [(value * 7) % 4096 for value in range(1000)]
    lut = [table(entries, 100)]
    ds = grey(RAMP, stored=12, ModalityLUTSequence=lut, WindowCenter="2048", WindowWidth="4096", **beside)
    expected = np.array(entries)[np.clip(RAMP.astype(int) - 100, 0, 999)]
    assert (drawn(ds) == linear(expected, 2048, 4096)).all()


def test_a_voi_lut_sequence_counts_where_there_is_no_window() -> None:
    entries = [min(255, value // 2) for value in range(600)]
    ds = grey(RAMP, stored=12, VOILUTSequence=[table(entries, 1000, bits=8)])
    assert (drawn(ds) == np.array(entries)[np.clip(RAMP.astype(int) - 1000, 0, 599)]).all()
    ds.WindowCenter, ds.WindowWidth = "300", "200"
    assert (drawn(ds) == linear(RAMP, 300, 200)).all()


def test_a_voi_lut_over_values_below_zero() -> None:
    entries = [value % 256 for value in range(500)]
    samples = np.arange(-300, 300, dtype="<i2").reshape(20, 30)
    ds = grey(samples, VOILUTSequence=[table(entries, -250, bits=8, vr="SS")])
    assert (drawn(ds) == np.array(entries)[np.clip(samples.astype(int) + 250, 0, 499)]).all()


def test_a_lut_of_a_big_endian_file() -> None:
    entries = np.arange(1000) * 7 % 4096
    item = table([], 100)
    item.LUTDescriptor = [1000, 100, 16]
    item.LUTData = entries.astype(">u2").tobytes()
    ds = grey(RAMP, stored=12, ModalityLUTSequence=[item], WindowCenter="2048", WindowWidth="4096")
    ds.PixelData = RAMP.astype(">u2").tobytes()
    expected = entries[np.clip(RAMP.astype(int) - 100, 0, 999)]
    assert (drawn(factories.part10(ds, ExplicitVRBigEndian)) == linear(expected, 2048, 4096)).all()


def test_a_lut_that_is_too_short_is_refused() -> None:
    item = table([1, 2, 3], 0)
    item.LUTData = b"\0\0"
    with pytest.raises(CannotRender, match="shorter"):
        drawn(grey(RAMP, stored=12, ModalityLUTSequence=[item]))


def group(**macros: Dataset) -> Dataset:
    found = Dataset()
    for keyword, item in macros.items():
        setattr(found, keyword, [item])
    return found


def item(**attributes: str) -> Dataset:
    found = Dataset()
    for keyword, value in attributes.items():
        setattr(found, keyword, value)
    return found


def test_functional_groups_of_the_frame_go_before_shared_ones() -> None:
    frames = np.stack([RAMP, RAMP])
    shared = group(
        FrameVOILUTSequence=item(WindowCenter="1000", WindowWidth="500"),
        PixelValueTransformationSequence=item(RescaleSlope="1", RescaleIntercept="-100"),
    )
    own = group(FrameVOILUTSequence=item(WindowCenter="2000", WindowWidth="800"))
    ds = grey(
        frames, stored=12, SharedFunctionalGroupsSequence=[shared], PerFrameFunctionalGroupsSequence=[Dataset(), own]
    )
    assert (drawn(ds, 1) == linear(RAMP - 100.0, 1000, 500)).all()
    assert (drawn(ds, 2) == linear(RAMP - 100.0, 2000, 800)).all()


def test_float_samples_without_numbers_in_them() -> None:
    values = np.linspace(-2, 3, 100).reshape(10, 10)
    values[0, :3] = (np.nan, np.inf, -np.inf)
    ds = grey(np.zeros((10, 10), "<u2"), PixelData=None, BitsAllocated=64)
    ds.DoubleFloatPixelData = values.astype("<f8").tobytes()
    shown = drawn(ds)
    low = values[0, 3]
    assert shown[0, 0] == 0
    assert shown[0, 1] == 255
    assert (shown[1:] == np.rint((values[1:] - low) / (3 - low) * 255)).all()


def test_a_window_over_floats_is_exact() -> None:
    values = np.linspace(0, 1, 100).reshape(10, 10)
    ds = grey(np.zeros((10, 10), "<u2"), PixelData=None, BitsAllocated=32, WindowCenter="0.5", WindowWidth="1")
    ds.FloatPixelData = values.astype("<f4").tobytes()
    assert (drawn(ds) == np.rint(values.astype("<f4").astype(float) * 255)).all()


def test_a_window_does_not_touch_colours() -> None:
    samples = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    ds = colour(samples, WindowCenter="10", WindowWidth="2")
    assert (drawn(ds, window=Window(5, 3)) == samples).all()


REAL = [
    sample
    for sample in LARGE_SET
    if sample.frames and sample.name.split("/")[0] in ("syntaxes", "objects", "series") and sample.path.suffix == ".dcm"
]


@pytest.mark.skipif(not REAL, reason=WITHOUT_LARGE)
def test_real_grey_images_as_pydicom_shows_them() -> None:
    compared, different = 0, []
    for sample in REAL:
        ds = pydicom_read(sample.path, force=True)
        if not str(ds.get("PhotometricInterpretation", "")).startswith("MONOCHROME") or "PixelData" not in ds:
            continue
        expected = pydicom_shows(sample.path, ds)
        if expected is None:
            continue
        compared += 1
        shown = drawn(sample.path)
        if shown.shape != (ds.Rows, ds.Columns) or np.abs(shown.astype(int) - expected).max() > 1:
            different.append(sample.name)
    assert not different
    assert compared > 150


def pydicom_shows(path: Path, ds: Dataset) -> Any:
    """The first frame through pydicom's look-up tables, to 0…255; None where it would do nothing."""
    if "SharedFunctionalGroupsSequence" in ds or ds.BitsAllocated == 1:
        return None
    (frame,) = source_of(path).frames
    with lenient():
        form = from_pydicom(ds)
        stored: Any = stored_values(decode(frame[1], source_of(path).transfer_syntax, form).samples, form)
        rescaled = apply_modality_lut(stored, ds)
        if not ds.get("WindowWidth") or not ds.get("WindowCenter") or float(np.ravel(ds.WindowWidth)[0]) < 1:
            return None
        shown = apply_voi_lut(rescaled, ds, prefer_lut=False).astype(float)
        # pydicom's window fills the range that the samples could have after rescaling.
        bits = form.bits_stored
        ends: tuple[float, ...] = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if form.signed else (0, 2**bits - 1)
        if "ModalityLUTSequence" in ds:
            ends = (0, 2 ** ds.ModalityLUTSequence[0].LUTDescriptor[2] - 1)
        elif "RescaleSlope" in ds:
            ends = tuple(end * float(ds.RescaleSlope) + float(ds.RescaleIntercept) for end in ends)
    shown = (shown - ends[0]) / (ends[1] - ends[0]) * 255
    return np.rint(255 - shown if ds.PhotometricInterpretation == "MONOCHROME1" else shown).astype(int)

"""Colours against pydicom's conversions and palettes."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut, convert_color_space

from hounsfield.dicom.rendering.header import CannotRender
from hounsfield.dicom.rendering.options import JPEG, PNG, Options
from hounsfield.dicom.rendering.render import render
from tests.dicom.rendering.sources import Pixels, colour, drawn, grey, pixels_of, source_of
from tests.dicom.samples import SMALL_SET, pydicom_read

NOISE: Pixels = np.random.default_rng(7).integers(0, 256, (16, 24, 3), dtype=np.uint8)


def test_rgb_comes_as_it_is() -> None:
    assert (drawn(colour(NOISE)) == NOISE).all()


@pytest.mark.parametrize("planar", [0, 1])
def test_both_planar_configurations(planar: int) -> None:
    ds = colour(NOISE, PlanarConfiguration=planar)
    ds.PixelData = (NOISE if planar == 0 else NOISE.transpose(2, 0, 1)).tobytes()
    assert (drawn(ds) == NOISE).all()


def test_full_range_ybr() -> None:
    expected = convert_color_space(NOISE, "YBR_FULL", "RGB").astype(int)
    assert np.abs(drawn(colour(NOISE, "YBR_FULL")).astype(int) - expected).max() <= 1


def test_subsampled_ybr() -> None:
    # Two luminances and one pair of colour differences for every two pixels.
    pairs = NOISE.copy()
    pairs[:, 1::2, 1:] = pairs[:, ::2, 1:]
    stored = np.concatenate([pairs[:, ::2, :1], pairs[:, 1::2, :1], pairs[:, ::2, 1:]], axis=2)
    ds = colour(NOISE, "YBR_FULL_422", PixelData=stored.tobytes())
    ds.PlanarConfiguration = 0
    expected = convert_color_space(pairs, "YBR_FULL", "RGB").astype(int)
    assert np.abs(drawn(ds).astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("ybr", "rgb"), [((16, 128, 128), (0, 0, 0)), ((235, 128, 128), (255, 255, 255)), ((81, 90, 240), (255, 0, 0))]
)
def test_partial_range_ybr(ybr: tuple[int, ...], rgb: tuple[int, ...]) -> None:
    # Black, white and red of ITU-R BT.601; one pair of differences for two pixels.
    stored = bytes((ybr[0], ybr[0], ybr[1], ybr[2])) * 32
    even = np.zeros((8, 8, 3), np.uint8)
    ds = colour(even, "YBR_PARTIAL_422", PixelData=stored)
    ds.PlanarConfiguration = 0
    assert np.abs(drawn(ds).astype(int) - np.array(rgb)).max() <= 1


def test_sixteen_bit_colours_take_the_high_byte() -> None:
    wide = NOISE.astype("<u2") << 8 | 0x37
    assert (drawn(colour(wide)) == NOISE).all()


def test_twelve_bit_colours() -> None:
    wide = NOISE.astype("<u2") << 4 | 7
    assert (drawn(colour(wide, BitsStored=12, HighBit=11)) == NOISE).all()


def test_an_unknown_colour_model_is_refused() -> None:
    with pytest.raises(CannotRender, match="photometric"):
        drawn(colour(NOISE, "CIELAB"))


def palette(samples: Any, first: int = 0, bits: int = 16, entries: int = 256) -> Dataset:
    ds = grey(samples, PhotometricInterpretation="PALETTE COLOR")
    values = np.random.default_rng(3).integers(0, 2**bits, (3, entries), dtype=np.uint16)
    for number, name in enumerate(("Red", "Green", "Blue")):
        ds.add_new(0x00281101 + number, "SS" if first < 0 else "US", [entries % 65536, first, bits])
        column = values[number].astype("<u2" if bits == 16 else np.uint8)
        setattr(ds, f"{name}PaletteColorLookupTableData", column.tobytes())
    return ds


@pytest.mark.parametrize(("first", "bits"), [(0, 16), (0, 8), (30, 16), (30, 8)])
def test_a_palette(first: int, bits: int) -> None:
    samples = NOISE[..., 0].copy()
    ds = palette(samples, first, bits)
    expected = apply_color_lut(samples, ds)
    shown = drawn(ds)
    assert (shown == (expected >> 8 if bits == 16 else expected)).all()


def test_a_palette_of_65536_entries() -> None:
    samples = np.random.default_rng(5).integers(0, 65536, (16, 16), dtype=np.uint16).astype("<u2")
    ds = palette(samples, entries=65536)
    assert (drawn(ds) == apply_color_lut(samples, ds) >> 8).all()


def test_a_palette_over_values_below_zero() -> None:
    samples = np.arange(-50, 50, dtype="<i2").reshape(10, 10)
    ds = palette(samples, first=-40)
    red = np.frombuffer(ds.RedPaletteColorLookupTableData, "<u2") >> 8
    assert (drawn(ds)[..., 0] == red[np.clip(samples.astype(int) + 40, 0, 255)]).all()


def test_sixteen_bit_entries_that_use_eight_bits_only() -> None:
    samples = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ds = palette(samples)
    for name in ("Red", "Green", "Blue"):
        setattr(ds, f"{name}PaletteColorLookupTableData", np.arange(256, dtype="<u2").tobytes())
    assert (drawn(ds) == samples[..., None]).all()


def segmented(*words: int) -> bytes:
    return np.array(words, "<u2").tobytes()


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 65535)), min_size=1, max_size=12), st.integers(0, 65535))
def test_a_segmented_palette_as_pydicom_reads_it(segments: list[tuple[int, int]], start: int) -> None:
    words = [0, 1, start]
    for length, target in segments:
        words += [1, length, target]
    count = 1 + sum(length for length, _ in segments)
    samples = np.arange(256, dtype=np.uint8).reshape(16, 16)
    ds = grey(samples, PhotometricInterpretation="PALETTE COLOR")
    for number, name in enumerate(("Red", "Green", "Blue")):
        ds.add_new(0x00281101 + number, "US", [count, 0, 16])
        setattr(ds, f"Segmented{name}PaletteColorLookupTableData", segmented(*words))
    shown = drawn(ds).astype(int)
    expected = apply_color_lut(samples, ds).astype(int)
    if expected.max() > 255:
        expected = expected >> 8
    # How the steps of a line are rounded is not said.
    assert np.abs(shown - expected).max() <= 1


def test_an_indirect_segment_repeats_earlier_ones() -> None:
    samples = np.arange(16, dtype=np.uint8).reshape(4, 4)
    ds = grey(samples, PhotometricInterpretation="PALETTE COLOR")
    words = segmented(0, 2, 0x1000, 0x2000, 1, 4, 0x6000, 2, 2, 0, 0, 0, 4, 0xF000, 0xE000, 0xD000, 0xC000)
    for number, name in enumerate(("Red", "Green", "Blue")):
        ds.add_new(0x00281101 + number, "US", [16, 0, 16])
        setattr(ds, f"Segmented{name}PaletteColorLookupTableData", words)
    ramp = [0x10, 0x20, 0x30, 0x40, 0x50, 0x60]
    assert drawn(ds)[..., 0].reshape(-1).tolist() == [*ramp, *ramp, 0xF0, 0xE0, 0xD0, 0xC0]


@pytest.mark.parametrize(
    "words", [(), (0,), (0, 9, 1), (1, 4, 9), (2, 1, 0, 0), (7, 1, 1), (0, 0), (0, 1, 5, 2, 1, 3, 0)]
)
def test_a_damaged_segmented_palette_is_refused(words: tuple[int, ...]) -> None:
    ds = grey(np.zeros((4, 4), np.uint8), PhotometricInterpretation="PALETTE COLOR")
    for number, name in enumerate(("Red", "Green", "Blue")):
        ds.add_new(0x00281101 + number, "US", [16, 0, 16])
        setattr(ds, f"Segmented{name}PaletteColorLookupTableData", segmented(*words))
    with pytest.raises(CannotRender):
        drawn(ds)


def test_a_palette_that_is_missing_is_refused() -> None:
    with pytest.raises(CannotRender, match="descriptor"):
        drawn(grey(np.zeros((4, 4), np.uint8), PhotometricInterpretation="PALETTE COLOR"))


def test_the_palette_of_a_real_ultrasound() -> None:
    (sample,) = [sample for sample in SMALL_SET if sample.name == "pydicom:examples_palette.dcm"]
    ds = pydicom_read(sample.path)
    assert (drawn(sample.path) == apply_color_lut(ds.pixel_array, ds) >> 8).all()


def profile(body: bytes) -> str | None:
    with Image.open(io.BytesIO(body)) as image:
        found = image.info.get("icc_profile")
    return None if found is None else ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(found)))


@pytest.mark.parametrize("form", [JPEG, PNG])
@pytest.mark.parametrize(("asked", "present"), [(None, False), ("no", False), ("yes", True), ("srgb", True)])
def test_an_icc_profile_is_added_on_request(form: str, asked: str | None, present: bool) -> None:
    body = render(source_of(colour(NOISE)), [form], Options(icc_profile=asked)).body
    assert (profile(body) or "").startswith("sRGB") is present


def test_the_own_profile_is_kept_or_converted() -> None:
    # Linear light: mid grey becomes brighter in sRGB.
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ds = colour(NOISE, ICCProfile=own + bytes(len(own) % 2))
    assert (pixels_of(render(source_of(ds), [PNG], Options(icc_profile="yes")).body) == NOISE).all()
    converted = pixels_of(render(source_of(ds), [PNG], Options(icc_profile="srgb")).body)
    assert np.abs(converted.astype(int) - NOISE).max() <= 2
    ds.ICCProfile = b"no profile"
    with pytest.raises(CannotRender, match="ICC"):
        drawn(ds, icc_profile="srgb")


def test_the_profile_of_a_slide_stands_in_its_optical_path() -> None:
    path = Dataset()
    path.ICCProfile = b"no profile"
    with pytest.raises(CannotRender, match="ICC"):
        drawn(colour(NOISE, OpticalPathSequence=[path]), icc_profile="srgb")

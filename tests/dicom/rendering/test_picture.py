"""Viewports, overlays, annotation, formats, animations, and what is refused."""

import io
import re
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageSequence
from pydicom.dataset import Dataset

from hounsfield.dicom.pixels import PixelFailure
from hounsfield.dicom.rendering.header import CannotRender
from hounsfield.dicom.rendering.options import GIF, JPEG, JXL, PICTURES, PNG, WEBP, Options, Viewport, Window
from hounsfield.dicom.rendering.render import render
from hounsfield.errors import BadRequest, NotFound
from tests.dicom.rendering.sources import RAMP, Pixels, colour, drawn, grey, source_of
from tests.dicom.samples import SMALL_SET, pydicom_read

SHOWN: dict[str, Any] = {"WindowCenter": "128", "WindowWidth": "256"}
STEPS: Pixels = np.arange(48 * 64, dtype=np.uint8).reshape(48, 64)


def steps(**attributes: Any) -> Dataset:
    """An 8-bit image of 48 rows and 64 columns that is shown as it is."""
    return grey(STEPS, **SHOWN, **attributes)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 300), st.integers(1, 300))
def test_a_viewport_keeps_the_proportions(width: int, height: int) -> None:
    rows, columns = drawn(steps(), viewport=Viewport(width, height)).shape
    assert rows <= height
    assert columns <= width
    assert rows == height or columns == width
    exact = min(width / 64, height / 48)
    assert abs(columns - 64 * exact) <= 1
    assert abs(rows - 48 * exact) <= 1


def test_a_part_in_its_own_size_is_cut_out() -> None:
    assert (drawn(steps(), viewport=Viewport(20, 10, 5, 7, 20, 10)) == STEPS[7:17, 5:25]).all()


def test_negative_sizes_mirror() -> None:
    part = STEPS[7:17, 5:25]
    assert (drawn(steps(), viewport=Viewport(20, 10, 5, 7, -20, 10)) == part[:, ::-1]).all()
    assert (drawn(steps(), viewport=Viewport(20, 10, 5, 7, 20, -10)) == part[::-1]).all()


def test_a_part_that_reaches_beyond_the_image_is_cut() -> None:
    assert (drawn(steps(), viewport=Viewport(14, 8, 50, 40, 100, 100)) == STEPS[40:, 50:]).all()


def test_without_a_size_the_part_goes_to_the_end() -> None:
    assert (drawn(steps(), viewport=Viewport(14, 8, 50, 40)) == STEPS[40:, 50:]).all()


def test_a_part_in_shares() -> None:
    shown = drawn(steps(), viewport=Viewport(None, None, 0.25, 0.5, 0.5, 0.25, fractions=True))
    assert (shown == STEPS[24:36, 16:48]).all()
    assert drawn(steps(), viewport=Viewport(16, None, 0, 0, 0.5, 0.5, fractions=True)).shape == (12, 16)


def test_one_side_decides_alone_within_reason() -> None:
    assert drawn(steps(), viewport=Viewport(None, 96)).shape == (96, 128)
    narrow = grey(np.arange(600, dtype=np.uint8).reshape(600, 1), **SHOWN)
    assert max(drawn(narrow, viewport=Viewport(1000, None)).shape) <= 8192


def test_a_part_outside_is_a_bad_request() -> None:
    with pytest.raises(BadRequest, match="outside"):
        drawn(steps(), viewport=Viewport(20, 10, 64, 0, 5, 5))


def test_pixels_that_are_not_square_are_set_right_in_a_viewport_only() -> None:
    ds = steps()
    ds.PixelAspectRatio = [2, 1]
    assert drawn(ds).shape == (48, 64)
    assert drawn(ds, viewport=Viewport(64, 96)).shape == (96, 64)


def test_shrinking_averages() -> None:
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    shown = drawn(grey(checks, **SHOWN), viewport=Viewport(16, 16))
    assert np.abs(shown.astype(int) - 127).max() <= 3


def overlay(ds: Dataset, bits: Any, group: int = 0x6000, origin: tuple[int, int] = (1, 1), **more: Any) -> None:
    base = group << 16
    ds.add_new(base | 0x10, "US", bits.shape[-2])
    ds.add_new(base | 0x11, "US", bits.shape[-1])
    ds.add_new(base | 0x40, "CS", "G")
    ds.add_new(base | 0x50, "SS", list(origin))
    ds.add_new(base | 0x100, "US", 1)
    ds.add_new(base | 0x102, "US", 0)
    data = np.packbits(bits.reshape(-1).astype(np.uint8), bitorder="little").tobytes()
    ds.add_new(base | 0x3000, "OW", data + bytes(len(data) % 2))
    for tag, value in more.items():
        ds.add_new(base | int(tag[1:], 16), "IS" if tag == "x15" else "US", value)


DOTS = np.random.default_rng(1).integers(0, 2, (48, 64)).astype(bool)
BURNT: dict[str, Any] = {"annotation": frozenset(("none of the two",))}
"""Annotation without any text: overlays alone."""


def test_overlays_are_drawn_on_request_only() -> None:
    ds = steps()
    overlay(ds, DOTS)
    assert (drawn(ds) == STEPS).all()
    assert (drawn(ds, **BURNT) == np.where(DOTS, 255, STEPS)).all()


@pytest.mark.parametrize("origin", [(11, 21), (-4, -9), (40, 60), (1000, 1), (1, -200)])
def test_an_overlay_lies_where_its_origin_says(origin: tuple[int, int]) -> None:
    ds = steps()
    overlay(ds, DOTS, origin=origin)
    expected = STEPS.copy()
    for row, column in np.argwhere(DOTS):
        y, x = row + origin[0] - 1, column + origin[1] - 1
        if 0 <= y < 48 and 0 <= x < 64:
            expected[y, x] = 255
    assert (drawn(ds, **BURNT) == expected).all()


def test_several_overlays_and_one_that_is_cut_off() -> None:
    ds = steps()
    overlay(ds, DOTS[:8, :8], group=0x6000)
    overlay(ds, DOTS[8:16, :8], group=0x601E, origin=(9, 1))
    overlay(ds, DOTS, group=0x6004)
    ds[0x60043000].value = b"\xff\xff"
    expected = STEPS.copy()
    expected[:16, :8][DOTS[:16, :8]] = 255
    assert (drawn(ds, **BURNT) == expected).all()


def test_an_overlay_with_a_plane_for_each_frame() -> None:
    ds = grey(np.stack([STEPS, STEPS]), **SHOWN)
    planes = np.stack([DOTS, ~DOTS])
    overlay(ds, planes, x15=2)
    assert (drawn(ds, 1, **BURNT) == np.where(DOTS, 255, STEPS)).all()
    assert (drawn(ds, 2, **BURNT) == np.where(~DOTS, 255, STEPS)).all()


def test_an_overlay_in_unused_bits() -> None:
    dots = RAMP % 3 == 0
    ds = grey(RAMP | (dots.astype("<u2") << 13), stored=12, WindowCenter="2048", WindowWidth="4096")
    for tag, vr, value in ((0x10, "US", 64), (0x11, "US", 64), (0x40, "CS", "G"), (0x102, "US", 13)):
        ds.add_new(0x60000000 | tag, vr, value)
    plain = drawn(ds)
    assert (plain == np.rint(np.clip(RAMP / 4095, 0, 1) * 255)).all()
    assert (drawn(ds, **BURNT) == np.where(dots, 255, plain)).all()


def test_overlays_on_colours_are_white() -> None:
    even = np.full((48, 64, 3), 9, np.uint8)
    ds = colour(even)
    overlay(ds, DOTS)
    assert (drawn(ds, **BURNT)[DOTS] == 255).all()
    assert (drawn(ds, **BURNT)[~DOTS] == 9).all()


def test_the_overlay_of_a_real_image_as_pydicom_reads_it() -> None:
    (sample,) = [sample for sample in SMALL_SET if sample.name == "pydicom:examples_overlay.dcm"]
    mask = pydicom_read(sample.path).overlay_array(0x6000).astype(bool)
    plain, burnt = drawn(sample.path), drawn(sample.path, **BURNT)
    assert mask.any()
    assert (burnt[mask] == 255).all()
    assert (burnt[~mask] == plain[~mask]).all()


@pytest.mark.parametrize(("wanted", "rows"), [("patient", slice(0, 128)), ("technique", slice(128, 256))])
def test_annotation_is_written_where_it_belongs(wanted: str, rows: slice) -> None:
    ds = grey(np.zeros((256, 256), np.uint8), KVP="120", SeriesDescription="Thorax", **SHOWN)
    written = drawn(ds, annotation=frozenset((wanted,)))
    assert written[rows].max() > 128
    rest = np.delete(written, range(256)[rows], axis=0)
    assert not rest.any()
    assert not drawn(ds).any()


def test_annotation_of_a_tiny_image_and_of_an_empty_header() -> None:
    ds = grey(np.zeros((2, 2), np.uint8), **SHOWN)
    both = frozenset(("patient", "technique"))
    assert drawn(ds, annotation=both).shape == (2, 2)
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "Modality"):
        delattr(ds, keyword)
    assert not drawn(ds, annotation=both).any()


GENTLE: Pixels = np.stack(
    [np.linspace(a, b, 64 * 48).reshape(48, 64) for a, b in ((0, 200), (255, 0), (90, 130))], -1
).astype(np.uint8)


@pytest.mark.parametrize("form", PICTURES)
@pytest.mark.parametrize("coloured", [True, False])
def test_every_format_shows_the_same(form: str, coloured: bool) -> None:
    picture = render(source_of(colour(GENTLE) if coloured else steps()), [form], Options())
    assert picture.content_type == form
    shown = imagecodecs.jpegxl_decode(picture.body) if form == JXL else decoded(picture.body, coloured)
    expected: Any = GENTLE if coloured else STEPS
    assert shown.shape == expected.shape
    # GIF has 256 colours; WebP, and JPEG a little, lose something even at their best.
    tolerance = {PNG: 0, JXL: 0, GIF: 40 if coloured else 0, JPEG: 4, WEBP: 40}[form]
    assert np.abs(shown.astype(int) - expected).max() <= tolerance


def decoded(body: bytes, coloured: bool) -> Pixels:
    with Image.open(io.BytesIO(body)) as image:
        return np.asarray(image.convert("RGB" if coloured else "L"))


@pytest.mark.parametrize("form", [JPEG, WEBP, JXL])
def test_quality_decides_about_size(form: str) -> None:
    noise = np.random.default_rng(2).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    sizes = [len(render(source_of(colour(noise)), [form], Options(quality=quality)).body) for quality in (5, 60, 100)]
    assert sizes == sorted(sizes)
    assert sizes[0] * 2 < sizes[2]


def test_quality_does_not_matter_to_png() -> None:
    bodies = {render(source_of(steps()), [PNG], Options(quality=quality)).body for quality in (1, 100)}
    assert len(bodies) == 1


def gif(ds: Dataset, numbers: list[int], **options: Any) -> tuple[list[Pixels], int]:
    """The frames of an animation and how many milliseconds each is shown."""
    picture = render(source_of(ds, numbers), [GIF], Options(**options))
    assert picture.content_type == GIF
    with Image.open(io.BytesIO(picture.body)) as image:
        assert image.info.get("loop") == 0
        duration = int(image.info["duration"])
        return [np.asarray(frame.convert("L")) for frame in ImageSequence.Iterator(image)], duration


FRAMES = np.stack([np.roll(STEPS, number * 100) for number in range(5)])


def test_an_animation_holds_every_frame() -> None:
    frames, duration = gif(grey(FRAMES, FrameTime="40", **SHOWN), [1, 2, 3, 4, 5])
    assert duration == 40
    assert (np.stack(frames) == FRAMES).all()


def test_frames_that_are_left_out_do_not_make_it_faster() -> None:
    frames, duration = gif(grey(FRAMES, FrameTime="40", **SHOWN), [1, 3, 5])
    assert duration == 80
    assert (np.stack(frames) == FRAMES[::2]).all()


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, 100),
        ({"CineRate": "25"}, 40),
        ({"RecommendedDisplayFrameRate": "10", "CineRate": "25"}, 100),
        ({"FrameTime": "1"}, 20),
    ],
)
def test_the_speed_of_an_animation(attributes: dict[str, Any], expected: int) -> None:
    assert gif(grey(FRAMES, **SHOWN, **attributes), [1, 2])[1] == expected


def test_the_range_of_an_animation_is_that_of_all_frames() -> None:
    dim = np.stack([STEPS // 4, STEPS // 2])
    frames, _ = gif(grey(dim), [1, 2])
    assert frames[0].max() == pytest.approx(255 * 63 / 127, abs=1)
    assert frames[1].max() == 255


def test_an_animation_is_bounded_by_skipping_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hounsfield.dicom.rendering.render._ANIMATED_PIXELS", 2 * 48 * 64)
    ds = grey(FRAMES, FrameTime="40", **SHOWN)
    frames, duration = gif(ds, [1, 2, 3, 4, 5])
    assert (np.stack(frames) == FRAMES[::3]).all()
    assert duration == 120
    with Image.open(
        io.BytesIO(render(source_of(ds, [1, 2, 3]), [GIF], Options(viewport=Viewport(640, 480))).body)
    ) as image:
        assert getattr(image, "n_frames", 1) == 1


def test_a_frame_larger_than_the_limit_is_refused() -> None:
    with pytest.raises(CannotRender, match="larger"):
        render(source_of(steps(), limit=48 * 64 - 1), [PNG], Options())
    assert render(source_of(steps(), limit=48 * 64), [PNG], Options()).body


def test_damaged_pixels_are_refused() -> None:
    source = source_of(steps())
    cut = type(source)(
        source.header, False, source.transfer_syntax, [(1, source.frames[0][1][:50])], source.max_decoded_bytes
    )
    with pytest.raises(PixelFailure):
        render(cut, [PNG], Options())


@pytest.mark.parametrize("accepted", [["text/html"], ["application/pdf"], ["image/avif"], ["text/*"], []])
def test_an_image_is_no_document(accepted: list[str]) -> None:
    with pytest.raises(CannotRender, match="image/jpeg"):
        render(source_of(steps()), accepted, Options())


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [(["*/*"], JPEG), (["image/*"], JPEG), (["text/html", "image/png", "*/*"], PNG), (["image/avif", "*/*"], JPEG)],
)
def test_the_first_acceptable_type_is_sent(accepted: list[str], expected: str) -> None:
    assert render(source_of(steps()), accepted, Options()).content_type == expected


def test_what_has_no_pixels_is_not_found() -> None:
    ds = steps(PixelData=None)
    with pytest.raises(NotFound, match="no pixel data"):
        render(source_of(ds), [PNG], Options())


ODD: list[Callable[[Dataset], None]] = [
    lambda ds: ds.add_new(0x00281050, "DS", ""),
    lambda ds: ds.add_new(0x00281053, "LO", "many"),
    lambda ds: ds.add_new(0x00283000, "SQ", []),
    lambda ds: ds.add_new(0x00283010, "LO", "no sequence"),
    lambda ds: ds.add_new(0x52009229, "LO", "no sequence"),
    lambda ds: ds.add_new(0x00280034, "IS", ["0", "0"]),
    lambda ds: ds.add_new(0x00280120, "LO", "none"),
    lambda ds: ds.add_new(0x60000010, "LO", "none"),
    lambda ds: ds.add_new(0x00181063, "DS", "-1"),
]


@pytest.mark.parametrize("spoil", ODD)
def test_odd_attributes_do_not_keep_an_image_from_being_drawn(spoil: Callable[[Dataset], None]) -> None:
    ds = grey(STEPS)
    spoil(ds)
    everything: dict[str, Any] = {"viewport": Viewport(64, 48), "annotation": frozenset(("patient",))}
    assert drawn(ds, **everything, window=Window(128, 256)).shape == (48, 64)


def test_texts_of_refusals_hold_no_values() -> None:
    ds = grey(np.zeros((4, 4), np.uint8), PhotometricInterpretation="PALETTE COLOR", PatientName="Secret^Name")
    with pytest.raises(CannotRender) as refusal:
        drawn(ds)
    assert re.search("Secret|PAT-1", str(refusal.value)) is None

"""Per-frame functional groups without the cost of all others."""

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, ImplicitVRLittleEndian

from hounsfield.dicom.rendering.frame_groups import split
from tests import factories
from tests.dicom.rendering.sources import drawn, grey


def macros(number: int, *, undefined: bool) -> Dataset:
    window, position, group = Dataset(), Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = str(10 * number), "20"
    position.ImagePositionPatient = [0, 0, number]
    group.FrameVOILUTSequence, group.PlanePositionSequence = [window], [position]
    group.add_new(0x00091010, "OB", bytes(number % 5 * 2))
    if undefined:
        for name in ("FrameVOILUTSequence", "PlanePositionSequence"):
            group[name].is_undefined_length = True
            group[name].value[0].is_undefined_length_sequence_item = True
        group.is_undefined_length_sequence_item = True
    return group


def enhanced(count: int, *, undefined: bool = False, mixed: bool = False, **attributes: Any) -> Dataset:
    groups = [macros(number, undefined=undefined or (mixed and number % 2 == 1)) for number in range(count)]
    frames = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(count, axis=0)
    ds = grey(frames, PerFrameFunctionalGroupsSequence=groups, **attributes)
    ds["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined
    return ds


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.booleans(), st.booleans())
def test_each_frame_has_its_own(count: int, undefined: bool, mixed: bool) -> None:
    content = factories.part10(enhanced(count, undefined=undefined, mixed=mixed))
    rest, groups = split(content)
    assert groups is not None
    whole = dcmread(io.BytesIO(content))
    for number, expected in enumerate(whole.PerFrameFunctionalGroupsSequence, 1):
        assert groups.of(number) == expected
    assert groups.of(0) is None
    assert groups.of(count + 1) is None
    del whole.PerFrameFunctionalGroupsSequence
    assert dcmread(io.BytesIO(rest)) == whole


@pytest.mark.parametrize("undefined", [True, False])
@pytest.mark.parametrize("syntax", [None, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_the_window_of_the_frame_is_shown_whatever_the_encoding(syntax: str | None, undefined: bool) -> None:
    ds = enhanced(9, undefined=undefined)
    content = factories.part10(ds, syntax or "1.2.840.10008.1.2.1")
    ramp = np.arange(256.0).reshape(16, 16)
    for frame in (1, 5, 9):
        expected = np.rint(np.clip((ramp - (10 * (frame - 1) - 0.5)) / 19 + 0.5, 0, 1) * 255)
        assert (drawn(content, frame) == expected).all()


@pytest.mark.parametrize("cut", [1, 5, 13, 40])
def test_what_is_unusual_is_left_alone(cut: int) -> None:
    content = factories.part10(enhanced(3, undefined=True))
    start = content.index(b"\x00\x52\x30\x92SQ")
    broken = content[: start + 12 + cut]
    assert split(broken) == (broken, None)
    twice = content + content
    assert split(twice) == (twice, None)
    assert split(b"") == (b"", None)


def test_nesting_is_bounded() -> None:
    deep = b"\x00\x52\x30\x92SQ\x00\x00\xff\xff\xff\xff"
    deep += b"\xfe\xff\x00\xe0\xff\xff\xff\xff\x28\x00\x32\x91SQ\x00\x00\xff\xff\xff\xff" * 5000
    assert split(deep) == (deep, None)

"""Grey images: modality LUT, VOI LUT and presentation (PS3.3 C.11.1, C.11.2, C.11.6; retrieve.md §8)."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from pydicom.dataset import Dataset

from hounsfield.dicom.rendering.header import Header, first_item, number, text
from hounsfield.dicom.rendering.lookup import Table, table_of
from hounsfield.dicom.rendering.options import Window, WindowFunction

Samples = npt.NDArray[Any]
Grey = npt.NDArray[np.uint8]

_PIXEL_VALUE_TRANSFORMATION, _FRAME_VOI_LUT = 0x00289145, 0x00289132
_MAXIMUM_FRACTIONAL_VALUE = 0x0062000E
_MODALITY_LUT, _VOI_LUT = 0x00283000, 0x00283010
_FUNCTIONS = {
    "LINEAR": WindowFunction.LINEAR,
    "LINEAR_EXACT": WindowFunction.LINEAR_EXACT,
    "SIGMOID": WindowFunction.SIGMOID,
}


def grey_levels(samples: Samples, header: Header, window: Window | None) -> Grey:
    """Samples of one frame (rows, columns) as stored, to grey from 0, black, to 255. ``window`` overrides the image's.

    Raises CannotRender for a damaged lookup table.
    """
    modality = modality_of(header, samples)
    display = _display(samples, header, modality, window)
    inverted = _inverted(header)

    def levels(values: Samples) -> Grey:
        shares = np.clip(display(modality(values)), 0.0, 1.0)
        shown = np.rint(np.nan_to_num(shares) * 255.0).astype(np.uint8)
        grey: Grey = 255 - shown if inverted else shown
        return grey

    # The same function for every pixel: where there are more pixels than values, ask it once for each value.
    if samples.dtype.kind in "iu" and samples.dtype.itemsize <= 2:
        low, high = int(samples.min()), int(samples.max())
        if high - low < samples.size:
            table = levels(np.arange(low, high + 1, dtype=np.int32))
            # Both are unsigned words of the same width, so that wrapping around gives the distance from the lowest.
            unsigned = samples.dtype.str.replace("i", "u")
            places = samples.view(unsigned) - np.array(low).astype(samples.dtype).view(unsigned)
            shown: Grey = table.take(places)
            return shown
    return levels(samples)


Transform = Callable[[Samples], npt.NDArray[Any]]


def modality_of(header: Header, samples: Samples) -> Transform:
    """The modality LUT: of the frame's functional group, the sequence, or slope and intercept."""
    transformation = header.macro(_PIXEL_VALUE_TRANSFORMATION)
    item = first_item(header.dataset, _MODALITY_LUT)
    if item is not None and transformation is header.dataset:
        # Slope and intercept beside it are not allowed (PS3.3 C.11.1); where they are, they say 1 and 0 as a rule.
        return table_of(item, signed=samples.dtype.kind == "i").apply
    slope, intercept = number(transformation, 0x00281053), number(transformation, 0x00281052)
    factor, offset = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    return lambda values: values * factor + offset


def _display(samples: Samples, header: Header, modality: Transform, window: Window | None) -> Transform:
    """From the modality LUT's output to 0…1: the window asked for, the image's, its VOI LUT, or its range."""
    voi = header.macro(_FRAME_VOI_LUT)
    chosen = window or stored_window(voi)
    if chosen is not None:
        if samples.dtype.kind == "f" and chosen.function is WindowFunction.LINEAR:
            # That function is made for integers: a range of 0 to 1 would become a threshold.
            chosen = replace(chosen, function=WindowFunction.LINEAR_EXACT)
        return window_function(chosen)
    item = first_item(voi, _VOI_LUT)
    if item is not None:
        table = table_of(item, signed=True) if _reaches_below_zero(samples, modality) else table_of(item, signed=False)
        return _scaled(table)
    low, high = _range(samples, header, modality)
    if low == high:
        return lambda values: np.where(values < low, 0.0, np.where(values > low, 1.0, 0.5))
    return lambda values: (values - low) / (high - low)


def _scaled(table: Table) -> Transform:
    top = float(2**table.bits - 1)
    return lambda values: table.apply(values) / top


def _reaches_below_zero(samples: Samples, modality: Transform) -> bool:
    ends = modality(np.array([samples.min(), samples.max()]))
    return bool(ends.min() < 0)


def stored_window(voi: Dataset) -> Window | None:
    """The first window of an image, if it has one that can be used."""
    center, width = number(voi, 0x00281050), number(voi, 0x00281051)
    function = _FUNCTIONS.get(text(voi, 0x00281056).upper(), WindowFunction.LINEAR)
    least = 1.0 if function is WindowFunction.LINEAR else 0.0
    if center is None or width is None or width < least or width == 0:
        return None
    return Window(center, width, function)


def window_function(window: Window) -> Transform:
    """PS3.3 C.11.2.1.2 and C.11.2.1.3: values to 0…1, beyond both ends where it is linear."""
    center, width = window.center, window.width
    if window.function is WindowFunction.SIGMOID:
        # Far outside the window e**x overflows; there the result is 0 or 1 anyway.
        return lambda values: 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - center) / width, -700.0, 700.0)))
    if window.function is WindowFunction.LINEAR_EXACT:
        return lambda values: (values - center) / width + 0.5
    if width == 1.0:
        return lambda values: np.where(values <= center - 0.5, 0.0, 1.0)
    return lambda values: (values - (center - 0.5)) / (width - 1.0) + 0.5


def needs_range(header: Header) -> bool:
    """Whether what is shown of an image depends on its samples: it says nothing of a window or range."""
    voi = header.macro(_FRAME_VOI_LUT)
    known = stored_window(voi) is not None or first_item(voi, _VOI_LUT) is not None or header.integer(0x00280101) == 1
    known = known or header.integer(_MAXIMUM_FRACTIONAL_VALUE) > 0
    return not known and header.number(0x00280106) is None and header.text(0x00280004) != "PALETTE COLOR"


def _range(samples: Samples, header: Header, modality: Transform) -> tuple[float, float]:
    """Smallest and largest value to be shown of an image without window (retrieve.md §8)."""
    if header.integer(0x00280101) == 1:
        return 0.0, 1.0
    if header.integer(_MAXIMUM_FRACTIONAL_VALUE) > 0:
        return 0.0, float(header.integer(_MAXIMUM_FRACTIONAL_VALUE))
    smallest, largest = header.number(0x00280106), header.number(0x00280107)
    if smallest is None or largest is None or smallest >= largest:
        smallest, largest = extremes(samples, header)
    ends = modality(np.array([smallest, largest]))
    return float(ends.min()), float(ends.max())


def extremes(samples: Samples, header: Header) -> tuple[float, float]:
    """Minimum and maximum of the samples, padding (PS3.3 C.7.5.1.1.2) and what is no number left out."""
    kept = samples
    if samples.dtype.kind == "f":
        kept = samples[np.isfinite(samples)]
        padding = header.number(0x00280122)
        if padding is not None:
            kept = kept[kept != padding]
    else:
        padding = header.number(0x00280120)
        if padding is not None:
            limit = header.number(0x00280121, padding)
            assert limit is not None
            bits = 8 * samples.dtype.itemsize
            ends = sorted(_as_stored(end, bits, signed=samples.dtype.kind == "i") for end in (padding, limit))
            kept = samples[(samples < ends[0]) | (samples > ends[1])]
    if not kept.size:
        kept = samples
    if kept.dtype.kind == "f" and not np.isfinite(kept).any():
        return 0.0, 0.0
    return float(kept.min()), float(kept.max())


def _as_stored(value: float, bits: int, *, signed: bool) -> float:
    """A padding value in the samples' own range: its VR is US or SS, and often the wrong one."""
    if signed and value >= 2 ** (bits - 1):
        return float(value - 2**bits)
    return float(value + 2**bits) if not signed and value < 0 else value


def _inverted(header: Header) -> bool:
    """Whether low values are bright. For MONOCHROME1, the shape INVERSE says the same again (PS3.3 C.8.11.3.1.2)."""
    return header.text(0x00280004) == "MONOCHROME1" or header.text(0x20500020).upper() == "INVERSE"

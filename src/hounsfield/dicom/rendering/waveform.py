"""Waveforms as a plot: each channel a trace of its own, on paper as electrocardiographs print it (PS3.3 C.10.9)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset

from hounsfield.dicom.rendering.header import CannotRender, first_item, number, sequence, text, value_of
from hounsfield.dicom.rendering.text_picture import font

SEQUENCE = 0x54000100
_CHANNELS, _DATA, _BITS, _INTERPRETATION = 0x003A0200, 0x54001010, 0x54001004, 0x54001006
_MAX_CHANNELS = 64
_WIDTH, _ROW, _LABEL, _MARGIN = 1600, 110, 90, 20
_SECONDS = 10.0
"""The plot shows at most the first ten seconds, as a page of an electrocardiogram does."""
_PAPER, _FINE, _COARSE, _INK = (255, 250, 248), (250, 222, 218), (240, 180, 174), (20, 20, 30)
_TYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4"}


@dataclass(frozen=True, slots=True)
class _Trace:
    label: str
    values: npt.NDArray[np.float64]
    """In units of the channel's sensitivity."""
    unit: str


def plot(dataset: Dataset) -> Image.Image:
    """The first multiplex group of a waveform instance. Raises CannotRender if its data cannot be read."""
    groups = sequence(dataset, SEQUENCE)
    frequency = number(groups[0], 0x003A001A, 0.0) if groups else 0.0
    if not groups or not frequency or frequency < 0:
        raise CannotRender("The instance cannot be rendered: its waveform cannot be read.")
    traces = _traces(groups[0], frequency)
    seconds = max(len(traces[0].values) / frequency, 1.0 / frequency)
    height = 2 * _MARGIN + _ROW * len(traces)
    image = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(image)
    across = (_WIDTH - _LABEL - _MARGIN) / seconds
    _grid(draw, across, height)
    scale = _scale(traces)
    for row, trace in enumerate(traces):
        middle = _MARGIN + _ROW * row + _ROW / 2
        draw.text((_MARGIN, middle), trace.label, font=font(18), fill=_INK, anchor="lm")
        centred = trace.values - np.median(trace.values)
        heights = middle - centred * (scale or _ROW * 0.9 / max(float(np.ptp(trace.values)), 1e-9))
        places = _LABEL + np.arange(len(heights)) / frequency * across
        points = np.stack((places, np.clip(heights, 1, height - 2)), axis=-1)
        draw.line([(float(x), float(y)) for x, y in points], fill=_INK, width=2)
    return image


def _scale(traces: list[_Trace]) -> float | None:
    """Pixels a unit where all channels have the same one, so that amplitudes can be compared; else None."""
    if len({trace.unit for trace in traces}) != 1 or not traces[0].unit:
        return None
    largest = max(float(np.ptp(trace.values)) for trace in traces)
    # A trace may reach into its neighbours' rows a little: QRS complexes are high and narrow.
    return 1.6 * _ROW / largest if largest > 0 else 1.0


def _grid(draw: ImageDraw.ImageDraw, across: float, height: int) -> None:
    """A fine line each 0.04 s and a coarse one each 0.2 s, and as far apart upwards (25 mm/s paper)."""
    step = across * 0.04
    if step < 3:
        step = across * 0.2
    for number_of_line in range(int((_WIDTH - _LABEL) / step) + 1):
        x = _LABEL + number_of_line * step
        draw.line([(x, 0), (x, height)], fill=_COARSE if number_of_line % 5 == 0 else _FINE)
    for number_of_line in range(int(height / step) + 1):
        y = number_of_line * step
        draw.line([(_LABEL, y), (_WIDTH, y)], fill=_COARSE if number_of_line % 5 == 0 else _FINE)


def _traces(group: Dataset, frequency: float) -> list[_Trace]:
    samples = _samples(group)[: max(int(frequency * _SECONDS), 2)]
    definitions = sequence(group, _CHANNELS)
    traces = []
    for position in range(min(samples.shape[1], _MAX_CHANNELS)):
        definition = definitions[position] if position < len(definitions) else Dataset()
        sensitivity = number(definition, 0x003A0210, 1.0) or 1.0
        correction = number(definition, 0x003A0212, 1.0) or 1.0
        values = samples[:, position].astype(np.float64) * sensitivity * correction
        source, units = first_item(definition, 0x003A0208), first_item(definition, 0x003A0211)
        label = text(definition, 0x003A0203) or ("" if source is None else text(source, 0x00080104))
        label = label.removeprefix("Lead ").split(" (")[0]
        traces.append(_Trace(label or str(position + 1), values, "" if units is None else text(units, 0x00080100)))
    return traces


def _samples(group: Dataset) -> npt.NDArray[Any]:
    """The samples as (time, channel)."""
    channels = int(number(group, 0x003A0005, 0) or 0)
    kind = _TYPES.get(text(group, _INTERPRETATION))
    data = value_of(group, _DATA)
    if not isinstance(data, bytes) or kind is None or channels < 1:
        raise CannotRender("The instance cannot be rendered: its waveform is of a kind that is not supported.")
    little = getattr(group, "original_encoding", (None, True))[1] is not False
    values = np.frombuffer(data, np.dtype(kind).newbyteorder("<" if little else ">"), len(data) // int(kind[1]))
    count = min(len(values) // channels, int(number(group, 0x003A0010, 0) or 0))
    if count < 2:
        raise CannotRender("The instance cannot be rendered: its waveform is cut off.")
    return values[: count * channels].reshape(count, channels)

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
"""Pixels: of the plot, from trace to trace, left of the traces, around them."""
_SECONDS = 10.0
"""The plot shows at most the first ten seconds, as a page of an electrocardiogram does."""
_MILLIMETRE = 0.04
"""Seconds, on paper that runs at 25 mm/s; upwards it stands for 0.1 mV."""
_MILLIVOLTS = {"uV": 1e-3, "mV": 1.0, "V": 1e3}
_PAPER, _FINE, _COARSE, _INK = (255, 250, 248), (250, 222, 218), (240, 180, 174), (20, 20, 30)
_TYPES = {"SB": "i1", "UB": "u1", "SS": "i2", "US": "u2", "SL": "i4", "UL": "u4"}


@dataclass(frozen=True, slots=True)
class _Trace:
    label: str
    values: npt.NDArray[np.float64]
    """In units of the channel's sensitivity."""
    unit: str


def plot(dataset: Dataset) -> Image.Image:
    """The first multiplex group of a waveform instance. Raises CannotRender if its data cannot be read.

    Voltages are drawn to scale on paper with lines; traces of anything else each fill their row of a blank one.
    """
    groups = sequence(dataset, SEQUENCE)
    frequency = number(groups[0], 0x003A001A) if groups else None
    if not frequency or frequency < 0:
        raise CannotRender("The instance cannot be rendered: its waveform cannot be read.")
    traces = _traces(groups[0], frequency)
    across = (_WIDTH - _LABEL - _MARGIN) * frequency / len(traces[0].values)
    image = Image.new("RGB", (_WIDTH, 2 * _MARGIN + _ROW * len(traces) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(image)
    to_scale = all(trace.unit in _MILLIVOLTS for trace in traces)
    if to_scale:
        _grid(draw, across * _MILLIMETRE, image.height)
        note = "25 mm/s, 10 mm/mV"
        draw.text((_LABEL, image.height - _MARGIN), note, font=font(16), fill=_INK, anchor="ls")
    for row, trace in enumerate(traces):
        middle = _MARGIN + _ROW * row + _ROW / 2
        draw.text((_MARGIN, middle), trace.label, font=font(18), fill=_INK, anchor="lm")
        if to_scale:
            scale = 10 * across * _MILLIMETRE * _MILLIVOLTS[trace.unit]
        else:
            scale = 0.9 * _ROW / (float(np.ptp(trace.values)) or 1.0)
        heights = middle - (trace.values - np.median(trace.values)) * scale
        places = _LABEL + np.arange(len(heights)) / frequency * across
        points = np.stack((places, np.clip(heights, 1, image.height - 2)), axis=-1)
        draw.line([(float(x), float(y)) for x, y in points], fill=_INK, width=2)
    return image


def _grid(draw: ImageDraw.ImageDraw, millimetre: float, height: int) -> None:
    """A line each millimetre, where there is room, and a stronger one each five."""
    fine = 1 if millimetre >= 3 else 5
    for line in range(0, int((_WIDTH - _LABEL) / millimetre) + 1, fine):
        x = _LABEL + line * millimetre
        draw.line([(x, 0), (x, height)], fill=_FINE if line % 5 else _COARSE)
    for line in range(0, int(height / millimetre) + 1, fine):
        y = line * millimetre
        draw.line([(_LABEL, y), (_WIDTH, y)], fill=_FINE if line % 5 else _COARSE)


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

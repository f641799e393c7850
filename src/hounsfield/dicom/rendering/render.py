"""What a client gets of an instance: a picture, a document, or a refusal that says why (PS3.18 §8.7.4)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset

from hounsfield.dicom.codecs import DecodedFrame, decode, stored_values
from hounsfield.dicom.pixels import PixelFormat, from_pydicom
from hounsfield.dicom.rendering import annotation, report, text_picture, waveform
from hounsfield.dicom.rendering.encode import animated, encoded
from hounsfield.dicom.rendering.frame_groups import split
from hounsfield.dicom.rendering.grey import extremes, modality_of, needs_range
from hounsfield.dicom.rendering.header import (
    CannotRender,
    Header,
    inflated_dataset,
    lenient,
    number,
    read_header,
    read_image_header,
    text,
    value_of,
)
from hounsfield.dicom.rendering.image import float_samples, frame_image, profile_of, shown
from hounsfield.dicom.rendering.options import (
    GIF,
    HTML,
    MAX_VIEWPORT,
    PDF,
    PICTURES,
    TEXT,
    FrameBytes,
    Options,
    Picture,
    Source,
    Window,
    WindowFunction,
)
from hounsfield.dicom.rendering.viewport import fitted
from hounsfield.dicom.transfer_syntax import find
from hounsfield.errors import NotFound

_CONTENT_SEQUENCE, _DOCUMENT, _DOCUMENT_TYPE, _DOCUMENT_LENGTH = 0x0040A730, 0x00420011, 0x00420012, 0x00420015
_SOP_CLASS = 0x00080016
_REPORTS = "1.2.840.10008.5.1.4.1.1.88."
_DEFAULT_MILLISECONDS = 100
"""Of a frame of an animation whose speed is not given."""
_ANIMATED_PIXELS = 256 * 1024 * 1024
"""Of all frames of one animation, before or after scaling; larger ones skip frames. A minute of work."""


def render(
    source: Source, accepted: Sequence[str], options: Options, still_alive: Callable[[], None] = lambda: None
) -> Picture:
    """The instance in the first media type of ``accepted`` it can be had in; wildcards mean the usual one of its kind.

    ``still_alive`` is called now and then during what takes long. Raises CannotRender (406) if there is none or it
    cannot be drawn, PixelFailure (406) if its pixels cannot be decoded, NotFound if there is nothing to draw.
    """
    with lenient():
        if source.frames:
            return _image(_Frames(source, options), _chosen(accepted, PICTURES), options, still_alive)
        dataset = _dataset(source)
        header = Header(dataset, source.number or 1)
        samples = float_samples(header)
        if samples is not None:
            form = _chosen(accepted, PICTURES)
            image = shown(samples, "MONOCHROME2", 0, header, options)
            return Picture(form, encoded(image, form, options.quality))
        if source.number is not None:
            raise NotFound("The specified frame cannot be found.")
        if waveform.SEQUENCE in dataset:
            return _drawn(waveform.plot(dataset), _chosen(accepted, PICTURES), options)
        if text(dataset, _SOP_CLASS).startswith(_REPORTS) or _CONTENT_SEQUENCE in dataset:
            return _report(dataset, accepted, options)
        if text(dataset, _DOCUMENT_TYPE).lower() == PDF:
            return _document(dataset, accepted, options)
        raise NotFound("The specified instance has no pixel data, nor anything else that can be rendered.")


def _dataset(source: Source) -> Dataset:
    """The dataset of a whole file."""
    syntax = find(source.transfer_syntax)
    if syntax is None or not syntax.deflated:
        return read_header(source.header, inflated=False)
    return read_header(inflated_dataset(source.header, source.max_decoded_bytes), inflated=True)


def _chosen(accepted: Sequence[str], possible: Sequence[str]) -> str:
    for media_type in accepted:
        kind = media_type.removesuffix("*")
        for form in possible:
            if form == media_type or (kind != media_type and (kind == "*/" or form.startswith(kind))):
                return form
    raise CannotRender(f"The specified Accept header is not supported: this instance can be had as {possible[0]}.")


def _drawn(image: Image.Image, form: str, options: Options) -> Picture:
    if options.viewport is not None:
        image = fitted(image, options.viewport)
    return Picture(form, encoded(image, form, options.quality))


def _report(dataset: Dataset, accepted: Sequence[str], options: Options) -> Picture:
    if options.icon:
        return _drawn(text_picture.sign("SR"), _chosen(accepted, PICTURES), options)
    form = _chosen(accepted, (HTML, TEXT, *PICTURES))
    if form == HTML:
        page = report.html_page(dataset, options.charset)
        return Picture(f"{form}; charset={options.charset}", page.encode(options.charset, "xmlcharrefreplace"))
    if form == TEXT:
        body = report.plain_text(dataset).encode(options.charset, "replace")
        return Picture(f"{form}; charset={options.charset}", body)
    lines = [(0, report.title_of(dataset)), (0, "")]
    lines += [(0, line.text) for line in report.head_lines(dataset)]
    lines += [(0, ""), *((line.level, line.text) for line in report.content_lines(dataset))]
    return _drawn(text_picture.page(lines), form, options)


def _document(dataset: Dataset, accepted: Sequence[str], options: Options) -> Picture:
    if options.icon:
        return _drawn(text_picture.sign("PDF"), _chosen(accepted, PICTURES), options)
    form = _chosen(accepted, (PDF,))
    document = value_of(dataset, _DOCUMENT)
    if not isinstance(document, bytes) or not document:
        raise NotFound("The specified instance holds no document.")
    length = number(dataset, _DOCUMENT_LENGTH)
    return Picture(form, document if length is None else document[: int(length)])


class _Frames:
    """The frames of an image with what describes them."""

    def __init__(self, source: Source, options: Options) -> None:
        header, self._groups = split(source.header)
        written = annotation.TAGS if options.annotation else ()
        self.dataset = read_image_header(header, inflated=source.inflated, also=written)
        self.form: PixelFormat = from_pydicom(self.dataset)
        self.frames = source.frames
        self._transfer_syntax = source.transfer_syntax
        if self.form.decoded_bytes > source.max_decoded_bytes:
            raise CannotRender("The instance cannot be rendered: a frame of it is larger than this server decodes.")

    def header(self, frame: int) -> Header:
        return Header(self.dataset, frame, self._groups)

    def decoded(self, data: FrameBytes) -> DecodedFrame:
        return decode(data, self._transfer_syntax, self.form)

    def image(self, frame: int, data: FrameBytes, options: Options) -> Image.Image:
        return frame_image(self.decoded(data), self.form, self.header(frame), options)

    def common_window(self) -> Window | None:
        """The range of all frames of grey images that come without a window: else their brightness would jump."""
        ends: list[float] = []
        for frame, data in self.frames:
            header = self.header(frame)
            if self.form.samples > 1 or not needs_range(header):
                return None
            samples = stored_values(self.decoded(data).samples, self.form)
            ends += modality_of(header, samples)(np.array(extremes(samples, header))).tolist()
        low, high = min(ends), max(ends)
        return Window((low + high) / 2, high - low, WindowFunction.LINEAR_EXACT) if high > low else None


def _image(frames: _Frames, form: str, options: Options, still_alive: Callable[[], None]) -> Picture:
    if form == GIF and len(frames.frames) > 1:
        return _animation(frames, options, still_alive)
    frame, data = frames.frames[0]
    image = frames.image(frame, data, options)
    profile = profile_of(image, frames.header(frame), options)
    return Picture(form, encoded(image, form, options.quality, profile))


def _animation(frames: _Frames, options: Options, still_alive: Callable[[], None]) -> Picture:
    pixels = frames.form.rows * frames.form.columns
    if options.viewport is not None:
        pixels = max(pixels, (options.viewport.width or MAX_VIEWPORT) * (options.viewport.height or MAX_VIEWPORT))
    frames.frames = frames.frames[:: max(-(-len(frames.frames) * pixels // _ANIMATED_PIXELS), 1)]
    if options.window is None:
        options = replace(options, window=frames.common_window())

    def images() -> Iterator[Image.Image]:
        for frame, data in frames.frames:
            still_alive()
            yield frames.image(frame, data, options)

    skipped = frames.frames[1][0] - frames.frames[0][0] if len(frames.frames) > 1 else 1
    return Picture(GIF, animated(images(), frame_milliseconds(frames.dataset) * skipped))


def frame_milliseconds(dataset: Dataset) -> int:
    """How long a frame of a multi-frame image is shown (PS3.3 C.7.6.5), at least what browsers can keep up with."""
    found = number(dataset, 0x00181063)
    if found is not None and found > 0:
        return max(round(found), 20)
    rate = number(dataset, 0x00082144) or number(dataset, 0x00180040)
    return max(round(1000 / rate), 20) if rate and rate > 0 else _DEFAULT_MILLISECONDS

"""What a client gets of an instance: a picture, a document, or a refusal that says why (PS3.18 §8.7.4)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset

from hounsfield.dicom.codecs import decode, stored_values
from hounsfield.dicom.pixels import PixelFormat, from_pydicom
from hounsfield.dicom.rendering import report, text_picture, waveform
from hounsfield.dicom.rendering.encode import animated, encoded
from hounsfield.dicom.rendering.grey import extremes, modality_of, needs_range
from hounsfield.dicom.rendering.header import (
    CannotRender,
    Header,
    inflated_dataset,
    lenient,
    number,
    read_header,
    text,
    value_of,
)
from hounsfield.dicom.rendering.image import float_samples, frame_image, profile_of, shown
from hounsfield.dicom.rendering.options import (
    GIF,
    HTML,
    PDF,
    PICTURES,
    TEXT,
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
_ANIMATED_SAMPLES = 256 * 1024 * 1024
"""Rows × columns × frames of one animation; longer ones skip frames. A minute of work."""


def render(
    source: Source, accepted: Sequence[str], options: Options, still_alive: Callable[[], None] = lambda: None
) -> Picture:
    """The instance in the first media type of ``accepted`` it can be had in; wildcards mean the usual one of its kind.

    ``still_alive`` is called now and then during what takes long. Raises CannotRender (406) if there is none or it
    cannot be drawn, PixelFailure (406) if its pixels cannot be decoded, NotFound if there is nothing to draw.
    """
    with lenient():
        dataset = _dataset(source)
        if source.frames:
            return _image(source, dataset, _chosen(accepted, PICTURES), options, still_alive)
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
    syntax = find(source.transfer_syntax)
    if source.frames or syntax is None or not syntax.deflated:
        return read_header(source.header, inflated=source.inflated, whole=not source.frames)
    return read_header(inflated_dataset(source.header, source.max_decoded_bytes), inflated=True, whole=True)


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


def _image(source: Source, dataset: Dataset, form: str, options: Options, still_alive: Callable[[], None]) -> Picture:
    pixels = from_pydicom(dataset)
    if pixels.decoded_bytes > source.max_decoded_bytes:
        raise CannotRender("The instance cannot be rendered: a frame of it is larger than this server decodes.")
    if form == GIF and len(source.frames) > 1:
        return _animation(source, dataset, pixels, options, still_alive)
    number_of_frame, data = source.frames[0]
    header = Header(dataset, number_of_frame)
    image = frame_image(decode(data, source.transfer_syntax, pixels), pixels, header, options)
    return Picture(form, encoded(image, form, options.quality, profile_of(image, header, options)))


def _animation(
    source: Source, dataset: Dataset, pixels: PixelFormat, options: Options, still_alive: Callable[[], None]
) -> Picture:
    step = -(-len(source.frames) * pixels.rows * pixels.columns // _ANIMATED_SAMPLES)
    frames = source.frames[::step]
    if options.window is None:
        options = replace(options, window=_common_window(frames, source.transfer_syntax, dataset, pixels))

    def images() -> Iterator[Image.Image]:
        for number_of_frame, data in frames:
            frame = decode(data, source.transfer_syntax, pixels)
            still_alive()
            yield frame_image(frame, pixels, Header(dataset, number_of_frame), options)

    skipped = frames[1][0] - frames[0][0] if len(frames) > 1 else 1
    return Picture(GIF, animated(images(), frame_milliseconds(dataset) * skipped))


def _common_window(
    frames: Sequence[tuple[int, bytes | bytearray]], transfer_syntax: str, dataset: Dataset, pixels: PixelFormat
) -> Window | None:
    """The range of all frames of grey images that come without a window: else their brightness would jump."""
    ends: list[float] = []
    for number_of_frame, data in frames:
        header = Header(dataset, number_of_frame)
        if pixels.samples > 1 or not needs_range(header):
            return None
        samples = stored_values(decode(data, transfer_syntax, pixels).samples, pixels)
        ends += modality_of(header, samples)(np.array(extremes(samples, header))).tolist()
    low, high = min(ends), max(ends)
    return Window((low + high) / 2, high - low, WindowFunction.LINEAR_EXACT) if high > low else None


def frame_milliseconds(dataset: Dataset) -> int:
    """How long a frame of a multi-frame image is shown (PS3.3 C.7.6.5), at least what browsers can keep up with."""
    found = number(dataset, 0x00181063)
    if found is not None and found > 0:
        return max(round(found), 20)
    rate = number(dataset, 0x00082144) or number(dataset, 0x00180040)
    return max(round(1000 / rate), 20) if rate and rate > 0 else _DEFAULT_MILLISECONDS

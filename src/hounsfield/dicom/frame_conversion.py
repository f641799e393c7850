"""One frame from one transfer syntax to another, and whether that can be done (retrieve.md §5, §6)."""

from dataclasses import dataclass, replace

from hounsfield.dicom import codecs
from hounsfield.dicom.codecs.capabilities import ENCODED, Codec, codec_of, is_lossy, refusal
from hounsfield.dicom.pixels import RGB, SUBSAMPLED, YBR_FULL, YBR_FULL_422, PixelFormat

_JPEG = "1.2.840.10008.1.2.4.50"
_JPEG_IN_JPEG_XL = "1.2.840.10008.1.2.4.111"
_WIDER = {
    _JPEG: "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.70": "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.202": "1.2.840.10008.1.2.4.201",
}
"""Every frame of the one is a frame of the other, too, so decoding it would only cost time, or lose something."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A frame in its new syntax, and how the header must describe it."""

    data: bytes | bytearray | memoryview
    form: PixelFormat
    lossy: bool
    """Whether something was lost on the way here."""


def obstacle(source: str, target: str, form: PixelFormat, max_bytes: int) -> str | None:
    """Why frames of ``form`` cannot be had in ``target``; None if they can, unless they are broken.

    ``max_bytes``: of a decoded frame (retrieve.md §10.8).
    """
    if source == target or _same_frames(source, target):
        return None
    if codec_of(source) is None:
        return "nothing here decodes it"
    if form.decoded_bytes > max_bytes:
        return "a frame is larger than this server decodes"
    return refusal(_decoded(source, form), target)


def convert(data: bytes | bytearray | memoryview, source: str, target: str, form: PixelFormat) -> Converted:
    """A frame, as ``FrameIndex.frame(…, little_endian=True)`` gives it, in ``target``.

    Native frames come back in little endian order. Raises PixelFailure.
    """
    if source == target or _same_frames(source, target):
        return Converted(_even(data, target), form, lossy=False)
    if {source, target} == {_JPEG, _JPEG_IN_JPEG_XL} and _keeps_colours(data, source, form):
        return Converted(_even(_repacked(bytes(data), source), target), form, lossy=False)
    frame = codecs.decode(data, source, form)
    decoded = form if frame.photometric == form.photometric and not form.planar else form.by_pixel(frame.photometric)
    encoded, header = codecs.encode(frame.samples, target, decoded)
    return Converted(encoded, header, lossy=is_lossy(target, decoded))


def _same_frames(source: str, target: str) -> bool:
    """Whether frames of the one can go into the other as they are: both native, or the other allows more."""
    return _WIDER.get(source) == target or codec_of(source) is codec_of(target) is Codec.NATIVE


def _decoded(source: str, form: PixelFormat) -> PixelFormat:
    """What ``form`` becomes by decoding, as far as that is known before."""
    if form.samples == 1:
        return form
    if codec_of(source) in (Codec.JPEG_2000, Codec.JPEG_XL) and form.photometric != YBR_FULL:
        return form.by_pixel(RGB)
    if ENCODED.get(source) is None or (ENCODED[source].codec is Codec.JPEG and ENCODED[source].lossy):
        return form.by_pixel(RGB)
    if form.photometric in SUBSAMPLED:
        return replace(form, photometric=YBR_FULL if form.photometric == YBR_FULL_422 else form.photometric, planar=0)
    return replace(form, planar=0)


def _keeps_colours(data: bytes | bytearray | memoryview, source: str, form: PixelFormat) -> bool:
    """Whether whoever unpacks a JPEG stream sees the same colours: one of RGB that does not say so would be taken for
    luminance and differences."""
    from hounsfield.dicom.codecs import jpeg

    if form.samples == 1 or source != _JPEG:
        return True
    header = jpeg.read_header(data)
    return header.adobe_transform is not None or header.transformed(form.photometric)


def _repacked(data: bytes, source: str) -> bytes:
    from hounsfield.dicom.codecs import jpeg_xl

    packed: bytes = codecs.guarded(jpeg_xl.from_jpeg if source == _JPEG else jpeg_xl.to_jpeg, data)
    return packed


def _even(data: bytes | bytearray | memoryview, target: str) -> bytes | bytearray | memoryview:
    return bytes(data) + b"\0" if len(data) % 2 and ENCODED[target].encapsulated else data

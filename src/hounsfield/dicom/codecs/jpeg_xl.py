"""JPEG XL: lossless, lossy, and JPEG frames packed so that the same JPEG comes out again (PS3.5 §8.2.15)."""

from typing import Any

import imagecodecs

from hounsfield.dicom.codecs import DecodedFrame, jpeg
from hounsfield.dicom.codecs.capabilities import is_lossy
from hounsfield.dicom.codecs.samples import Samples, from_stream, precision_of, unsigned
from hounsfield.dicom.pixels import RGB, XYB, PixelFailure, PixelFormat

DISTANCE = 0.2
"""Of lossy streams: butteraugli units, of which 1 is said not to be visible."""
EFFORT = 4
"""Of 1 to 9: what is above takes several times as long for a few per cent."""

_RECOMPRESSION = "1.2.840.10008.1.2.4.111"
_BASELINE = "1.2.840.10008.1.2.4.50"


def decode(data: bytes | bytearray | memoryview, form: PixelFormat) -> DecodedFrame:
    """See codecs.decode. Colour comes out as RGB."""
    samples = imagecodecs.jpegxl_decode(bytes(data), numthreads=1)
    if form.samples == 1 and samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    precision = min(8 * samples.dtype.itemsize, form.bits_allocated)
    return DecodedFrame(from_stream(samples, precision, form), RGB if form.samples == 3 else form.photometric)


def encode(samples: Samples, transfer_syntax: str, form: PixelFormat) -> tuple[bytes, PixelFormat]:
    """See codecs.encode. What is not JPEG yet becomes it first where that is to be recompressed."""
    if transfer_syntax == _RECOMPRESSION:
        data, form = jpeg.encode(samples, _BASELINE, form)
        return from_jpeg(data), form
    lossy = is_lossy(transfer_syntax, form)
    options: dict[str, Any] = {"effort": EFFORT, "numthreads": 1, "usecontainer": False}
    if lossy:
        precision = 8 if form.bits_allocated == 8 else form.bits_stored
        if int(samples.max()) >> precision:
            raise PixelFailure("There are samples beyond Bits Stored, which lossy JPEG XL has no room for.")
        options |= {"distance": DISTANCE, "lossless": False, "bitspersample": precision}
        form = form.of_precision(precision)
    else:
        options["lossless"] = True
        if form.bits_allocated == 16 and not form.signed:
            options["bitspersample"] = precision_of(samples, form)
    data = bytes(imagecodecs.jpegxl_encode(unsigned(samples), **options))
    return data, form.by_pixel(XYB) if lossy and form.samples == 3 else form


def from_jpeg(data: bytes) -> bytes:
    """A JPEG stream as JPEG XL that holds all of it."""
    return bytes(imagecodecs.jpegxl_encode_jpeg(data))


def to_jpeg(data: bytes) -> bytes:
    """The JPEG stream that ``from_jpeg`` was given. Raises an error of the library if there is none inside."""
    return bytes(imagecodecs.jpegxl_decode_jpeg(data, numthreads=1))

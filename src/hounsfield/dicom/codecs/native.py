"""Native frames, alone or each in a fragment of its own: uncompressed (PS3.5 §A.4.11) or deflated (§A.4.13)."""

import zlib
from dataclasses import replace

import numpy as np

from hounsfield.dicom.codecs import DecodedFrame
from hounsfield.dicom.codecs.samples import Samples, sample_type, shape
from hounsfield.dicom.pixels import SUBSAMPLED, YBR_FULL, YBR_FULL_422, PixelFailure, PixelFormat


def decode(data: bytes | bytearray | memoryview, form: PixelFormat) -> DecodedFrame:
    """See codecs.decode. Colour differences that two pixels share are given to both."""
    if len(data) < form.frame_bytes:
        raise PixelFailure("The pixel data is shorter than the dataset says.")
    if form.bits_allocated == 1:
        bits = np.unpackbits(np.frombuffer(data, np.uint8, form.frame_bytes), bitorder="little")
        return DecodedFrame(bits[: form.frame_bits].reshape(shape(form)), form.photometric)
    samples = np.frombuffer(data, sample_type(form), form.frame_bits // form.bits_allocated)
    if form.photometric in SUBSAMPLED:
        return DecodedFrame(_shared(samples, form), YBR_FULL if form.photometric == YBR_FULL_422 else form.photometric)
    if form.samples > 1 and form.planar:
        planes = samples.reshape(form.samples, form.rows, form.columns)
        return DecodedFrame(np.ascontiguousarray(np.moveaxis(planes, 0, 2)), form.photometric)
    return DecodedFrame(samples.reshape(shape(form)), form.photometric)


def encode(samples: Samples, transfer_syntax: str, form: PixelFormat) -> tuple[bytes, PixelFormat]:
    """See codecs.encode. Big endian frames are little endian here, too: who writes the dataset swaps its words."""
    if form.bits_allocated == 1:
        return np.packbits(samples.ravel().astype(np.uint8), bitorder="little").tobytes(), form
    return np.ascontiguousarray(samples, sample_type(form)).tobytes(), form


def _shared(samples: Samples, form: PixelFormat) -> Samples:
    """Y1 Y2 Cb Cr … (PS3.3 §C.7.6.3.1.2, YBR_FULL_422) as one Y Cb Cr a pixel."""
    if form.samples != 3 or form.columns % 2:
        raise PixelFailure("The pixel data is subsampled in a way that makes no sense.")
    pairs = samples.reshape(form.rows, form.columns // 2, 4)
    pixels = np.empty((form.rows, form.columns, 3), samples.dtype)
    pixels[..., 0] = pairs[..., :2].reshape(form.rows, form.columns)
    pixels[..., 1:] = np.repeat(pairs[..., 2:], 2, axis=1)
    return pixels


class deflated:  # noqa: N801 - stands for a module
    """Deflated Image Frame Compression: a raw deflate stream of the native frame."""

    @staticmethod
    def decode(data: bytes | bytearray | memoryview, form: PixelFormat) -> DecodedFrame:
        """See codecs.decode."""
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        return decode(stream.decompress(data, form.frame_bytes), form)

    @staticmethod
    def encode(samples: Samples, transfer_syntax: str, form: PixelFormat) -> tuple[bytes, PixelFormat]:
        """See codecs.encode."""
        stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data, form = encode(samples, transfer_syntax, replace(form))
        return stream.compress(data) + stream.flush(), form

"""JPEG-LS, lossless and near-lossless (PS3.5 §8.2.3)."""

from typing import Any

import imagecodecs
import numpy as np

from hounsfield.dicom.codecs import DecodedFrame
from hounsfield.dicom.codecs.samples import Samples, from_stream, require_size, shape, unsigned
from hounsfield.dicom.pixels import PixelFailure, PixelFormat

NEAR = 2
"""Of near-lossless streams: no sample differs by more (by twice that at the ends of a signed type). Invisible at any
window, and a third smaller than lossless."""

_NEAR_LOSSLESS = "1.2.840.10008.1.2.4.81"
_HEADER_ROOM = 4096


def decode(data: bytes | bytearray | memoryview, form: PixelFormat) -> DecodedFrame:
    """See codecs.decode."""
    stream = bytes(data)
    start = _frame_header(stream)
    precision, components = stream[start], stream[start + 5]
    rows, columns = (int.from_bytes(stream[start + at : start + at + 2]) for at in (1, 3))
    require_size(form, rows, columns, components)
    samples = imagecodecs.jpegls_decode(stream)
    if samples.shape != shape(form) and form.samples == 3:
        samples = np.moveaxis(samples, 0, 2)  # one scan a component
    return DecodedFrame(from_stream(samples, precision, form), form.photometric)


def _frame_header(stream: bytes) -> int:
    """Where the content of the frame header (SOF55) begins."""
    pos = 2
    while stream[:2] == b"\xff\xd8" and pos + 4 <= len(stream) and stream[pos] == 0xFF:
        length = int.from_bytes(stream[pos + 2 : pos + 4])
        if stream[pos + 1] == 0xF7 and pos + 10 < len(stream):
            return pos + 4
        pos += 2 + length
    raise PixelFailure("The frame is no JPEG-LS stream.")


def encode(samples: Samples, transfer_syntax: str, form: PixelFormat) -> tuple[bytes, PixelFormat]:
    """See codecs.encode. Signs are part of the word: the stream has as many bits as are allocated."""
    near = NEAR if transfer_syntax == _NEAR_LOSSLESS else 0
    if near:
        # What comes out may be a little beyond what went in, and for the codec -32768 follows 32767.
        form = form.of_precision(form.bits_allocated)
        if form.signed:
            highest = (1 << form.bits_allocated - 1) - 1
            numbers: Any = samples
            samples = np.clip(numbers, -highest - 1 + near, highest - near)
    room = 2 * samples.nbytes + _HEADER_ROOM  # noise grows; the library's own guess is too small for it
    return bytes(imagecodecs.jpegls_encode(unsigned(samples), level=near, out=room)), form

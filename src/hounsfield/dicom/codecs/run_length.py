"""RLE Lossless (PS3.5 Annex G): PackBits over planes of bytes, the most significant byte of the first sample first."""

import struct

import imagecodecs
import numpy as np

from hounsfield.dicom.codecs import DecodedFrame
from hounsfield.dicom.codecs.samples import Samples, sample_type, shape
from hounsfield.dicom.pixels import PixelFailure, PixelFormat

_HEADER = struct.Struct("<16I")


def decode(data: bytes | bytearray | memoryview, form: PixelFormat) -> DecodedFrame:
    """See codecs.decode."""
    view = memoryview(data)
    count, *offsets = _HEADER.unpack_from(view)
    size = form.bits_allocated // 8 or 1
    if count != form.samples * size:
        raise PixelFailure("The RLE frame has another number of segments than its samples have bytes.")
    ends = [*offsets[1:count], len(view)]
    if any(start < _HEADER.size or end < start for start, end in zip(offsets[:count], ends, strict=True)):
        raise PixelFailure("The segments of an RLE frame are out of order.")
    length = form.rows * form.columns if form.bits_allocated > 1 else form.frame_bytes // form.samples
    planes = np.empty((count, length), np.uint8)
    for number, (start, end) in enumerate(zip(offsets[:count], ends, strict=True)):
        planes[number] = np.frombuffer(_unpacked(view[start:end], length), np.uint8, length)
    if form.bits_allocated == 1:
        bits = np.unpackbits(planes[0], bitorder="little")[: form.frame_bits]
        return DecodedFrame(bits.reshape(shape(form)), form.photometric)
    # (sample, byte, pixel) with the low byte last → (pixel, sample, byte) with the low byte first
    by_pixel = planes.reshape(form.samples, size, length)[:, ::-1].transpose(2, 0, 1)
    samples = np.ascontiguousarray(by_pixel).view(sample_type(form))
    return DecodedFrame(samples.reshape(shape(form)), form.photometric)


def _unpacked(segment: memoryview, length: int) -> bytes:
    """The first ``length`` bytes of a PackBits segment; what follows is padding."""
    unpacked = bytearray(length)
    imagecodecs.packbits_decode(bytes(_without_padding(segment, length)), out=unpacked)
    return bytes(unpacked)


def _without_padding(segment: memoryview, length: int) -> memoryview:
    """The segment up to where it has given ``length`` bytes. Raises PixelFailure if it gives fewer."""
    given = pos = 0
    size = len(segment)
    while given < length:
        if pos >= size:
            raise PixelFailure("An RLE segment is too short.")
        head = segment[pos]
        if head < 128:
            given += head + 1
            pos += head + 2
        else:
            given += (257 - head) if head > 128 else 0
            pos += 2 if head > 128 else 1
    return segment[: min(pos, size)]


def encode(samples: Samples, transfer_syntax: str, form: PixelFormat) -> tuple[bytes, PixelFormat]:
    """See codecs.encode. No run crosses from one row into the next (PS3.5 §G.3.1)."""
    if form.bits_allocated == 1:
        packed = np.packbits(samples.ravel().astype(np.uint8), bitorder="little")
        planes = [packed.reshape(1, -1)]
    else:
        size = form.bits_allocated // 8
        octets = np.ascontiguousarray(samples).view(np.uint8).reshape(form.rows, form.columns, form.samples, size)
        planes = [octets[:, :, sample, byte] for sample in range(form.samples) for byte in reversed(range(size))]
    segments = [imagecodecs.packbits_encode(np.ascontiguousarray(plane), axis=1) for plane in planes]
    segments = [segment + b"\0" * (len(segment) % 2) for segment in segments]
    offsets = [_HEADER.size]
    for segment in segments[:-1]:
        offsets.append(offsets[-1] + len(segment))
    header = _HEADER.pack(len(segments), *offsets, *[0] * (15 - len(offsets)))
    return b"".join((header, *segments)), form

"""JPEG 2000 and High-Throughput JPEG 2000 (PS3.5 §8.2.4, §8.2.14)."""

from dataclasses import dataclass
from typing import Any

import imagecodecs
import numpy as np

from hounsfield.dicom.codecs import DecodedFrame
from hounsfield.dicom.codecs.capabilities import is_lossy
from hounsfield.dicom.codecs.samples import Samples, from_stream, precision_of, require_size
from hounsfield.dicom.pixels import RGB, YBR_FULL, YBR_ICT, YBR_RCT, PixelFailure, PixelFormat

PSNR = 60.0
"""Decibels that a lossy JPEG 2000 frame aims at, of the range of its samples."""
QUANTISATION = 1 / 2048
"""Finest step of a lossy HTJ2K frame of 8 bits, as a part of the range of its samples; finer with more bits."""

_HIGH_THROUGHPUT = ("1.2.840.10008.1.2.4.201", "1.2.840.10008.1.2.4.202", "1.2.840.10008.1.2.4.203")
_RPCL = "1.2.840.10008.1.2.4.202"
_THUMBNAIL = 64
_SOC_SIZ, _SIZ, _COD, _CAP, _SOT = b"\xff\x4f\xff\x51", 0x51, 0x52, 0x50, 0x90


@dataclass(frozen=True, slots=True)
class Header:
    """What a codestream says about itself (ITU-T T.800 annex A)."""

    rows: int
    columns: int
    components: int
    precision: int
    transformed: bool
    """Whether three components are the result of a colour transform, which decoding undoes."""
    high_throughput: bool
    reversible: bool


def read_header(data: bytes | bytearray | memoryview) -> Header:
    """The main header of a codestream, which may be wrapped as JP2. Raises PixelFailure if there is none."""
    stream = bytes(data)
    start = stream.find(_SOC_SIZ)
    if start < 0:
        raise PixelFailure("The frame is no JPEG 2000 codestream.")
    pos, segments = start + 2, dict[int, bytes]()
    while pos + 4 <= len(stream) and stream[pos] == 0xFF and stream[pos + 1] != _SOT:
        end = pos + 2 + int.from_bytes(stream[pos + 2 : pos + 4])
        segments.setdefault(stream[pos + 1], stream[pos + 4 : end])
        pos = end
    siz, cod = segments[_SIZ], segments.get(_COD, b"")
    right, bottom, left, top = (int.from_bytes(siz[at : at + 4]) for at in (2, 6, 10, 14))
    count = int.from_bytes(siz[34:36])
    parts = [siz[36 + 3 * number : 39 + 3 * number] for number in range(count)]
    if len(cod) < 10 or not parts or len({bytes(part) for part in parts}) != 1 or parts[0][1:] != b"\1\1":
        raise PixelFailure("The JPEG 2000 codestream has components that differ, or none.")
    return Header(
        bottom - top, right - left, count, (parts[0][0] & 0x7F) + 1, cod[4] == 1, _CAP in segments, cod[9] == 1
    )


def decode(data: bytes | bytearray | memoryview, form: PixelFormat) -> DecodedFrame:
    """See codecs.decode. A colour transform is undone whatever Photometric Interpretation says; without one, it holds.

    YBR_RCT and YBR_ICT without a transform are taken for what encoders made of RGB when they forgot to.
    """
    header = read_header(data)
    require_size(form, header.rows, header.columns, header.components)
    stream = bytes(data)
    # OpenJPH is many times faster, but lets samples of lossy streams wrap around where OpenJPEG limits them.
    if header.high_throughput and header.reversible:
        samples = imagecodecs.htj2k_decode(stream[stream.find(_SOC_SIZ) :], planar=False)
    else:
        samples = imagecodecs.jpeg2k_decode(stream)
    photometric = form.photometric
    if form.samples == 3 and (header.transformed or photometric != YBR_FULL):
        photometric = RGB
    return DecodedFrame(from_stream(samples, header.precision, form), photometric)


def encode(samples: Samples, transfer_syntax: str, form: PixelFormat) -> tuple[bytes, PixelFormat]:
    """See codecs.encode. RGB goes through the colour transform (YBR_RCT or YBR_ICT), YBR_FULL stays as it is."""
    lossy = is_lossy(transfer_syntax, form)
    transform = form.samples == 3 and form.photometric == RGB
    if transfer_syntax in _HIGH_THROUGHPUT:
        data = _high_throughput(samples, form, transform, lossy, ordered=transfer_syntax == _RPCL)
        form = form.of_precision(form.bits_allocated) if lossy else form
    else:
        options: dict[str, Any] = {
            "codecformat": "j2k",
            "bitspersample": precision_of(samples, form),
            "mct": transform,
            "reversible": not lossy,
            "level": PSNR if lossy else 0,
        }
        if options["bitspersample"] > 24:
            raise PixelFailure("JPEG 2000 holds 24 bits here, and there are more.")
        data = bytes(imagecodecs.jpeg2k_encode(samples, **options))
    if transform:
        form = form.by_pixel(YBR_ICT if lossy else YBR_RCT)
    return data, form


def _high_throughput(samples: Samples, form: PixelFormat, transform: bool, lossy: bool, *, ordered: bool) -> bytes:
    """An HTJ2K codestream; ``ordered`` as PS3.5 §10.18 demands: RPCL, small base resolution, tile lengths."""
    options: dict[str, Any] = {"rgb": transform}
    if ordered:
        # OpenJPH orders packets so by default; resolutions are tile parts of their own, for ranged reads
        options |= {"tlm": True, "tilepart": 1, "resolutions": _resolutions(form)}
    if lossy:
        return bytes(imagecodecs.htj2k_encode(samples, level=QUANTISATION * 2.0 ** (8 - form.bits_stored), **options))
    precision = precision_of(samples, form)
    if form.bits_allocated == 32 or precision == form.bits_allocated:
        return bytes(imagecodecs.htj2k_encode(samples, reversible=True, **options))
    # The library takes the precision from the type. Lossless coding depends on it only in the offset that makes
    # unsigned samples signed: made here, the header may then state the real precision.
    offset = 0 if form.signed and form.bits_allocated > 1 else 1 << (precision - 1)
    centred = (samples.astype(np.int32) - offset).astype(np.int8 if form.bits_allocated <= 8 else np.int16)
    data = bytearray(imagecodecs.htj2k_encode(centred, reversible=True, **options))
    for number in range(form.samples):
        data[data.index(_SOC_SIZ) + 42 + 3 * number] = precision - 1 | (0 if offset else 0x80)
    return bytes(data)


def _resolutions(form: PixelFormat) -> int:
    """Decompositions until a side of the base resolution is no longer than a thumbnail's, at least the usual five."""
    shorter = min(form.rows, form.columns)
    count = 5
    while shorter >> count > _THUMBNAIL:
        count += 1
    return count

"""JPEG (PS3.5 §A.4.1): baseline, extended, progressive and lossless, of 2 to 16 bits."""

from dataclasses import dataclass
from typing import Any

import imagecodecs

from hounsfield.dicom.codecs import DecodedFrame
from hounsfield.dicom.codecs.samples import Samples, from_stream, precision_of, require_size, unsigned
from hounsfield.dicom.pixels import RGB, YBR_FULL, PixelFailure, PixelFormat

QUALITY = 95
"""Of lossy JPEG: as good as it gets before files grow out of proportion; above 40 dB on what scanners make."""

_LOSSY = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")
_LOSSLESS = 0xC3
_SEQUENTIAL = frozenset((0xC0, 0xC1, 0xC2, _LOSSLESS))  # Huffman coding; the rest is arithmetic or hierarchical
_STANDALONE = frozenset((0x01, *range(0xD0, 0xD9)))


@dataclass(frozen=True, slots=True)
class Header:
    """What a stream says about itself before its first scan (ITU-T T.81 annex B)."""

    process: int
    precision: int
    rows: int
    columns: int
    components: tuple[int, ...]
    """Their identifiers."""
    subsampled: bool
    jfif: bool
    adobe_transform: int | None

    @property
    def lossless(self) -> bool:
        """Whether the process is lossless, which transforms no colours."""
        return self.process == _LOSSLESS

    def transformed(self, photometric: str) -> bool:
        """Whether three components are luminance and colour differences.

        The stream's own word goes first (a JFIF stream has them always, Adobe's marker tells), then what only makes
        sense with them; the dataset is asked last: it is the likeliest to be wrong.
        """
        if self.lossless:
            return False
        if self.adobe_transform is not None:
            return self.adobe_transform != 0
        if self.jfif or self.subsampled:
            return True
        return bytes(self.components) != b"RGB" and photometric != RGB


def read_header(data: bytes | bytearray | memoryview) -> Header:
    """The header of a JPEG stream. Raises PixelFailure if it is none."""
    view = memoryview(data)
    pos, jfif, adobe = 0, False, None
    while pos + 4 <= len(view) and view[pos] == 0xFF:
        code = view[pos + 1]
        if code == 0xFF or code in _STANDALONE:
            pos += 1 if code == 0xFF else 2
            continue
        length = int.from_bytes(view[pos + 2 : pos + 4])
        segment = bytes(view[pos + 4 : pos + 2 + length])
        if code == 0xE0 and segment[:4] == b"JFIF":
            jfif = True
        elif code == 0xEE and segment[:5] == b"Adobe" and len(segment) >= 12:
            adobe = segment[11]
        elif code in _SEQUENTIAL and len(segment) >= 6 + 3 * segment[5]:
            parts = [segment[6 + 3 * number : 9 + 3 * number] for number in range(segment[5])]
            return Header(
                process=code,
                precision=segment[0],
                rows=int.from_bytes(segment[1:3]),
                columns=int.from_bytes(segment[3:5]),
                components=tuple(part[0] for part in parts),
                subsampled=len({part[1] for part in parts}) > 1,
                jfif=jfif,
                adobe_transform=adobe,
            )
        elif code == 0xDA:
            break
        pos += 2 + length
    raise PixelFailure("The frame is no JPEG stream of a process that can be decoded.")


def decode(data: bytes | bytearray | memoryview, form: PixelFormat) -> DecodedFrame:
    """See codecs.decode. Colour of a lossy stream comes out as RGB."""
    header = read_header(data)
    require_size(form, header.rows, header.columns, len(header.components))
    colours: dict[str, Any] = {}
    photometric = form.photometric
    if form.samples == 3:
        transformed = header.transformed(photometric)
        colours = {"colorspace": "YCBCR" if transformed else "RGB", "outcolorspace": "RGB"}
        if transformed or not header.lossless:
            photometric = RGB
    samples = imagecodecs.jpeg8_decode(bytes(data), **colours)
    return DecodedFrame(from_stream(samples, header.precision, form), photometric)


def encode(samples: Samples, transfer_syntax: str, form: PixelFormat) -> tuple[bytes, PixelFormat]:
    """See codecs.encode. Lossy colour becomes YBR_FULL, none of it subsampled."""
    if transfer_syntax in _LOSSY:
        return _lossy(samples, form)
    words = unsigned(samples)
    colours = {"colorspace": RGB, "outcolorspace": RGB} if form.samples == 3 else {}
    # A sign that is part of fewer bits than allocated would be lost on a decoder that knows of no sign.
    precision = form.bits_allocated if form.signed else max(precision_of(samples, form), 2)
    options: dict[str, Any] = {**colours, "bitspersample": precision}
    return bytes(imagecodecs.jpeg8_encode(words, lossless=True, predictor=1, **options)), form


def _lossy(samples: Samples, form: PixelFormat) -> tuple[bytes, PixelFormat]:
    precision = 8 if form.bits_allocated == 8 else 12
    if int(samples.max()) >> precision:
        raise PixelFailure("There are samples beyond Bits Stored, which JPEG has no room for.")
    options: dict[str, Any] = {"level": QUALITY, "bitspersample": precision}
    form = form.of_precision(precision)  # what comes out may be a little more than the highest that went in
    if form.samples == 1:
        return bytes(imagecodecs.jpeg8_encode(unsigned(samples), **options)), form
    options["colorspace"] = "YCBCR" if form.photometric == YBR_FULL else RGB
    data = imagecodecs.jpeg8_encode(unsigned(samples), outcolorspace="YCBCR", subsampling="444", **options)
    return bytes(data), form.by_pixel(YBR_FULL)

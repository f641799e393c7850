"""What the Image Pixel module says about pixel data (PS3.3 §C.7.6.3), as far as it is needed to decode them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hounsfield.errors import NotAcceptable

if TYPE_CHECKING:
    import pydicom

MONOCHROME1, MONOCHROME2, PALETTE_COLOR, RGB = "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB"
YBR_FULL, YBR_FULL_422, YBR_PARTIAL_422 = "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_422"
YBR_RCT, YBR_ICT, XYB = "YBR_RCT", "YBR_ICT", "XYB"
"""Photometric interpretations (PS3.3 §C.7.6.3.1.2)."""
SUBSAMPLED = frozenset((YBR_FULL_422, YBR_PARTIAL_422))
"""Those that hold one pair of colour differences for two pixels when they are not compressed."""

_ROWS, _COLUMNS, _SAMPLES, _PHOTOMETRIC, _PLANAR = 0x00280010, 0x00280011, 0x00280002, 0x00280004, 0x00280006
_ALLOCATED, _STORED, _HIGH_BIT, _SIGNED = 0x00280100, 0x00280101, 0x00280102, 0x00280103
_SIZES = (1, 8, 16, 32)


class PixelFailure(NotAcceptable):
    """Pixel data that cannot be decoded, or not be encoded as asked. The text names the problem and no value."""


@dataclass(frozen=True, slots=True)
class PixelFormat:
    """How the samples of a frame are laid out."""

    rows: int
    columns: int
    samples: int
    """Samples per Pixel: 1 or 3."""
    bits_allocated: int
    """1, 8, 16 or 32."""
    bits_stored: int
    high_bit: int
    signed: bool
    photometric: str
    planar: int = 0
    """Planar Configuration: 1 if each colour is a plane of its own."""

    @property
    def frame_bits(self) -> int:
        """Bits of one frame of native pixel data, without padding."""
        bits = self.rows * self.columns * self.samples * self.bits_allocated
        return bits * 2 // 3 if self.photometric in SUBSAMPLED else bits

    @property
    def frame_bytes(self) -> int:
        """Bytes of one frame of native pixel data that stands alone."""
        return (self.frame_bits + 7) // 8

    @property
    def decoded_bytes(self) -> int:
        """Bytes of the array that a decoded frame is: a single bit takes a byte."""
        return self.rows * self.columns * self.samples * max(self.bits_allocated // 8, 1)

    def by_pixel(self, photometric: str) -> "PixelFormat":
        """The same samples, colour by pixel, under another photometric interpretation."""
        return replace(self, photometric=photometric, planar=0)

    def of_precision(self, bits: int) -> "PixelFormat":
        """The same samples with so many Bits Stored, as a compressed stream has (PS3.5 §8.2)."""
        return replace(self, bits_stored=bits, high_bit=bits - 1)


def from_json(dataset: Mapping[str, Any]) -> PixelFormat:
    """The format that a dataset in the DICOM JSON model describes. Raises PixelFailure if it is none we know."""

    def value(tag: int) -> object:
        values = dataset.get(f"{tag:08X}", {}).get("Value")
        return values[0] if values else None

    return from_values(value)


def from_pydicom(dataset: "pydicom.Dataset") -> PixelFormat:
    """The format that a pydicom dataset describes. Raises PixelFailure if it is none we know."""
    return from_values(lambda tag: dataset[tag].value if tag in dataset else None)


def from_values(value: Callable[[int], object]) -> PixelFormat:
    """The format that ``value``, given a tag, describes: a number or text, or None where the attribute is absent.

    Bits Stored and High Bit follow from Bits Allocated where they are absent. Raises PixelFailure if no image is
    described, or one that cannot be decoded here: other sizes of samples, or other than 1 or 3 of them.
    """

    def number(tag: int, default: int) -> int:
        found = value(tag)
        try:
            return default if found is None or found == "" else int(str(found))
        except ValueError:
            raise PixelFailure("The image pixel attributes make no sense.") from None

    allocated = number(_ALLOCATED, 0)
    stored = number(_STORED, allocated)
    form = PixelFormat(
        rows=number(_ROWS, 0),
        columns=number(_COLUMNS, 0),
        samples=number(_SAMPLES, 1),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=number(_HIGH_BIT, stored - 1),
        signed=number(_SIGNED, 0) == 1,
        photometric=str(value(_PHOTOMETRIC) or "").strip(" \0"),
        planar=1 if number(_PLANAR, 0) == 1 else 0,
    )
    if form.rows < 1 or form.columns < 1 or form.samples not in (1, 3) or allocated not in _SIZES:
        raise PixelFailure("The image pixel attributes describe no image that can be decoded.")
    if not 1 <= stored <= allocated or not stored - 1 <= form.high_bit < allocated:
        raise PixelFailure("Bits Allocated, Bits Stored and High Bit contradict each other.")
    return form

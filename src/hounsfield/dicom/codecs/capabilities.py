"""Which transfer syntaxes can be decoded and produced, and for which pixels. Loads no codec.

The rules for what may stand in a compressed frame are those of PS3.5 §8.2 and of the codecs themselves.
"""

from dataclasses import dataclass
from enum import Enum

from hounsfield.dicom.pixels import PALETTE_COLOR, RGB, YBR_FULL, PixelFormat

_PREFIX = "1.2.840.10008.1.2"
_MONOCHROME_OR_RGB = frozenset(("", "MONOCHROME1", "MONOCHROME2", PALETTE_COLOR, RGB))
_COLOURS = _MONOCHROME_OR_RGB | {YBR_FULL}


class Codec(Enum):
    """The families of encodings, each a module beside this one."""

    NATIVE = 1
    DEFLATED_FRAME = 2
    RUN_LENGTH = 3
    JPEG = 4
    JPEG_LS = 5
    JPEG_2000 = 6
    JPEG_XL = 7


@dataclass(frozen=True, slots=True)
class Encoding:
    """What can be put into a transfer syntax we produce."""

    codec: Codec
    lossy: bool = False
    sizes: tuple[int, ...] = (8, 16)
    """Bits Allocated it can hold."""
    most_bits: int = 32
    """Bits Stored it can hold."""
    unsigned_only: bool = False
    photometrics: frozenset[str] = _COLOURS
    encapsulated: bool = True
    method: str = ""
    """Lossy Image Compression Method (PS3.3 §C.7.6.1.1.5.1)."""


_ALL = (1, 8, 16, 32)

ENCODED = {
    **{
        _PREFIX + suffix: Encoding(Codec.NATIVE, sizes=_ALL, encapsulated=False) for suffix in ("", ".1", ".1.99", ".2")
    },
    _PREFIX + ".1.98": Encoding(Codec.NATIVE, sizes=_ALL),
    _PREFIX + ".8.1": Encoding(Codec.DEFLATED_FRAME, sizes=_ALL),
    _PREFIX + ".5": Encoding(Codec.RUN_LENGTH, sizes=_ALL),
    _PREFIX + ".4.50": Encoding(
        Codec.JPEG, lossy=True, sizes=(8,), most_bits=8, unsigned_only=True, method="ISO_10918_1"
    ),
    _PREFIX + ".4.51": Encoding(Codec.JPEG, lossy=True, most_bits=12, unsigned_only=True, method="ISO_10918_1"),
    _PREFIX + ".4.57": Encoding(Codec.JPEG),
    _PREFIX + ".4.70": Encoding(Codec.JPEG),
    _PREFIX + ".4.80": Encoding(Codec.JPEG_LS),
    _PREFIX + ".4.81": Encoding(Codec.JPEG_LS, lossy=True, method="ISO_14495_1"),
    _PREFIX + ".4.90": Encoding(Codec.JPEG_2000, sizes=_ALL, most_bits=24),
    _PREFIX + ".4.91": Encoding(Codec.JPEG_2000, lossy=True, sizes=_ALL, most_bits=24, method="ISO_15444_1"),
    _PREFIX + ".4.110": Encoding(Codec.JPEG_XL, photometrics=_MONOCHROME_OR_RGB),
    _PREFIX + ".4.111": Encoding(
        Codec.JPEG_XL, lossy=True, sizes=(8,), most_bits=8, unsigned_only=True, method="ISO_18181_1"
    ),
    _PREFIX + ".4.112": Encoding(
        Codec.JPEG_XL, lossy=True, unsigned_only=True, photometrics=_MONOCHROME_OR_RGB, method="ISO_18181_1"
    ),
    _PREFIX + ".4.201": Encoding(Codec.JPEG_2000, sizes=_ALL),
    _PREFIX + ".4.202": Encoding(Codec.JPEG_2000, sizes=_ALL),
    _PREFIX + ".4.203": Encoding(Codec.JPEG_2000, lossy=True, sizes=_ALL, method="ISO_15444_15"),
}
"""The transfer syntaxes that can be produced."""

_DECODED_ONLY = {  # retired, but archives have them: progressive JPEG with Huffman coding
    _PREFIX + ".4.53": Codec.JPEG,
    _PREFIX + ".4.55": Codec.JPEG,
}


def codec_of(transfer_syntax: str) -> Codec | None:
    """What decodes frames of that syntax; None if nothing here does."""
    encoding = ENCODED.get(transfer_syntax)
    return encoding.codec if encoding is not None else _DECODED_ONLY.get(transfer_syntax)


def is_lossy(target: str, form: PixelFormat) -> bool:
    """Whether encoding these pixels in ``target`` loses anything. Bits and palette indices are kept as they are."""
    return ENCODED[target].lossy and form.bits_allocated > 1 and form.photometric != PALETTE_COLOR


def refusal(form: PixelFormat, target: str) -> str | None:
    """Why pixels of this format (as decoded) cannot be had in ``target``; None if they can."""
    encoding = ENCODED.get(target)
    if encoding is None:
        return "nothing here encodes it"
    if encoding.codec is Codec.NATIVE:
        return None
    if form.bits_allocated not in encoding.sizes:
        return f"samples of {form.bits_allocated} bits do not fit"
    if form.bits_stored > encoding.most_bits:
        return f"it holds {encoding.most_bits} bits and {form.bits_stored} are stored"
    if form.signed and encoding.unsigned_only:
        return "it holds no signed samples"
    if form.samples == 3 and form.photometric not in encoding.photometrics:
        return f"it holds no {form.photometric}"
    if form.photometric == PALETTE_COLOR and encoding.lossy and encoding.codec is not Codec.JPEG_2000:
        return "indices of a palette would be changed"
    return None

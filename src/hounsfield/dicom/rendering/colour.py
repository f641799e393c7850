"""Colour images: palettes and colour models to 8-bit RGB (PS3.3 C.7.6.3.1.2)."""

from io import BytesIO
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms
from pydicom.dataset import Dataset

from hounsfield.dicom.rendering.header import CannotRender, Header, first_item, value_of
from hounsfield.dicom.rendering.lookup import palette_of

Samples = npt.NDArray[Any]
Rgb = npt.NDArray[np.uint8]

_DECODED = ("RGB", "YBR_RCT", "YBR_ICT")
"""What a decoder hands out as RGB."""
_FULL = ("YBR_FULL", "YBR_FULL_422")
_PARTIAL = ("YBR_PARTIAL_422", "YBR_PARTIAL_420")
_OPTICAL_PATH, _ICC_PROFILE = 0x00480105, 0x00282000


def palette_colours(samples: Samples, header: Header) -> Rgb:
    """Samples of one frame (rows, columns) through their palette. Raises CannotRender."""
    first, palette = palette_of(header.dataset, signed=samples.dtype.kind == "i")
    positions = np.clip(samples, first, first + len(palette) - 1).astype(np.int64) - first
    colours: Rgb = palette[positions]
    return colours


def rgb_colours(samples: Samples, photometric: str, bits_stored: int) -> Rgb:
    """Samples of one frame (rows, columns, 3) to 8-bit RGB. Raises CannotRender for an unknown colour model."""
    eight = _eight_bits(samples, bits_stored)
    if photometric in _DECODED:
        return eight
    if photometric in _FULL:
        return _from_ybr(eight, black=0.0, luma=1.0, chroma=1.0)
    if photometric in _PARTIAL:
        return _from_ybr(eight, black=16.0, luma=255 / 219, chroma=255 / 224)
    raise CannotRender("The instance cannot be rendered: its photometric interpretation is not supported.")


def _eight_bits(samples: Samples, bits_stored: int) -> Rgb:
    """The high byte of the bits stored; fewer than eight bits are spread over the range."""
    values = samples.view(samples.dtype.str.replace("i", "u")) if samples.dtype.kind == "i" else samples
    if bits_stored > 8:
        values = values >> (bits_stored - 8)
    elif bits_stored < 8:
        top = 2**bits_stored - 1
        values = np.minimum(values, top).astype(np.uint16) * 255 // top
    eight: Rgb = np.clip(values, 0, 255).astype(np.uint8)
    return eight


def _from_ybr(samples: Rgb, *, black: float, luma: float, chroma: float) -> Rgb:
    """ITU-R BT.601; ``black`` is the luminance of black, ``luma`` and ``chroma`` what stretches to the full range."""
    y = (samples[..., 0].astype(np.float32) - black) * luma
    blue = (samples[..., 1].astype(np.float32) - 128) * chroma
    red = (samples[..., 2].astype(np.float32) - 128) * chroma
    channels = (y + 1.402 * red, y - 0.344136 * blue - 0.714136 * red, y + 1.772 * blue)
    colours: Rgb = np.rint(np.clip(np.stack(channels, axis=-1), 0, 255)).astype(np.uint8)
    return colours


def icc_profile(dataset: Dataset) -> bytes | None:
    """The image's ICC profile; that of slide images is in their optical path (PS3.3 C.11.15)."""
    for place in (dataset, first_item(dataset, _OPTICAL_PATH)):
        value = None if place is None else value_of(place, _ICC_PROFILE)
        if isinstance(value, bytes) and value:
            return value
    return None


def srgb_profile() -> bytes:
    """A profile of the colour space sRGB."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """An RGB image converted from the colours of ``profile`` to sRGB. Raises CannotRender for a damaged profile."""
    try:
        source = ImageCms.ImageCmsProfile(BytesIO(profile))
        converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"))
    except (ImageCms.PyCMSError, OSError):
        raise CannotRender("The instance cannot be rendered: its ICC profile is damaged.") from None
    assert converted is not None
    return converted

"""Pictures as files: JPEG, PNG, GIF, WebP and JPEG XL."""

from collections.abc import Iterator
from io import BytesIO

import imagecodecs
import numpy as np
from PIL import Image

from hounsfield.dicom.rendering.header import CannotRender
from hounsfield.dicom.rendering.options import GIF, JPEG, JXL, PNG, WEBP

_MAX_SIDE = {JPEG: 65500, WEBP: 16383, GIF: 65535}
"""What the format, or its library, can hold."""
_FULL_COLOUR_QUALITY = 90
"""From this quality on, JPEG keeps the colours of every pixel."""
_PNG_LEVEL = 3
"""zlib's level: half the time of the usual 6 for some percent more bytes."""


def encoded(image: Image.Image, media_type: str, quality: int, profile: bytes | None = None) -> bytes:
    """A grey or RGB image as a file. ``quality`` (1…100) does not matter to PNG and GIF. Raises CannotRender."""
    if max(image.size) > _MAX_SIDE.get(media_type, 1 << 30):
        raise CannotRender(f"The instance cannot be rendered: it is too large for {media_type}.")
    if media_type == JXL:
        return _jpeg_xl(image, quality)
    out = BytesIO()
    if media_type == JPEG:
        subsampling = 0 if quality >= _FULL_COLOUR_QUALITY else 2
        image.save(out, "JPEG", quality=quality, subsampling=subsampling, icc_profile=profile)
    elif media_type == PNG:
        image.save(out, "PNG", compress_level=_PNG_LEVEL, icc_profile=profile)
    elif media_type == WEBP:
        image.convert("RGB").save(out, "WEBP", quality=quality, method=2, icc_profile=profile)
    elif media_type == GIF:
        _for_gif(image).save(out, "GIF")
    else:
        raise CannotRender(f"The instance cannot be rendered as {media_type}.")
    return out.getvalue()


def animated(images: Iterator[Image.Image], milliseconds: int) -> bytes:
    """An endless GIF that shows each image for so long. One image is held at a time."""
    out = BytesIO()
    first = _for_gif(next(images))
    rest = (_for_gif(image) for image in images)
    first.save(out, "GIF", save_all=True, append_images=rest, duration=milliseconds, loop=0, optimize=False)
    return out.getvalue()


def _for_gif(image: Image.Image) -> Image.Image:
    if image.mode == "L":
        return image
    return image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)


def _jpeg_xl(image: Image.Image, quality: int) -> bytes:
    # libjxl counts in "distance": 1 is where differences begin to be seen, 0 is lossless.
    distance = 0.0 if quality == 100 else 0.1 + (100 - quality) * 0.09
    return bytes(imagecodecs.jpegxl_encode(np.asarray(image), distance=distance, lossless=quality == 100, effort=3))

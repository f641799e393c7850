"""One frame of an image as a picture: from decoded samples to the size, colours and overlays asked for."""

from typing import TYPE_CHECKING, Any

import numpy.typing as npt
from PIL import Image

from hounsfield.dicom.rendering.annotation import annotated
from hounsfield.dicom.rendering.colour import icc_profile, palette_colours, rgb_colours, srgb_profile, to_srgb
from hounsfield.dicom.rendering.grey import grey_levels
from hounsfield.dicom.rendering.header import CannotRender, Header, values_of
from hounsfield.dicom.rendering.options import Options
from hounsfield.dicom.rendering.overlays import overlay_mask
from hounsfield.dicom.rendering.viewport import fitted

if TYPE_CHECKING:
    from hounsfield.dicom.codecs import DecodedFrame
    from hounsfield.dicom.pixels import PixelFormat

_PALETTE = "PALETTE COLOR"
_OVERLAY_GREY, _OVERLAY_RGB = 255, (255, 255, 255)
_SQUARE = (0.5, 2.0)
"""Pixels higher or wider than this are taken for a mistake of the header, unless the picture is fitted to a box."""


def frame_image(frame: "DecodedFrame", form: "PixelFormat", header: Header, options: Options) -> Image.Image:
    """A decoded frame as a grey or RGB image. Raises CannotRender."""
    from hounsfield.dicom.codecs import stored_values

    samples: npt.NDArray[Any] = stored_values(frame.samples, form)
    mask = overlay_mask(header, frame.samples) if options.annotation else None
    return shown(samples, frame.photometric, form.bits_stored, header, options, mask)


def shown(
    samples: npt.NDArray[Any],
    photometric: str,
    bits_stored: int,
    header: Header,
    options: Options,
    mask: npt.NDArray[Any] | None = None,
) -> Image.Image:
    """Samples (rows, columns[, 3]), without bits that are no part of them, as a grey or RGB image."""
    if samples.ndim == 3:
        pixels = rgb_colours(samples, photometric, bits_stored)
    elif photometric == _PALETTE:
        pixels = palette_colours(samples, header)
    else:
        pixels = grey_levels(samples, header, options.window)
    if mask is not None:
        pixels[mask] = _OVERLAY_GREY if pixels.ndim == 2 else _OVERLAY_RGB
    image = Image.fromarray(pixels)
    if options.icc_profile == "srgb" and image.mode == "RGB":
        own = icc_profile(header.dataset)
        image = image if own is None else to_srgb(image, own)
    if options.viewport is not None:
        image = fitted(image, options.viewport, pixel_aspect(header))
    return annotated(image, header, options.annotation) if options.annotation else image


def profile_of(image: Image.Image, header: Header, options: Options) -> bytes | None:
    """The ICC profile that belongs into the file of an image (PS3.18 §8.3.5.1.5)."""
    if options.icc_profile in (None, "no") or image.mode != "RGB":
        return None
    own = icc_profile(header.dataset) if options.icc_profile == "yes" else None
    return own or srgb_profile()


def pixel_aspect(header: Header) -> float:
    """Height of a pixel as a multiple of its width (Pixel Aspect Ratio, PS3.3 C.7.6.3.1.7); 1 where it says nothing."""
    try:
        vertical, horizontal = (float(value) for value in values_of(header.dataset, 0x00280034))
        ratio = vertical / horizontal
    except (TypeError, ValueError, ZeroDivisionError):
        return 1.0
    return ratio if _SQUARE[0] <= ratio <= _SQUARE[1] else 1.0


def float_samples(header: Header) -> npt.NDArray[Any] | None:
    """The frame of Float or Double Float Pixel Data (PS3.3 C.7.6.24); None where there are none.

    Raises CannotRender if they are cut off or not one sample a pixel.
    """
    import numpy as np

    rows, columns = header.integer(0x00280010), header.integer(0x00280011)
    for tag, code in ((0x7FE00008, "f4"), (0x7FE00009, "f8")):
        data = header.dataset[tag].value if tag in header.dataset else None
        if data is None:
            continue
        little = getattr(header.dataset, "original_encoding", (None, True))[1] is not False
        size = rows * columns
        start = (header.frame - 1) * size
        values = np.frombuffer(data, np.dtype(code).newbyteorder("<" if little else ">"))
        if not size or len(values) < start + size or header.integer(0x00280002, 1) != 1:
            raise CannotRender("The instance cannot be rendered: its pixel data are cut off.")
        return values[start : start + size].reshape(rows, columns).astype(np.float64)
    return None

"""Parts of an image, mirrored and scaled into a box (PS3.18 §8.3.5.1.3)."""

from PIL import Image

from hounsfield.dicom.rendering.options import MAX_VIEWPORT, Viewport
from hounsfield.errors import BadRequest


def fitted(image: Image.Image, viewport: Viewport, pixel_aspect: float = 1.0) -> Image.Image:
    """The part of ``image`` a viewport asks for, as large as fits its box with the same proportions.

    ``pixel_aspect``: height of a pixel as a multiple of its width (Pixel Aspect Ratio). Raises BadRequest if no pixel
    of the image is in the part.
    """
    left, top, width, height = _region(image, viewport)
    box = (left, top, left + abs(width), top + abs(height))
    if box[0] >= image.width or box[1] >= image.height or box[2] <= 0 or box[3] <= 0:
        raise BadRequest("The viewport shows nothing of the image: it lies outside.")
    box = (max(box[0], 0), max(box[1], 0), min(box[2], image.width), min(box[3], image.height))
    shown_width, shown_height = box[2] - box[0], (box[3] - box[1]) * pixel_aspect
    scales = []
    if viewport.width is not None:
        scales.append(viewport.width / shown_width)
    if viewport.height is not None:
        scales.append(viewport.height / shown_height)
    # One side alone leaves the other open, so it needs an end of its own.
    scale = min([*scales, MAX_VIEWPORT / max(shown_width, shown_height)]) if scales else 1.0
    size = max(1, round(shown_width * scale)), max(1, round(shown_height * scale))
    # A bilinear filter with support, where it shrinks, averages everything; where it grows, it invents no structure.
    scaled = image.resize(size, Image.Resampling.BILINEAR, box=box)
    if width < 0:
        scaled = scaled.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return scaled.transpose(Image.Transpose.FLIP_TOP_BOTTOM) if height < 0 else scaled


def _region(image: Image.Image, viewport: Viewport) -> tuple[float, float, float, float]:
    """Left, top, width and height of the part in pixels; a negative size mirrors."""
    across, down = (image.width, image.height) if viewport.fractions else (1, 1)
    left, top = viewport.left * across, viewport.top * down
    width = image.width - left if viewport.source_width is None else viewport.source_width * across
    height = image.height - top if viewport.source_height is None else viewport.source_height * down
    return left, top, width, height

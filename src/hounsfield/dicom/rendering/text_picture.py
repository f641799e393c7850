"""Text as a picture: lines of a report, and the sign that stands for a document."""

import textwrap
from collections.abc import Sequence
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_SIZE, _SPACING, _MARGIN, _WIDTH = 18, 26, 32, 900
"""Pixels: letters, from line to line, around the text, and of the whole page."""
_LETTERS = 96
"""Letters a line; the font's are of different widths, this many fit nearly always."""
_MAX_LINES = 1500
"""Of one picture: 40,000 pixels high, which every reader of pictures takes."""
_SIGN = 256


@lru_cache(maxsize=8)
def font(size: int) -> Font:
    """Pillow's own font, so that nothing depends on what is installed. Its letters are those of European languages."""
    return ImageFont.load_default(size)


def page(lines: Sequence[tuple[int, str]]) -> Image.Image:
    """A white page with ``lines`` of text, each indented by its level and broken where it is too long."""
    broken: list[tuple[int, str]] = []
    for level, line in lines:
        level = min(level, 12)
        pieces = textwrap.wrap(line, _LETTERS - 3 * level, break_long_words=True) or [""]
        broken += [(level + (1 if number else 0), piece) for number, piece in enumerate(pieces)]
    if len(broken) > _MAX_LINES:
        broken = [*broken[: _MAX_LINES - 1], (0, "…")]
    image = Image.new("L", (_WIDTH, 2 * _MARGIN + _SPACING * max(len(broken), 1)), 255)
    draw = ImageDraw.Draw(image)
    for number, (level, line) in enumerate(broken):
        draw.text((_MARGIN + 24 * level, _MARGIN + number * _SPACING), line, font=font(_SIZE), fill=0)
    return image


def sign(word: str) -> Image.Image:
    """A sheet of paper with a word on it, for the thumbnail of what is no image."""
    image = Image.new("L", (_SIGN, _SIGN), 24)
    draw = ImageDraw.Draw(image)
    left, top, right, bottom, fold = 56, 24, 200, 232, 40
    sheet = [(left, top), (right - fold, top), (right, top + fold), (right, bottom), (left, bottom)]
    draw.polygon(sheet, fill=216)
    draw.polygon([(right - fold, top), (right - fold, top + fold), (right, top + fold)], fill=150)
    for line in range(4):
        draw.line([(left + 20, 84 + 14 * line), (right - 20, 84 + 14 * line)], fill=150, width=4)
    draw.text((_SIGN // 2, 180), word, font=font(48 if len(word) < 5 else 28), fill=40, anchor="mm")
    return image

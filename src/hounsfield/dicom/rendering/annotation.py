"""Patient and technique burnt into a picture, for who asks for it (PS3.18 §8.3.5.1.1)."""

from PIL import Image, ImageDraw

from hounsfield.dicom.rendering.header import Header, text, values_of
from hounsfield.dicom.rendering.text_picture import font

TAGS = frozenset(
    (
        *(0x00100010, 0x00100020, 0x00100030, 0x00100040),
        *(0x00080020, 0x00080030, 0x00080060, 0x0008103E),
        *(0x00180050, 0x00180060, 0x00180080, 0x00180081, 0x00181151),
    )
)
"""The attributes that are written."""
_SMALLEST, _LINES = 10, 32
"""Letters are this share of the picture's height."""


def annotated(image: Image.Image, header: Header, wanted: frozenset[str]) -> Image.Image:
    """``image`` with what belongs to ``patient`` (top left) and ``technique`` (bottom left) written into it."""
    size = max(image.height // _LINES, _SMALLEST)
    draw = ImageDraw.Draw(image)
    white, black = (255, 0) if image.mode == "L" else ((255, 255, 255), (0, 0, 0))
    for lines, anchor, top in (
        (_patient(header) if "patient" in wanted else [], "la", size // 2),
        (_technique(header) if "technique" in wanted else [], "ld", image.height - size // 2),
    ):
        if lines:
            # An outline keeps the letters readable on bright tissue.
            place = (size // 2, top)
            written = "\n".join(lines)
            outline = max(size // 12, 1)
            draw.multiline_text(
                place, written, white, font(size), anchor, stroke_width=outline, stroke_fill=black
            )  # fmt: skip
    return image


def _patient(header: Header) -> list[str]:
    name = text(header.dataset, 0x00100010).split("=")[0].replace("^", " ").strip()
    born = " ".join(part for part in (header.text(0x00100030), header.text(0x00100040)) if part)
    return [line for line in (name, header.text(0x00100020), born) if line]


def _technique(header: Header) -> list[str]:
    when = " ".join(part for part in (header.text(0x00080020), header.text(0x00080030)[:6]) if part)
    what = " ".join(part for part in (header.text(0x00080060), header.text(0x0008103E)) if part)
    settings = [
        f"{label} {values[0]} {unit}".strip()
        for tag, label, unit in (
            (0x00180060, "", "kV"),
            (0x00181151, "", "mA"),
            (0x00180080, "TR", "ms"),
            (0x00180081, "TE", "ms"),
            (0x00180050, "", "mm"),
        )
        if (values := values_of(header.dataset, tag))
    ]
    return [line for line in (when, what, ", ".join(settings)) if line]

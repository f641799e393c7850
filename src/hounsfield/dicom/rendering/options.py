"""What a client can ask of a picture (PS3.18 §8.3.5.1), and what goes to and from where it is made. Loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

JPEG, PNG, GIF, WEBP, JXL = "image/jpeg", "image/png", "image/gif", "image/webp", "image/jxl"
HTML, TEXT, PDF = "text/html", "text/plain", "application/pdf"
PICTURES = (JPEG, PNG, GIF, WEBP, JXL)
"""Media types of pictures that can be made, best first where a client leaves it open."""
DOCUMENTS = (HTML, TEXT, PDF)
"""Media types of what is no picture: of reports the first two, of encapsulated documents the last."""

MAX_VIEWPORT = 8192
"""Pixels a side: four screens. A larger picture would be a way to fill the memory with one short request."""


class WindowFunction(Enum):
    """VOI LUT Function (PS3.3 C.11.2.1.3), by the name a URL gives it."""

    LINEAR = "linear"
    LINEAR_EXACT = "linear-exact"
    SIGMOID = "sigmoid"


@dataclass(frozen=True, slots=True)
class Window:
    """A range of values to be shown, in units of the modality LUT's output."""

    center: float
    width: float
    function: WindowFunction = WindowFunction.LINEAR


@dataclass(frozen=True, slots=True)
class Viewport:
    """A box of ``width`` × ``height`` pixels for the picture to fit in, and the part of the image to show there.

    The part is in pixels of the image: ``left`` and ``top`` of its corner, ``source_width`` and ``source_height``, None
    for all that is left. A negative size mirrors. With ``fractions``, the part is in shares of the image instead.
    Either side of the box may be None: it follows from the other.
    """

    width: int | None
    height: int | None
    left: float = 0
    top: float = 0
    source_width: float | None = None
    source_height: float | None = None
    fractions: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """How to make a picture. ``annotation`` holds ``patient`` or ``technique``; with either, overlays are drawn too."""

    quality: int = 100
    window: Window | None = None
    viewport: Viewport | None = None
    annotation: frozenset[str] = frozenset()
    icc_profile: str | None = None
    """``yes``, ``no`` or ``srgb`` (PS3.18 §8.3.5.1.5); None: no matter."""
    charset: str = "utf-8"
    """Of text; a name Python knows."""
    icon: bool = False
    """A thumbnail: what has no pixels becomes a sign of its kind, and shows nothing about the patient."""


@dataclass(frozen=True, slots=True)
class Picture:
    """A rendered instance: its media type, with ``charset`` where it is text, and its bytes."""

    content_type: str
    body: bytes


FrameBytes = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Source:
    """The parts of a stored file that a picture is made of.

    ``header`` is the file up to the value of its pixel data, or the whole file if there are no ``frames``; if
    ``inflated``, a bare Explicit VR Little Endian dataset. ``frames`` are numbers (from 1) and bytes
    (``FrameIndex.frame``, little endian). ``number`` is set if the client asked for that frame.
    """

    header: bytes
    inflated: bool
    transfer_syntax: str
    frames: Sequence[tuple[int, FrameBytes]]
    max_decoded_bytes: int
    number: int | None = None

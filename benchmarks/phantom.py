"""A picture for what is decoded, windowed and encoded again, and what has to come out.

A slice through a body with a few organs, a little noise on it, so that JPEG has as much to do as with a clinical CT:
noise alone would make a picture of five times the size, and encoding all of the work. numpy is imported here only
when a picture is made, as most rows need none.
"""

import io
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

INTERCEPT = -1024
"""RescaleIntercept of every instance; the slope is 1."""
CENTER, WIDTH = 40, 400
"""The window asked for, in Hounsfield units."""
QUALITY = 90
"""Of JPEG, as asked for."""
NOISE = 12
"""Hounsfield units, one standard deviation."""
TOLERANCE = 6.0
"""Mean difference of grey values (of 255) that JPEG of that quality does not reach, and another picture exceeds."""
ORGANS = (
    (0.0, 0.0, 0.9, 0.7, 30),
    (-0.4, -0.1, 0.3, 0.4, -800),
    (0.4, -0.1, 0.3, 0.4, -820),
    (0.0, 0.45, 0.12, 0.12, 700),
)
"""Ellipses in units of half the picture: centre, half axes, Hounsfield units; the later covers the earlier."""


def pixels(rows: int, columns: int, variant: int) -> bytes:
    """Stored values, 16 bits each, little endian. In each variant another lesion lies elsewhere."""
    import numpy as np

    y, x = np.mgrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    picture = np.full((rows, columns), -1000.0)
    for left, top, width, height, density in (*ORGANS, (0.5 - 0.33 * variant, 0.1, 0.2, 0.2, 150)):
        picture[((x - left) / width) ** 2 + ((y - top) / height) ** 2 < 1] = density
    picture += np.random.default_rng(variant).normal(0, NOISE, picture.shape)
    return (picture - INTERCEPT).clip(0, 4095).astype("<u2").tobytes()


@cache
def windowed(stored: bytes, rows: int, columns: int) -> "NDArray[np.float64]":
    """Grey values 0 to 255 of stored values, in the window of this module (PS3.3 C.11.2.1.2.1)."""
    import numpy as np

    values = np.frombuffer(stored, "<u2").reshape(rows, columns) + float(INTERCEPT)
    return (((values - (CENTER - 0.5)) / (WIDTH - 1) + 0.5) * 255).clip(0, 255)


def difference(jpeg: bytes | bytearray, stored: bytes, rows: int, columns: int) -> float:
    """Mean difference of the grey values of a JPEG picture of that size from those expected.

    Raises OSError when it cannot be decoded.
    """
    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(jpeg), formats=["JPEG"]) as picture:
        return float(np.abs(np.asarray(picture.convert("L"), dtype=float) - windowed(stored, rows, columns)).mean())

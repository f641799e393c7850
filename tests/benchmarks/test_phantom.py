import io

import numpy as np
import pytest
from PIL import Image

from benchmarks import phantom

ROWS, COLUMNS = 256, 384
VARIANTS = [phantom.pixels(ROWS, COLUMNS, variant) for variant in range(4)]


def jpeg(stored: bytes) -> bytes:
    file = io.BytesIO()
    grey = phantom.windowed(stored, ROWS, COLUMNS).round().astype("u1")
    Image.fromarray(grey).save(file, "JPEG", quality=phantom.QUALITY)
    return file.getvalue()


def test_a_picture_is_told_from_the_others() -> None:
    for number, stored in enumerate(VARIANTS):
        differences = [phantom.difference(jpeg(stored), other, ROWS, COLUMNS) for other in VARIANTS]
        assert differences[number] < phantom.TOLERANCE / 2
        assert all(each > 1.5 * phantom.TOLERANCE for at, each in enumerate(differences) if at != number)


def test_another_window_is_noticed() -> None:
    stored = np.frombuffer(VARIANTS[0], "<u2")
    shifted = (stored + 60).astype("<u2").tobytes()
    assert phantom.difference(jpeg(shifted), VARIANTS[0], ROWS, COLUMNS) > phantom.TOLERANCE


def test_the_window_is_that_of_the_standard() -> None:
    center, width, intercept = phantom.CENTER, phantom.WIDTH, phantom.INTERCEPT
    values = [center - width // 2, center, center + width // 2 - 1, center + width, -1000]
    stored = np.array(values, float) - intercept
    found = phantom.windowed(stored.astype("<u2").tobytes(), 1, len(values))
    expected = [0, (0.5 / (width - 1) + 0.5) * 255, 255, 255, 0]
    assert found[0] == pytest.approx(expected)


def test_what_is_no_picture_is_an_error() -> None:
    with pytest.raises(OSError, match="cannot identify"):
        phantom.difference(b"\xff\xd8nothing", VARIANTS[0], ROWS, COLUMNS)

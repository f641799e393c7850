"""Instances for rendering tests: made or read from a file, and what comes out of them as pixels."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from hounsfield.dicom.part10 import read_instance
from hounsfield.dicom.rendering.options import PNG, Options, Source
from hounsfield.dicom.rendering.render import render
from hounsfield.dicom.source import ByteSource, BytesSource, InflatedSource
from tests import factories

LIMIT = 100 * 1024 * 1024
Pixels = npt.NDArray[np.uint8]


def source_of(content: bytes | Path | Dataset, numbers: Sequence[int] = (1,), limit: int = LIMIT) -> Source:
    """What the archive hands over for frames of a file."""
    if isinstance(content, Dataset):
        content = factories.part10(content, ExplicitVRLittleEndian)
    file: ByteSource = BytesSource(content.read_bytes() if isinstance(content, Path) else content)
    instance = read_instance(file)
    index = instance.frames
    if index is None:
        return Source(file.read_at(0, file.size), False, instance.transfer_syntax, [], limit)
    inflated = index.stream_start is not None
    if index.stream_start is not None:
        file = InflatedSource(file, index.stream_start)
    frames = [
        (number, index.frame(number, file.read_at(*index.span(number)), little_endian=True)) for number in numbers
    ]
    return Source(file.read_at(0, index.offset), inflated, instance.transfer_syntax, frames, limit)


def pixels_of(body: bytes) -> Pixels:
    """The pixels of a picture: (rows, columns) of a grey one, (rows, columns, 3) of a coloured one."""
    with Image.open(io.BytesIO(body)) as image:
        assert image.mode in ("L", "RGB"), image.mode
        return np.asarray(image)


def drawn(content: bytes | Path | Dataset, frame: int = 1, **options: Any) -> Pixels:
    """The pixels of a frame's PNG."""
    picture = render(source_of(content, [frame]), [PNG], Options(**options))
    assert picture.content_type == PNG
    return pixels_of(picture.body)


def grey(samples: npt.NDArray[Any], *, stored: int | None = None, **attributes: Any) -> Dataset:
    """A grey instance of these samples: (rows, columns) or (frames, rows, columns)."""
    bits = 8 * samples.dtype.itemsize
    given: dict[str, Any] = {
        "Rows": samples.shape[-2],
        "Columns": samples.shape[-1],
        "BitsAllocated": bits,
        "BitsStored": stored or bits,
        "HighBit": (stored or bits) - 1,
        "PixelRepresentation": int(samples.dtype.kind == "i"),
    }
    if samples.ndim == 3:
        given["NumberOfFrames"] = samples.shape[0]
    data = samples.tobytes()
    return factories.dataset(**{**given, "PixelData": data + bytes(len(data) % 2), **attributes})


def colour(samples: npt.NDArray[Any], photometric: str = "RGB", **attributes: Any) -> Dataset:
    """A colour instance of samples (rows, columns, 3)."""
    given: dict[str, Any] = {
        "Rows": samples.shape[0],
        "Columns": samples.shape[1],
        "NumberOfFrames": 1,
        "SamplesPerPixel": 3,
        "PlanarConfiguration": 1,
        "PhotometricInterpretation": photometric,
    }
    return grey(samples.transpose(2, 0, 1), **{**given, **attributes})


RAMP = np.arange(4096, dtype="<u2").reshape(64, 64)
"""Every value of 12 bits once."""

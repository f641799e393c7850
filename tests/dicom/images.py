"""Images made for tests: one of every kind of samples, with something in them that codecs must get right."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.uid import ExplicitVRLittleEndian

from tests import factories

ROWS, COLUMNS = 37, 50


@dataclass(frozen=True)
class Kind:
    """How the samples of an image are laid out; ``values`` are their bounds."""

    name: str
    dtype: str
    values: tuple[int, int]
    stored: int
    samples: int = 1
    frames: int = 1
    photometric: str = "MONOCHROME2"
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def overlaid(self) -> bool:
        """Whether something else is in the bits that are not stored ones."""
        return self.values[1] >= 1 << self.stored

    @property
    def allocated(self) -> int:
        return 1 if self.stored == 1 else np.dtype(self.dtype).itemsize * 8

    @property
    def signed(self) -> bool:
        return self.values[0] < 0


KINDS = [
    Kind("bits", "u1", (0, 1), 1),
    Kind("bits-of-three-frames", "u1", (0, 1), 1, frames=3),
    Kind("grey-8", "u1", (0, 255), 8),
    Kind("grey-7-of-8-inverted", "u1", (0, 127), 7, photometric="MONOCHROME1"),
    Kind("grey-8-signed", "i1", (-128, 127), 8),
    Kind("grey-12", "<u2", (0, 4095), 12),
    Kind("grey-12-of-three-frames", "<u2", (0, 4095), 12, frames=3),
    Kind("grey-12-signed", "<i2", (-2048, 2047), 12),
    Kind("grey-16", "<u2", (0, 65535), 16),
    Kind("grey-16-signed", "<i2", (-32768, 32767), 16),
    Kind("grey-32", "<u4", (0, 2**32 - 1), 32),
    Kind("grey-12-under-an-overlay", "<u2", (0, 65535), 12),
    Kind("palette", "u1", (0, 255), 8, photometric="PALETTE COLOR"),
    Kind("rgb", "u1", (0, 255), 8, samples=3, frames=2, photometric="RGB"),
    Kind("rgb-16", "<u2", (0, 65535), 16, samples=3, photometric="RGB"),
    Kind("ybr", "u1", (0, 255), 8, samples=3, photometric="YBR_FULL"),
]


def samples(kind: Kind) -> npt.NDArray[np.generic]:
    """(frames, rows, columns[, 3]): waves that photographs are made of, noise, and both bounds."""
    shape = (kind.frames, ROWS, COLUMNS, *((3,) if kind.samples == 3 else ()))
    low, high = kind.values
    random = np.random.default_rng(len(kind.name))
    at = np.indices(shape).sum(axis=0)
    waves = (np.sin(at / 9) + 1) / 2 + random.normal(0, 0.01, shape)
    made = (low + np.clip(waves, 0, 1) * (high - low)).round().astype(np.int64)
    made[:, 0, 0], made[:, -1, -1] = low, high
    cast: npt.NDArray[np.generic] = made.astype(kind.dtype)
    return cast


def dataset(kind: Kind, pixels: npt.NDArray[np.generic]) -> pydicom.Dataset:
    """An instance of ``pixels``, colour by pixel."""
    if kind.allocated == 1:
        data = np.packbits(pixels.ravel().astype(np.uint8), bitorder="little").tobytes()
    else:
        data = pixels.tobytes()
    attributes: dict[str, Any] = {
        "Rows": ROWS,
        "Columns": COLUMNS,
        "SamplesPerPixel": kind.samples,
        "PhotometricInterpretation": kind.photometric,
        "BitsAllocated": kind.allocated,
        "BitsStored": kind.stored,
        "HighBit": kind.stored - 1,
        "PixelRepresentation": int(kind.signed),
        **({"PlanarConfiguration": 0} if kind.samples == 3 else {}),
        **({"NumberOfFrames": kind.frames} if kind.frames > 1 else {}),
        **kind.attributes,
        "PixelData": data + bytes(len(data) % 2),
    }
    return factories.dataset(**attributes)


def part10(kind: Kind) -> bytes:
    """The same as a file in Explicit VR Little Endian."""
    return factories.part10(dataset(kind, samples(kind)), ExplicitVRLittleEndian)

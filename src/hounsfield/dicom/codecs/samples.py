"""What the codecs have in common: from the samples of a stream to those of a dataset."""

from typing import Any

import numpy as np
import numpy.typing as npt

from hounsfield.dicom.pixels import PixelFailure, PixelFormat

Samples = npt.NDArray[np.generic]


def sample_type(form: PixelFormat) -> "np.dtype[Any]":
    """The little endian numpy type of a decoded sample."""
    size = max(form.bits_allocated // 8, 1)
    return np.dtype(f"<{'i' if form.signed and form.bits_allocated > 1 else 'u'}{size}")


def shape(form: PixelFormat) -> tuple[int, ...]:
    """(rows, columns), with 3 behind them if there is colour."""
    return (form.rows, form.columns) if form.samples == 1 else (form.rows, form.columns, form.samples)


def require_size(form: PixelFormat, rows: int, columns: int, samples: int) -> None:
    """Raise PixelFailure if a stream announces another image than its dataset, before anything is allocated for it."""
    if (rows, columns, samples) != (form.rows, form.columns, form.samples):
        raise PixelFailure("The compressed image has another size than the dataset says.")


def from_stream(samples: Any, precision: int, form: PixelFormat) -> Samples:
    """The samples of a stream of ``precision`` bits as the dataset means them.

    The stream tells how many bits there are, Pixel Representation whether the highest is a sign: what the stream says
    about signs is often wrong, and most codecs know none. Raises PixelFailure for more bits than are allocated.
    """
    samples = np.asarray(samples)
    if samples.shape != shape(form):
        raise PixelFailure("The compressed image has another size than the dataset says.")
    size = 8 if form.bits_allocated == 1 else form.bits_allocated
    if precision > size:
        raise PixelFailure("The compressed image has more bits than the dataset says.")
    wide = samples.astype(np.int64 if size == 32 else np.int32) & ((1 << precision) - 1)
    if form.signed and form.bits_allocated > 1:
        sign = 1 << (precision - 1)
        wide = (wide ^ sign) - sign
    return np.ascontiguousarray(wide.astype(sample_type(form)))


def unsigned(samples: Samples) -> Samples:
    """The same bits as unsigned numbers, for codecs that know no sign."""
    return samples.view(np.dtype(f"<u{samples.dtype.itemsize}"))


def precision_of(samples: Any, form: PixelFormat) -> int:
    """Bits a lossless stream must have: Bits Stored, or Bits Allocated if there is something in the others."""
    if form.high_bit != form.bits_stored - 1:
        return form.bits_allocated
    low, high = int(samples.min()), int(samples.max())
    bits = form.bits_stored
    bounds = (
        (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if form.signed and form.bits_allocated > 1 else (0, (1 << bits) - 1)
    )
    return bits if bounds[0] <= low and high <= bounds[1] else form.bits_allocated

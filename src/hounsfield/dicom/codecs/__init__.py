"""Frames in and out of the encodings of DICOM: one frame's bytes ↔ one numpy array.

``decode`` and ``encode`` do all of it; ``capabilities`` says without loading a codec what they can do. numpy and
imagecodecs take 40 MB and half a second, so they are loaded when the first frame comes: in the codec processes, never
in one that answers requests.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hounsfield.dicom.codecs.capabilities import ENCODED, Codec, codec_of, is_lossy, refusal
from hounsfield.dicom.pixels import PixelFailure, PixelFormat

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.generic]


@dataclass(frozen=True, slots=True)
class DecodedFrame:
    """The samples of one frame: (rows, columns) or (rows, columns, 3), little endian, colour by pixel.

    The type of the array is that of Bits Allocated and Pixel Representation; single bits are bytes of 0 and 1. Bits
    above High Bit are as they were stored: ``stored_values`` removes them.
    """

    samples: "Samples"
    photometric: str
    """What the samples mean now: RGB where a codec had transformed the colours, YBR_FULL where they were stored so."""


def decode(data: bytes | bytearray | memoryview, transfer_syntax: str, form: PixelFormat) -> DecodedFrame:
    """Decode one frame, as ``FrameIndex.frame(…, little_endian=True)`` gives it.

    Raises PixelFailure if the bytes are not what the syntax and ``form`` promise.
    """
    codec = codec_of(transfer_syntax)
    if codec is None:
        raise PixelFailure(f"Pixel data in {transfer_syntax} cannot be decoded.")
    frame: DecodedFrame = guarded(_decoder(codec), data, form)
    return frame


def encode(samples: "Samples", transfer_syntax: str, form: PixelFormat) -> tuple[bytes, PixelFormat]:
    """Encode one frame of samples as ``decode`` gives them; ``form`` describes them, ``form.photometric`` included.

    Returns the frame (of even length where the syntax is encapsulated) and the format as the header must have it.
    What a lossless syntax gives has been decoded again and compared. Raises PixelFailure.
    """
    reason = refusal(form, transfer_syntax)
    if reason is not None:
        raise PixelFailure(f"The pixel data cannot be encoded in {transfer_syntax}: {reason}.")
    kind = ENCODED[transfer_syntax]
    form = replace(form, planar=0)
    data, encoded_form = guarded(_encoder(kind.codec), samples, transfer_syntax, form)
    if kind.codec is not Codec.NATIVE and not is_lossy(transfer_syntax, form):
        again = decode(data, transfer_syntax, encoded_form).samples
        if again.shape != samples.shape or not (again == samples).all():
            raise PixelFailure(f"The pixel data did not survive encoding in {transfer_syntax}.")
    if kind.encapsulated and len(data) % 2:
        data += b"\0"
    return data, encoded_form


def stored_values(samples: "Samples", form: PixelFormat) -> "Samples":
    """The samples without the bits outside Bits Stored, sign extended (PS3.5 §8.1.1).

    Files of old hold overlays in the bits that are left over.
    """
    if form.bits_allocated in (1, form.bits_stored):
        return samples
    integers: Any = samples
    below = form.high_bit + 1 - form.bits_stored
    if not below and not form.signed:  # as most are, in a third of the time
        return integers & ((1 << form.bits_stored) - 1)  # type: ignore[no-any-return]
    spare = form.bits_allocated - 1 - form.high_bit
    return (integers << spare) >> (form.bits_allocated - form.bits_stored)  # type: ignore[no-any-return]


def guarded(work: Callable[..., Any], *arguments: object) -> Any:
    """Whatever a codec library raises about a stream becomes a PixelFailure; its text may quote the stream."""
    try:
        return work(*arguments)
    except (PixelFailure, MemoryError):
        raise
    except Exception as problem:
        raise PixelFailure(f"The pixel data is damaged or not what its header says ({type(problem).__name__}).") from (
            problem
        )


def _decoder(codec: Codec) -> Callable[..., DecodedFrame]:
    return _module(codec).decode  # type: ignore[no-any-return]


def _encoder(codec: Codec) -> Callable[..., tuple[bytes, PixelFormat]]:
    return _module(codec).encode  # type: ignore[no-any-return]


def _module(codec: Codec) -> Any:
    from hounsfield.dicom.codecs import jpeg, jpeg_2000, jpeg_ls, jpeg_xl, native, run_length

    return {
        Codec.NATIVE: native,
        Codec.DEFLATED_FRAME: native.deflated,
        Codec.RUN_LENGTH: run_length,
        Codec.JPEG: jpeg,
        Codec.JPEG_LS: jpeg_ls,
        Codec.JPEG_2000: jpeg_2000,
        Codec.JPEG_XL: jpeg_xl,
    }[codec]

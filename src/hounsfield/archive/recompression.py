"""Compressing what comes uncompressed before it is stored: HTJ2K, without loss.

Done by the codec processes. The compressed file takes the place of the one received only if every attribute came
through as it was and every frame, decoded again, is the same; whatever stands in the way, the file is stored as it
came.
"""

import logging
import mmap
import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from hounsfield.archive.archive import Archive
from hounsfield.archive.codec_process import still_alive
from hounsfield.archive.codec_processes import CodecFailure
from hounsfield.dicom.dataset_reader import Dataset
from hounsfield.dicom.frame_conversion import obstacle
from hounsfield.dicom.part10 import Instance, read_instance
from hounsfield.dicom.pixels import RGB, SUBSAMPLED, YBR_RCT, PixelFailure, from_json
from hounsfield.dicom.source import BytesSource
from hounsfield.dicom.transcode import CannotTranscode, transcode
from hounsfield.dicom.transfer_syntax import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)
from hounsfield.errors import HounsfieldError, InternalError
from hounsfield.storage.spool import Spool, Upload

logger = logging.getLogger(__name__)

HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
UNCOMPRESSED = frozenset(
    (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN, "1.2.840.10008.1.2.1.99")
)
"""What is recompressed; the last is deflate over the whole dataset."""

_LENGTH = struct.Struct("<Q")
_PHOTOMETRIC = "00280004"


@dataclass(frozen=True, slots=True)
class Recompressed:
    """A file in HTJ2K, and its serialised frame index. Whoever takes it discards ``upload``."""

    upload: Upload
    frames: bytes


def can_be_recompressed(archive: Archive, instance: Instance, size: int) -> bool:
    """Whether it is worth trying, as far as the header of the file of ``size`` bytes tells."""
    options = archive.recompression
    if options is None or size < options.minimum_bytes:
        return False
    if instance.transfer_syntax not in UNCOMPRESSED or instance.frames is None:
        return False
    try:
        form = from_json(instance.dataset)
    except PixelFailure:
        return False
    if form.samples > 1 and (form.planar or form.photometric in SUBSAMPLED):
        return False  # their header would have to say something else afterwards
    return obstacle(instance.transfer_syntax, HTJ2K_LOSSLESS, form, archive.max_transcoded_bytes) is None


async def recompressed(archive: Archive, upload: Upload, transfer_syntax: str) -> Recompressed | None:
    """The finished ``upload``, which is in ``transfer_syntax``, compressed; None where it has to stay as it is."""
    options, spool = archive.recompression, archive.spool
    assert options is not None and spool is not None, "only processes that answer requests store"
    async with options.turns:
        try:
            if upload.memory is not None:
                return await _in_memory(archive, spool, upload.memory, transfer_syntax)
            return await _in_files(archive, spool, upload, transfer_syntax)
        except (InternalError, CodecFailure) as problem:
            logger.warning("A file is stored as received: %s", problem.message)
        except HounsfieldError as problem:
            logger.info("A file is stored as received: %s", problem.message)
        except OSError as problem:
            logger.warning("A file is stored as received: %s", type(problem).__name__)
    return None


async def _in_memory(archive: Archive, spool: Spool, data: bytearray | memoryview, uid: str) -> Recompressed:
    answer = await archive.codecs.run(recompress_data, bytes(data), uid, archive.max_transcoded_bytes)
    start = _LENGTH.size + _LENGTH.unpack_from(answer)[0]
    made = spool.receive()
    try:
        await made.write(bytearray(memoryview(answer)[start:]))
        await made.finish()
    except BaseException:
        made.discard()
        raise
    return Recompressed(made, answer[_LENGTH.size : start])


async def _in_files(archive: Archive, spool: Spool, upload: Upload, uid: str) -> Recompressed:
    path, file = await spool.run(spool.create)
    try:
        limit = archive.max_transcoded_bytes
        frames = await archive.codecs.run(recompress_file, str(upload.path), str(path), uid, limit)
    except BaseException:
        spool.adopt(path, file).discard()
        raise
    return Recompressed(spool.adopt(path, file), frames)


def recompress_data(data: bytes, uid: str, max_bytes: int) -> bytes:
    """In a codec process: length of the frame index, the index, the compressed file. Raises CannotTranscode."""
    with BytesIO() as made:
        received = memoryview(data)
        _transcode(received, made, uid, max_bytes)
        with made.getbuffer() as written:
            frames = _frame_index(received, written, uid)
            return b"".join((_LENGTH.pack(len(frames)), frames, written))


def recompress_file(source: str, out: str, uid: str, max_bytes: int) -> bytes:
    """In a codec process: writes to the empty file at ``out`` and gives the frame index. Raises CannotTranscode."""
    with Path(source).open("rb") as stored, Path(out).open("r+b") as made:
        made.truncate()  # a process that was killed may have written a part
        # Mapped, not read: the kernel gives back pages that are done with.
        received = memoryview(mmap.mmap(stored.fileno(), 0, access=mmap.ACCESS_READ))
        _transcode(received, made, uid, max_bytes)
        made.flush()
        return _frame_index(received, memoryview(mmap.mmap(made.fileno(), 0, access=mmap.ACCESS_READ)), uid)


def _transcode(received: memoryview, made: BinaryIO, uid: str, max_bytes: int) -> None:
    transcode(
        received,
        made,
        HTJ2K_LOSSLESS,
        source_uid=uid,
        max_frame_bytes=max_bytes,
        max_inflated_bytes=max_bytes,
        each_frame=still_alive,
    )


def _frame_index(received: memoryview, made: memoryview, uid: str) -> bytes:
    """Where the frames lie in what was made. Raises CannotTranscode unless that says all that was received."""
    if len(made) >= len(received):
        raise CannotTranscode(uid, HTJ2K_LOSSLESS, "nothing is saved")
    before, after = read_instance(BytesSource(received)), read_instance(BytesSource(made))
    if before.frames is None or after.frames is None or before.frames.count != after.frames.count:
        raise CannotTranscode(uid, HTJ2K_LOSSLESS, "its frames cannot be told apart")
    used = (before.frames.count * before.frames.frame_bits + 7) // 8
    if before.frames.length > used + used % 2:
        raise CannotTranscode(uid, HTJ2K_LOSSLESS, "something follows its last frame")
    if not _says_all(after.dataset, before.dataset):
        raise CannotTranscode(uid, HTJ2K_LOSSLESS, "its header would change")
    return after.frames.to_bytes()


def _says_all(after: Dataset, before: Dataset) -> bool:
    """Whether nothing differs but what decoding gives back, the colour transform of RGB, and group lengths.

    Private attributes of an implicit file differ where they got the VR of the dictionary: metadata would lose them.
    """
    for key in after.keys() | before.keys():
        one, other = after.get(key), before.get(key)
        if one == other or key.endswith("0000"):
            continue
        if one is None or other is None or one.get("vr") != other.get("vr"):
            return False
        given, had = one.get("Value", []), other.get("Value", [])
        if key == _PHOTOMETRIC and (given, had) == ([YBR_RCT], [RGB]):
            continue
        if one.get("vr") != "SQ" or len(given) != len(had) or not all(map(_says_all, given, had)):
            return False
    return True

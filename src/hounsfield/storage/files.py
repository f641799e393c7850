"""Files of the object store: how an object becomes one, and how part of one is read."""

import ctypes
import errno
import os
import secrets
from collections.abc import Callable, Sequence

from hounsfield import faults
from hounsfield.storage.descriptor import Descriptor
from hounsfield.storage.errors import ObjectMissing, ObjectTruncated
from hounsfield.storage.object_store import Buffer, Source, Splice, check_key
from hounsfield.storage.spool import FILE_MODE, TEMPORARY_PREFIX, Upload

CHUNK_SIZE = 1 << 20
"""Bytes read at a time."""

_NO_COPY = frozenset((errno.ENOSYS, errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP))
"""What the kernel says where it cannot copy between two files; then this process does."""
_BEGIN = 2
"""SYNC_FILE_RANGE_WRITE: begin to write what is not on disk, wait for nothing (sync_file_range(2))."""


def _from_libc() -> Callable[[int, int, int, int], int]:
    function = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if function is None:
        return lambda *_: 0
    function.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    begin: Callable[[int, int, int, int], int] = function
    return begin


_begin_writing = _from_libc()
"""sync_file_range, where there is one: a hint, so that what it returns does not matter."""


def write_file(root: str, directory: int, name: str, source: Source) -> None:
    """Make ``source`` the file ``name`` and sync it; on an error nothing is left.

    Named before it is synced: the file systems in use then make its name durable together with its content, so that
    the sync of the directory finds little left to do. A power cut in between leaves an orphan, as nothing refers to
    the name yet.
    """
    if isinstance(source, Upload) and _move(source, directory, name):
        return
    file = _named(root, directory, name, source)
    try:
        os.fsync(file.number)
        faults.point("file: synced")
    except BaseException:
        os.unlink(name, dir_fd=directory)
        raise


def write_unsynced(root: str, directory: int, name: str, source: Source) -> Descriptor:
    """Make ``source`` the file ``name``, which is to be synced by the caller; on an error nothing is left.

    The disk begins to write it, so that the sync finds little left to do.
    """
    file = _named(root, directory, name, source)
    _begin_writing(file.number, 0, 0, _BEGIN)
    return file


def _named(root: str, directory: int, name: str, source: Source) -> Descriptor:
    """The open file ``name``, which holds ``source`` but is not synced."""
    temporary = TEMPORARY_PREFIX + secrets.token_hex(8)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = Descriptor(os.open(temporary, flags, FILE_MODE, dir_fd=directory))
    current = temporary
    try:
        if isinstance(source, Splice):
            _splice(root, file.number, source)
        else:
            _fill(file.number, source)
        faults.point("file: written")
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        current = name
        faults.point("file: named")
    except BaseException:
        os.unlink(current, dir_fd=directory)
        raise
    return file


def _move(upload: Upload, directory: int, name: str) -> bool:
    """Make an upload's own file the object. False if it has none, or one on another file system."""
    file, path = upload.file, upload.path
    if file is None or path is None:
        return False
    # Long before the other sync, so that the name of a large file is not waiting for gigabytes.
    os.fdatasync(file.number)
    faults.point("upload: synced")
    try:
        os.rename(path, name, dst_dir_fd=directory)
    except OSError as error:
        if error.errno == errno.EXDEV:
            return False
        raise
    upload.moved()
    faults.point("upload: moved")
    try:
        os.fsync(file.number)
    except OSError:
        os.unlink(name, dir_fd=directory)
        raise
    return True


def _splice(root: str, file: int, source: Splice) -> None:
    """Write an object made of another; the ranges do not pass through this process where the kernel can copy them."""
    check_key(source.key)
    try:
        other = Descriptor(os.open(f"{root}/{source.key}", os.O_RDONLY | os.O_CLOEXEC))
    except FileNotFoundError:
        raise ObjectMissing from None
    for piece in source.pieces:
        if isinstance(piece, bytes):
            _write_all(file, piece)
        else:
            _copy(other, file, *piece)


def _copy(source: Descriptor, file: int, offset: int, length: int) -> None:
    """Append part of a file to another. Raises ObjectTruncated."""
    end = offset + length
    while offset < end and hasattr(os, "copy_file_range"):
        try:
            copied = os.copy_file_range(source.number, file, end - offset, offset)
        except OSError as error:
            if error.errno in _NO_COPY:
                break
            raise
        if not copied:
            raise ObjectTruncated
        offset += copied
    while offset < end:
        data = read_exactly(source, offset, min(CHUNK_SIZE, end - offset))
        _write_all(file, data)
        offset += len(data)


def _fill(file: int, source: Buffer | Sequence[Buffer] | Upload) -> None:
    if isinstance(source, Upload):
        if source.memory is not None:
            _write_all(file, source.memory)
            return
        for offset in range(0, source.size, CHUNK_SIZE):
            _write_all(file, source.read_at(offset, CHUNK_SIZE))
    elif isinstance(source, (bytes, bytearray, memoryview)):
        _write_all(file, source)
    else:
        for piece in source:
            _write_all(file, piece)


def _write_all(file: int, data: bytes | bytearray | memoryview) -> None:
    written = os.write(file, data)
    if written < len(data):
        view = memoryview(data)
        while view := view[written:]:
            written = os.write(file, view)


def read_exactly(file: Descriptor, offset: int, length: int) -> bytes:
    """Exactly ``length`` bytes. Raises ObjectTruncated."""
    data = os.pread(file.number, length, offset)
    if len(data) == length:
        return data
    parts = [data]
    missing = length - len(data)
    while missing:
        part = os.pread(file.number, missing, offset + length - missing)
        if not part:
            raise ObjectTruncated
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)

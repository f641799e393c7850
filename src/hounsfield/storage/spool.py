"""Uploads on their way in: in memory while small, in a temporary file once large.

Memory is bounded twice: per upload, and over all uploads of a process, however many arrive together.
"""

import asyncio
import fcntl
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from hounsfield.errors import InternalError
from hounsfield.storage.descriptor import Descriptor
from hounsfield.storage.errors import unavailable

MEMORY_LIMIT = 1 << 20
"""Bytes of one upload kept in memory. Above the usual CT slice (512 KiB), so that the common case touches the disk
once; below what 16 clients with large objects would add up to."""
TOTAL_MEMORY_LIMIT = 128 << 20
"""Bytes of all uploads of a process kept in memory; beyond it even small ones go to files."""
WRITE_SIZE = 1 << 20
"""Bytes gathered before a write: one hop to a thread each."""
WRITEBACK_SIZE = 8 << 20
"""Bytes after which the kernel is asked to begin writing to disk, so that the sync at the end finds little left to do
(measured on 2 GB: 1.5 s of sync became 0.01 s)."""
WRITERS = 4
"""Threads that write spool files; large uploads are few, and the disk is the limit."""

TEMPORARY_PREFIX = ".tmp-"
FILE_MODE = 0o640
"""Of every file we make: identifiable patients are nobody else's business."""

_PREAMBLE = bytes(128)

Result = TypeVar("Result")


class Spool:
    """Receives uploads, using ``directory`` for large ones.

    A spool file is locked as long as its process lives; whatever in the directory is not locked when a spool is
    opened was left by a dead process and is removed. Several processes may share a directory.
    """

    def __init__(
        self,
        directory: Path,
        memory_limit: int = MEMORY_LIMIT,
        total_memory_limit: int = TOTAL_MEMORY_LIMIT,
    ) -> None:
        self._directory = directory
        self._memory_limit = memory_limit
        self._free_memory = total_memory_limit
        self._lock = threading.Lock()
        self._executor = ThreadPoolExecutor(WRITERS, "spool")
        try:
            directory.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._sweep()
        except OSError as error:
            raise unavailable(error) from error

    def receive(self) -> "Upload":
        """A new, empty upload. Whoever takes it discards it."""
        return Upload(self)

    def adopt(self, path: Path, file: Descriptor) -> "Upload":
        """A finished upload of what others wrote into a file of ``create``, whose it is from now on."""
        upload = Upload(self)
        upload.hold(path, file)
        return upload

    def close(self) -> None:
        """Wait for writes under way and stop the threads."""
        self._executor.shutdown()

    def claim(self, held: int, more: int) -> bool:
        """Whether an upload that holds ``held`` bytes in memory may hold ``more``; if so they are taken."""
        with self._lock:
            if held + more > self._memory_limit or more > self._free_memory:
                return False
            self._free_memory -= more
            return True

    def release(self, held: int) -> None:
        """Give claimed bytes back."""
        with self._lock:
            self._free_memory += held

    def create(self) -> tuple[Path, Descriptor]:
        """A new, empty, locked file."""
        while True:
            path = self._directory / (TEMPORARY_PREFIX + secrets.token_hex(8))
            file = Descriptor(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
            fcntl.flock(file.number, fcntl.LOCK_EX)
            if os.fstat(file.number).st_nlink:
                return path, file
            # Another process' sweep came between creating and locking.

    async def run(self, job: Callable[..., Result], *arguments: object) -> Result:
        """``job`` in a thread of the spool."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, job, *arguments)

    def drop(self, holder: list[Descriptor], removed: bool) -> None:
        """Empty ``holder`` in a thread: freeing a ``removed`` file of gigabytes takes seconds."""
        try:
            self._executor.submit(_let_go, holder, removed)
        except RuntimeError:  # closed: nobody is waiting any more
            _let_go(holder, removed)

    def _sweep(self) -> None:
        for path in self._directory.glob(TEMPORARY_PREFIX + "*"):
            with suppress(FileNotFoundError, BlockingIOError):
                file = Descriptor(os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW))
                fcntl.flock(file.number, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


class Upload:
    """One received object: ``write`` chunks, ``finish``, then read it at random and put it into a store.

    ``write`` and ``finish`` raise StoreUnavailable when the spool's disk fails or is full.
    """

    __slots__ = (
        "_buffer",
        "_chunks",
        "_claimed",
        "_discarded",
        "_file",
        "_gathered",
        "_path",
        "_spool",
        "_started",
        "_written",
        "size",
    )

    def __init__(self, spool: Spool) -> None:
        self.size = 0
        """Bytes received so far."""
        self._spool = spool
        self._buffer: bytearray | memoryview = bytearray()
        self._chunks: list[bytes | bytearray | memoryview] = []  # received behind what the buffer holds
        self._gathered = 0
        self._claimed = 0
        self._file: Descriptor | None = None
        self._path: Path | None = None
        self._written = 0
        self._started = 0  # bytes whose writing to disk has begun
        self._discarded = False

    async def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Append ``chunk``, which is the upload's from now on: it may be changed, and nobody else may change it."""
        length = len(chunk)
        if self._file is None:
            if self._spool.claim(self._claimed, length):
                self._claimed += length
                self._chunks.append(chunk)
                self._gathered += length
                self.size += length
                return
            await self._move_to_file()
        self._chunks.append(chunk)
        self._gathered += length
        self.size += length
        if self._gathered >= WRITE_SIZE:
            await self._flush()

    def hold(self, path: Path, file: Descriptor) -> None:
        """Have ``file``, which is at ``path``, as the whole content."""
        self._path, self._file = path, file
        self.size = os.fstat(file.number).st_size

    async def finish(self) -> None:
        """Everything has been written; the upload can be read now."""
        if self._file is None:
            self._buffer = self._take()
        elif self._chunks:
            await self._flush()

    @property
    def memory(self) -> bytearray | memoryview | None:
        """The whole content, if it is in memory; not to be changed."""
        if self._discarded:
            # A cancelled request discards its uploads; a thread still about to store one must not find it empty.
            raise InternalError("An upload was used after it had been discarded.")
        return self._buffer if self._file is None else None

    @property
    def file(self) -> Descriptor | None:
        """The file with the content, if it is in one."""
        return self._file

    @property
    def path(self) -> Path | None:
        """Where that file is, until it is moved away."""
        return self._path

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to ``length`` bytes from ``offset``; fewer only at the end. Blocks on large uploads."""
        file = self._file
        if file is None:
            return bytes(memoryview(self._buffer)[offset : offset + length])
        parts = []
        while length > 0 and (part := os.pread(file.number, length, offset)):
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def zero_preamble(self) -> None:
        """Overwrite the first 128 bytes with zeros (PS3.10 §7.1: the preamble may carry anything, even a program)."""
        file = self._file
        if file is None:
            self._buffer[: len(_PREAMBLE)] = _PREAMBLE[: self.size]
            return
        try:
            os.pwrite(file.number, _PREAMBLE[: self.size], 0)
        except OSError as error:
            raise unavailable(error) from error

    def moved(self) -> None:
        """The file has been renamed into a store and is no longer ours to remove."""
        self._path = None

    def discard(self) -> None:
        """Let go of memory and file. Harmless when repeated; nothing can be read afterwards."""
        self._discarded = True
        self._spool.release(self._claimed)
        self._claimed = 0
        self._buffer = bytearray()
        self._chunks = []
        removed = False
        if self._path is not None:
            # A put that was cancelled may be moving the file away this moment; then it is not ours any more.
            with suppress(FileNotFoundError):
                self._path.unlink()
                removed = True
            self._path = None
        if self._file is not None:
            holder = [self._file]
            self._file = None
            self._spool.drop(holder, removed)

    async def _move_to_file(self) -> None:
        try:
            self._path, self._file = await self._spool.run(self._spool.create)
        except OSError as error:
            raise unavailable(error) from error
        await self._flush()
        self._spool.release(self._claimed)
        self._claimed = 0

    def _take(self) -> bytearray | memoryview:
        """What was received and not taken yet, in one piece that may be changed.

        Joined once, where growing would copy it many times; a single piece is taken as it is.
        """
        chunks, self._chunks, self._gathered = self._chunks, [], 0
        if len(chunks) == 1:
            (chunk,) = chunks
            if isinstance(chunk, bytearray) or (isinstance(chunk, memoryview) and not chunk.readonly):
                return chunk
        return bytearray().join(chunks)

    async def _flush(self) -> None:
        buffer = self._take()
        assert self._file is not None
        offset, self._written = self._written, self._written + len(buffer)
        begin = None
        if self._written - self._started >= WRITEBACK_SIZE:
            begin, self._started = self._started, self._written
        try:
            await self._spool.run(_write, self._file, buffer, offset, begin)
        except OSError as error:
            raise unavailable(error) from error


def _let_go(holder: list[Descriptor], removed: bool) -> None:
    if removed:
        # Frees the space now, even if the traceback of some error still refers to the file.
        with suppress(OSError):
            os.ftruncate(holder[0].number, 0)
    holder.clear()


def _write(file: Descriptor, buffer: bytearray | memoryview, offset: int, begin: int | None) -> None:
    """Write ``buffer`` at ``offset``; then have the kernel begin to write out everything from ``begin``."""
    view = memoryview(buffer)
    while view:
        count = os.pwrite(file.number, view, offset)
        view = view[count:]
        offset += count
    if begin is not None and hasattr(os, "posix_fadvise"):
        # "Not needed" begins the write-out and drops only pages that are clean already.
        os.posix_fadvise(file.number, begin, offset - begin, os.POSIX_FADV_DONTNEED)

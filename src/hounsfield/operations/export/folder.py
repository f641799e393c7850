"""A folder of this machine (or mounted on it) as the destination of an export.

Only below folders that an administrator names, ``Export:Sinks:Folder:AllowedDirectories``, and every step of the way is
opened without following links, so that nobody who may write in such a folder can lead an export out of it.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import TypeVar

from hounsfield.operations.export.destinations import ERRORS, Content, DestinationRefused
from hounsfield.storage.errors import unavailable
from hounsfield.storage.object_store import Buffer
from hounsfield.storage.spool import FILE_MODE
from hounsfield.threads import Threads

DIRECTORY_MODE = 0o750
THREADS = 8
"""Files written at a time: while some wait for their sync others are copied, and several syncs share one commit of the
file system's journal."""
COPIED_BYTES = 8 << 20
"""Copied by the kernel in one call; between two the thread can be interrupted."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC

Result = TypeVar("Result")


def allowed_folder(path: str, allowed: Sequence[Path]) -> Path:
    """The folder ``path`` means, which exists and is one of ``allowed`` or below it, links resolved.

    Raises DestinationRefused; what it says does not depend on what else there is on this machine.
    """
    given = PurePosixPath(path)
    if "\0" in path or not given.is_absolute() or ".." in given.parts:
        raise DestinationRefused("The path of the destination must be absolute and may not contain '..'.")
    if not allowed:
        raise DestinationRefused(
            "Export to a folder is off. An administrator can allow folders with Export:Sinks:Folder:AllowedDirectories."
        )
    try:
        found = Path(path).resolve(strict=True)
        roots = [root.resolve() for root in allowed]
    except (OSError, RuntimeError):
        found, roots = Path("/"), []
    if not any(found == root or root in found.parents for root in roots) or not found.is_dir():
        raise DestinationRefused(
            "The folder of the destination does not exist, or is not below one that "
            "Export:Sinks:Folder:AllowedDirectories names."
        )
    return found


class FolderDestination:
    """The folder of one export; see Destination. Files are durable once ``settle`` returns."""

    def __init__(self, root: Path, folder: str) -> None:
        self._root = root
        self._folder = folder
        self._open: dict[str, int] = {}
        self._touched: set[str] = set()
        self._lock = threading.Lock()
        self._threads = Threads(THREADS, "export")

    @property
    def errors_href(self) -> str:
        """See Destination."""
        return (self._root / self._folder / ERRORS).as_uri()

    async def begin(self) -> None:
        """See Destination."""
        await self._run(self._log, b"")
        await self.settle()

    async def put(self, name: str, content: Content) -> None:
        """See Destination."""
        if content.path is not None:
            await self._run(self._copy, name, content.path)
            return
        folder, _, last = name.rpartition("/")
        temporary = _temporary(last)
        file = await self._run(self._create, folder, temporary)
        try:
            async for chunk in content.chunks():
                await self._run(_write, file, chunk)
            await self._run(self._finish, file, folder, temporary, last)
        except BaseException:
            self._discard(folder, temporary)
            raise
        finally:
            os.close(file)

    async def append(self, place: str, lines: bytes) -> None:
        """See Destination."""
        await self._run(self._log, lines)

    async def settle(self) -> None:
        """See Destination: syncs the directories in which files were made."""
        touched, self._touched = self._touched, set()
        await self._run(self._sync, touched)

    async def close(self) -> None:
        """See Destination."""
        await asyncio.to_thread(self._threads.close)
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    async def _run(self, job: Callable[..., Result], *arguments: object) -> Result:
        try:
            return await self._threads.run(job, *arguments)
        except OSError as error:
            sentence = unavailable(error).message.replace("object store", "folder of the destination")
            raise DestinationRefused(sentence) from error

    def _directory(self, path: str) -> int:
        """A descriptor of a directory below the root (empty for that), made where it is missing, and kept open."""
        with self._lock:
            if path not in self._open:
                self._open[path] = self._entered(path)
            return self._open[path]

    def _entered(self, path: str) -> int:
        if not path:
            return os.open(self._root, _OPEN)
        above, _, name = path.rpartition("/")
        if above not in self._open:
            self._open[above] = self._entered(above)
        parent = self._open[above]
        with suppress(FileExistsError):
            os.mkdir(name, DIRECTORY_MODE, dir_fd=parent)
            self._touched.add(above)
        return os.open(name, _OPEN, dir_fd=parent)

    def _below(self, folder: str) -> str:
        return f"{self._folder}/{folder}" if folder else self._folder

    def _create(self, folder: str, name: str) -> int:
        directory = self._directory(self._below(folder))
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=directory)
        return os.open(name, _CREATE, FILE_MODE, dir_fd=directory)

    def _copy(self, name: str, source: Path) -> None:
        folder, _, last = name.rpartition("/")
        temporary = _temporary(last)
        read = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            file = self._create(folder, temporary)
            try:
                _copy_all(read, file)
                self._finish(file, folder, temporary, last)
            except BaseException:
                self._discard(folder, temporary)
                raise
            finally:
                os.close(file)
        finally:
            os.close(read)

    def _finish(self, file: int, folder: str, temporary: str, name: str) -> None:
        os.fsync(file)
        directory = self._directory(self._below(folder))
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        self._touched.add(self._below(folder))

    def _discard(self, folder: str, temporary: str) -> None:
        with suppress(OSError):  # the error that led here says more
            os.unlink(temporary, dir_fd=self._directory(self._below(folder)))

    def _log(self, lines: bytes) -> None:
        file = os.open(ERRORS, _APPEND, FILE_MODE, dir_fd=self._directory(self._folder))
        try:
            _write(file, lines)
            os.fsync(file)
        finally:
            os.close(file)
        self._touched.add(self._folder)

    def _sync(self, touched: set[str]) -> None:
        for path in touched:
            os.fsync(self._directory(path))


def _temporary(name: str) -> str:
    """Always the same for a file: what a crash leaves is replaced when the step is done again."""
    return f".{name}.part"


def _write(file: int, data: Buffer) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _copy_all(source: int, target: int) -> None:
    """All bytes of a file into an empty one, by the kernel where it can."""
    size = os.fstat(source).st_size
    done = 0
    if hasattr(os, "copy_file_range"):
        try:
            while done < size:
                copied = os.copy_file_range(source, target, min(COPIED_BYTES, size - done))
                if not copied:
                    break
                done += copied
        except OSError:
            if done:
                raise
    while chunk := os.pread(source, COPIED_BYTES, done):
        _write(target, chunk)
        done += len(chunk)


async def read_chunks(path: Path, length: int = COPIED_BYTES) -> AsyncIterator[Buffer]:
    """The bytes of a local file."""
    file = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        offset = 0
        while chunk := await asyncio.to_thread(os.pread, file, length, offset):
            yield chunk
            offset += len(chunk)
    finally:
        os.close(file)

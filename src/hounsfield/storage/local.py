"""Objects as files below one directory.

A put is on disk when it returns: temporary file in the target directory, write, sync the file, rename, sync the
directory and, where directories were made, those above. All of it is one job for one thread.
"""

import asyncio
import builtins
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

from hounsfield import faults
from hounsfield.errors import StoreUnavailable
from hounsfield.storage import listing
from hounsfield.storage.descriptor import Descriptor, FileRange
from hounsfield.storage.directories import Directories, Entered
from hounsfield.storage.errors import ObjectMissing, ObjectTruncated, unavailable
from hounsfield.storage.files import CHUNK_SIZE, read_exactly, write_file, write_unsynced
from hounsfield.storage.object_store import Source, StoredObject, check_key, check_keys, probe
from hounsfield.threads import Threads

THREADS = 16
"""Files written or read at a time. Syncs of several files share one commit of the file system's journal, so more
threads than cores pay; beyond this they only wait for each other."""
LISTED_AT_A_TIME = 500
"""Objects looked up per hop to a thread."""
WORTH_LISTING = 16
"""Files of one folder from which on its names are read together, instead of asking for each."""
ATTEMPTS = 100
"""How often a put starts over because a deletion removed the empty directory it was about to use."""

NAMES_FOLLOW_CONTENT = frozenset({"ext4", "xfs", "btrfs", "tmpfs"})
"""File systems whose fsync of a file that was just named makes the name durable too. There the sync of the directory
may run beside the index commit; elsewhere it comes before, so that no visible instance can lose its file."""

_IN_MEMORY_ONLY: int | None = getattr(os, "RWF_NOWAIT", None)

Result = TypeVar("Result")
Put = Callable[[str, Source], None]
"""Puts one object of a batch."""


class LocalStore:
    """The object store over a directory; see ObjectStore. Several processes may use the same one."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = str(root)
        try:
            self._directories = Directories(root)
        except OSError as error:
            raise unavailable(error) from error
        self._threads = Threads(THREADS, "files")
        self._names_follow = file_system_of(root) in NAMES_FOLLOW_CONTENT

    @property
    def root(self) -> Path:
        """The directory, for other processes that use it."""
        return self._root

    async def put(self, key: str, source: Source, written: Callable[[], None] | None = None) -> None:
        """See ObjectStore."""
        await self._run(self.put_sync, key, source, written)

    def put_sync(self, key: str, source: Source, written: Callable[[], None] | None = None) -> None:
        """``put`` in the calling thread."""
        _, entered = self._place_by(write_file, key, source)
        is_told = written is not None and self._names_follow
        if written is not None and is_told:
            written()
        try:
            self._settle(entered)
        except StoreUnavailable:
            if not is_told:
                folder, name = _split(key)
                with suppress(OSError):
                    os.unlink(name, dir_fd=entered.directory.number)
                    self._directories.prune(folder)
            raise
        if written is not None and not is_told:
            written()

    @contextmanager
    def batch(self) -> Iterator[Put]:
        """Put several objects in the calling thread, by calls of what this gives; all are durable when the block ends.

        The disk works on each while the next is made, and their syncs at the end share one commit of the file
        system's journal. An error leaves what was put before it, which may not be durable.
        """
        files: builtins.list[Descriptor] = []
        folders: dict[str, Entered] = {}

        def put(key: str, source: Source) -> None:
            file, entered = self._place_by(write_unsynced, key, source)
            files.append(file)
            folders[_split(key)[0]] = entered

        yield put
        try:
            for file in files:
                file.sync()
            faults.point("batch: synced")
        except OSError as error:
            raise unavailable(error) from error
        for entered in folders.values():
            self._settle(entered)

    def _place_by(
        self, write: Callable[[str, int, str, Source], Result], key: str, source: Source
    ) -> tuple[Result, Entered]:
        folder, name = _split(key)
        try:
            for _ in range(ATTEMPTS):
                try:
                    entered = self._directories.enter(folder)
                    return write(self._folder, entered.directory.number, name, source), entered
                except FileNotFoundError:
                    self._directories.forget(folder)
        except OSError as error:
            with suppress(OSError):
                self._directories.prune(folder)
            raise unavailable(error) from error
        raise StoreUnavailable("The object store's directory keeps disappearing.")

    def _settle(self, entered: Entered) -> None:
        try:
            # The directory first: the journal commit this waits for usually covers the directories above as well.
            entered.directory.sync()
            self._directories.settle(entered)
            faults.point("file: name synced")
        except OSError as error:
            raise unavailable(error) from error

    async def get(self, key: str, offset: int = 0, length: int | None = None) -> AsyncIterator[bytes]:
        """See ObjectStore."""
        file, end, chunk = await self._run(self._begin, key, offset, length)
        while chunk:
            yield chunk
            offset += len(chunk)
            if offset == end:
                return
            chunk = await self._run(read_exactly, file, offset, min(CHUNK_SIZE, end - offset))

    async def get_many(self, keys: Sequence[str]) -> builtins.list[bytes]:
        """See ObjectStore."""
        return await self._run(lambda: [self._read_all(key) for key in keys])

    async def get_range(self, key: str, offset: int, length: int) -> bytes:
        """See ObjectStore."""
        return await self._run(self._read_range, key, offset, length)

    def at_hand(self, key: str, offset: int, into: memoryview) -> bool:
        """See ObjectStore: bytes that lie in the page cache."""
        if _IN_MEMORY_ONLY is None:
            return False
        check_key(key)
        try:
            # A string and not a Path: making one costs as much as opening the file.
            file = os.open(f"{self._folder}/{key}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            # Fails, or reads less, where the kernel would have to wait for the disk.
            return os.preadv(file, [into], offset, _IN_MEMORY_ONLY) == len(into)
        except OSError:
            return False
        finally:
            os.close(file)

    async def missing(self, keys: Sequence[str]) -> builtins.list[str]:
        """See ObjectStore."""
        return await self._run(self._missing, keys)

    async def size(self, key: str) -> int:
        """See ObjectStore."""
        size = await self._run(self._size, key)
        if size is None:
            raise ObjectMissing
        return size

    def local_path(self, key: str) -> Path:
        """See ObjectStore."""
        check_key(key)
        return self._root / key

    def open_range(self, key: str, offset: int, length: int) -> FileRange:
        """See ObjectStore."""
        file = next(self.open_each([key]))
        if offset + length > os.lseek(file.number, 0, os.SEEK_END):  # a third of what fstat costs
            raise ObjectTruncated
        return FileRange(file, offset, length)

    def open_each(self, keys: Sequence[str]) -> Iterator[Descriptor]:
        """See ObjectStore."""
        check_keys(keys)
        folder, flags = f"{self._folder}/", os.O_RDONLY | os.O_CLOEXEC
        try:
            for key in keys:
                yield Descriptor(os.open(folder + key, flags))
        except FileNotFoundError:
            raise ObjectMissing from None
        except OSError as error:
            raise unavailable(error) from error

    async def delete_many(self, keys: Iterable[str]) -> None:
        """See ObjectStore. Directories left empty go too."""
        await self._run(self._delete, [_split(key) for key in keys])

    async def list(self, prefix: str = "", start_after: str = "") -> AsyncIterator[StoredObject]:
        """See ObjectStore."""
        found = listing.objects(self._root, prefix, start_after)
        while batch := await self._run(lambda: list(islice(found, LISTED_AT_A_TIME))):
            for stored in batch:
                yield stored

    async def check(self) -> None:
        """See ObjectStore."""
        await probe(self)

    async def close(self) -> None:
        """See ObjectStore."""
        await asyncio.to_thread(self._threads.close)
        self._directories.close()

    async def sweep_temporary(self, older_than: timedelta) -> int:
        """Remove temporary files that have not been written for ``older_than``; returns how many.

        Puts that were killed leave them. ``older_than`` must exceed the time of any put under way.
        """
        return await self._run(self._sweep, time.time() - older_than.total_seconds())

    async def _run(self, job: Callable[..., Result], *arguments: object) -> Result:
        try:
            return await self._threads.run(job, *arguments)
        except OSError as error:
            raise unavailable(error) from error

    def _open(self, key: str) -> tuple[Descriptor, int]:
        try:
            file = Descriptor(os.open(self.local_path(key), os.O_RDONLY | os.O_CLOEXEC))
        except FileNotFoundError:
            raise ObjectMissing from None
        return file, os.fstat(file.number).st_size

    def _begin(self, key: str, offset: int, length: int | None) -> tuple[Descriptor, int, bytes]:
        """The file, where the wanted part ends, and its first chunk (empty if the part is)."""
        file, size = self._open(key)
        end = size if length is None else offset + length
        if max(offset, end) > size:
            raise ObjectTruncated
        return file, end, read_exactly(file, offset, min(CHUNK_SIZE, end - offset))

    def _read_all(self, key: str) -> bytes:
        file, size = self._open(key)
        return read_exactly(file, 0, size)

    def _read_range(self, key: str, offset: int, length: int) -> bytes:
        file, _ = self._open(key)
        return read_exactly(file, offset, length)

    def _size(self, key: str) -> int | None:
        try:
            return os.stat(self.local_path(key)).st_size
        except FileNotFoundError:
            return None

    def _missing(self, keys: Sequence[str]) -> builtins.list[str]:
        """Those without a file; a folder with many of them is listed once."""
        wanted: dict[str, dict[str, str]] = {}
        for key in keys:
            folder, _, name = key.rpartition("/")
            wanted.setdefault(folder, {})[name] = key
        missing: set[str] = set()
        for folder, named in wanted.items():
            if len(named) < WORTH_LISTING:
                there = {name for name, key in named.items() if os.path.isfile(self.local_path(key))}
            else:
                there = self._names_in(folder)
            missing.update(named[name] for name in named.keys() - there)
        return [key for key in keys if key in missing] if missing else []

    def _names_in(self, folder: str) -> set[str]:
        if folder:
            check_key(folder)
        try:
            return set(os.listdir(f"{self._folder}/{folder}"))
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def _delete(self, places: Sequence[tuple[str, str]]) -> None:
        touched = set()
        for folder, name in places:
            self._directories.unlink(f"{folder}/{name}" if folder else name)
            touched.add(folder)
        # Without the sync a power cut could bring back what somebody wanted gone.
        for folder in {self._directories.prune(folder) for folder in touched}:
            self._directories.sync(folder)

    def _sweep(self, before: float) -> int:
        removed = 0
        for path in listing.temporaries(self._root):
            with suppress(FileNotFoundError):
                if os.stat(path).st_mtime < before:
                    os.unlink(path)
                    removed += 1
                    folder = path.parent.relative_to(self._root)
                    self._directories.prune("" if folder == Path() else folder.as_posix())
        return removed


def file_system_of(path: Path) -> str:
    """The type of the file system ``path`` is on, as Linux names it; empty where it does not tell."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                mount, _, kind = line.partition(" - ")
                if mount.split(" ")[2] == wanted:
                    return kind.split(" ")[0]
    except OSError:
        pass
    return ""


def _split(key: str) -> tuple[str, str]:
    check_key(key)
    folder, _, name = key.rpartition("/")
    return folder, name

"""What there is to upload: DICOM objects in files, folders and zip files, found lazily and opened one at a time.

A zip's members are read straight out of it; their names are labels only and never become paths on disk.
"""

import functools
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from hounsfield.cli.terminal import printable
from hounsfield.errors import HounsfieldError

HEAD_BYTES: Final = 1024
"""How much of a file decides whether it is DICOM: preamble, mark and the file meta elements that matter."""

_MEDIA_DIRECTORY: Final = re.compile(rb"1\.2\.840\.10008\.1\.3\.10(?![0-9.])")
_LAST_FIRST_ELEMENT: Final = 0x0018
"""A dataset without preamble starts, in groups 2 and 8, with an element up to SOPInstanceUID (0008,0018)."""
_FIRST_VRS: Final = (b"UL", b"OB", b"CS", b"UI", b"DA", b"TM", b"SH", b"LO")
_ZIP_STARTS: Final = (b"PK\x03\x04", b"PK\x05\x06")
_UNREADABLE: Final = (OSError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError, ValueError)
"""What reading may raise; zipfile reports passwords as RuntimeError, unknown compression as NotImplementedError."""


class Unreadable(HounsfieldError):
    """A file, a folder or a zip member cannot be read; ``label`` is its name, the message the reason."""

    def __init__(self, label: str, problem: BaseException | str) -> None:
        reason = problem.strerror if isinstance(problem, OSError) and problem.strerror else str(problem)
        super().__init__(printable(f"cannot be read: {reason or type(problem).__name__}", 300))
        self.label = label


@dataclass(frozen=True, slots=True)
class Source:
    """One DICOM object to send."""

    label: str
    """Its name for people and for the journal: absolute path, or ``zip path!member name``."""
    size: int
    stamp: str
    """Changes when the content may have changed: modification time in ns, and the place inside a zip."""
    open: Callable[[], IO[bytes]] = field(repr=False)
    on_disk: bool


@dataclass(slots=True)
class Scan:
    """Walks over paths and yields what is DICOM; the rest is counted."""

    paths: Sequence[Path]
    not_dicom: int = 0
    """Files and members passed over because they hold no DICOM object, DICOMDIR included."""
    unreadable: list[Unreadable] = field(default_factory=list)
    """Taken by the caller as they come."""

    def sources(self) -> Iterator[Source]:
        """All DICOM objects, folders in alphabetical order. Symbolic links to folders are not followed."""
        for path in self.paths:
            if not path.is_dir():
                yield from self._file(path, explicit=True)
                continue
            for folder, folders, names in os.walk(path, onerror=self._folder_failed):
                folders.sort()
                for name in sorted(names):
                    yield from self._file(Path(folder, name), explicit=False)

    def _folder_failed(self, problem: OSError) -> None:
        self.unreadable.append(Unreadable(str(problem.filename), problem))

    def _file(self, path: Path, explicit: bool) -> Iterator[Source]:
        label = str(path.absolute())
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # opening a pipe would wait for ever
                self.not_dicom += 1
                return
            with open(path, "rb") as file:
                head = file.read(HEAD_BYTES)
        except OSError as problem:
            self.unreadable.append(Unreadable(label, problem))
            return
        if head.startswith(_ZIP_STARTS) and (explicit or path.suffix.lower() == ".zip"):
            yield from self._zip(path, label, found.st_mtime_ns)
        elif is_dicom(head, path.name):
            yield Source(
                label, found.st_size, str(found.st_mtime_ns), functools.partial(_open_file, path), on_disk=True
            )
        else:
            self.not_dicom += 1

    def _zip(self, path: Path, label: str, modified_ns: int) -> Iterator[Source]:
        try:
            archive = zipfile.ZipFile(path)  # closed when the last source that reads from it is gone
        except _UNREADABLE as problem:
            self.unreadable.append(Unreadable(label, problem))
            return
        for info in archive.infolist():
            if info.is_dir():
                continue
            member = f"{label}!{info.filename}"
            try:
                with archive.open(info) as file:
                    head = file.read(HEAD_BYTES)
            except _UNREADABLE as problem:
                self.unreadable.append(Unreadable(member, problem))
                continue
            if is_dicom(head, info.filename.rpartition("/")[2]):
                stamp = f"{modified_ns}.{info.header_offset}.{info.CRC}"
                yield Source(member, info.file_size, stamp, functools.partial(archive.open, info), on_disk=False)
            else:
                self.not_dicom += 1


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")


def open_source(source: Source) -> IO[bytes]:
    """The source's bytes from the start. Raises Unreadable, also when its size is no longer what it was."""
    try:
        file = source.open()
    except _UNREADABLE as problem:
        raise Unreadable(source.label, problem) from problem
    if source.on_disk and os.fstat(file.fileno()).st_size != source.size:
        file.close()
        raise Unreadable(source.label, "its size changed meanwhile")
    return file


def read_exactly(source: Source, file: IO[bytes], chunk: int) -> Iterator[bytes]:
    """Exactly ``source.size`` bytes in chunks. Raises Unreadable when the file gives fewer or breaks."""
    left = source.size
    while left:
        try:
            data = file.read(min(chunk, left))
        except _UNREADABLE as problem:
            raise Unreadable(source.label, problem) from problem
        if not data:
            raise Unreadable(source.label, "it ends early")
        left -= len(data)
        yield data


def is_dicom(head: bytes, name: str) -> bool:
    """Whether a file with this beginning and name is worth sending: a Part 10 file (PS3.10 §7.1), or a dataset that
    starts plausibly with group 2 or 8. A media directory (DICOMDIR) is not.
    """
    if name.upper() == "DICOMDIR":
        return False
    if head[128:132] == b"DICM":
        return _MEDIA_DIRECTORY.search(head) is None
    return _starts_with_element(head)


def _starts_with_element(head: bytes) -> bool:
    """Whether a data element of group 2 or 8 is at the start: little or big endian, VR explicit or implicit."""
    if len(head) < 132:  # nothing so short is an instance (store.md §2)
        return False
    for order in ("little", "big"):
        group = int.from_bytes(head[0:2], order)
        element = int.from_bytes(head[2:4], order)
        if group not in (0x0002, 0x0008) or element > _LAST_FIRST_ELEMENT:
            continue
        if head[4:6] in _FIRST_VRS:
            return True
        return order == "little" and int.from_bytes(head[4:8], "little") <= 256
    return False

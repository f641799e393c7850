"""The files below a directory in the order of their keys, page by page."""

import heapq
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hounsfield.storage.object_store import StoredObject
from hounsfield.storage.spool import TEMPORARY_PREFIX

PAGE = 1 << 16
"""Names of one directory sorted at a time: bounds memory where millions of studies lie side by side; a directory with
more names is read once per page."""


def objects(root: Path, folder: str, start_after: str) -> Iterator[StoredObject]:
    """Every object with a key greater than ``start_after`` in ``folder`` (empty, or ending with ``/``) and below."""
    for name in _names(root / folder, folder, start_after):
        key = folder + name
        if name.endswith("/"):
            yield from objects(root, key, start_after)
            continue
        try:
            found = (root / key).stat()
        except FileNotFoundError:  # deleted meanwhile
            continue
        yield StoredObject(key, found.st_size, found.st_mtime)


def temporaries(directory: Path) -> Iterator[Path]:
    """Every temporary file in ``directory`` and below."""
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from temporaries(Path(entry.path))
            elif entry.name.startswith(TEMPORARY_PREFIX):
                yield Path(entry.path)


def _names(directory: Path, folder: str, start_after: str) -> Iterator[str]:
    """Sorted names in a directory that can lead to a key past ``start_after``.

    A subdirectory's name ends with ``/``, which also puts it where its keys belong: ``a.b/c`` before ``a/b``.
    """
    last = ""
    while True:
        page = heapq.nsmallest(PAGE, _candidates(directory, folder, start_after, last))
        yield from page
        if len(page) < PAGE:
            return
        last = page[-1]


def _candidates(directory: Path, folder: str, start_after: str, last: str) -> Iterator[str]:
    try:
        entries = os.scandir(directory)
    except FileNotFoundError:
        return
    with entries:
        for entry in entries:
            name = entry.name + "/" if entry.is_dir() else entry.name
            if name <= last or name.startswith(TEMPORARY_PREFIX):
                continue
            key = folder + name
            if key > start_after or (start_after.startswith(key) and key.endswith("/")):
                yield name

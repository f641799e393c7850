"""Directories below a root that are known to survive a power cut, kept open.

A directory is durable once its parent has been synced after its creation. Syncing on every put would cost as much as
the put itself, so durable directories are remembered by an open descriptor: the descriptor names the directory itself,
not its path, so if a deletion removes it meanwhile, creating a file in it fails with FileNotFoundError instead of
landing in a namesake that nobody has synced yet.
"""

import os
import threading
from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hounsfield.storage.descriptor import Descriptor

REMEMBERED = 128
"""Directories kept open; the series that are being stored right now, and their studies. Well below the usual limit of
1024 open files."""

DIRECTORY_MODE = 0o750
"""Of every directory we make."""

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class _Fresh:
    path: str
    directory: Descriptor
    parent: Descriptor


@dataclass(frozen=True, slots=True)
class Entered:
    """An open directory, and the steps on the way to it that may not be durable yet."""

    directory: Descriptor
    fresh: tuple[_Fresh, ...]


class Directories:
    """The tree below ``root``, which is created durably if missing. Safe to use from many threads."""

    def __init__(self, root: Path) -> None:
        _make_root(root.absolute())
        self._root = Descriptor(os.open(root, _OPEN))
        self._known: OrderedDict[str, Descriptor] = OrderedDict()
        self._lock = threading.Lock()

    def enter(self, path: str) -> Entered:
        """The directory at ``path`` (``a/b``; empty for the root), created if missing.

        Raises FileNotFoundError if a deletion removed a step of it meanwhile: ``forget`` it and try again.
        """
        if not path:
            return Entered(self._root, ())
        with self._lock:
            known = self._known.get(path)
            if known is not None:
                self._known.move_to_end(path)
                return Entered(known, ())
        above, _, name = path.rpartition("/")
        parent = self.enter(above)
        # Also one that exists may have been made a moment ago by somebody who has not synced it yet.
        with suppress(FileExistsError):
            os.mkdir(name, DIRECTORY_MODE, dir_fd=parent.directory.number)
        directory = Descriptor(os.open(name, _OPEN, dir_fd=parent.directory.number))
        return Entered(directory, (*parent.fresh, _Fresh(path, directory, parent.directory)))

    def settle(self, entered: Entered) -> None:
        """Make the way to an entered directory durable."""
        if not entered.fresh:
            return
        for step in entered.fresh:
            step.parent.sync()
        with self._lock:
            for step in entered.fresh:
                self._known[step.path] = step.directory
            while len(self._known) > REMEMBERED:
                self._known.popitem(last=False)

    def forget(self, path: str) -> None:
        """Trust neither ``path`` nor anything above it."""
        with self._lock:
            while path:
                self._known.pop(path, None)
                path = path.rpartition("/")[0]

    def unlink(self, path: str) -> None:
        """Remove a file, if it is there: in the root as it was opened, wherever that has been moved meanwhile.

        By its path it would look gone while another directory stands in the root's place, and be forgotten.
        """
        with suppress(FileNotFoundError):
            os.unlink(path, dir_fd=self._root.number)

    def prune(self, path: str) -> str:
        """Remove ``path`` and the directories above it as long as they are empty; returns the first one left."""
        while path:
            try:
                os.rmdir(path, dir_fd=self._root.number)
            except FileNotFoundError:
                pass
            except OSError:
                break
            with self._lock:
                self._known.pop(path, None)
            path = path.rpartition("/")[0]
        return path

    def sync(self, path: str) -> None:
        """Make removals in the directory durable; in one that is gone itself there is nothing to do."""
        with suppress(FileNotFoundError):
            Descriptor(os.open(path or ".", _OPEN, dir_fd=self._root.number)).sync()

    def close(self) -> None:
        """Close what is remembered."""
        with self._lock:
            self._known.clear()


def _make_root(root: Path) -> None:
    root.mkdir(DIRECTORY_MODE, parents=True, exist_ok=True)
    # Every step up to the mount point: another process may have made them a moment ago, and not synced them yet.
    for directory in (root, *root.parents):
        above = directory.parent
        if directory.stat().st_dev != above.stat().st_dev:
            return
        with suppress(PermissionError):  # not even readable, so not made by us either
            Descriptor(os.open(above, _OPEN)).sync()

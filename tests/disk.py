"""A small file system of a test's own, that can be filled up and made read-only."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

BALLAST = "ballast"


class Disk:
    """What is mounted at ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def fill(self, leave: int = 0) -> None:
        """Leave only so many bytes free."""
        found = os.statvfs(self.directory)
        with open(self.directory / BALLAST, "ab") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, ballast.tell() + found.f_bavail * found.f_frsize - leave)

    def empty(self) -> None:
        """Take away what :meth:`fill` put there."""
        (self.directory / BALLAST).unlink()

    def turn(self, mode: str) -> None:
        """``ro`` or ``rw``. Nobody may have a file open for writing when it becomes read-only."""
        subprocess.run(["mount", "-o", f"remount,{mode}", str(self.directory)], check=True)


@contextmanager
def small_disk(directory: Path, size: str) -> Iterator[Disk]:
    """A file system of ``size`` (as mount spells it) at ``directory``, which is made.

    Skips the test where mounting is not allowed; in CI it must be.
    """
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        if os.environ.get("CI") == "true":
            pytest.fail("mounting a file system is not allowed here", pytrace=False)
        pytest.skip("mounting a file system is not allowed here")
    disk = Disk(directory)
    try:
        yield disk
    finally:
        with suppress(subprocess.CalledProcessError):
            disk.turn("rw")
        subprocess.run(["umount", "--lazy", str(directory)], check=True)

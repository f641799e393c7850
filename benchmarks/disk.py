"""The limit of storing: what the disk allows a program that only makes files durable.

Each client writes the same bytes as a store would: a temporary file in the target directory, fsync, rename, fsync of
the directory. Nothing is parsed, indexed or sent.
"""

import os
from pathlib import Path

from benchmarks.studies import Kind, Series


class DurableFiles:
    """A client that writes instances of one study after the other, ``STUDY_SIZE`` each."""

    STUDY_SIZE = 200

    def __init__(self, directory: Path, kind: Kind, client: int) -> None:
        self._directory = directory / f"client-{client}"
        series = Series(kind, 0, client)
        self._instances = [series.instance(number) for number in range(self.STUDY_SIZE)]
        self._written = 0

    def step(self) -> int:
        """One durable file."""
        study = self._directory / str(self._written // self.STUDY_SIZE)
        if self._written % self.STUDY_SIZE == 0:
            study.mkdir(parents=True)
        instance = self._instances[self._written % self.STUDY_SIZE]
        temporary, final = study / "new", study / f"{self._written}.dcm"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.writev(descriptor, [instance.head, instance.pixels])
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.rename(final)
        descriptor = os.open(study, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self._written += 1
        return 1

    def finish(self) -> None:
        """The last file must hold what was written."""
        number = self._written - 1
        last = self._directory / str(number // self.STUDY_SIZE) / f"{number}.dcm"
        assert last.read_bytes() == self._instances[number % self.STUDY_SIZE].file()


def give_back(directory: Path) -> None:
    """Frees the space of all files below ``directory``; they stay, empty.

    ext4 looks at each file that was removed in the last five minutes when it makes a new one: whoever is measured next
    would pay for it.
    """
    for path in directory.rglob("*.dcm"):
        os.truncate(path, 0)

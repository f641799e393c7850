"""Instances that arrive as a stream and become files: temporary until complete, then named by their own header."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from hounsfield.cli.identifiers import Identifiers, read_identifiers
from hounsfield.errors import HounsfieldError

_LEFT_OVER_SECONDS = 3600.0
"""A temporary file untouched for so long belongs to a download that was killed."""


class CannotSave(HounsfieldError):
    """A file cannot be written."""


@dataclass(slots=True)
class ReceivedFiles:
    """The files of one study below ``folder``: STUDY/SERIES/INSTANCE.dcm. Raises CannotSave."""

    folder: Path
    study: str
    overwrite: bool
    saved: set[tuple[str, str]] = field(default_factory=set)
    """(series, instance) saved in this run."""
    saved_bytes: int = 0
    problems: list[str] = field(default_factory=list)
    _temporary: Path | None = None
    _file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.abandon()

    def missing(self, wanted: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        """Those of the wanted (series, instance) that still have to be loaded."""
        return {pair for pair in wanted if pair not in self.saved and (self.overwrite or not self._is_there(*pair))}

    def clear_left_overs(self) -> None:
        """Makes the folder and removes what killed downloads left in it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for path in self.folder.glob(".hounsfield-*.part"):
                if time.time() - path.stat().st_mtime > _LEFT_OVER_SECONDS:
                    path.unlink(missing_ok=True)
        except OSError as problem:
            raise self._cannot_save(problem) from problem

    def begin(self) -> None:
        """An instance begins."""
        self._temporary = self.folder / f".hounsfield-{os.urandom(8).hex()}.part"
        try:
            self._file = self._temporary.open("x+b")
        except OSError as problem:
            raise self._cannot_save(problem) from problem

    def write(self, data: bytes | memoryview) -> None:
        """The next bytes of the instance."""
        assert self._file is not None
        try:
            self._file.write(data)
        except OSError as problem:
            self.abandon()
            raise self._cannot_save(problem) from problem
        self.saved_bytes += len(data)

    def end(self, expected: tuple[str, str] | None) -> None:
        """The instance is complete: gives it its name, or notes why it is not kept.

        ``expected``, the (series, instance) asked for, names a file whose header does not.
        """
        assert self._file is not None
        assert self._temporary is not None
        try:
            self._file.flush()
            self._file.seek(0)
            found = read_identifiers(self._file)
            if not all(found) and expected is not None:
                found = Identifiers(self.study, *expected)
            self._file.close()
            self._file = None
            if not all(found):
                self.problems.append("An instance has no identifiers in its header and was not saved.")
            elif found.study != self.study:
                self.problems.append(f"Instance {found.instance} belongs to another study and was not saved.")
            elif self.missing([found[1:]]):
                path = self._path(*found[1:])
                path.parent.mkdir(parents=True, exist_ok=True)
                self._temporary.replace(path)
                self.saved.add(found[1:])
        except OSError as problem:
            raise self._cannot_save(problem) from problem
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Removes the temporary file, if there is one: the instance will not be completed or is not wanted."""
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
            self._temporary = None

    def _path(self, series: str, instance: str) -> Path:
        return self.folder / self.study / series / f"{instance}.dcm"

    def _is_there(self, series: str, instance: str) -> bool:
        try:
            return self._path(series, instance).stat().st_size > 0  # a power cut can leave an empty file
        except OSError:
            return False

    def _cannot_save(self, problem: OSError) -> CannotSave:
        return CannotSave(
            f"Cannot write to {self.folder}: {problem.strerror or problem}. Complete files are kept; "
            "make room or choose another folder with --to, then run the same command again."
        )

"""Counts an upload while it runs and says at the end what became of every file."""

import json
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from hounsfield.cli.stow import Outcome, Verdict
from hounsfield.cli.terminal import Standing, count_text, printable, size_text, time_text
from hounsfield.errors import HounsfieldError

SHOWN_PROBLEMS: Final = 50
"""Problems listed on the screen; more than that nobody reads there, and the report file has them all."""


class ReportUnwritable(HounsfieldError):
    """The report file cannot be written."""


class ReportFile:
    """A JSON report that grows while the upload runs, so that a million problems need no memory.

    Written beside its final name and renamed at the end.
    """

    def __init__(self, path: Path) -> None:
        """Raises ReportUnwritable."""
        self._path = path
        self._draft = path.with_name(f"{path.name}.part")
        self._empty = True
        try:
            self._file: IO[str] = self._draft.open("w", encoding="utf-8")
        except OSError as problem:
            raise ReportUnwritable(f"The report {path} cannot be written: {problem.strerror}.") from problem
        self._file.write('{"problems": [')

    def add(self, problem: dict[str, str]) -> None:
        """Writes one problem."""
        self._file.write(("" if self._empty else ",") + "\n" + json.dumps(problem))
        self._empty = False

    def finish(self, summary: dict[str, object]) -> None:
        """Writes the counts and puts the report in its place. Raises ReportUnwritable."""
        try:
            self._file.write("\n],\n" + json.dumps(summary, indent=0)[1:].lstrip())
            self._file.close()
            self._draft.replace(self._path)
        except OSError as problem:
            raise ReportUnwritable(f"The report {self._path} cannot be written: {problem.strerror}.") from problem


@dataclass(slots=True)
class Tally:
    """What happened so far. All methods may be called from any thread."""

    report: ReportFile | None = None
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    failed: int = 0
    """Files that could not be read or sent, so that no server has judged them."""
    skipped: int = 0
    """Files acknowledged in an earlier run."""
    bytes_sent: int = 0
    bytes_passed_over: int = 0
    """Size of the files in ``skipped``."""
    total_files: int | None = None
    total_bytes: int = 0
    _problems: list[str] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def stored(self) -> int:
        """Files the server stored now, with and without warnings."""
        return self.outcomes[Outcome.STORED] + self.outcomes[Outcome.STORED_WITH_WARNING]

    @property
    def problems(self) -> int:
        """Files rejected or failed."""
        return self.outcomes[Outcome.REJECTED] + self.failed

    def judge(self, verdicts: Sequence[Verdict]) -> None:
        """Counts what the server said."""
        with self._lock:
            for verdict in verdicts:
                self.outcomes[verdict.outcome] += 1
                if verdict.outcome is Outcome.REJECTED:
                    self._problem(verdict.source.label, "rejected", verdict.reason)

    def fail(self, label: str, reason: str) -> None:
        """Counts a file, or a folder, that could not be read or sent."""
        with self._lock:
            self.failed += 1
            self._problem(label, "failed", reason)

    def skip(self, size: int) -> None:
        """Counts a file acknowledged in an earlier run."""
        with self._lock:
            self.skipped += 1
            self.bytes_passed_over += size

    def sent(self, size: int) -> None:
        """Counts bytes that left; parts that are sent again count again."""
        with self._lock:
            self.bytes_sent += size

    def standing(self) -> Standing:
        """For the progress line."""
        done = self.outcomes.total() + self.failed + self.skipped
        part = None
        if self.total_files is not None:
            part = min((self.bytes_sent + self.bytes_passed_over) / max(self.total_bytes, 1), 1.0)
        return Standing(done, self.total_files, part, self.bytes_sent, self.outcomes.total(), self.problems)

    def finish(self, server_url: str, not_dicom: int, ended: str) -> list[str]:
        """Writes the report file, if any, and returns the lines for the screen.

        ``ended`` is ``finished``, ``interrupted`` or ``aborted``. Raises ReportUnwritable.
        """
        seconds = max(time.monotonic() - self._started, 0.001)
        if self.report is not None:
            self.report.finish(self._summary(server_url, not_dicom, ended, seconds))
        done = self.outcomes.total()
        warned = self.outcomes[Outcome.STORED_WITH_WARNING]
        already, rejected = self.outcomes[Outcome.ALREADY_STORED], self.outcomes[Outcome.REJECTED]
        lines = [
            f"stored:           {self.stored}" + (f", {count_text(warned, 'file')} with warnings" if warned else ""),
            f"already there:    {already}",
            f"rejected:         {rejected}",
        ]
        if self.failed:
            lines.append(f"not sent:         {self.failed}")
        if self.skipped:
            lines.append(f"skipped:          {self.skipped} acknowledged earlier (--restart sends them again)")
        if not_dicom:
            lines.append(f"ignored:          {not_dicom} not DICOM")
        lines.append(
            f"sent:             {size_text(self.bytes_sent)} in {time_text(seconds)}, "
            f"{done / seconds:.1f} files/s, {size_text(self.bytes_sent / seconds)}/s"
        )
        if self._problems:
            lines += ["", "These files are not on the server:", *self._problems]
            hidden = self.problems - len(self._problems)
            if hidden > 0:
                lines.append(f"and {hidden} more" + ("" if self.report else "; --report FILE lists them all"))
        return lines

    def _problem(self, label: str, outcome: str, reason: str) -> None:
        if len(self._problems) < SHOWN_PROBLEMS:
            self._problems.append(f"  {printable(label)}: {outcome}: {reason}")
        if self.report is not None:
            self.report.add({"file": label, "outcome": outcome, "reason": reason})

    def _summary(self, server_url: str, not_dicom: int, ended: str, seconds: float) -> dict[str, object]:
        return {
            "server": server_url,
            "ended": ended,
            "stored": self.stored,
            "storedWithWarning": self.outcomes[Outcome.STORED_WITH_WARNING],
            "alreadyStored": self.outcomes[Outcome.ALREADY_STORED],
            "rejected": self.outcomes[Outcome.REJECTED],
            "failed": self.failed,
            "skippedAcknowledged": self.skipped,
            "ignoredNotDicom": not_dicom,
            "bytesSent": self.bytes_sent,
            "seconds": round(seconds, 3),
            "filesPerSecond": round(self.outcomes.total() / seconds, 1),
            "bytesPerSecond": round(self.bytes_sent / seconds),
        }

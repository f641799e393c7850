"""What reaches the screen: text made safe, sizes and times for people, tables, and a progress line.

On a terminal Rich draws; into a pipe or a file go plain lines without a single control code.
"""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from rich.progress import Progress

PLAIN_SECONDS: Final = 10.0
"""How often a run without a terminal says where it is: often enough for a log, seldom enough for a night."""
_TERMINAL_SECONDS: Final = 0.2


def printable(text: str, length: int = 1000) -> str:
    """``text`` on one line, fit for a terminal, cut after ``length`` characters.

    What is not printable (control codes, bidirectional overrides) becomes U+FFFD. Every name or text from a file or a
    server goes through this.
    """
    flat = " ".join(text.splitlines())
    safe = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in flat[: length + 1])
    return safe if len(safe) <= length else f"{safe[:length]}…"


def on_terminal() -> bool:
    """Whether standard output is a terminal that understands control codes."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def size_text(size: float) -> str:
    """Bytes for people, in powers of 1000: ``532 B``, ``1.5 MB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 999.5 or (unit == "B" and size < 1000):
            return f"{size:.0f} {unit}" if unit == "B" or size >= 99.95 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def time_text(seconds: float) -> str:
    """A duration for people: ``0.4 s``, ``3 min 07 s``, ``2 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def count_text(number: int, noun: str) -> str:
    """A number with its noun, plural where it has to be: ``1 file``, ``12 345 files``."""
    return f"{number:,} {noun if number == 1 else noun + 's'}".replace(",", " ")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with headings; on a terminal folded to its width, elsewhere as wide as it needs."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    if on_terminal():
        Console().print(table)
    else:
        Console(force_terminal=False, color_system=None, no_color=True, width=100_000).print(table)


class Shown(Protocol):
    """What a progress line can show."""

    @property
    def part(self) -> float | None:
        """Done, 0 to 1; None while unknown."""

    def line(self, seconds: float) -> str:
        """Where it is after so many seconds."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a transfer is: what the progress line shows."""

    files: int
    """Dealt with so far, in whatever way."""
    total_files: int | None
    """Known so far to exist; None while unknown."""
    part: float | None
    """Done, 0 to 1; None while unknown."""
    moved_bytes: int
    moved_files: int
    problems: int

    def line(self, seconds: float) -> str:
        """``120 of 500 files, 61.4 MB, 40 files/s, 20.5 MB/s, 0 problems``."""
        of = "" if self.total_files is None else f" of {self.total_files}"
        seconds = max(seconds, 0.001)
        return (
            f"{self.files}{of} files, {size_text(self.moved_bytes)}, {self.moved_files / seconds:.0f} files/s, "
            f"{size_text(self.moved_bytes / seconds)}/s, {count_text(self.problems, 'problem')}"
        )


class ProgressLine:
    """Shows again and again where something is while the ``with`` block runs: on a terminal a bar, else some lines."""

    def __init__(self, title: str, standing: Callable[[], Shown]) -> None:
        self._title = title
        self._standing = standing
        self._started = time.monotonic()
        self._note = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._bar: Progress | None = _new_bar() if on_terminal() else None

    def note(self, text: str) -> None:
        """Says why it does not go on just now; shown until the next step."""
        self._note = printable(text, 200)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._bar.add_task(self._title, total=None, line="")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        if self._bar is not None:
            self._bar.stop()

    def _run(self) -> None:
        while not self._ended.wait(PLAIN_SECONDS if self._bar is None else _TERMINAL_SECONDS):
            self._show()
        if self._bar is not None:
            self._show()

    def _show(self) -> None:
        standing, note, self._note = self._standing(), self._note, ""
        line = standing.line(time.monotonic() - self._started) + (f" ({note})" if note else "")
        if self._bar is None:
            print(f"{self._title}: {line}", flush=True)
        else:
            (task,) = self._bar.task_ids
            total = None if standing.part is None else 1.0
            self._bar.update(task, completed=standing.part or 0.0, total=total, line=line)


def _new_bar() -> "Progress":
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    line = TextColumn("{task.fields[line]}", markup=False)
    return Progress(TextColumn("{task.description}"), BarColumn(24), line, TimeRemainingColumn(), transient=True)

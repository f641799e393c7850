import sys
import time

import pytest

from hounsfield.cli import terminal
from hounsfield.cli.terminal import ProgressLine, Standing, print_table, printable, size_text, time_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ümläut 山田", "plain ümläut 山田"),
        ("a\x1b[31mb", "a\ufffd[31mb"),
        ("two\r\nlines\nhere", "two lines here"),
        ("right\u202eleft", "right\ufffdleft"),
        ("\udcff", "\ufffd"),
        ("tab\there", "tab\ufffdhere"),
    ],
)
def test_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_printable_cuts() -> None:
    assert printable("x" * 11, 10) == "x" * 10 + "…"
    assert printable("x" * 10, 10) == "x" * 10


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (999_499, "999 kB"), (1_500_000, "1.5 MB"),
     (2_000_000_000, "2.0 GB"), (5e15, "5000.0 TB")],
)  # fmt: skip
def test_sizes(size: float, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (59.9, "59.9 s"), (187, "3 min 07 s"), (7500, "2 h 05 min")]
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text


def test_table_without_a_terminal_is_neither_cut_nor_coloured(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("A", "B"), [("x" * 300, "[bold]y[/bold]")])
    heading, row = capsys.readouterr().out.splitlines()
    assert heading.split() == ["A", "B"]
    assert row.split() == ["x" * 300, "[bold]y[/bold]"]


def test_progress_without_a_terminal_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminal, "PLAIN_SECONDS", 0.05)
    with ProgressLine("upload", lambda: Standing(3, 10, 0.3, 2_000_000, 2, 1)) as progress:
        progress.note("the server is\nbusy")
        time.sleep(0.2)
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 5
    assert lines[0].startswith("upload: 3 of 10 files, 2.0 MB, ")
    assert lines[0].endswith(" 1 problem (the server is busy)")
    assert lines[1].endswith("1 problem")


def test_dumb_terminal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert not terminal.on_terminal()

import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from hounsfield.cli.main import main
from tests.cli.dicomweb_server import DicomWebServer


class Run(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str


Hounsfield = Callable[..., Run]
Start = Callable[..., "subprocess.Popen[str]"]

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
"""Control codes other than the end of a line."""


def peak_memory(process: "subprocess.Popen[str]") -> int:
    """The most memory a process has had when it ends, in kB; its output must fit into a pipe.

    Not by getrusage: a child begins with the peak of the process it was forked from.
    """
    peak = 0
    while process.poll() is None:
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{process.pid}/status").read_text()
            found = re.search(r"VmHWM:\s+(\d+)", status)
            peak = max(peak, int(found[1]) if found else 0)
        time.sleep(0.01)
    return peak


def wait_until(condition: Callable[[], object], seconds: float = 10) -> None:
    """Waits for something that happens elsewhere."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test sees the person's own settings, journal or proxy."""
    for name in ("HOUNSFIELD_URL", "HOUNSFIELD_TOKEN", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def server() -> Iterator[DicomWebServer]:
    running = DicomWebServer()
    yield running
    running.stop()


@pytest.fixture
def hounsfield(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Hounsfield:
    """Runs a command in this process."""

    def run(*arguments: str | Path) -> Run:
        monkeypatch.setattr(sys, "argv", ["hounsfield", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Run(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def start() -> Iterator[Start]:
    """Runs a command in its own process, without a terminal."""
    running: list[subprocess.Popen[str]] = []

    def run(*arguments: str | Path, **environment: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-c", "from hounsfield.cli.main import main; main()", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()

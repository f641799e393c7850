import contextlib
import importlib
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hounsfield.cli.main import COMMANDS, SUBCOMMANDS, Command
from tests.cli.conftest import CONTROL, Hounsfield, Start
from tests.cli.dicom_files import folder_of
from tests.cli.dicomweb_server import DicomWebServer, Handler

CLIENT_COMMANDS = ("upload", "download", "query", "status")


def test_help_lists_every_command_and_imports_none() -> None:
    program = (
        "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        "sys.argv = ['hounsfield', '--help']; from hounsfield.cli.main import main; main()"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0
    for name, command in COMMANDS.items():
        assert name in run.stdout
        assert command.sentence[:40] in run.stdout
    loaded = set(run.stderr.split())
    assert not loaded & {"pydicom", "sqlalchemy", "httpx", "starlette", "granian", "numpy", "http.client"}
    assert not loaded & {command.module for command in COMMANDS.values()}
    assert len(loaded) < 400  # 323 today: what makes it quick, which a clock on a busy machine cannot tell


@pytest.mark.parametrize("name", CLIENT_COMMANDS)
def test_sentence_in_the_list_is_the_command_s_own(name: str) -> None:
    command = COMMANDS[name]
    function = getattr(importlib.import_module(command.module), command.function)
    assert function.__doc__.splitlines()[0] == command.sentence


@pytest.mark.parametrize("name", CLIENT_COMMANDS)
def test_help_of_a_command_has_examples_and_exit_codes(name: str, hounsfield: Hounsfield) -> None:
    run = hounsfield(name, "--help")
    assert run.code == 0
    assert f"hounsfield {name} " in run.out
    assert "Exit code: 0" in run.out
    assert "HOUNSFIELD_TOKEN" in run.out
    assert "HOUNSFIELD_URL" in run.out


@pytest.mark.parametrize("command", [*COMMANDS.values(), *SUBCOMMANDS.values()], ids=lambda command: command.sentence)
def test_lines_of_help_fit_a_terminal(command: Command) -> None:
    function = getattr(importlib.import_module(command.module), command.function)
    prose = function.__doc__.split("[bold]Examples")[0].partition("\n")[2]
    assert max((len(line.strip()) for line in prose.splitlines()), default=0) <= 78


def test_version(hounsfield: Hounsfield) -> None:
    assert hounsfield("--version") == (0, "hounsfield 0.1.0\n", "")


def test_misspelt_command_is_guessed(hounsfield: Hounsfield) -> None:
    run = hounsfield("uplaod")
    assert run.code == 2
    assert "upload" in run.err


def test_own_errors_are_one_line_and_exit_code_2(hounsfield: Hounsfield) -> None:
    run = hounsfield("query", "studies", "--from", "nonsense")
    assert (run.code, run.out) == (2, "")
    assert run.err.count("\n") == 1
    assert run.err.startswith("hounsfield: 'nonsense' is not the URL of a DICOMweb server")


def test_reader_that_goes_away_ends_the_command_quietly(server: DicomWebServer, start: Start) -> None:
    many = [{"0020000D": {"vr": "UI", "Value": [f"1.2.{i}"]}} for i in range(5000)]
    server.documents["/v2/studies"] = (200, many)
    run = start("query", "studies", "--json", "--from", server.url)
    assert run.stdout is not None
    assert run.stderr is not None
    assert run.stdout.readline()
    run.stdout.close()
    assert run.stderr.read() == ""
    assert run.wait(10) == 1


def in_terminal(*arguments: str | Path) -> tuple[int, str]:
    """Exit code and everything that a terminal of 100 columns got to see."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", "from hounsfield.cli.main import main; main()", *map(str, arguments)],
        stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # that is how a terminal ends
        while data := os.read(ours, 65536):
            seen += data
    os.close(ours)
    return process.wait(10), seen.decode()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_terminal_gets_a_table(server: DicomWebServer) -> None:
    server.documents["/v2/studies"] = (200, [{"0020000D": {"vr": "UI", "Value": ["1.2.3\x1b[31m"]}}])
    code, text = in_terminal("query", "studies", "--from", server.url)
    assert code == 0
    assert "\x1b[1m" in text, "headings are bold"
    assert "1.2.3\ufffd[31m" in text, "what the data hold is no command to the terminal"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_terminal_gets_a_progress_bar_and_then_the_report(server: DicomWebServer, tmp_path: Path) -> None:
    folder_of(tmp_path, 8)

    def slowly(handler: Handler) -> bool:
        time.sleep(0.1)
        return False

    server.interfere = slowly
    code, text = in_terminal("upload", tmp_path, "--to", server.url, "--batch-bytes", "0", "--jobs", "1")
    assert code == 0
    bar, _, report = text.rpartition("\x1b[2K")
    assert re.search(r"\d of 8 files, .* files/s, .*B/s, 0 problems", bar)
    assert report.startswith("stored:           8")
    assert not CONTROL.search(report.replace("\r\n", "\n"))

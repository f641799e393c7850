"""The command line ``hounsfield``: which commands there are, and how an error of ours reaches the person.

A new command is one line in COMMANDS: its name, the module, the function in it (Typer reads its parameters), and the
sentence shown by ``hounsfield --help``. The module is imported only when the command is called.
"""

import importlib
import os
import sys
import warnings
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup

from hounsfield import __version__
from hounsfield.errors import HounsfieldError

STANDARD_ERROR = 2


class Command(NamedTuple):
    """Where a command is, and its one sentence."""

    module: str
    function: str
    sentence: str
    takes_settings: bool = False


CAST = Command("hounsfield.cli.serve", "cast", "Run one process that keeps a FHIR server true to a change feed.", True)
SUBCOMMANDS = {
    ("cast", "run"): CAST,
    ("cast", "status"): Command("hounsfield.cli.cast_errors", "status", "Show how far DICOM Cast of a server is."),
    ("cast", "errors"): Command("hounsfield.cli.cast_errors", "errors", "List what DICOM Cast could not do."),
    ("cast", "retry"): Command("hounsfield.cli.cast_errors", "retry", "Have what was skipped tried again."),
    ("cast", "rebuild"): Command("hounsfield.cli.cast_rebuild", "rebuild", "Make FHIR what a clean run gives.", True),
    ("cast", "verify"): Command("hounsfield.cli.cast_verify", "verify", "Compare archive and FHIR server.", True),
}
"""Commands of two words; the first word alone is a command of its own."""

COMMANDS = {
    "serve": Command(
        "hounsfield.cli.serve", "serve", "Run the whole server: API, worker and FHIR synchronisation.", True
    ),
    "worker": Command("hounsfield.cli.serve", "worker", "Run one worker process for operations and clean-up.", True),
    "cast": CAST,
    "demo": Command("hounsfield.cli.demo", "demo", "Run the server with sample studies and say what to open next."),
    "upload": Command(
        "hounsfield.cli.upload", "upload", "Send DICOM files, folders and zip files to a DICOMweb server."
    ),
    "download": Command("hounsfield.cli.download", "download", "Save a study, a series or an instance as DICOM files."),
    "query": Command("hounsfield.cli.query", "query", "Search for studies, series or instances."),
    "update": Command("hounsfield.cli.update", "update", "Set attributes of whole studies on a server anew."),
    "export": Command("hounsfield.cli.export", "export", "Have a server copy files to a container, bucket or folder."),
    "operations": Command(
        "hounsfield.cli.operations", "operations", "List, show, watch or cancel long-running operations of a server."
    ),
    "tags": Command("hounsfield.cli.tags", "tags", "Make attributes searchable on a server (extended query tags)."),
    "config": Command("hounsfield.cli.config", "config", "Show the settings in effect and where they come from.", True),
    "viewer": Command("hounsfield.cli.viewer", "viewer", "Fetch the files of the OHIF viewer, or say what is there."),
    "status": Command("hounsfield.cli.status", "status", "Show how a Hounsfield server is doing."),
}


class LazyGroup(TyperGroup):
    """Knows its commands by COMMANDS until one of them is called (or completed), and then loads that one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The command that the arguments begin with, its function imported, and the remaining arguments."""
        name, placeholder, rest = super().resolve_command(ctx, args)
        if name is None or name not in COMMANDS:
            return name, placeholder, rest
        command = COMMANDS[name]
        if rest and (name, rest[0]) in SUBCOMMANDS:
            command = SUBCOMMANDS[name, rest[0]]
            name, rest = f"{name} {rest[0]}", rest[1:]
        loaded = typer.Typer(add_completion=False, rich_markup_mode="rich")
        loaded.command(name)(getattr(importlib.import_module(command.module), command.function))
        if command.takes_settings:
            from hounsfield.cli.setting_arguments import as_options

            rest = list(as_options(rest))
        return name, typer.main.get_command(loaded), rest


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    help="A medical-imaging server: DICOMweb, change feed, FHIR kept true to it; and a client for any DICOMweb server.",
    epilog="Every command explains itself, with examples: hounsfield COMMAND --help",
)


def _placeholder() -> None:
    """Stands for a command that has not been imported."""


for _name, _command in COMMANDS.items():
    app.command(_name, help=_command.sentence)(_placeholder)


def _show_version(asked: bool) -> None:
    if asked:
        print(f"hounsfield {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version and exit."
    ),
) -> None:
    pass


def _hold_standard_descriptors() -> None:
    """Fill what the parent closed of 0, 1 and 2: a log line must never end up in a file opened in its place."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(number, True)
    os.close(number)


def main() -> None:
    """Runs the command line; the errors of hounsfield.errors become one line on standard error and exit code 2."""
    _hold_standard_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a file name must not end the program on a narrow terminal
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # a library's opinion of a file's header helps no one who runs a command
    try:
        app()
    except HounsfieldError as problem:
        print(f"hounsfield: {problem.message}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of our output went away (as in "| head"): nothing more to say to anyone.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)

"""``hounsfield viewer``: fetches the files of the OHIF viewer, or says which are there."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hounsfield.cli.terminal import size_text
from hounsfield.cli.viewer_package import VERSION, fetched, install, registry
from hounsfield.errors import SettingsError
from hounsfield.web.viewer.files import ViewerFiles, default_directory, read_list

NOT_HERE = 1
"""Exit code of ``viewer status`` where the viewer is missing, or another version."""


class Action(StrEnum):
    """What to do."""

    INSTALL = "install"
    STATUS = "status"


def viewer(
    action: Annotated[Action, typer.Argument(help="`install` fetches the files, `status` says which are there.")],
    to: Annotated[
        Path | None, typer.Option("--to", help="Folder for the files, as Viewer:Directory names it; made if absent.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="The package as a file, for a machine without a way out.", exists=True)
    ] = None,
) -> None:
    """Fetch the files of the OHIF viewer from the npm registry, once; `hounsfield serve` then has it at /viewer.

    The registry is that of npm_config_registry or ~/.npmrc, if they name one.
    What comes is checked against a digest that this program knows, trimmed,
    and compressed. The viewer is switched on with
    DicomServer:Features:EnableOhifViewer.

    [bold]Examples[/bold]

    hounsfield viewer install
    hounsfield viewer install --from app-3.13.2.tgz --to /srv/viewer
    """
    directory = (to or default_directory()).resolve()
    present = read_list(directory)
    if action is Action.STATUS:
        if source is not None:
            raise SettingsError("--from is for `hounsfield viewer install`.")
        _say(present, directory)
        raise typer.Exit(0 if _is_wanted(present, directory) else NOT_HERE)
    if not _is_wanted(present, directory):
        if source is None:
            print(f"Fetching the OHIF viewer {VERSION} from {registry()} …", flush=True)
        with fetched(source) as package:
            present = install(package, directory)
    _say(present, directory)


def _is_wanted(present: ViewerFiles | None, directory: Path) -> bool:
    """Whether this program's version is there, whole."""
    return (
        present is not None
        and present.version == VERSION
        and all((directory / name).is_file() for name in present.files)
    )


def _say(present: ViewerFiles | None, directory: Path) -> None:
    if present is None:
        print(f"The viewer is not in {directory}; `hounsfield viewer install` fetches it.")
        return
    size = sum(file.size + file.packed for file in present.files.values())
    print(f"OHIF viewer {present.version}: {len(present.files)} files, {size_text(size)}, in {directory}")
    if not _is_wanted(present, directory):
        print(f"Not {VERSION}, or not whole; `hounsfield viewer install` puts it right.")

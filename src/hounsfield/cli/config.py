"""``hounsfield config show``: the settings in effect and where each comes from."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hounsfield import settings as settings_table
from hounsfield.cli.terminal import print_table


class Action(StrEnum):
    """What to do with the settings."""

    SHOW = "show"


def config(
    action: Annotated[Action, typer.Argument(help="`show` prints all settings.")],
    file: Annotated[
        Path | None,
        typer.Option("--config", help="The settings file that `hounsfield serve` would be given."),
    ] = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are not at their default.")] = False,
) -> None:
    """Show the effective settings with their origin: default, file or environment. Secrets are not shown.

    [bold]Examples[/bold]

      hounsfield config show

      hounsfield config show --config appsettings.json --changed
    """
    assert action is Action.SHOW
    settings, warnings = settings_table.load(file)
    for warning in warnings:
        typer.echo(f"hounsfield: {warning}", err=True)
    rows = [
        [row.key, settings_table.shown(row, settings), settings.origin(row.key)]
        for row in settings_table.TABLE
        if not changed or settings.origin(row.key) != settings_table.DEFAULT
    ]
    print_table(["Setting", "Value", "Origin"], rows)

"""``hounsfield config show``: the settings in effect and where each comes from."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from hounsfield import settings as settings_table
from hounsfield.cli.setting_arguments import Given
from hounsfield.cli.settings_sources import load_settings
from hounsfield.cli.terminal import print_table
from hounsfield.setting_values import printed
from hounsfield.settings import SECRETS, Settings

HIDDEN = "***"


class Action(StrEnum):
    """What to do with the settings."""

    SHOW = "show"


def config(
    action: Annotated[Action, typer.Argument(help="`show` prints all settings.")],
    file: Annotated[
        Path | None,
        typer.Option("--config", help="The settings file that `hounsfield serve` would be given."),
    ] = None,
    given: Given = None,
    changed: Annotated[bool, typer.Option("--changed", help="Only those that are not at their default.")] = False,
) -> None:
    """Show the effective settings with their origin: default, file, environment or command line.

    Secrets are not shown, nor those in addresses. Below the settings stand
    keys that were given but change nothing.

    [bold]Examples[/bold]

    hounsfield config show
    hounsfield config show --config appsettings.json --changed
    """
    assert action is Action.SHOW
    settings = load_settings(file, given)
    keys = [row.key for row in settings_table.TABLE]
    in_table = {key.lower() for key in keys}
    categories = [f"{settings_table.LOG_LEVEL}{name}" for name in settings.log_levels()]
    keys += [key for key in categories if key not in in_table]
    rows = [
        [key, shown(key, settings), settings.origin(key)]
        for key in keys
        if not changed or settings.origin(key) != settings_table.DEFAULT
    ]
    rows += [[key, f"(no effect: {reason})", settings.origin(key)] for key, reason in settings.without_effect.items()]
    print_table(["Setting", "Value", "Origin"], rows)


def shown(key: str, settings: Settings) -> str:
    """The value of a setting for people, without what is secret in it."""
    value = settings.value(key)
    if value is None or value == "" or value == []:
        return ""
    kept_secret = settings.origin(key) in (settings_table.MOUNTED_FILE, settings_table.KEY_VAULT)
    if kept_secret or key.lower() in SECRETS or (key == "Database:Url" and "://" not in str(value)):
        return "(set, not shown)"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ", ".join(masked(item) for item in value)
    return masked(str(printed(value)))


def masked(text: str) -> str:
    """``text`` with the passwords and query values of every address in it left out.

    Rather too much than too little: everything before the last ``@`` of an address counts as its user.

    >>> masked("postgresql://user:pass/word@host/name?password=x")
    'postgresql://user:***@host/name?password=***'
    """
    return re.sub(r"://.+", lambda found: _masked_address(found[0]), text, flags=re.DOTALL)


def _masked_address(text: str) -> str:
    user, at, place = text.removeprefix("://").rpartition("@")
    if at:
        name, colon, _ = user.partition(":")
        user = f"{name}:{HIDDEN}" if colon else HIDDEN
    head, mark, query = place.partition("?")
    values = "&".join(_masked_pair(pair) for pair in query.split("&")) if mark else ""
    return f"://{user}{at}{head}{mark}{values}"


def _masked_pair(pair: str) -> str:
    name, equals, _ = pair.partition("=")
    return f"{name}={HIDDEN}" if equals else HIDDEN

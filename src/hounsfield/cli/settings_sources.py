"""The settings of a command, from all their sources."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import typer

from hounsfield import settings as settings_table
from hounsfield.cli import setting_arguments
from hounsfield.settings import Settings


def load_settings(config: Path | None, given: Iterable[str] | None = None) -> Settings:
    """Effective settings; unknown keys are reported once on standard error. Raises SettingsError.

    ``given``: what ``--set`` was given.
    """
    overrides = setting_arguments.by_key(given)
    settings, warnings = settings_table.load(config, overrides=overrides, read_vault=_read_vault)
    for warning in warnings:
        typer.echo(f"hounsfield: {warning}", err=True)
    return settings


def _read_vault(vault: str, is_wanted: Callable[[str], bool]) -> Mapping[str, str]:
    # Late: the HTTP client is of no use to a supervisor.
    from hounsfield.security.key_vault import read_secrets

    return read_secrets(vault, is_wanted)

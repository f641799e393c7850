"""Settings on the command line: ``--set KEY=VALUE``, and as in the reference ``--Key:Name value``, ``/Key=value``."""

import re
from collections.abc import Iterable, Iterator
from typing import Annotated

import typer

from hounsfield.errors import SettingsError
from hounsfield.settings import SECTIONS, TABLE, WITHOUT_EFFECT

SET = "--set"

Given = Annotated[
    list[str] | None,
    typer.Option(
        SET,
        metavar="KEY=VALUE",
        help="A setting, before those of file and environment; may be repeated. --KEY VALUE does the same.",
        show_default=False,
    ),
]

_ARGUMENT = re.compile(r"(--|/)([A-Za-z_][\w.]*(?::[\w.]+)*)(?:=(.*))?", re.DOTALL)
_ALONE = frozenset(row.key.lower() for row in TABLE if ":" not in row.key)
_SECTIONS = SECTIONS | {key.partition(":")[0].lower() for key in WITHOUT_EFFECT}


def as_options(arguments: Iterable[str]) -> Iterator[str]:
    """Arguments with every ``--Section:Key value``, ``--Section:Key=value`` and ``/Section:Key=value`` as ``--set``.

    Raises SettingsError where the value is missing.
    """
    left = iter(arguments)
    for argument in left:
        key, value = _setting(argument)
        if argument == SET:
            yield argument
            yield from _next(left)
        elif key is None:
            yield argument
        else:
            if value is None:
                value = next(left, None)
            if value is None:
                raise SettingsError(f"{argument} wants a value: {argument} VALUE.")
            yield SET
            yield f"{key}={value}"


def by_key(given: Iterable[str] | None) -> dict[str, str]:
    """The values of ``--set`` by key. Raises SettingsError for one that is not KEY=VALUE."""
    found = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise SettingsError(f"--set wants KEY=VALUE, as in --set {TABLE[0].key}=….")
        found[key.strip().replace("__", ":")] = value
    return found


def _setting(argument: str) -> tuple[str | None, str | None]:
    """Key and value of an argument that names a setting; no key where it does not, no value where that is the next."""
    found = _ARGUMENT.fullmatch(argument)
    if found is None:
        return None, None
    sign, key, value = found.groups()
    section = key.partition(":")[0].lower()
    is_setting = section in _SECTIONS if ":" in key else section in _ALONE
    if is_setting or (sign == "--" and ":" in key):
        return key, value
    return None, None


def _next(left: Iterator[str]) -> Iterator[str]:
    for argument in left:
        yield argument
        return

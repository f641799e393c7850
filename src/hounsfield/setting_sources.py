"""Where settings stand: variables, JSON files, and a folder with a file a setting. Which are known: settings.py."""

import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from hounsfield.errors import SettingsError

IsOurs = Callable[[str], bool]
"""Whether a key is of interest, from its first part."""


def from_variables(variables: Mapping[str, str], known: Container[str], is_ours: IsOurs) -> dict[str, str]:
    """Settings in environment variables: ``known`` keys, and all with two underscores that ``is_ours``."""
    found = {}
    for name, value in variables.items():
        key = name.replace("__", ":").lower()
        if key in known or ("__" in name and is_ours(key)):
            found[key] = value
    return found


def from_directory(directory: Path, is_ours: IsOurs) -> dict[str, str]:
    """A setting a file, as Docker and Kubernetes mount secrets; what begins with a dot is theirs.

    Raises SettingsError.
    """
    found = {}
    try:
        for file in sorted(directory.iterdir()):
            key = file.name.replace("__", ":").lower()
            if not file.name.startswith(".") and is_ours(key) and file.is_file():
                found[key] = file.read_text(encoding="utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not in UTF-8"
        raise SettingsError(f"Secrets:Directory {directory} cannot be read: {reason}.") from error
    return found


def from_file(file: Path) -> dict[str, Any]:
    """Settings in a JSON file, with the comments and commas .NET allows. Raises SettingsError."""
    try:
        content = msgspec.json.decode(_plain_json(file.read_text(encoding="utf-8-sig")))
    except OSError as error:
        raise SettingsError(f"The settings file {file} cannot be read: {error.strerror}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {file} is not valid JSON: {error}.") from error
    if not isinstance(content, dict):
        raise SettingsError(f"The settings file {file} must hold one JSON object.")
    return flat(content)


def _plain_json(text: str) -> str:
    """JSON without comments (``//`` and ``/* */``) and trailing commas, which .NET settings files may hold."""
    for extra in (r"//[^\n]*|/\*.*?\*/", r",(?=\s*[}\]])"):
        pattern = rf'"(?:\\.|[^"\\])*"|{extra}'
        text = re.sub(pattern, lambda found: found[0] if found[0].startswith('"') else " ", text, flags=re.S)
    return text


def flat(content: Mapping[str, Any]) -> dict[str, Any]:
    """Values by their keys in lower case, from objects within objects."""
    return {key.lower(): value for key, value in _walk(content, ())}


def _walk(content: Any, path: Sequence[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(content, dict):
        for name, value in content.items():
            yield from _walk(value, (*path, str(name).replace("__", ":")))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from _walk(value, (*path, str(index)))
    elif content is not None:
        yield ":".join(path), content

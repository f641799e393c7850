"""Roles and what they permit: roles.json (server.md §9)."""

import re
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec

from hounsfield.errors import HounsfieldError, SettingsError

FILE_NAME = "roles.json"
"""In the data directory."""
_NAME = re.compile(r"[a-zA-Z_-]+")


class DataAction(StrEnum):
    """What a role may permit."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    MANAGE_EXTENDED_QUERY_TAGS = "manageExtendedQueryTags"
    EXPORT = "export"


ALL_ACTIONS = frozenset(DataAction)
_NAMED: Mapping[str, frozenset[DataAction]] = {
    **{action.value: frozenset({action}) for action in DataAction},
    "*": ALL_ACTIONS,
    "none": frozenset(),
}


class Forbidden(HounsfieldError):
    """The caller's roles do not permit what was asked."""

    status = 403

    def __init__(self) -> None:
        super().__init__("Authorization failed.")


class _Role(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    dataActions: list[str]  # noqa: N815
    notDataActions: list[str]  # noqa: N815
    scopes: list[str]


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    roles: list[_Role]


class Roles:
    """Role names, case-insensitive, and what each permits."""

    def __init__(self, permissions: Mapping[str, frozenset[DataAction]]) -> None:
        self._permissions = {name.lower(): actions for name, actions in permissions.items()}

    def permissions(self, names: Iterable[str]) -> frozenset[DataAction]:
        """What all the roles permit together; unknown names permit nothing."""
        return frozenset[DataAction]().union(*(self._permissions.get(name.lower(), ()) for name in names))


DEFAULT = '{"roles":[%s]}' % ",".join(  # noqa: UP031
    f'{{"name":"{name}","dataActions":["{action}"],"notDataActions":[],"scopes":["/"]}}'
    for name, action in (("globalReader", "read"), ("globalAdmin", "*"))
)
"""What counts where there is no file."""


def read(data_dir: Path) -> str:
    """The text of roles.json, or DEFAULT where there is none. Raises SettingsError if it cannot be read or is wrong."""
    file = data_dir / FILE_NAME
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return DEFAULT
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The roles file {file} cannot be read: {type(error).__name__}.") from error
    parse(text)
    return text


def parse(text: str) -> Roles:
    """The roles of a roles.json. Raises SettingsError naming the role and the rule it breaks."""
    try:
        document = msgspec.json.decode(text, type=_Document)
    except msgspec.DecodeError as error:
        raise SettingsError(f"{FILE_NAME} is not valid: {error}.") from error
    permissions: dict[str, frozenset[DataAction]] = {}
    for role in document.roles:
        if _NAME.fullmatch(role.name) is None:
            raise SettingsError(f"{FILE_NAME}: the role name '{role.name}' may hold letters, - and _ only.")
        if role.name.lower() in permissions:
            raise SettingsError(f"{FILE_NAME}: the role {role.name} is there twice.")
        if role.scopes != ["/"]:
            raise SettingsError(f'{FILE_NAME}: the scopes of the role {role.name} must be ["/"].')
        permissions[role.name.lower()] = _actions(role, role.dataActions) - _actions(role, role.notDataActions)
    return Roles(permissions)


def _actions(role: _Role, names: Iterable[str]) -> frozenset[DataAction]:
    found = frozenset[DataAction]()
    for name in names:
        if name not in _NAMED:
            raise SettingsError(
                f"{FILE_NAME}: the role {role.name} names an unknown action; known are {', '.join(_NAMED)}."
            )
        found |= _NAMED[name]
    return found


def role_names(claims: Mapping[str, Any], claim: str) -> list[str]:
    """The values of the claim that holds the roles: one string or an array of them."""
    value = claims.get(claim)
    values = value if isinstance(value, list) else [value]
    return [name for name in values if isinstance(name, str)]

"""roles.json and what it permits (server.md §9)."""

import json
from pathlib import Path
from typing import Any

import pytest

from hounsfield.errors import SettingsError
from hounsfield.security import roles
from hounsfield.security.roles import ALL_ACTIONS, DataAction


def document(**members: Any) -> str:
    role = {"name": "one", "dataActions": ["read"], "notDataActions": [], "scopes": ["/"], **members}
    return json.dumps({"roles": [role]})


def permitted(text: str, *names: str) -> set[str]:
    return {action.value for action in roles.parse(text).permissions(names)}


def test_the_default() -> None:
    assert permitted(roles.DEFAULT, "globalReader") == {"read"}
    assert permitted(roles.DEFAULT, "globalAdmin") == {"read", "write", "delete", "manageExtendedQueryTags", "export"}
    assert permitted(roles.DEFAULT, "somebody") == set()
    assert permitted(roles.DEFAULT) == set()


def test_names_are_case_insensitive_and_permissions_add_up() -> None:
    text = json.dumps(
        {
            "roles": [
                {"name": "A-b_c", "dataActions": ["read", "none"], "notDataActions": [], "scopes": ["/"]},
                {"name": "d", "dataActions": ["export"], "notDataActions": [], "scopes": ["/"]},
            ]
        }
    )
    assert permitted(text, "a-B_C", "D", "e") == {"read", "export"}


def test_what_is_taken_away() -> None:
    assert permitted(document(dataActions=["*"], notDataActions=["delete", "export"]), "one") == {
        "read",
        "write",
        "manageExtendedQueryTags",
    }
    assert permitted(document(dataActions=["read"], notDataActions=["*"]), "one") == set()
    assert permitted(document(dataActions=["none"]), "one") == set()


@pytest.mark.parametrize("action", [*DataAction, "*", "none"])
def test_every_action_can_be_named(action: str) -> None:
    expected = ALL_ACTIONS if action == "*" else set() if action == "none" else {DataAction(action)}
    assert roles.parse(document(dataActions=[action])).permissions(["one"]) == expected


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "roles.json"),
        ("[]", "roles.json"),
        ("{}", "roles"),
        ('{"roles": [], "more": 1}', "more"),
        (document(more=1), "more"),
        (document(name=""), "name"),
        (document(name="a b"), "a b"),
        (document(name="a1"), "a1"),
        (document(name=7), "name"),
        (document(dataActions="read"), "dataActions"),
        (document(dataActions=["Read"]), "unknown action"),
        (document(notDataActions=["all"]), "unknown action"),
        (document(scopes=[]), "scopes"),
        (document(scopes=["/", "/"]), "scopes"),
        (document(scopes=["/x"]), "scopes"),
        ('{"roles":[{"name":"a","dataActions":[],"notDataActions":[]}]}', "scopes"),
    ],
)
def test_files_that_are_wrong(text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=named):
        roles.parse(text)


def test_a_name_twice() -> None:
    one = json.loads(document())["roles"][0]
    with pytest.raises(SettingsError, match="twice"):
        roles.parse(json.dumps({"roles": [one, {**one, "name": "ONE"}]}))


def test_the_file_in_the_data_directory(tmp_path: Path) -> None:
    assert roles.read(tmp_path) == roles.DEFAULT
    (tmp_path / "roles.json").write_text(document(), encoding="utf-8-sig")
    assert permitted(roles.read(tmp_path), "one") == {"read"}
    (tmp_path / "roles.json").write_text("{")
    with pytest.raises(SettingsError, match=r"roles\.json"):
        roles.read(tmp_path)
    (tmp_path / "roles.json").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"roles\.json"):
        roles.read(tmp_path)


@pytest.mark.parametrize(
    ("value", "names"),
    [("a", ["a"]), (["a", "b"], ["a", "b"]), (["a", 7, None, ["b"]], ["a"]), (None, []), ({"a": 1}, []), (7, [])],
)
def test_roles_of_a_token(value: object, names: list[str]) -> None:
    assert roles.role_names({"roles": value, "role": "x"}, "roles") == names

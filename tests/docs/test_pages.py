"""The pages name what there is, no more and no less: settings, commands, routes, searches, error tables, rooms."""

import importlib
import json
import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer

from hounsfield import __version__, settings
from hounsfield.cast.failure import Table
from hounsfield.cli.main import COMMANDS as SINGLE_WORDS
from hounsfield.cli.main import SUBCOMMANDS
from hounsfield.errors import SettingsError
from hounsfield.fhir.search_parameters import PARAMETERS
from hounsfield.index.attributes import SEARCHABLE
from hounsfield.settings import TABLE, WITHOUT_EFFECT, Setting
from hounsfield.web.openapi import document
from tests.docs.pages import PAGES, README, ROOT, anchors, bare, blocks, code, links, prose, table

OPERATE, INTEGRATE, MIGRATE, ARCHITECTURE = (
    ROOT / "docs" / f"{name}.md" for name in ("operate", "integrate", "migrate", "architecture")
)
COMMANDS = SINGLE_WORDS | {" ".join(words): command for words, command in SUBCOMMANDS.items()}
KEYS = {row.key for row in TABLE}
TYPES = {str: "text", bool: "true/false", int: "integer", timedelta: "time", list: "list"}


def default_text(row: Setting) -> str:
    """A default as the table of the page spells it."""
    if row.key == "DicomCastWorker:PollInterval":
        return "`00:01:00`, in `serve` `00:00:05`"
    if isinstance(row.default, timedelta):
        hours, rest = divmod(row.default.seconds, 3600)
        time = f"{hours:02}:{rest // 60:02}:{rest % 60:02}"
        return f"`{row.default.days}.{time}`" if row.default.days else f"`{time}`"
    if isinstance(row.default, bool):
        return f"`{str(row.default).lower()}`"
    return f"`{row.default}`" if row.default else ""


def test_every_setting_is_in_the_table_with_type_and_default() -> None:
    rows = table(OPERATE, "Key", "Type", "Default", "Meaning")
    written = [(bare(row["Key"]), row["Type"], row["Default"]) for row in rows]
    assert written == [(row.key, TYPES[row.type], default_text(row)) for row in TABLE]
    assert all(row["Meaning"] for row in rows)


def test_the_default_nobody_can_see_in_the_table_is_right() -> None:
    casting = importlib.import_module("hounsfield.cli.casting")
    assert {row.key: row.default for row in TABLE}["DicomCastWorker:PollInterval"] is None
    assert [casting.REMOTE_POLL.total_seconds(), casting.LOCAL_POLL.total_seconds()] == [60, 5]


def test_the_keys_of_the_reference_are_rightly_said_to_work_or_not() -> None:
    idle = {}
    for row in table(MIGRATE, "Key of the reference", "Here"):
        works = not row["Here"].startswith(("not here", "no effect"))
        key = bare(row["Key of the reference"])
        if works and key.endswith(":*"):
            assert any(one.startswith(key.removesuffix("*")) for one in KEYS), row
        else:
            assert (key in KEYS) == works, row
        if row["Here"].startswith("no effect: "):
            idle[key.removesuffix("*")] = row["Here"].removeprefix("no effect: ")
    assert idle == WITHOUT_EFFECT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_in_examples_exist(page: Path) -> None:
    for name in re.findall(r"\b([A-Z]\w+(?:__\w+)+)=", page.read_text()):
        assert name.replace("__", ":").removesuffix(":0") in KEYS, name


def test_settings_files_in_examples_load(tmp_path: Path) -> None:
    examples = [block.text for block in blocks(OPERATE) if block.language == "json"]
    assert examples
    for example in examples:
        (tmp_path / "settings.json").write_text(example)
        assert settings.load(tmp_path / "settings.json", environment={})[1] == []
    (tmp_path / "settings.json").write_text("{")
    with pytest.raises(SettingsError):
        settings.load(tmp_path / "settings.json", environment={})


def _command(name: str) -> Any:
    app = typer.Typer(add_completion=False)
    found = COMMANDS[name]
    app.command(name)(getattr(importlib.import_module(found.module), found.function))
    return typer.main.get_command(app)


def _options(name: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for parameter in _command(name).params:
        if parameter.param_type_name == "option" and "--help" not in parameter.opts:
            options |= dict.fromkeys([*parameter.opts, *parameter.secondary_opts], parameter)
    return options


def _written_options() -> dict[str, dict[str, str]]:
    """Default cell by option, by command."""
    everybody = {
        "the first five": ["upload", "download", "query", "status", "operations"],
        "the first five but `status`": ["upload", "download", "query", "operations"],
    }
    written: dict[str, dict[str, str]] = {name: {} for name in COMMANDS}
    for row in table(OPERATE, "Command", "Option", "Default", "Meaning"):
        names = everybody.get(row["Command"], [bare(row["Command"])])
        for name in names:
            written[name] |= dict.fromkeys(re.findall(r"`(--[\w-]+)`", row["Option"]), row["Default"])
    return written


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_explained_with_its_options(name: str) -> None:
    assert any(
        bare(row["Command"]) == name and not row["Option"]
        for row in table(OPERATE, "Command", "Option", "Default", "Meaning")
    )
    assert _written_options()[name].keys() == _options(name).keys()


def test_defaults_of_options_are_right() -> None:
    checked = 0
    for name, options in _written_options().items():
        for option, written in options.items():
            if re.fullmatch(r"`[^`]+`", written):
                default = _options(name)[option].default
                number = isinstance(default, float) and default.is_integer()
                assert bare(written) == str(int(default) if number else default), (name, option)
                checked += 1
    assert checked


def test_commands_in_the_examples_exist() -> None:
    used: dict[str, set[str]] = {}
    for page in PAGES:
        for block in blocks(page):
            if block.language in ("sh", "ini"):
                for line in block.text.replace("\\\n", " ").splitlines():
                    for found in re.finditer(r"\bhounsfield (\w+)([^|&;$]*)", line):
                        words = f"{found[1]} {found[2].split()[0]}" if found[2].split() else ""
                        name = words if words in COMMANDS else found[1]
                        used.setdefault(name, set()).update(re.findall(r"(?<= )--[\w-]+", found[2]))
    assert {"serve", "cast", "worker", "upload", "download", "query", "status"} <= used.keys()
    for name, options in used.items():
        assert options <= _options(name).keys(), name


def test_make_targets_in_the_pages_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        text = "\n".join([*code(page), *(block.text for block in blocks(page) if block.language == "sh")])
        assert set(re.findall(r"^make ([a-z]+)", text, re.M)) <= targets


def test_every_route_is_in_the_table() -> None:
    names = {"{studyInstanceUid}": "{study}", "{seriesInstanceUid}": "{series}", "{sopInstanceUid}": "{instance}"}
    names["{workitemInstanceUid}"] = "{workitem}"
    existing = set()
    for path, item in document("v2", title="", license_name="", license_url="", server_uri="")["paths"].items():
        for long, short in names.items():
            path = path.replace(long, short)
        existing |= {(path, method.upper()) for method in item if method in ("get", "post", "put", "delete", "patch")}
    versioned = {(bare(row["Route"]), row["Method"]) for row in table(INTEGRATE, "Route", "Method", "What")}
    assert versioned == {(path.removeprefix("/v2"), method) for path, method in existing if path.startswith("/v2/")}
    rooted = {(bare(row["Address"]), row["Method"]) for row in table(INTEGRATE, "Address", "Method", "What")}
    assert rooted - {("/fhir/…", "")} == {entry for entry in existing if not entry[0].startswith("/v2/")}


def test_searchable_attributes_are_in_the_table() -> None:
    written = [(bare(row["Attribute"]), row["Level"]) for row in table(INTEGRATE, "Attribute", "Level", "Matching")]
    assert written == [(attribute.keyword, attribute.level.name.lower()) for attribute in SEARCHABLE]


def test_fhir_search_parameters_are_in_the_table() -> None:
    written = {
        bare(row["Type"]): re.findall(r"`([^`]+)`", row["Search parameters"])
        for row in table(INTEGRATE, "Type", "Search parameters")
    }
    assert written == {
        name: [parameter for parameter in parameters if not parameter.startswith("_")]
        for name, parameters in PARAMETERS.items()
    }


def test_every_error_table_of_cast_says_what_to_do() -> None:
    rows = table(OPERATE, "Table", "What is in it", "Do")
    assert {bare(row["Table"]) for row in rows} == {name.value for name in Table}
    assert all(row["Do"] for row in rows)


def test_rooms_and_what_they_may_import() -> None:
    rows = table(ARCHITECTURE, "Room", "What lives there", "May import")
    written = {bare(row["Room"]): set(re.findall(r"`(\w+)`", row["May import"])) for row in rows}
    source = ROOT / "src" / "hounsfield"
    rooms = {path.parent.name for path in source.glob("*/__init__.py")}
    assert written.keys() == rooms
    for room in rooms - {"cli", "web"}:
        texts = [path.read_text() for path in (source / room).rglob("*.py")]
        imported = {name for text in texts for name in re.findall(r"^\s*(?:from|import) hounsfield\.(\w+)", text, re.M)}
        assert (imported & rooms) - {room} <= written[room], room


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_reached_from_the_readme() -> None:
    reached = {(ROOT / link.partition("#")[0]).resolve() for link in links(README)}
    assert {page.resolve() for page in PAGES} - {README} <= reached


def test_the_version_is_in_the_changelog() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == __version__
    assert re.search(
        rf"^## \[{re.escape(__version__)}\] - \d{{4}}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_json_examples_parse(page: Path) -> None:
    for block in blocks(page):
        if block.language == "json" and not block.mark:
            json.loads(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_in_prose_is_closed(page: Path) -> None:
    assert all(line.count("`") % 2 == 0 for line in prose(page).splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_in_one_piece_and_headings_stand_alone(page: Path) -> None:
    lines = prose(page).splitlines()
    for above, line, below in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        if line.startswith("|") and not above.startswith("|"):
            assert re.match(r"\|[-: |]+\|$", below), f"a row outside a table: {line}"
        if line.startswith("#"):
            assert not above, f"a heading right below a line: {line}"

"""``hounsfield tags``: make attributes searchable on a server, and look after them."""

from enum import StrEnum
from typing import Annotated, Final
from urllib.parse import quote

import typer

from hounsfield.cli.connection import DEFAULT_URL, Connection, Server
from hounsfield.cli.json_client import JsonClient, Record, print_json
from hounsfield.cli.operation_progress import follow, follow_as_json, succeeded
from hounsfield.cli.options import Retries, Timeout, Token, server_url
from hounsfield.cli.terminal import print_table

PAGE: Final = 200
_LIST: Final = "/extendedquerytags"


class Action(StrEnum):
    """What to do."""

    LIST = "list"
    ADD = "add"
    SHOW = "show"
    ENABLE = "enable"
    DISABLE = "disable"
    REMOVE = "remove"
    ERRORS = "errors"


class Level(StrEnum):
    """What has one value of a tag."""

    STUDY = "study"
    SERIES = "series"
    INSTANCE = "instance"


def tags(
    action: Annotated[Action, typer.Argument(metavar="list|add|show|enable|disable|remove|errors", help="What to do.")],
    attributes: Annotated[
        list[str] | None,
        typer.Argument(metavar="ATTRIBUTE…", help="Keywords, or eight hexadecimal digits; not for list."),
    ] = None,
    at: Annotated[str, server_url("--at", "ask")] = DEFAULT_URL,
    level: Annotated[Level, typer.Option(help="add: what has one value of it.")] = Level.INSTANCE,
    vr: Annotated[str | None, typer.Option(help="add: the value representation; private attributes need it.")] = None,
    creator: Annotated[str | None, typer.Option(help="add: the private creator of private attributes.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="add: until what is stored is indexed.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects as the server sends them, one a line.")] = False,
    token: Token = None,
    retries: Retries = 3,
    timeout: Timeout = 300,
) -> None:
    """Make attributes searchable (extended query tags), and look after them.

    list     all of them
    add      make attributes searchable; shows how far the indexing of what is
             stored is. Ctrl-C ends the watching only
    show     one or several
    enable   let searches use them, also if some instances could not be indexed
    disable  no longer let searches use them; new instances are still indexed
    remove   with everything that was indexed for them
    errors   the instances that could not be indexed, and why

    Exit code: 0 done, 1 the indexing failed, 2 refused, not found, or the
    server cannot be reached.

    [bold]Examples[/bold]

    hounsfield tags add PatientAge BodyPartExamined --level study
    hounsfield tags add 12051003 --vr LO --creator "ACME 1.0"
    hounsfield tags list
    hounsfield tags errors PatientAge --json
    """
    named = attributes or []
    if bool(named) == (action is Action.LIST):
        raise typer.BadParameter("list takes no attribute." if named else "Which attribute?")
    with Connection(Server.at(at, token, timeout)) as connection:
        client = JsonClient(connection, retries)
        if action is Action.ADD:
            entries = [_entry(name, level, vr, creator) for name in named]
            raise typer.Exit(0 if _add(client, entries, wait=wait, as_json=as_json) else 1)
        if action is Action.ERRORS:
            _print_errors([error for name in named for error in _pages(client, f"{_path(name)}/errors")], as_json)
        elif action is Action.REMOVE:
            for name in named:
                client.told("DELETE", _path(name), f"to remove {name}")
        elif action is Action.LIST:
            _print_tags(_pages(client, _LIST), as_json)
        else:
            _print_tags([_one(client, action, name) for name in named], as_json)


def _pages(client: JsonClient, target: str) -> list[Record]:
    """Everything in a list."""
    found: list[Record] = []
    while True:
        page = client.told("GET", f"{target}?limit={PAGE}&offset={len(found)}", "the list")
        found += page
        if len(page) < PAGE:
            return found


def _path(attribute: str) -> str:
    return f"{_LIST}/{quote(attribute, safe='')}"


def _entry(name: str, level: Level, vr: str | None, creator: str | None) -> Record:
    entry = {"path": name, "level": level.value.capitalize(), "vr": vr, "privateCreator": creator}
    return {key: value for key, value in entry.items() if value is not None}


def _one(client: JsonClient, action: Action, name: str) -> Record:
    method, body = "GET", None
    if action is not Action.SHOW:
        method, body = "PATCH", {"queryStatus": "Enabled" if action is Action.ENABLE else "Disabled"}
    found: Record = client.told(method, _path(name), f"to {action.value} {name}", body)
    return found


def _add(client: JsonClient, entries: list[Record], *, wait: bool, as_json: bool) -> bool:
    """Whether the tags are there, and ready if that was waited for. For programs: what is known of the operation."""
    started: Record = client.told("POST", _LIST, "to add", entries)
    operation = str(started["id"])
    if not wait:
        words = f"Operation {operation} indexes what is stored: hounsfield operations watch {operation}"
        print_json(started) if as_json else print(words)
        return True
    if as_json:
        return succeeded(follow_as_json(client, operation))
    ended = follow(client, operation)
    print("The tags are ready." if succeeded(ended) else f"The re-index has ended: {ended.get('status')}.")
    return succeeded(ended)


def _print_tags(found: list[Record], as_json: bool) -> None:
    if as_json:
        for tag in found:
            print_json(tag)
    elif not found:
        print("no extended query tag")
    else:
        print_table(("Tag", "VR", "Level", "Status", "Searches", "Errors", "Private creator"), map(_row, found))


def _row(tag: Record) -> tuple[str, ...]:
    texts = [str(tag.get(name, "")) for name in ("path", "vr", "level", "status", "queryStatus")]
    return (*texts, str(tag.get("errors", {}).get("count", 0)), str(tag.get("privateCreator", "")))


def _print_errors(found: list[Record], as_json: bool) -> None:
    if as_json:
        for error in found:
            print_json(error)
    elif not found:
        print("no error")
    else:
        names = ("createdTime", "studyInstanceUid", "seriesInstanceUid", "sopInstanceUid", "errorMessage")
        rows = [tuple(str(error.get(name, "")) for name in names) for error in found]
        print_table(("Found", "Study", "Series", "Instance", "What is wrong"), rows)

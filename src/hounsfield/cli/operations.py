"""``hounsfield operations``: what a server does in the background, how far it is, and how to call it off."""

import re
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import typer

from hounsfield.cli.connection import DEFAULT_URL, Connection, RequestRefused, Server
from hounsfield.cli.json_client import JsonClient, Record, print_json
from hounsfield.cli.operation_progress import follow, follow_as_json, operation, percent_text, status_text, succeeded
from hounsfield.cli.options import Retries, Timeout, Token, server_url
from hounsfield.cli.terminal import print_table, printable, time_text

_ID: Final = re.compile(r"[0-9A-Fa-f-]{32,36}")
_NO_OPERATION: Final = "There is no operation on record there."


class Action(StrEnum):
    """What to do."""

    LIST = "list"
    SHOW = "show"
    WATCH = "watch"
    CANCEL = "cancel"


def operations(
    action: Annotated[Action, typer.Argument(metavar="list|show|watch|cancel", help="What to do.")],
    operation_id: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Which one: 32 hex digits. show and watch take the newest without it."),
    ] = None,
    at: Annotated[str, server_url("--at", "ask")] = DEFAULT_URL,
    limit: Annotated[int, typer.Option(min=1, max=200, help="list: at most this many, newest first.")] = 20,
    offset: Annotated[int, typer.Option(min=0, help="list: leave out this many of the newest.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects as the server sends them, one a line.")] = False,
    token: Token = None,
    retries: Retries = 3,
    timeout: Timeout = 30,
) -> None:
    """List, show, watch or cancel the long-running operations of a Hounsfield server.

    An operation is work the server goes on with after it has answered, such
    as indexing what is stored on a new tag. It survives restarts.

    list    the newest first, with status and progress
    show    everything that is known of one
    watch   a progress bar until it ends; Ctrl-C ends the watching only
    cancel  have it end early; what it has done stays done. Needs the
            permission that starting it needs

    Exit code: 0 done (watch: it succeeded), 1 watch: it failed or was
    cancelled, 2 refused, not found, or the server cannot be reached.

    [bold]Examples[/bold]

    hounsfield operations list
    hounsfield operations watch
    hounsfield operations show 4853cda8c05c44e497d2bc071f8e92c4 --json
    hounsfield operations cancel 4853cda8c05c44e497d2bc071f8e92c4
    hounsfield operations list --json | jq -r 'select(.status == "failed").error'
    """
    if operation_id is not None and action is Action.LIST:
        raise typer.BadParameter("list takes no ID; show one with: hounsfield operations show ID")
    if operation_id is None and action is Action.CANCEL:
        raise typer.BadParameter("Which operation? hounsfield operations list names them.")
    if operation_id is not None and _ID.fullmatch(operation_id) is None:
        raise typer.BadParameter(f"{printable(operation_id)!r} is no operation's ID: those are 32 hex digits.")
    with Connection(Server.at(at, token, timeout)) as connection:
        client = JsonClient(connection, retries)
        if action is Action.LIST:
            _print_list(_page(client, limit, offset), as_json=as_json)
            return
        if action is Action.CANCEL:
            assert operation_id is not None
            client.told("POST", f"/operations/{operation_id}/cancelrequest", "the cancellation")
            print(f"Operation {operation_id} will be cancelled once the batch at hand is done with.")
            return
        chosen = operation_id or _newest(client)
        if action is Action.SHOW:
            _print_one(operation(client, chosen), as_json=as_json)
        else:
            raise typer.Exit(0 if _watch(client, chosen, as_json=as_json) else 1)


def _page(client: JsonClient, limit: int, offset: int) -> list[Record]:
    found: list[Record] = client.told("GET", f"/operations?limit={limit}&offset={offset}", "the list")
    return found


def _newest(client: JsonClient) -> str:
    found = _page(client, 1, 0)
    if not found:
        raise RequestRefused(_NO_OPERATION)
    return str(found[0]["operationId"])


def _print_list(found: list[Record], *, as_json: bool) -> None:
    if as_json:
        for record in found:
            print_json(record)
    elif not found:
        print("no operation")
    else:
        print_table(("ID", "Type", "Status", "Done", "Created", "Took"), (_row(record) for record in found))


def _row(record: Record) -> tuple[str, ...]:
    return (
        str(record.get("operationId", "")),
        str(record.get("type", "")),
        status_text(record),
        percent_text(record),
        str(record.get("createdTime", ""))[:19].replace("T", " "),
        _took(record),
    )


def _print_one(record: Record, *, as_json: bool) -> None:
    if as_json:
        print_json(record)
        return
    error = [("error", str(record["error"]))] if "error" in record else []
    rows = [
        ("ID", str(record.get("operationId", ""))),
        ("type", str(record.get("type", ""))),
        ("status", status_text(record)),
        ("done", percent_text(record)),
        ("created", str(record.get("createdTime", ""))),
        ("last updated", str(record.get("lastUpdatedTime", ""))),
        ("took", _took(record)),
        *error,
        *(("about", str(resource)) for resource in record.get("resources", ())),
        *_results(record),
    ]
    print_table(("", ""), rows)


def _results(record: Record) -> Iterator[tuple[str, str]]:
    for name, value in (record.get("results") or {}).items():
        if isinstance(value, list):
            yield from ((name, str(each)) for each in value)
        else:
            yield name, str(value)


def _watch(client: JsonClient, operation_id: str, *, as_json: bool) -> bool:
    """Follow an operation to its end; whether it succeeded."""
    if as_json:
        return succeeded(follow_as_json(client, operation_id))
    record = follow(client, operation_id)
    _print_one(record, as_json=False)
    return succeeded(record)


def _took(record: Record) -> str:
    """From its start to the newest that is known of it."""
    try:
        begun, ended = (datetime.fromisoformat(record[name]) for name in ("createdTime", "lastUpdatedTime"))
    except (KeyError, TypeError, ValueError):
        return ""
    return time_text((ended - begun).total_seconds())

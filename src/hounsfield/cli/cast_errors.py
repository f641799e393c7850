"""``hounsfield cast status``, ``errors`` and ``retry``: how a server's DICOM Cast is doing, what it could not do."""

import json
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import typer

from hounsfield.cast.failure import Table
from hounsfield.cli.connection import DEFAULT_URL, Connection, RequestRefused, Server, split_version
from hounsfield.cli.json_client import JsonClient, Record, print_json
from hounsfield.cli.options import Retries, Timeout, Token, server_url
from hounsfield.cli.terminal import count_text, print_table, time_text

PAGE: Final = 1000
HEALTHY: Final = ("idle", "running")


class TableName(StrEnum):
    """The error tables, by the reference's names."""

    FHIR_FAIL = Table.FHIR_FAIL.value
    DICOM_FAIL = Table.DICOM_FAIL.value
    INVALID_TAG = Table.INVALID_TAG.value
    TRANSIENT_RETRY = Table.TRANSIENT_RETRY.value
    TRANSIENT_FAILURE = Table.TRANSIENT_FAILURE.value


At = Annotated[str, server_url("--at", "ask")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON as the server sends it.")]
OfTable = Annotated[
    TableName | None,
    typer.Option("--table", metavar="NAME", help="Only this error table; hounsfield cast status names them."),
]
OfStudy = Annotated[str | None, typer.Option("--study", metavar="UID", help="Only entries of this study.")]


def status(at: At = DEFAULT_URL, as_json: AsJson = False, token: Token = None, timeout: Timeout = 30) -> None:
    """Show how far DICOM Cast of a Hounsfield server is, and what to do if something is wrong.

    Exit code: 0 FHIR is kept up to date, or casting is switched off,
    1 it is not (retrying, faulted, stopped), 2 the server cannot be reached
    or refuses to tell.

    [bold]Examples[/bold]

    hounsfield cast status
    hounsfield cast status --at https://dicom.example.org --json
    """
    with _connected(at, token, timeout) as connection:
        found = _told(JsonClient(connection, 0), "GET", "/cast/status", "the status")
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        print_table(("", ""), _status_rows(found))
    raise typer.Exit(0 if not found.get("enabled", True) or found.get("state") in HEALTHY else 1)


def errors(
    at: At = DEFAULT_URL,
    table: OfTable = None,
    study: OfStudy = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="Only rows filed since: 2024-02-29, 2024-02-29T16:00:00Z.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many of each table, newest entries first.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects as the server sends them, one a line.")] = False,
    token: Token = None,
    retries: Retries = 3,
    timeout: Timeout = 30,
) -> None:
    """List what DICOM Cast of a Hounsfield server could not do, table by table.

    The texts may hold attribute values: treat them as patient data.

    Exit code: 0 done, whether there are errors or not, 2 refused, or the
    server cannot be reached.

    [bold]Examples[/bold]

    hounsfield cast errors
    hounsfield cast errors --table FhirFailToStoreExceptionTable --limit 10000
    hounsfield cast errors --study 1.2.840.113619.2.55 --json
    """
    asked = {name: value for name, value in (("study", study), ("since", since)) if value is not None}
    shown = 0
    with _connected(at, token, timeout) as connection:
        client = JsonClient(connection, retries)
        for name in [table.value] if table else [each.value for each in TableName]:
            shown += _print_errors(name, list(_errors(client, {"table": name, **asked}, limit)), limit, as_json=as_json)
    if not shown and not as_json:
        print("no error")


def retry(
    at: At = DEFAULT_URL,
    table: OfTable = None,
    study: OfStudy = None,
    token: Token = None,
    timeout: Timeout = 30,
) -> None:
    """Have the entries that DICOM Cast skipped tried again, once: all, those of a table, or those of a study.

    What succeeds leaves its table, what fails again stays with a new time.
    The server does it in the background: hounsfield cast status tells when it
    is done. Needs the permission to write.

    Exit code: 0 asked for, or nothing to do, 2 refused, or the server cannot
    be reached.

    [bold]Examples[/bold]

    hounsfield cast retry
    hounsfield cast retry --table FhirFailToStoreExceptionTable
    hounsfield cast retry --study 1.2.840.113619.2.55
    """
    asked = {name: value for name, value in (("table", table and table.value), ("study", study)) if value is not None}
    with _connected(at, token, timeout) as connection:
        found = _told(JsonClient(connection, 0), "POST", f"/cast/retry?{urlencode(asked)}".rstrip("?"), "to try again")
    number = found.get("entries", 0)
    if number:
        print(f"{_entries(number)} will be tried again.")
    else:
        print("There is nothing to try again.")


def _connected(at: str, token: str | None, timeout: float) -> Connection:
    return Connection(Server.at(split_version(at)[0], token, timeout))


def _told(client: JsonClient, method: str, target: str, what: str) -> Record:
    """The JSON object it answers with. Raises RequestRefused."""
    found = client.told(method, target, what)
    if not isinstance(found, dict):
        raise RequestRefused("The server's answer is not the JSON expected; is it a Hounsfield server?")
    return found


def _errors(client: JsonClient, asked: dict[str, str], limit: int) -> Iterator[Record]:
    """Up to ``limit`` rows of a table, page by page."""
    token: str | None = None
    while limit > 0:
        query = {**asked, "limit": str(min(limit, PAGE)), **({"continuationToken": token} if token else {})}
        page = _told(client, "GET", f"/cast/errors?{urlencode(query)}", "the errors")
        entries = page.get("entries") or []
        yield from entries
        limit -= len(entries)
        token = page.get("continuationToken")
        if not token:
            return


def _print_errors(table: str, found: list[Record], limit: int, *, as_json: bool) -> int:
    if as_json:
        for record in found:
            print_json({"table": table, **record})
    elif found:
        print(f"{table}: {count_text(len(found), 'row')}{' or more' if len(found) == limit else ''}")
        print_table(("Sequence", "Filed", "Study", "Instance", "Error"), (_row(record) for record in found))
        print()
    return len(found)


def _row(record: Record) -> tuple[str, ...]:
    attempt = f"attempt {record['retryNumber']}: " if "retryNumber" in record else ""
    return (
        str(record.get("changeFeedSequence", "")),
        _time(record.get("timestamp")),
        str(record.get("studyUid", "")),
        str(record.get("instanceUid", "")),
        attempt + str(record.get("exception", "")),
    )


def _status_rows(found: Record) -> Iterator[tuple[str, str]]:
    if not found.get("enabled", True):
        yield "DICOM Cast", "switched off here"
    else:
        yield "DICOM Cast", _STATES.get(str(found.get("state")), str(found.get("state")))
    yield "FHIR server", str(found.get("fhirEndpoint") or "not known yet")
    yield "DICOM root", str(found.get("dicomWebEndpoint") or "not known yet")
    yield "position", f"{found.get('syncedSequence')} of {found.get('latestSequence')}"
    yield "behind", _behind(found)
    yield "rate", f"{found.get('rate', 0):.1f} entries/s over the last minute"
    if found.get("syncedDate"):
        yield "last progress", _time(found["syncedDate"])
    current = found.get("current")
    if isinstance(current, dict):
        again = f", attempt {current.get('attempt')}" if current.get("nextAttemptDate") else ""
        yield "working on", f"entry {current.get('sequence')} of study {current.get('studyInstanceUid')}{again}"
        if current.get("nextAttemptDate"):
            yield "  next attempt", _time(current["nextAttemptDate"])
    yield from _problem("last error", found.get("lastError"))
    for each in found.get("retries") or ():
        yield "trying again", f"{each.get('table')}, {each.get('studyUid') or 'all studies'}"
    for name, number in (found.get("errorCounts") or {}).items():
        yield name, str(number)
    tables = found.get("tableStore")
    if isinstance(tables, dict):
        yield "Azure tables", f"{tables['waiting']} rows to be copied" if tables.get("waiting") else "up to date"
        yield from _problem("  error", tables.get("lastError"))
    workitems = found.get("workitems")
    if isinstance(workitems, dict):
        lag, seconds = workitems.get("lag") or 0, workitems.get("lagSeconds") or 0.0
        behind = f"{count_text(lag, 'workitem')} behind, the oldest for {time_text(seconds)}"
        yield "worklist", behind if lag else "every workitem has its Task"
        yield from _problem("  error", workitems.get("lastError"))


_STATES: Final = {
    "idle": "idle: every entry has been dealt with",
    "running": "running: entries are being written",
    "retrying": "retrying: waits to try again",
    "faulted": "faulted: nothing goes on until something is changed",
    "stopped": "stopped: no process is casting; look for the background process of hounsfield serve",
}


def _behind(found: Record) -> str:
    lag, seconds = found.get("lag") or 0, found.get("lagSeconds")
    if not lag:
        return "nothing"
    return _entries(lag) if seconds is None else f"{_entries(lag)}, the oldest for {time_text(seconds)}"


def _entries(number: int) -> str:
    return "1 entry" if number == 1 else f"{number} entries"


def _problem(name: str, error: Any) -> Iterator[tuple[str, str]]:
    if isinstance(error, dict):
        yield name, f"{_time(error.get('date'))} {error.get('type')}: {error.get('message')}"
        if error.get("advice"):
            yield "  what to do", str(error["advice"])


def _time(text: Any) -> str:
    try:
        return datetime.fromisoformat(str(text)).strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        return ""

"""``hounsfield cast rebuild``: have DICOM Cast make FHIR equal to what a clean run over the archive gives."""

import asyncio
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from hounsfield.cast import rebuild_operation
from hounsfield.cli import casting, setting_arguments
from hounsfield.cli.connection import DEFAULT_URL, Connection, RequestRefused, Server, split_version
from hounsfield.cli.json_client import JsonClient, Record, print_json
from hounsfield.cli.operation_progress import follow, looks, succeeded
from hounsfield.cli.options import Retries, Timeout, Token, server_url
from hounsfield.cli.process_options import database_url
from hounsfield.cli.serve import Config, prepare_cast
from hounsfield.cli.settings_sources import load_settings
from hounsfield.cli.terminal import ProgressLine, print_table, printable
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.operations import records
from hounsfield.operations.engine import AlreadyRunning
from hounsfield.operations.job import Operation, Status
from hounsfield.settings import Settings

LOOK_SECONDS = 0.5


def rebuild(
    at: Annotated[str, server_url("--at", "ask")] = DEFAULT_URL,
    from_sequence: Annotated[
        int, typer.Option(min=0, help="Only studies with a change feed entry of this sequence or a later one.")
    ] = 0,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Show how far it is until it ends.")] = True,
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="That of a hounsfield cast that runs alone; no server is asked then."),
    ] = None,
    config: Config = None,
    given: setting_arguments.Given = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as a JSON object.")] = False,
    token: Token = None,
    retries: Retries = 3,
    timeout: Timeout = 30,
) -> None:
    """Make the FHIR server hold what a clean run over the whole change feed would write, and nothing else of ours.

    Every study is compared with what FHIR holds; what differs is written, what
    the archive no longer has is taken out, entries that were skipped are cast
    if they can be now. What is right already is not touched, nothing is ever
    there twice, and resources of others stay as they are. Casting goes on.

    The server does it in the background and goes on after a restart, or a
    crash, where it was: it is an operation (hounsfield operations). Calling
    this command off does not call that off; hounsfield operations cancel does.

    A server is asked, with the permission to write. With --data-dir it is the
    `hounsfield cast` of that directory, with its settings file and environment:
    it does it if it is running, and this command itself if it is not.

    Exit code: 0 done (--no-wait: begun), 1 some studies could not be written,
    or it was cancelled, 2 refused, or the server cannot be reached.

    [bold]Examples[/bold]

    hounsfield cast rebuild
    hounsfield cast rebuild --from-sequence 120000 --at https://dicom.example.org
    hounsfield cast rebuild --data-dir cast --config appsettings.json
    """
    if data_dir is None:
        client = JsonClient(Connection(Server.at(split_version(at)[0], token, timeout)), retries)
        record = _asked_of_server(client, at, from_sequence, wait=wait, quiet=as_json)
    else:
        settings = load_settings(config, given)
        prepare_cast(settings, data_dir)
        record = asyncio.run(
            _alone(settings, database_url(settings, data_dir), from_sequence, wait=wait, quiet=as_json)
        )
    if as_json:
        print_json(record)
    elif not wait:
        print(f"Rebuild {record.get('id', record.get('operationId'))} has begun.")
    else:
        _print(record)
    raise typer.Exit(0 if not wait or succeeded(record) else 1)


def _asked_of_server(client: JsonClient, at: str, from_sequence: int, *, wait: bool, quiet: bool) -> Record:
    """The operation at its end, or its reference."""
    root, version = split_version(at)
    with client.connection:
        query = urlencode({"fromSequence": from_sequence})
        begun = client.told("POST", f"/cast/rebuild?{query}", "the rebuild")
        if not isinstance(begun, dict) or "id" not in begun:
            raise RequestRefused("The server's answer is not the JSON expected; is it a Hounsfield server?")
        if not wait:
            return begun
        authorized = Server(f"{root.rstrip('/')}/{version or 'v2'}", client.connection.server.authorization)
    with Connection(authorized) as versioned:
        patient = JsonClient(versioned, client.retries)
        if quiet:
            *_, record = looks(patient, str(begun["id"]))
            return record
        return follow(patient, str(begun["id"]))


def _print(record: Record) -> None:
    results: dict[str, Any] = record.get("results") or {}
    rows = [(label, str(results.get(name, 0))) for name, label in _LABELS.items()]
    rows = [("rebuild", str(record.get("status"))), *rows]
    if record.get("error"):
        rows.append(("error", str(record["error"])))
    print_table(("", ""), [*rows, *(("not written", str(each)) for each in results.get("failures", ()))])


_LABELS = {
    "studies": "studies compared",
    "written": "different, and written",
    "removed": "not in the archive, and removed",
    "refused": "entries that cannot be cast",
    "failed": "studies that FHIR does not take",
}


async def _alone(settings: Settings, url: str, from_sequence: int, *, wait: bool, quiet: bool) -> Record:
    """See to it with this database, whoever does it."""
    database = open_database(url)
    try:
        try:
            operation_id = await rebuild_operation.start(database, from_sequence)
        except AlreadyRunning as error:
            operation_id = error.operation_id
            print(f"A rebuild is under way already: {operation_id}.", file=sys.stderr)
        if not wait:
            return {"operationId": operation_id}
        stop = asyncio.Event()
        casting_here = asyncio.create_task(casting.run_alone(settings, database, stop))
        try:
            return _record(await _followed(database, operation_id, quiet=quiet))
        finally:
            stop.set()
            await casting_here
    finally:
        await database.close()


async def _followed(database: Database, operation_id: str, *, quiet: bool) -> Operation:
    standing = _Standing()
    with nullcontext() if quiet else ProgressLine("rebuild", lambda: standing):
        while True:
            found = await records.find(database, operation_id)
            if found is None:
                raise RequestRefused("The record of the rebuild is gone.")
            if not found.status.is_active:
                return found
            standing.percent = found.percent
            await asyncio.sleep(LOOK_SECONDS)


class _Standing:
    """How far it is, for the progress line."""

    percent = 0

    @property
    def part(self) -> float | None:
        return self.percent / 100

    def line(self, seconds: float) -> str:
        return f"{self.percent} %"


def _record(found: Operation) -> Record:
    """As a server tells it."""
    status = Status(found.status).value
    error = {} if found.error is None else {"error": printable(found.error)}
    return {"operationId": found.id, "status": status, "results": dict(found.results or {}), **error}

"""``hounsfield export``: have a server copy files to somewhere else."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from hounsfield.cli.connection import DEFAULT_URL, Connection, RequestRefused, Server
from hounsfield.cli.json_client import JsonClient, Record, print_json
from hounsfield.cli.operation_progress import follow, follow_as_json, succeeded
from hounsfield.cli.options import Retries, Timeout, Token, server_url
from hounsfield.cli.terminal import print_table


class Form(StrEnum):
    """What is written."""

    FILES = "files"
    ZIP = "zip"
    NIFTI = "nifti"


def export(
    identifiers: Annotated[
        list[str] | None, typer.Argument(metavar="IDENTIFIER…", help="STUDY, STUDY/SERIES or STUDY/SERIES/INSTANCE.")
    ] = None,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            envvar="HOUNSFIELD_EXPORT_TO",
            help="Address of an Azure container, s3://bucket/folder, or a folder of the server's machine.",
            show_default=False,
        ),
    ] = "",
    at: Annotated[str, server_url("--at", "ask")] = DEFAULT_URL,
    listed: Annotated[
        Path | None, typer.Option("--list", help="A file with identifiers, one a line; - for standard input.")
    ] = None,
    form: Annotated[Form, typer.Option("--format", help="A file each, a zip file for each identifier, or NIfTI.")] = (
        Form.FILES
    ),
    deidentify: Annotated[bool, typer.Option("--deidentify", help="By the Basic Profile of PS3.15 Annex E.")] = False,
    retain_uids: Annotated[bool, typer.Option("--retain-uids", help="With --deidentify: keep the UIDs.")] = False,
    managed_identity: Annotated[
        bool, typer.Option("--managed-identity", help="The server signs in at Azure by its own identity.")
    ] = False,
    endpoint: Annotated[str, typer.Option(help="s3: of an S3-compatible store.")] = "",
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until all is copied.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects as the server sends them, one a line.")] = False,
    token: Token = None,
    retries: Retries = 3,
    timeout: Timeout = 60,
) -> None:
    """Have a server copy files to somewhere else.

    The server copies, not this command: Ctrl-C ends the watching only. An
    address with a signature (SAS) is better given as HOUNSFIELD_EXPORT_TO
    than on the command line, where others can see it. Keys for S3 are taken
    from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.

    Exit code: 0 done, 1 it failed, was cancelled, or something was skipped,
    2 refused, or the server cannot be reached.

    [bold]Examples[/bold]

    hounsfield export 1.2.3 1.2.4/5.6 --to "https://name.blob.core.windows.net/exports?sv=…"
    hounsfield export --list studies.txt --to s3://research/ct --format zip --deidentify
    hounsfield export 1.2.3 --to /mnt/exports --format nifti
    """
    named = [*(identifiers or []), *(_lines(listed) if listed is not None else [])]
    if not named:
        raise typer.BadParameter("Which study, series or instance?")
    if not to:
        raise typer.BadParameter("Where to? Give --to, or set HOUNSFIELD_EXPORT_TO.")
    body: Record = {
        "source": {"type": "identifiers", "settings": {"values": named}},
        "destination": _destination(to, endpoint, managed_identity=managed_identity),
        "format": form.value,
    }
    if deidentify:
        body["deidentify"] = {"retainUids": retain_uids}
    with Connection(Server.at(at, token, timeout)) as connection:
        client = JsonClient(connection, retries)
        started: Record = client.told("POST", "/export", "the export", body)
        operation_id = str(started["id"])
        if not wait:
            print_json(started) if as_json else print(f"Operation {operation_id}.")
            return
        ended = _watched(client, operation_id, as_json=as_json)
    skipped = (ended.get("results") or {}).get("skipped", 0)
    raise typer.Exit(0 if succeeded(ended) and not skipped else 1)


def _lines(path: Path) -> list[str]:
    """Raises RequestRefused for a file that cannot be read."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRefused(f"The list cannot be read: {type(error).__name__}.") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def _destination(to: str, endpoint: str, *, managed_identity: bool) -> Record:
    scheme = urlsplit(to).scheme.lower()
    if scheme in ("http", "https"):
        settings: dict[str, Any] = {"blobContainerUri": to}
        return {
            "type": "azureBlob",
            "settings": settings | ({"useManagedIdentity": True} if managed_identity else {}),
        }
    if scheme == "s3":
        parts = urlsplit(to)
        keys = {
            "accessKeyId": "AWS_ACCESS_KEY_ID",
            "secretAccessKey": "AWS_SECRET_ACCESS_KEY",
            "sessionToken": "AWS_SESSION_TOKEN",
            "region": "AWS_REGION",
        }
        given = {name: os.environ[variable] for name, variable in keys.items() if os.environ.get(variable)}
        place = {"bucket": parts.netloc, "prefix": parts.path.strip("/")}
        return {"type": "s3", "settings": place | given | ({"endpoint": endpoint} if endpoint else {})}
    return {"type": "folder", "settings": {"path": to}}


def _watched(client: JsonClient, operation_id: str, *, as_json: bool) -> Record:
    if as_json:
        return follow_as_json(client, operation_id)
    ended = follow(client, operation_id)
    results = ended.get("results") or {}
    rows = [("operation", operation_id), ("status", str(ended.get("status", "")))]
    rows += [("error", str(ended["error"]))] if "error" in ended else []
    print_table(("", ""), [*rows, *((name, str(value)) for name, value in results.items())])
    return ended

"""``hounsfield update``: set attributes of whole studies on a server anew."""

from typing import Annotated, Any, Final

import typer

from hounsfield.cli.connection import DEFAULT_URL, Connection, Server
from hounsfield.cli.json_client import JsonClient, Record, print_json
from hounsfield.cli.operation_progress import follow, follow_as_json, succeeded
from hounsfield.cli.options import Retries, Timeout, Token, server_url
from hounsfield.cli.terminal import printable
from hounsfield.dicom import uid
from hounsfield.dicom.attribute_changes import CHANGEABLE, read_changes
from hounsfield.dicom.dictionary import attribute, tag_of

MAX_STUDIES: Final = 50
"""Of one operation (operations.md §2)."""

_GROUPS: Final = ("Alphabetic", "Ideographic", "Phonetic")


def update(
    studies: Annotated[list[str], typer.Argument(metavar="STUDY…", help="Study Instance UIDs, up to 50.")],
    changes: Annotated[
        list[str], typer.Option("--set", metavar="ATTRIBUTE=VALUE", help="An attribute and its new value; repeatable.")
    ],
    at: Annotated[str, server_url("--at", "ask")] = DEFAULT_URL,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is done.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="JSON objects as the server sends them, one a line.")] = False,
    token: Token = None,
    retries: Retries = 3,
    timeout: Timeout = 300,
) -> None:
    """Set attributes of patient and study anew, in all instances of studies.

    Attributes are keywords or eight hexadecimal digits. An empty value blanks
    the attribute, a backslash parts several values, and equals signs part the
    alphabetic, ideographic and phonetic group of a name.

    A study changes at once. What it was when it was stored stays retrievable
    (header msdicom-request-original); there is no way back to it. Ctrl-C ends
    the watching only: hounsfield operations cancel has it end early.

    Exit code: 0 done, 1 a study could not be updated, 2 refused, or the server
    cannot be reached.

    [bold]Examples[/bold]

    hounsfield update 1.2.3 --set "PatientName=Doe^Jane" --set PatientID=P-7
    hounsfield update 1.2.3 1.2.4 --set "PatientName=Yamada^Tarou=山田^太郎"
    hounsfield update 1.2.3 --set PatientComments=
    """
    if len(studies) > MAX_STUDIES:
        raise typer.BadParameter(f"No more than {MAX_STUDIES} studies at a time.")
    for study in studies:
        if not uid.is_valid(study):
            raise typer.BadParameter(f"{printable(study)!r} is no UID.")
    body = {"studyInstanceUids": studies, "changeDataset": _dataset(changes)}
    with Connection(Server.at(at, token, timeout)) as connection:
        client = JsonClient(connection, retries)
        started: Record = client.told("POST", "/studies/$bulkUpdate", "to update the studies", body)
        operation_id = str(started["id"])
        if not wait:
            words = f"Operation {operation_id} updates them: hounsfield operations watch {operation_id}"
            print_json(started) if as_json else print(words)
            return
        if as_json:
            record = follow_as_json(client, operation_id)
        else:
            record = follow(client, operation_id)
            _report(record)
        raise typer.Exit(0 if succeeded(record) else 1)


def _dataset(changes: list[str]) -> dict[str, Any]:
    """The DICOM JSON dataset of ATTRIBUTE=VALUE texts. Raises typer.BadParameter."""
    dataset: dict[str, Any] = {}
    for change in changes:
        name, equals, text = change.partition("=")
        tag = int(name, 16) if len(name) == 8 and _is_hexadecimal(name) else tag_of(name)
        row = None if tag is None else attribute(tag)
        if not equals or tag is None or row is None:
            raise typer.BadParameter(f"{printable(name)!r} is no attribute; write --set PatientName=Doe^Jane")
        if f"{tag:08X}" not in CHANGEABLE:
            raise typer.BadParameter(f"{printable(name)} cannot be updated; attributes of patient and study can.")
        values: list[Any] = text.split("\\") if text else []
        if row.vr == "PN":
            values = [dict(zip(_GROUPS, value.split("="), strict=False)) for value in values]
        dataset[f"{tag:08X}"] = {"vr": row.vr, "Value": values} if values else {"vr": row.vr}
    _, refusals = read_changes(dataset)
    if refusals:
        raise typer.BadParameter("; ".join(refusal.comment for refusal in refusals))
    return dataset


def _is_hexadecimal(text: str) -> bool:
    return all(character in "0123456789abcdefABCDEF" for character in text)


def _report(record: Record) -> None:
    results = record.get("results", {})
    print(
        f"{results.get('studyUpdated', 0)} of {results.get('studyProcessed', 0)} studies updated, "
        f"{results.get('instanceUpdated', 0)} instances."
    )
    for error in results.get("errors", ()):
        print(printable(str(error)))

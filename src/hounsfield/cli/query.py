"""``hounsfield query``: a QIDO-RS search, shown as a table for people or as CSV or JSON lines for programs."""

import csv
import difflib
import json
import re
import sys
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

import typer

from hounsfield.cli.connection import DEFAULT_URL, Answer, Connection, Patience, Server
from hounsfield.cli.options import Retries, Timeout, Token, server_url
from hounsfield.cli.search import PAGE, Match, pages, search
from hounsfield.cli.terminal import print_table, printable
from hounsfield.dicom import uid
from hounsfield.errors import HounsfieldError


class Level(StrEnum):
    """What is searched for."""

    STUDIES = "studies"
    SERIES = "series"
    INSTANCES = "instances"


class NoCount(HounsfieldError):
    """The server does not tell how many matches there are."""


class Column(NamedTuple):
    """One column of the output; ``asked`` ones the server returns only on request (query.md §5)."""

    heading: str
    tag: str
    asked: bool = False


COLUMNS: Final[dict[Level, tuple[Column, ...]]] = {
    Level.STUDIES: (
        Column("PatientName", "00100010"),
        Column("PatientID", "00100020"),
        Column("PatientBirthDate", "00100030"),
        Column("StudyDate", "00080020"),
        Column("AccessionNumber", "00080050"),
        Column("StudyDescription", "00081030"),
        Column("ModalitiesInStudy", "00080061", asked=True),
        Column("NumberOfStudyRelatedInstances", "00201208", asked=True),
        Column("StudyInstanceUID", "0020000D"),
    ),
    Level.SERIES: (
        Column("Modality", "00080060"),
        Column("SeriesNumber", "00200011", asked=True),
        Column("SeriesDescription", "0008103E", asked=True),
        Column("PerformedProcedureStepStartDate", "00400244"),
        Column("NumberOfSeriesRelatedInstances", "00201209", asked=True),
        Column("StudyInstanceUID", "0020000D"),
        Column("SeriesInstanceUID", "0020000E"),
    ),
    Level.INSTANCES: (
        Column("InstanceNumber", "00200013", asked=True),
        Column("SOPClassUID", "00080016", asked=True),
        Column("NumberOfFrames", "00280008", asked=True),
        Column("StudyInstanceUID", "0020000D"),
        Column("SeriesInstanceUID", "0020000E"),
        Column("SOPInstanceUID", "00080018"),
    ),
}
"""What a person looks for at each level."""

_SHORT: Final = {
    "NumberOfStudyRelatedInstances": "Instances",
    "NumberOfSeriesRelatedInstances": "Instances",
    "ModalitiesInStudy": "Modalities",
    "PerformedProcedureStepStartDate": "Date",
}
"""Headings for the table, where the keyword is wider than its values."""
_NUMBER: Final = re.compile(r"[0-9A-Fa-f]{8}")


def query(
    level: Annotated[Level, typer.Argument(metavar="studies|series|instances", help="What to search for.")],
    keys: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Attributes to match, by keyword or 8 hex digits; all must match."),
    ] = None,
    from_: Annotated[str, server_url("--from", "ask")] = DEFAULT_URL,
    study: Annotated[str | None, typer.Option(help="Search within this study: its Study Instance UID.")] = None,
    series: Annotated[str | None, typer.Option(help="Search within this series of --study.")] = None,
    include: Annotated[
        list[str] | None, typer.Option(help="Return this attribute as well (repeatable); all means all the server has.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Return at most this many; default: the server's.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Return all matches, on however many pages.")] = False,
    count: Annotated[bool, typer.Option("--count", help="Print nothing but the number of matches.")] = False,
    offset: Annotated[int, typer.Option(min=0, help="Leave out this many from the start.")] = 0,
    fuzzy: Annotated[
        bool, typer.Option("--fuzzy", help="Match person names by the beginnings of their words.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One DICOM JSON object a line.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated values with a heading.")] = False,
    as_table: Annotated[bool, typer.Option("--table", help="A table for people; this is the default.")] = False,
    token: Token = None,
    retries: Retries = 3,
    timeout: Timeout = 300,
) -> None:
    """Search for studies, series or instances.

    Dates match one day (20240131) or a range (20240101-20240131, 20240101-).
    A Hounsfield server takes more: * and ? as wildcards in texts and names,
    times like dates, UIDs separated by commas, attributes in sequences
    (RequestAttributesSequence.RequestedProcedureID=R7), and attributes of the
    levels above everywhere. Others may refuse that or find nothing.

    Exit code: 0 done, matches or not, 2 the search was refused or the server
    cannot be reached.

    [bold]Examples[/bold]

    hounsfield query studies PatientID=4711
    hounsfield query studies PatientName=doe --fuzzy StudyDate=20240101-
    hounsfield query studies 'PatientName=Doe^J*' ModalitiesInStudy=CT,MR
    hounsfield query series Modality=MR StudyDate=20240101-20240131 --count
    hounsfield query instances --study 1.2.3 --all --csv
    hounsfield query series --study 1.2.3 Modality=CT
    hounsfield query instances --study 1.2.3 --include Rows --include Columns --csv
    hounsfield query studies ModalitiesInStudy=MR --json | jq '."0020000D".Value[0]'
    """
    if as_json + as_csv + as_table > 1:
        raise typer.BadParameter("Choose one of --json, --csv and --table.")
    resource = _resource(level, study, series)
    filters = [_filter(text) for text in keys or []]
    wanted = [_column(name) for name in include or [] if name.lower() != "all"]
    parameters = [(column.heading, value) for column, value in filters]
    if include and "all" in map(str.lower, include):
        parameters.append(("includefield", "all"))  # stands alone: some servers refuse it among others
    else:
        asked = [] if as_json else [column for column in COLUMNS[level] if column.asked]
        parameters += [("includefield", column.heading) for column in dict.fromkeys([*asked, *wanted])]
    parameters += [("fuzzymatching", "true")] if fuzzy else []
    server, patience = Server.at(from_, token, timeout), Patience(retries, note=_note)
    if count:
        with Connection(server) as connection:
            print(_count(connection, patience, resource, parameters))
        return
    with Connection(server) as connection:
        if everything or (limit or 0) > PAGE:
            matches = _many(connection, patience, resource, parameters, offset, None if everything else limit)
        else:
            parameters += [] if limit is None else [("limit", str(limit))]
            parameters += [("offset", str(offset))] if offset else []
            answer, matches = search(connection, patience, resource, parameters)
            _require_found(answer)
    shown = [*COLUMNS[level], *(column for column, _ in filters), *wanted]
    by_tag: dict[str, Column] = {}
    for column in shown:
        by_tag.setdefault(column.tag, column)
    columns = list(by_tag.values())
    if as_json:
        for match in matches:
            print(json.dumps(match, ensure_ascii=False, separators=(",", ":")))
    elif as_csv:
        _print_csv(columns, matches)
    else:
        _print_matches(columns, matches)
    if matches and not everything and len(matches) == (limit or 100):
        _note(f"{len(matches)} shown; for more add --offset {offset + len(matches)}, or --all")


def _require_found(answer: Answer) -> None:
    if answer.status not in (200, 204):
        raise answer.refusal("the search")


def _many(
    connection: Connection,
    patience: Patience,
    resource: str,
    parameters: list[tuple[str, str]],
    offset: int,
    limit: int | None,
) -> list[Match]:
    """More matches than a page has: all of them, or the first ``limit``."""
    matches: list[Match] = []
    for answer, page in pages(connection, patience, resource, parameters, offset):
        _require_found(answer)
        matches += page
        if limit is not None and len(matches) >= limit:
            break
    return matches[:limit]


def _count(connection: Connection, patience: Patience, resource: str, parameters: list[tuple[str, str]]) -> int:
    """How many matches there are. Raises NoCount where the server does not say."""
    kept = [(name, value) for name, value in parameters if name != "includefield"]
    answer, _ = search(connection, patience, resource, [*kept, ("limit", "1"), ("count", "true")])
    _require_found(answer)
    total = answer.headers.get("x-total-count", "")
    if not total.isascii() or not total.isdigit():
        raise NoCount("This server does not count matches. Get them all, and count: --all --csv")
    return int(total)


def _print_csv(columns: list[Column], matches: list[Match]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(column.heading for column in columns)
    writer.writerows([value_text(match, column.tag, raw=True) for column in columns] for match in matches)


def _print_matches(columns: list[Column], matches: list[Match]) -> None:
    if not matches:
        print("no match")
        return
    headings = [_SHORT.get(column.heading, column.heading) for column in columns]
    print_table(headings, ([value_text(match, column.tag) for column in columns] for match in matches))


def _note(text: str) -> None:
    typer.echo(text, err=True)


def _resource(level: Level, study: str | None, series: str | None) -> str:
    for name, value in (("--study", study), ("--series", series)):
        if value is not None and not uid.is_valid(value):
            raise typer.BadParameter(f"{name} {printable(value)!r} is no UID: digits and dots, at most 64 characters.")
    if study is not None and level is Level.STUDIES:
        raise typer.BadParameter("A study is found by its UID with: studies StudyInstanceUID=UID")
    if series is not None and (study is None or level is not Level.INSTANCES):
        raise typer.BadParameter("--series goes with: instances --study UID --series UID")
    inside = (f"/studies/{uid.normalise(study)}" if study else "") + (
        f"/series/{uid.normalise(series)}" if series else ""
    )
    return f"{inside}/{level.value}"


def _filter(text: str) -> tuple[Column, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip() or not value.strip():
        raise typer.BadParameter(f"{printable(text)!r} should look like KEY=VALUE, e.g. PatientID=4711")
    return _column(name.strip()), value.strip()


def _column(name: str) -> Column:
    """The column of an attribute named by keyword or number, spelled as the person did."""
    known = {column.heading: column for columns in COLUMNS.values() for column in columns}
    if name in known:
        return Column(name, known[name].tag)
    if _NUMBER.fullmatch(name):
        return Column(name, name.upper())
    if "." in name:
        return Column(name, ".".join(_column(part).tag for part in name.split(".")))
    from hounsfield.dicom import dictionary  # imports pydicom's dictionary, which mostly nobody needs

    tag = dictionary.tag_of(name)
    if tag is None:
        raise typer.BadParameter(
            f"{printable(name)!r} is no DICOM keyword (PS3.6) and no tag of 8 hex digits.{_meant(name)}"
        )
    return Column(name, f"{tag:08X}")


def _meant(name: str) -> str:
    from pydicom.datadict import DicomDictionary  # type: ignore[attr-defined]

    keywords = {row[4].lower(): row[4] for row in DicomDictionary.values()}
    close = difflib.get_close_matches(name.lower(), keywords, n=1)
    return f" Did you mean {keywords[close[0]]}?" if close else ""


def value_text(match: Match, tag: str, raw: bool = False) -> str:
    """An attribute's values for a cell: formatted for people, or ``raw`` as in a DICOM file, joined by backslashes.

    Of one in a sequence, those of all items.
    """
    first, dot, below = tag.partition(".")
    element = match.get(first)
    if dot:
        items = element.get("Value") if isinstance(element, dict) else None
        cells = [value_text(item, below, raw) for item in items or [] if isinstance(item, dict)]
        return ("\\" if raw else ", ").join(cell for cell in cells if cell)
    values = element.get("Value") if isinstance(element, dict) else None
    if not isinstance(values, list):
        return ""
    vr = str(element["vr"]) if isinstance(element, dict) and "vr" in element else ""
    if raw:
        return "\\".join(_raw_text(value) for value in values)
    return ", ".join(_readable(value, vr) for value in values)


def _raw_text(value: Any) -> str:
    if isinstance(value, dict):
        return "=".join(str(value.get(group, "")) for group in ("Alphabetic", "Ideographic", "Phonetic")).rstrip("=")
    return "" if value is None else str(value)


def _readable(value: Any, vr: str) -> str:
    if vr == "SQ":
        return "(sequence)"
    if vr == "PN" and isinstance(value, dict):
        family, *given = str(next((value[group] for group in value if value[group]), "")).split("^")
        return ", ".join(part for part in (family, " ".join(name for name in given if name)) if part)
    text = _raw_text(value)
    if vr == "DA" and re.fullmatch(r"\d{8}", text):
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    if vr == "TM" and (time := re.match(r"(\d\d)(\d\d)(\d\d)?", text)):
        return ":".join(part for part in time.groups() if part)
    return text

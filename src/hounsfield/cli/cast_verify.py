"""``hounsfield cast verify``: whether a FHIR server holds what the archive says, and what differs."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from hounsfield.cast.failure import Faulted, TryAgain
from hounsfield.cast.feed import FeedUnavailable
from hounsfield.cast.verify import Drift, Verification
from hounsfield.cli import casting, setting_arguments
from hounsfield.cli.process_options import database_url
from hounsfield.cli.serve import Config, migrate, prepare_data_dir
from hounsfield.cli.settings_sources import load_settings
from hounsfield.cli.terminal import ProgressLine, count_text, printable
from hounsfield.database.connect import open_database
from hounsfield.errors import HounsfieldError, SettingsError
from hounsfield.settings import Settings


class CannotCompare(HounsfieldError):
    """One of the two servers does not answer as it must."""


def verify(
    data_dir: Annotated[
        Path, typer.Option("--data-dir", help="That of the server, or of the hounsfield cast, whose work is looked at.")
    ] = Path("data"),
    config: Config = None,
    given: setting_arguments.Given = None,
    values: Annotated[
        bool, typer.Option("--values", help="Show the values that differ, too. They are patient data.")
    ] = False,
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds that casting is given to deal with what is new, before it counts.")
    ] = 30,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON objects, one a line: one for each resource, at last the summary.")
    ] = False,
) -> None:
    """Compare archive and FHIR server study by study, and report what has drifted apart. Nothing is changed.

    Run it where the server, or the `hounsfield cast`, is configured: with the
    same data directory, settings file and environment. It may run beside it.
    Both the FHIR store inside and any at Fhir:Endpoint are compared.

    For every study it is worked out what a clean run over the change feed
    would write. What FHIR holds otherwise is drift:

    missing    FHIR lacks the resource
    extra      FHIR has what is ours and no longer in the archive
    different  the elements named hold something else, or nothing
    unreadable FHIR cannot be compared, for the reason given

    Resources of others, and what others added to ours, are no drift. Names of
    elements and UIDs are shown, values only with --values.

    What to do about it: hounsfield cast errors, if entries were skipped;
    otherwise hounsfield cast rebuild.

    Exit code: 0 no drift, 1 drift, 2 the comparison could not be made.

    [bold]Examples[/bold]

    hounsfield cast verify --data-dir /var/lib/hounsfield
    hounsfield cast verify --json | jq -r 'select(.problem == "missing").studyInstanceUid'
    hounsfield cast verify --values --wait 120
    """
    settings = load_settings(config, given)
    if not settings.text("Database:Url"):
        if not (data_dir / "index.db").exists():
            raise SettingsError(f"There is no index in {data_dir}. Give the --data-dir of the server, or of the cast.")
        prepare_data_dir(data_dir)
    migrate(settings, data_dir)
    shown = _Shown(values=values, as_json=as_json)
    try:
        found = asyncio.run(_verify(settings, data_dir, wait, shown))
    except (FeedUnavailable, Faulted) as error:
        raise CannotCompare(str(error)) from error
    except TryAgain as error:
        raise CannotCompare(error.public) from error
    raise typer.Exit(1 if found else 0)


@asynccontextmanager
async def _opened(settings: Settings, data_dir: Path, wait: float) -> AsyncIterator[Verification]:
    database = open_database(database_url(settings, data_dir))
    try:
        async with casting.sides(settings, database) as (feed, target, options):
            yield Verification(feed, target, database, options, wait)
    finally:
        await database.close()


@dataclass(frozen=True, slots=True)
class _Shown:
    """How drift is reported."""

    values: bool
    as_json: bool

    def drift(self, found: Drift) -> None:
        if self.as_json:
            print(json.dumps(self._record(found), separators=(",", ":")), flush=True)
            return
        print(f"{printable(found.study_uid)}  {found.resource} {found.problem}{_aside(found)}")
        for each in found.fields:
            print(f"    {printable(each.path)}")
            if self.values:
                print(f"        archive: {printable(json.dumps(each.archive))}")
                print(f"        FHIR:    {printable(json.dumps(each.fhir))}")
        if found.more:
            print(f"    and {found.more} more")

    def _record(self, found: Drift) -> dict[str, Any]:
        fields = [asdict(each) if self.values else {"path": each.path} for each in found.fields]
        return {
            "studyInstanceUid": found.study_uid,
            "resource": found.resource,
            "problem": found.problem,
            "fields": fields,
            "moreFields": found.more,
            "skippedEntries": found.skipped,
            **({"reason": found.reason} if found.reason else {}),
        }

    def summary(self, done: Verification, number: int) -> None:
        if self.as_json:
            record = {
                "studies": done.studies,
                "drift": number,
                "refusedEntries": done.refused,
                "behind": done.behind,
            }
            print(json.dumps(record, separators=(",", ":")))
            return
        drift = f"{count_text(number, 'resource')} drifted apart" if number else "no drift"
        studies = "1 study" if done.studies == 1 else f"{done.studies} studies"
        print(f"{studies} compared: {drift}.")
        if done.refused:
            print(f"{done.refused} entries cannot be cast: hounsfield cast errors says why.")
        if done.behind:
            print(f"Casting is {done.behind} entries behind: hounsfield cast status says why.")


def _aside(found: Drift) -> str:
    if found.reason:
        return f": {found.reason}"
    return f" ({found.skipped} of its entries were skipped)" if found.skipped else ""


@dataclass(slots=True)
class _Standing:
    """How far it is, for the progress line."""

    done: Verification

    @property
    def part(self) -> float | None:
        return None

    def line(self, seconds: float) -> str:
        return f"{self.done.read} of {self.done.latest} entries read, {self.done.studies} studies compared"


async def _verify(settings: Settings, data_dir: Path, wait: float, shown: _Shown) -> int:
    """How many resources differ."""
    number = 0
    async with _opened(settings, data_dir, wait) as verification:
        standing = _Standing(verification)
        with nullcontext() if shown.as_json else ProgressLine("verify", lambda: standing):
            async for drift in verification.run():
                number += 1
                shown.drift(drift)
        shown.summary(verification, number)
    return number

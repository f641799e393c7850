"""DICOM Cast put together: inside ``serve`` on our own feed, or alone between two servers."""

import asyncio
import signal
from datetime import timedelta

from hounsfield.cast.feed import DEFAULT_PARTITION, FeedReader
from hounsfield.cast.http_feed import HttpFeedReader
from hounsfield.cast.options import CastOptions, normalise_root
from hounsfield.cast.table_store import TableStore, parse_connection_string
from hounsfield.cast.worker import CastWorker
from hounsfield.cli import processes
from hounsfield.cli.local_feed import LocalFeedReader
from hounsfield.cli.process_options import ProcessOptions
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirTarget
from hounsfield.security.access_tokens import BearerAuth
from hounsfield.security.credentials import credential
from hounsfield.security.sign_in import bearer_auth
from hounsfield.settings import Settings

LOCAL_POLL = timedelta(seconds=5)
REMOTE_POLL = timedelta(minutes=1)
"""Pauses between looks at the feed (dicom-cast.md §7.3)."""
LOCAL_PAGE = 500
"""Entries of our own feed read at once: entries of one study become one transaction."""
LOCAL_WATCH = timedelta(seconds=1)
"""How often our own feed is asked for its newest sequence. Each pass rewrites the studies that are being stored, so
looking more often costs the store more than it gains FHIR."""


def cast_options(settings: Settings, root: str, poll: timedelta, **further: object) -> CastOptions:
    """The options the settings ask for; ``root`` is the DICOM root written into FHIR."""
    return CastOptions(
        root_url=normalise_root(root),
        poll_interval=settings.duration("DicomCastWorker:PollInterval", poll),
        catchup_interval=settings.duration("DicomCastWorker:PollIntervalDuringCatchup"),
        total_retry_duration=settings.duration("RetryConfiguration:TotalRetryDuration"),
        patient_system_id=settings.text("Patient:PatientSystemId"),
        is_issuer_id_used=settings.flag("Patient:IsIssuerIdUsed"),
        enforce_validation=settings.flag("DicomCast:Features:EnforceValidationOfTagValues"),
        generate_observations=settings.flag("DicomCast:Features:GenerateObservations"),
        partitions=frozenset(settings.strings("DicomCast:Partitions") or [DEFAULT_PARTITION]),
        **further,  # type: ignore[arg-type]
    )


async def run_embedded(options: ProcessOptions, database: Database, stop: asyncio.Event) -> None:
    """Cast our own feed, inside ``serve``, to ``Fhir:Endpoint`` or the embedded store."""
    settings = options.effective
    endpoint = settings.text("Fhir:Endpoint")
    target: FhirTarget
    if endpoint:
        target = HttpFhirTarget(endpoint, auth=_auth(settings, "Fhir"))
    else:
        own = f"{options.own_root}fhir"
        target = EmbeddedTarget(FhirStore(database, own), own)
    root = settings.text("DicomWeb:Endpoint") or options.own_root
    wanted = cast_options(settings, root, LOCAL_POLL, page_size=LOCAL_PAGE, watch_interval=LOCAL_WATCH)
    await _run(LocalFeedReader(database), target, database, wanted, stop, table_store(settings))


async def run_standalone(settings: Settings, database_url: str) -> None:
    """Cast another server's feed over HTTP until SIGTERM or SIGINT."""
    stop = await processes.until_signalled(signal.SIGTERM, signal.SIGINT)
    database = open_database(database_url)
    public = settings.text("DicomWeb:Endpoint")
    feed = HttpFeedReader(
        settings.text("DicomWeb:PrivateEndpoint") or public,
        auth=_auth(settings, "DicomWeb"),
        ignore_json_parsing_errors=settings.flag("DicomCast:Features:IgnoreJsonParsingErrors"),
    )
    target = HttpFhirTarget(settings.text("Fhir:Endpoint"), auth=_auth(settings, "Fhir"))
    options = cast_options(settings, public, REMOTE_POLL)
    # Our own feed counts anew; that of the server cast came with is the one its position counts in.
    await _run(feed, target, database, options, stop, table_store(settings), keeps_position=True)
    await database.close()


def table_store(settings: Settings) -> TableStore | None:
    """The Azure tables error rows are copied to; None where none are wanted. Raises SettingsError."""
    connection = settings.text("TableStore:ConnectionString")
    prefix = settings.text("TableStore:TableNamePrefix")
    return TableStore(parse_connection_string(connection), prefix) if connection else None


def _auth(settings: Settings, server: str) -> BearerAuth | None:
    return bearer_auth(credential(settings, server))


async def _run(
    feed: FeedReader,
    target: FhirTarget,
    database: Database,
    options: CastOptions,
    stop: asyncio.Event,
    tables: TableStore | None,
    *,
    keeps_position: bool = False,
) -> None:
    try:
        await CastWorker(feed, target, database, options, tables, keeps_position=keeps_position).run(stop)
    finally:
        if tables is not None:
            await tables.close()
        await feed.close()
        await target.close()

"""DICOM Cast put together: inside ``serve`` on our own feed, or alone between two servers."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from hounsfield.cast.feed import FeedReader
from hounsfield.cast.http_feed import HttpFeedReader
from hounsfield.cast.options import CastOptions, normalise_root
from hounsfield.cast.state import CastState
from hounsfield.cast.table_store import RESOURCE, TableStore, parse_connection_string, parse_endpoint_uri
from hounsfield.cast.worker import CastWorker
from hounsfield.cli import processes
from hounsfield.cli.cast_settings import cast_partitions
from hounsfield.cli.local_feed import LocalFeedReader
from hounsfield.cli.process_options import ProcessOptions
from hounsfield.database.connect import open_database
from hounsfield.database.engine import Database
from hounsfield.errors import SettingsError
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.embedded import EmbeddedTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.fhir.target import FhirTarget
from hounsfield.fhir.versions import VERSIONS, speaking
from hounsfield.index.feed import latest_sequence
from hounsfield.security.access_tokens import BearerAuth
from hounsfield.security.credentials import MANAGED_IDENTITY, Credential, credential
from hounsfield.security.sign_in import bearer_auth
from hounsfield.settings import Settings

LOCAL_POLL = timedelta(seconds=5)
REMOTE_POLL = timedelta(minutes=1)
"""Pauses between looks at the feed (dicom-cast.md §7.3)."""
STATUS_SECONDS = 3.0
"""How long the feed is asked for its newest entry when somebody wants to know how far behind casting is."""
LOCAL_PAGE = 500
"""Entries of our own feed read at once: entries of one study become one transaction."""
REMOTE_PAGE = 500
"""The same for another server's feed, in as many requests as that takes."""
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
        extended_mapping=settings.flag("DicomCast:Features:ExtendedMapping"),
        sync_workitems=settings.flag("DicomCast:Features:SyncWorkitems"),
        fhir_version=fhir_version(settings),
        partitions=cast_partitions(settings),
        **further,  # type: ignore[arg-type]
    )


async def run_embedded(options: ProcessOptions, database: Database, stop: asyncio.Event) -> None:
    """Cast our own feed, inside ``serve``, to ``Fhir:Endpoint`` or the embedded store."""
    settings = options.effective
    root = settings.text("DicomWeb:Endpoint") or options.own_root
    wanted = cast_options(settings, root, LOCAL_POLL, page_size=LOCAL_PAGE, watch_interval=LOCAL_WATCH)
    target = _target(settings, database, options.own_root)
    await _run(LocalFeedReader(database), target, database, wanted, stop, table_store(settings))


async def run_standalone(
    settings: Settings, database_url: str, listener: socket.socket | None = None, roles_text: str = ""
) -> None:
    """Cast another server's feed over HTTP until SIGTERM or SIGINT; ``listener`` is where to tell how that goes."""
    stop = await processes.until_signalled(signal.SIGTERM, signal.SIGINT)
    database = open_database(database_url)
    work = [run_alone(settings, database, stop)]
    if listener is not None:
        # Who does not ask for it does not load it.
        from hounsfield.cli import cast_server

        feed = _remote_feed(settings, retry_seconds=(), timeout=STATUS_SECONDS)
        work.append(cast_server.run(settings, database, feed, listener, roles_text, stop))
    await asyncio.gather(*work)
    await database.close()


async def run_alone(settings: Settings, database: Database, stop: asyncio.Event) -> None:
    """Cast another server's feed over HTTP until ``stop`` is set, if no other process with this database does."""
    options = cast_options(settings, settings.text("DicomWeb:Endpoint"), REMOTE_POLL, page_size=REMOTE_PAGE)
    feed, target = _remote_feed(settings), _target(settings, database, "")
    # Our own feed counts anew; that of the server cast came with is the one its position counts in.
    await _run(feed, target, database, options, stop, table_store(settings), keeps_position=True)


@asynccontextmanager
async def sides(settings: Settings, database: Database) -> AsyncIterator[tuple[FeedReader, FhirTarget, CastOptions]]:
    """Feed, FHIR server and options of the casting that is done with this database, for comparing the two.

    A database with an archive is that of ``serve``, one without belongs to a ``cast`` that runs alone.
    Raises SettingsError where nothing was ever cast.
    """
    feed: FeedReader
    own = await latest_sequence(database) > 0 or not settings.text("DicomWeb:Endpoint")
    said = (await CastState(database).status()).activity
    root = settings.text("DicomWeb:Endpoint") or (said.dicom_web_endpoint if said else "")
    if not root:
        raise SettingsError(
            "Nothing was ever cast from this data directory. Give that of the server, or of hounsfield cast, "
            "and the same settings."
        )
    if not own and not settings.text("Fhir:Endpoint"):
        raise SettingsError("Fhir:Endpoint is not set; give it in the settings file or as Fhir__Endpoint.")
    feed = LocalFeedReader(database) if own else _remote_feed(settings)
    target = _target(settings, database, root)
    try:
        yield feed, target, cast_options(settings, root, LOCAL_POLL)
    finally:
        await feed.close()
        await target.close()


def _remote_feed(settings: Settings, **further: Any) -> FeedReader:
    return HttpFeedReader(
        settings.text("DicomWeb:PrivateEndpoint") or settings.text("DicomWeb:Endpoint"),
        auth=_auth(settings, "DicomWeb"),
        ignore_json_parsing_errors=settings.flag("DicomCast:Features:IgnoreJsonParsingErrors"),
        **further,
    )


def _target(settings: Settings, database: Database, own_root: str) -> FhirTarget:
    """``Fhir:Endpoint``, or the embedded store of the server at ``own_root``."""
    endpoint = settings.text("Fhir:Endpoint")
    if endpoint:
        return speaking(HttpFhirTarget(endpoint, auth=_auth(settings, "Fhir")), fhir_version(settings))
    own = f"{own_root}fhir"
    return EmbeddedTarget(FhirStore(database, own), own)


def table_store(settings: Settings) -> TableStore | None:
    """The Azure tables error rows are copied to; None where none are wanted. Raises SettingsError."""
    connection, endpoint = settings.text("TableStore:ConnectionString"), settings.text("TableStore:EndpointUri")
    prefix = settings.text("TableStore:TableNamePrefix")
    if connection:
        return TableStore(parse_connection_string(connection), prefix)
    if not endpoint:
        return None
    identity = Credential(
        MANAGED_IDENTITY, "TableStore", resource=RESOURCE, client_id=settings.text("TableStore:ClientId")
    )
    return TableStore(parse_endpoint_uri(endpoint), prefix, auth=bearer_auth(identity))


def fhir_version(settings: Settings) -> str:
    """``Fhir:Version``, R4 or R5. Raises SettingsError for anything else, and for R5 without Fhir:Endpoint."""
    version = settings.text("Fhir:Version").strip().upper()
    if version not in VERSIONS:
        raise SettingsError(f"Fhir:Version must be one of {', '.join(VERSIONS)}.")
    if version != "R4" and not settings.text("Fhir:Endpoint"):
        raise SettingsError(
            f"The embedded FHIR store is R4: Fhir:Version={version} needs Fhir:Endpoint, the address of a server of it."
        )
    return version


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

"""The server commands: serve (everything on one machine), and its parts apart, worker and cast."""

import asyncio
import ipaddress
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from hounsfield.cast.options import normalise_root
from hounsfield.cli import listening, setting_arguments
from hounsfield.cli.process_options import ProcessOptions, audiences, database_url, publish
from hounsfield.cli.settings_sources import load_settings
from hounsfield.cli.store_settings import names_table_store, object_store
from hounsfield.database.connect import open_database, place
from hounsfield.errors import SettingsError, StoreUnavailable
from hounsfield.index.partitions import is_partitioned
from hounsfield.security import roles
from hounsfield.security.credentials import credential
from hounsfield.security.urls import is_safe_url, require_safe_url, require_web_url
from hounsfield.settings import Settings
from hounsfield.storage.urls import check_url

DRAIN_SECONDS = 12
"""How long requests under way may take after SIGTERM before their process is ended; the whole stop stays below 20 s."""
MAX_WORKERS = 4
"""API processes by default, where the machine has as many processors."""

DataDir = Annotated[
    Path,
    typer.Option("--data-dir", help="Where the index, the files and the embedded FHIR store live; made if absent."),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="A settings file; the reference server's appsettings.json works as it is."),
]


def serve(
    host: Annotated[
        str | None, typer.Option(help=f"Address to listen on; {listening.HOST} if ASPNETCORE_URLS has none.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help=f"Port to listen on; {listening.PORT} if ASPNETCORE_URLS has none."),
    ] = None,
    data_dir: DataDir = Path("data"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="API processes; default: one per processor, at most 4.")
    ] = None,
    config: Config = None,
    given: setting_arguments.Given = None,
    cast: Annotated[bool, typer.Option("--cast/--no-cast", help="Keep a FHIR server true to the change feed.")] = True,
    fhir: Annotated[bool, typer.Option("--fhir/--no-fhir", help="Serve the embedded FHIR R4 store at /fhir.")] = True,
    worker: Annotated[
        bool, typer.Option("--worker/--no-worker", help="Work off operations and clean up deleted files.")
    ] = True,
    allow_insecure: Annotated[
        bool, typer.Option("--allow-insecure", help="Listen beyond this machine although security is off.")
    ] = False,
) -> None:
    """Run the DICOMweb API, the background worker, DICOM Cast and the embedded FHIR store, in one command.

    Ready when GET /health/check answers 200. SIGTERM or Ctrl-C finishes the
    requests under way and stops. hounsfield config show lists the settings.

    [bold]Examples[/bold]

    hounsfield serve
    hounsfield serve --port 9000 --data-dir /var/lib/hounsfield
    hounsfield serve --no-fhir --set Fhir:Endpoint=https://fhir.example.com/r4
    """
    settings = load_settings(config, given)
    host, port = listening.address(host, port, settings.text("ASPNETCORE_URLS"))
    refuse_unsafe_security(settings)
    refuse_insecure(host, allow_insecure or settings.flag("DicomServer:Security:Enabled"))
    check_url(object_store(settings)[0])
    refuse_credentials_of_anybody(settings)
    if cast and settings.flag("DicomCast:Enabled") and settings.text("Fhir:Endpoint"):
        require_web_url(settings.text("Fhir:Endpoint"), "Fhir:Endpoint")
        refuse_unfit_credentials(settings, {"Fhir": "Fhir:Endpoint"})
    host = listening.resolved(host)
    require_free_port(host, port)
    prepare_data_dir(data_dir)
    migrate(settings, data_dir)
    refuse_lost_partitions(settings, data_dir)
    options = ProcessOptions(
        data_dir=str(data_dir.resolve()),
        host=host,
        port=port,
        fhir=fhir,
        worker=worker,
        cast=cast and settings.flag("DicomCast:Enabled"),
        settings=settings.to_environment(),
        roles=roles.read(data_dir) if settings.flag("DicomServer:Security:Authorization:Enabled") else roles.DEFAULT,
        supervisor=os.getpid(),
    )
    if options.cast and not fhir and not settings.text("Fhir:Endpoint"):
        raise SettingsError(
            "DICOM Cast has nowhere to write: set Fhir:Endpoint (environment Fhir__Endpoint), "
            "or leave --no-fhir out, or add --no-cast."
        )
    if options.cast and settings.text("DicomWeb:Endpoint"):
        normalise_root(settings.text("DicomWeb:Endpoint"))
    if options.cast:
        refuse_unusable_cast(settings)
    publish(options)
    count = workers or min(MAX_WORKERS, os.cpu_count() or 1)
    _run(options, count)


def worker(data_dir: DataDir = Path("data"), config: Config = None, given: setting_arguments.Given = None) -> None:
    """Run one background worker: long-running operations, cleanup of deleted files, sweep of orphans.

    Beside `hounsfield serve --no-worker`, with the same settings. Any number
    may run: they share the operations, and one at a time cleans up.
    """
    settings = load_settings(config, given)
    prepare_data_dir(data_dir)
    migrate(settings, data_dir)
    from hounsfield.cli import processes
    from hounsfield.cli.logs import configure_logging

    configure_logging(settings)

    async def run() -> None:
        stop = await processes.until_signalled(signal.SIGTERM, signal.SIGINT)
        archive = processes.open_archive(settings, data_dir)
        await processes.run_worker(archive, settings, data_dir, stop)
        await archive.codecs.close()
        await archive.files.close()
        await archive.database.close()

    asyncio.run(run())


def cast(
    data_dir: DataDir = Path("data"),
    config: Config = None,
    given: setting_arguments.Given = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port for status, errors, health and metrics; without it, none."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on, with --port.")] = listening.HOST,
    allow_insecure: Annotated[
        bool, typer.Option("--allow-insecure", help="Listen beyond this machine although security is off.")
    ] = False,
) -> None:
    """Run DICOM Cast alone: read a DICOMweb server's change feed, keep a FHIR server true to it.

    Reads DicomWeb:Endpoint (or DicomWeb:PrivateEndpoint), ours or any with the
    reference's change feed, and writes to Fhir:Endpoint; both are required.
    Position and errors are kept in Database:Url, by default in the data
    directory. Other commands ask a server, from any machine, or look at both
    sides, and explain themselves with --help:

    hounsfield cast run      the same as hounsfield cast
    hounsfield cast status   how far it is
    hounsfield cast errors   what it could not do
    hounsfield cast retry    have that tried again
    hounsfield cast rebuild  make FHIR what a clean run gives
    hounsfield cast verify   compare archive and FHIR server

    With --port it can be asked itself: /cast/status, /cast/errors,
    /cast/retry, /health/check and /metrics are there as in a server
    (hounsfield cast status --at http://127.0.0.1:8081).

    [bold]Examples[/bold]

    export DicomWeb__Endpoint=http://127.0.0.1:8080
    export Fhir__Endpoint=http://127.0.0.1:8090/fhir
    hounsfield cast --data-dir cast-data
    hounsfield cast --config appsettings.json --port 8081
    """
    settings = load_settings(config, given)
    roles_text = roles.DEFAULT
    if port is not None:
        refuse_unsafe_security(settings)
        refuse_insecure(host, allow_insecure or settings.flag("DicomServer:Security:Enabled"))
        host = listening.resolved(host)
        require_free_port(host, port)
        if settings.flag("DicomServer:Security:Authorization:Enabled"):
            roles_text = roles.read(data_dir)
    prepare_cast(settings, data_dir)
    from hounsfield.cli.casting import run_standalone
    from hounsfield.cli.logs import configure_logging
    from hounsfield.serving.supervisor import listen

    configure_logging(settings)
    listener = None if port is None else listen(host, port)
    asyncio.run(run_standalone(settings, database_url(settings, data_dir), listener, roles_text))


def prepare_cast(settings: Settings, data_dir: Path) -> None:
    """Check what casting alone needs to be told, and make or update its database. Raises SettingsError."""
    for key in ("DicomWeb:Endpoint", "Fhir:Endpoint"):
        if not settings.text(key):
            raise SettingsError(f"{key} is not set; give it in the settings file or as {key.replace(':', '__')}.")
    normalise_root(settings.text("DicomWeb:Endpoint"))
    private = "DicomWeb:PrivateEndpoint"
    feed = private if settings.text(private) else "DicomWeb:Endpoint"
    for key in (feed, "Fhir:Endpoint"):
        require_web_url(settings.text(key), key)
    refuse_unfit_credentials(settings, {"DicomWeb": feed, "Fhir": "Fhir:Endpoint"})
    refuse_unusable_cast(settings)
    if settings.flag("DicomCast:Features:SyncWorkitems") and not settings.text("Database:Url"):
        raise SettingsError(
            "DicomCast:Features:SyncWorkitems needs the worklist, which is in the server's database and not in the "
            "change feed. Give hounsfield cast the server's Database:Url, or have the server cast (hounsfield serve)."
        )
    prepare_data_dir(data_dir)
    migrate(settings, data_dir)


def refuse_unusable_cast(settings: Settings) -> None:
    """Raise SettingsError for a FHIR version nobody speaks, and for Azure tables that could never be reached."""
    if names_table_store(settings) or settings.text("Fhir:Version") != "R4":
        from hounsfield.cli.casting import fhir_version, table_store

        fhir_version(settings)
        table_store(settings)


def refuse_unsafe_security(settings: Settings) -> None:
    """Raise SettingsError for security that could not work; warn of what looks protected and is not."""
    section = "DicomServer:Security"
    if not settings.text("DicomServer:Audit:CustomAuditHeaderPrefix"):
        raise SettingsError("DicomServer:Audit:CustomAuditHeaderPrefix must not be empty: it would match every header.")
    if not settings.flag(f"{section}:Enabled"):
        if settings.flag(f"{section}:Authorization:Enabled"):
            typer.echo(f"hounsfield: {section}:Authorization:Enabled does nothing without {section}:Enabled.", err=True)
        return
    authority = f"{section}:Authentication:Authority"
    if not settings.text(authority):
        raise SettingsError(f"{section}:Enabled needs {authority}: the base URL of your OpenID Connect provider.")
    require_safe_url(settings.text(authority), authority)
    if not audiences(settings):
        typer.echo(f"hounsfield: {section}:Authentication:Audience is not set, so every token is refused.", err=True)


def refuse_unfit_credentials(settings: Settings, servers: Mapping[str, str]) -> None:
    """Raise SettingsError if signing in at a server could not work; warn if its address is not encrypted.

    ``servers``: the key of the address by the first part of the keys that say how to sign in.
    """
    for server, endpoint in servers.items():
        if credential(settings, server) is not None and not is_safe_url(settings.text(endpoint)):
            typer.echo(
                f"hounsfield: {endpoint} is not an https URL: everybody on the way can read our tokens.", err=True
            )


def refuse_credentials_of_anybody(settings: Settings) -> None:
    """Raise SettingsError for cross-origin rules that no browser follows."""
    if settings.flag("DicomServer:Cors:AllowCredentials") and settings.strings("DicomServer:Cors:Origins") == ["*"]:
        raise SettingsError(
            "DicomServer:Cors:AllowCredentials cannot be true while Origins is *: browsers refuse it. Name the origins."
        )


def refuse_insecure(host: str, allowed: bool) -> None:
    """Raise SettingsError if anybody who reaches ``host`` could read everything."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and not allowed:
        raise SettingsError(
            f"{host} can be reached from other machines and security is off: everybody could read and delete "
            "everything. Listen on 127.0.0.1, or add --allow-insecure if the network is closed."
        )


def require_free_port(host: str, port: int) -> None:
    """Raise SettingsError if the address cannot be bound, saying why."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise SettingsError(
                f"Port {port} of {host} is taken or not allowed ({error.strerror}). "
                "Stop the other program or choose another with --port."
            ) from error


def prepare_data_dir(data_dir: Path) -> None:
    """Make the data directory. Raises SettingsError if that is not possible.

    From here on every file this process makes is nobody else's business: all hold identifiable patients.
    """
    os.umask(0o027)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"The data directory {data_dir} cannot be used: {error.strerror}.") from error
    if not os.access(data_dir, os.W_OK):
        raise SettingsError(f"The data directory {data_dir} is not writable.")


def migrate(settings: Settings, data_dir: Path) -> None:
    """Create or update the database schema. Raises SettingsError, also if there is no way to the database."""
    from hounsfield.database.migrate import ensure

    url = database_url(settings, data_dir)
    try:
        ensure(
            url,
            create=settings.flag("SqlServer:Initialize"),
            update=settings.flag("SqlServer:SchemaOptions:AutomaticUpdatesEnabled"),
        )
    except StoreUnavailable as error:
        raise SettingsError(f"{error.message} It is {place(url)}; Database:Url says where it should be.") from error


def refuse_lost_partitions(settings: Settings, data_dir: Path) -> None:
    """Raise SettingsError if data partitions are off although there are some: their studies could not be reached."""
    if settings.flag("DicomServer:Features:EnableDataPartitions"):
        return

    async def look() -> bool:
        database = open_database(database_url(settings, data_dir))
        try:
            return await is_partitioned(database)
        finally:
            await database.close()

    if asyncio.run(look()):
        raise SettingsError(
            "Data partitions feature cannot be disabled while existing data has already been partitioned. "
            "Set DicomServer:Features:EnableDataPartitions to true."
        )


def _rehearse() -> None:
    """Build the application once, in a process of its own, and end the start if that fails; the process says why.

    What no API process can do is then said once, where otherwise they would die and be started again for ever.
    """
    context: Any = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    process = context.Process(target=_build, name="rehearsal")
    process.start()
    process.join()
    if process.exitcode:
        raise typer.Exit(2)


def _build() -> None:
    from hounsfield.cli import application

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C ends the parent, and so this
    application.create()


def _run(options: ProcessOptions, workers: int) -> None:
    """Supervise the API processes and the background process until a signal comes."""
    from hounsfield.cli import application, background
    from hounsfield.serving.supervisor import Supervisor

    _rehearse()
    supervisor = Supervisor(
        application.create,
        options.host,
        options.port,
        workers,
        companion=background.main if options.worker or options.cast else None,
        drain_seconds=DRAIN_SECONDS,
        report=lambda text: typer.echo(f"hounsfield: {text}", err=True),
    )
    supervisor.run(lambda: typer.echo(f"Hounsfield is listening on {options.own_root}"))

"""The ASGI application of one API process, as the server loads it."""

import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from starlette.routing import Route
from starlette.types import ASGIApp

from hounsfield.cli import processes
from hounsfield.cli.cast_settings import workitem_partitions
from hounsfield.cli.logs import configure_logging
from hounsfield.cli.process_options import ProcessOptions, audiences, published
from hounsfield.cli.store_settings import EXTERNAL, names_table_store
from hounsfield.errors import HounsfieldError
from hounsfield.fhir.client import HttpFhirTarget
from hounsfield.fhir.store import FhirStore
from hounsfield.index import feed
from hounsfield.security import roles
from hounsfield.security.audit import Audit, AuditLog, AuditOptions
from hounsfield.settings import Settings
from hounsfield.web import hosts
from hounsfield.web.access import Access
from hounsfield.web.app import Application, Parts
from hounsfield.web.cast import cast_routes
from hounsfield.web.cast_status import CastReport, cast_check
from hounsfield.web.cors import CorsPolicy
from hounsfield.web.dependencies import fhir_check, worker_check
from hounsfield.web.export import Exports
from hounsfield.web.extended_query_tags import TagOptions
from hounsfield.web.fhir import fhir_routes
from hounsfield.web.health import Check, HealthChecks, answers
from hounsfield.web.metrics import metrics_route
from hounsfield.web.openapi import openapi_route
from hounsfield.web.partitions import Partitions
from hounsfield.web.viewer import SignIn, viewer_routes
from hounsfield.web.viewer.files import default_directory

THREAD_SWITCH_SECONDS = 0.001
"""How long a thread that comes back from the disk waits for the interpreter. Python's own 5 ms are longer than a sync:
measured with 4 and 16 storing clients, a sixth fewer instances a second."""


def create() -> ASGIApp:
    """Called in every API process; the options come from the parent's environment."""
    options = published()
    processes.die_with_supervisor(options.supervisor)
    processes.calm_garbage_collector()
    processes.keep_freed_memory()
    sys.setswitchinterval(THREAD_SWITCH_SECONDS)
    try:
        return build(options)
    except HounsfieldError as error:
        print(f"hounsfield: {error.message}", file=sys.stderr)
        raise SystemExit(2) from error


def build(options: ProcessOptions) -> Application:
    """The application for ``options``."""
    settings = options.effective
    configure_logging(settings)
    data_dir = Path(options.data_dir)
    spool = processes.open_spool(settings, data_dir)
    archive = processes.open_archive(settings, data_dir, spool)
    checks: dict[str, Check] = {
        "IndexDatabase": answers(archive.database.check, "The index database answers."),
        "ObjectStore": answers(archive.files.check, "The object store can be written, read and deleted from."),
    }

    async def latest() -> int:
        return await feed.latest_sequence(archive.database)

    routes: list[Route] = [
        openapi_route(
            title=settings.text("DicomServer:Swagger:Title"),
            license_name=settings.text("DicomServer:Swagger:License:Name"),
            license_url=settings.text("DicomServer:Swagger:License:Url"),
            server_uri=settings.text("DicomServer:Swagger:ServerUri"),
            partitioned=settings.flag("DicomServer:Features:EnableDataPartitions"),
            secured=settings.flag("DicomServer:Security:Enabled"),
        )
    ]
    has_table_store = names_table_store(settings)
    report = CastReport(
        archive.database,
        latest,
        enabled=options.cast,
        has_table_store=has_table_store,
        workitem_partitions=workitem_partitions(settings),
    )
    routes.append(
        metrics_route(
            archive.database,
            settings.number("DicomServer:Services:DeletedInstanceCleanup:MaxRetries"),
            report,
        )
    )
    if settings.flag("DicomServer:Features:EnableOhifViewer"):
        routes += viewer_routes(
            Path(settings.text("Viewer:Directory") or default_directory()),
            partitioned=settings.flag("DicomServer:Features:EnableDataPartitions"),
            sign_in=sign_in(settings),
        )
    routes += cast_routes(archive.database, report, enabled=options.cast, has_table_store=has_table_store)
    checks["OperationWorker"] = worker_check(archive.database, started_here=options.worker)
    admission = access(options.roles, settings)
    closing = [admission.close, archive.codecs.close, archive.files.close, archive.database.close]
    if options.cast:
        checks["DicomCast"] = cast_check(archive.database, latest, enabled=True)
        if settings.text("Fhir:Endpoint"):
            # The embedded store is in the index database, which has its check.
            target = HttpFhirTarget(settings.text("Fhir:Endpoint"))
            checks["FhirStore"] = fhir_check(target, signs_in=settings.flag("Fhir:Authentication:Enabled"))
            closing.append(target.close)
    if options.fhir:
        routes += fhir_routes(FhirStore(archive.database, f"{options.own_root}fhir"))
    return Application(
        Parts(
            archive=archive,
            spool=spool,
            health=health_checks(settings, checks),
            partitions=Partitions(
                archive.database,
                enabled=settings.flag("DicomServer:Features:EnableDataPartitions"),
                cache_size=settings.number("DicomServer:Services:DataPartition:MaxCacheSize"),
                cache_time=timedelta(
                    minutes=settings.number("DicomServer:Services:DataPartition:MaxCacheAbsoluteExpirationInMinutes")
                ),
            ),
            cors=cors_policy(settings),
            allowed_hosts=allowed_hosts(settings),
            behind_proxy=settings.flag("ASPNETCORE_FORWARDEDHEADERS_ENABLED"),
            access=admission,
            max_part_bytes=settings.number("DicomServer:Services:StoreServiceSettings:MaxAllowedDicomFileSize"),
            tags=TagOptions(
                maximum=settings.number("DicomServer:Services:ExtendedQueryTag:MaxAllowedCount"),
                disabled=settings.flag("DicomServer:Features:DisableOperations"),
            ),
            exports=Exports(
                processes.export_opener(settings),
                processes.seal(settings, data_dir),
                enabled=settings.flag("DicomServer:Features:EnableExport")
                and not settings.flag("DicomServer:Features:DisableOperations"),
            ),
            routes=routes,
            closing=closing,
        )
    )


def access(roles_text: str, settings: Settings) -> Access:
    """``DicomServer:Security`` and ``DicomServer:Audit``; ``roles_text`` is that of the roles file."""
    section = "DicomServer:Security"
    secure = settings.flag(f"{section}:Enabled")
    known = audiences(settings)
    # Entries are information (server.md §10): levels above it leave them out.
    audited = settings.text("Logging:LogLevel:AuditEvent").lower() in ("trace", "debug", "information")
    audit = Audit(
        AuditLog() if audited else None,
        AuditOptions(
            audience=known[0] if known else "",
            authority=settings.text(f"{section}:Authentication:Authority"),
            header_prefix=settings.text("DicomServer:Audit:CustomAuditHeaderPrefix").lower(),
            claims=settings.strings(f"{section}:PrincipalClaims"),
        ),
    )
    if not secure:
        return Access(audit)
    # Not before: the cryptography library takes 10 MB and a tenth of a second.
    from hounsfield.security.keys import Provider
    from hounsfield.security.tokens import TokenVerifier

    provider = Provider(settings.text(f"{section}:Authentication:Authority"))
    return Access(
        audit,
        TokenVerifier(provider, known),
        roles.parse(roles_text) if settings.flag(f"{section}:Authorization:Enabled") else None,
        settings.text(f"{section}:Authorization:RolesClaim"),
    )


def sign_in(settings: Settings) -> SignIn | None:
    """How the viewer gets its token; None where it needs none, or nobody has said how."""
    if not settings.flag("DicomServer:Security:Enabled") or not settings.text("Viewer:ClientId"):
        return None
    authority = settings.text("DicomServer:Security:Authentication:Authority")
    return SignIn(authority, settings.text("Viewer:ClientId"), settings.text("Viewer:Scope"))


def health_checks(settings: Settings, checks: Mapping[str, Check]) -> HealthChecks:
    """Those of ``checks`` that ``HealthCheckPublisher:ExcludedHealthCheckNames`` does not name, in any case."""
    names = settings.text("HealthCheckPublisher:ExcludedHealthCheckNames").split(",")
    excluded = {name.strip().lower() for name in names}
    dispensable = {"OperationWorker", "DicomCast", "FhirStore"}
    if settings.flag(EXTERNAL):
        # What is wrong with somebody else's container is not ours to heal (server.md §5).
        dispensable.add("ObjectStore")
    return HealthChecks({name: check for name, check in checks.items() if name.lower() not in excluded}, dispensable)


def cors_policy(settings: Settings) -> CorsPolicy | None:
    """``DicomServer:Cors``; None where no origin is allowed."""
    section = "DicomServer:Cors"
    # As browsers write them, whose header is compared letter by letter.
    origins = [origin.lower().removesuffix("/") for origin in settings.strings(f"{section}:Origins")]
    if not origins:
        return None
    return CorsPolicy(
        origins,
        settings.strings(f"{section}:Methods"),
        settings.strings(f"{section}:Headers"),
        settings.optional_number(f"{section}:MaxAge"),
        settings.flag(f"{section}:AllowCredentials"),
    )


def allowed_hosts(settings: Settings) -> list[str] | None:
    """``AllowedHosts``; None for every host."""
    names = [name.strip() for name in settings.text("AllowedHosts").split(";") if name.strip()]
    return None if not names or hosts.ANY in names else names

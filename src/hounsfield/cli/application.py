"""The ASGI application of one API process, as the server loads it."""

from pathlib import Path

from starlette.routing import BaseRoute
from starlette.types import ASGIApp

from hounsfield.cli import processes
from hounsfield.cli.process_options import ProcessOptions, published
from hounsfield.storage.spool import Spool
from hounsfield.web.app import Application, Parts
from hounsfield.web.cast import cast_routes
from hounsfield.web.fhir import fhir_routes
from hounsfield.web.health import Check, HealthChecks, answers
from hounsfield.web.openapi import openapi_route


def create() -> ASGIApp:
    """Called in every API process; the options come from the parent's environment."""
    processes.die_with_parent()
    return build(published())


def build(options: ProcessOptions) -> ASGIApp:
    """The application for ``options``."""
    settings = options.effective
    processes.configure_logging(settings)
    data_dir = Path(options.data_dir)
    archive = processes.open_archive(settings, data_dir)
    spool = Spool(data_dir / "spool")
    checks: dict[str, Check] = {
        "IndexDatabase": answers(archive.database.check, "The index database answers."),
        "ObjectStore": answers(archive.files.check, "The object store can be written, read and deleted from."),
    }
    routes: list[BaseRoute] = [
        openapi_route(
            title=settings.text("DicomServer:Swagger:Title"),
            license_name=settings.text("DicomServer:Swagger:License:Name"),
            license_url=settings.text("DicomServer:Swagger:License:Url"),
            server_uri=settings.text("DicomServer:Swagger:ServerUri"),
        )
    ]
    return Application(
        Parts(
            archive=archive,
            spool=spool,
            health=HealthChecks(checks),
            max_part_bytes=settings.number("DicomServer:Services:StoreServiceSettings:MaxAllowedDicomFileSize"),
            routes=routes,
            closing=(archive.files.close, archive.database.close),
        )
    )

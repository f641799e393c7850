"""Export: ``POST /{version}/export`` (operations.md §3), and how its operations are shown."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from hounsfield.database.engine import Database
from hounsfield.dicom import uid
from hounsfield.errors import BadRequest, NotFound
from hounsfield.operations.export.opening import DestinationType, Opener
from hounsfield.operations.export.request import KIND, Deidentification, ExportRequest, Format
from hounsfield.operations.export.starting import start_export
from hounsfield.operations.job import Json, Operation
from hounsfield.security.roles import DataAction
from hounsfield.security.sealing import Seal
from hounsfield.web.api_route import ApiRoute, partition_of
from hounsfield.web.export_destination import destination_of
from hounsfield.web.json_body import json_body, members, require_json
from hounsfield.web.operations import MEDIA_TYPE, Kind, operation_reference

MAX_BYTES = 4 * 1024 * 1024
"""Of a request: 20,000 instances, each named by three UIDs of full length. It is kept with the operation."""

Choice = TypeVar("Choice", bound=StrEnum)


class SourceType(StrEnum):
    """Where the list of what is exported comes from."""

    IDENTIFIERS = "identifiers"


@dataclass(frozen=True, slots=True)
class Exports:
    """What the route needs. ``enabled``: EnableExport, and operations are not disabled."""

    opener: Opener
    seal: Seal
    enabled: bool = True


def export_routes(database: Database, exports: Exports) -> list[ApiRoute]:
    """The one route, in versions 1 and 2."""

    async def export(request: Request) -> Response:
        if not exports.enabled:
            raise NotFound("")
        partition = partition_of(request)
        asked = export_request(await json_body(request, MAX_BYTES), partition.key, exports.opener)
        operation_id = await start_export(database, exports.opener, exports.seal, asked)
        reference = operation_reference(request, operation_id)
        headers = {"content-type": MEDIA_TYPE, "location": reference["href"]}
        return Response(msgspec.json.encode(reference), status_code=202, headers=headers)

    return [
        ApiRoute(
            "/export",
            export,
            "POST",
            "export",
            data_action=DataAction.EXPORT,
            audit_action="export",
            in_prerelease=False,
            check_content=require_json,
        )
    ]


def export_kind() -> Kind:
    """How exports are shown."""

    def results(operation: Operation) -> Json:
        counted = operation.results or {}
        return {
            "exported": counted.get("exported", 0),
            "skipped": counted.get("skipped", 0),
            "errorHref": operation.arguments["errorHref"],
        }

    return Kind(KIND, DataAction.EXPORT, has_percent=False, results=results)


def export_request(body: Any, partition_key: int, opener: Opener) -> ExportRequest:
    """What a body asks for. Raises BadRequest for what is no valid request, before anything is tried."""
    given = _object(body, "$")
    source, destination = (_object(given.get(name), name) for name in ("source", "destination"))
    _choice(SourceType, source.get("type"), "source.type")
    settings = _object(source.get("settings"), "source.settings")
    kind = _choice(DestinationType, destination.get("type"), "destination.type")
    place = _object(destination.get("settings"), "destination.settings")
    identifiers = _identifiers(settings.get("values"))
    form = Format.FILES if given.get("format") is None else _choice(Format, given["format"], "format")
    deidentification = _deidentification(given.get("deidentify"))
    public, secret = destination_of(kind, place, opener.sinks)
    return ExportRequest(identifiers, partition_key, public, secret, form, deidentification)


def _identifiers(values: Any) -> list[str]:
    """Raises BadRequest."""
    if not isinstance(values, list) or not values:
        raise BadRequest("The field 'source.settings.values' is invalid: at least one identifier is required.")
    found = []
    for number, value in enumerate(values):
        parts = [part.strip() for part in value.split("/")] if isinstance(value, str) else []
        if not 1 <= len(parts) <= 3 or not all(uid.is_valid(part) for part in parts):
            raise BadRequest(
                f"The field 'source.settings.values[{number}]' is invalid: an identifier is a StudyInstanceUID, "
                "optionally followed by /SeriesInstanceUID and /SOPInstanceUID."
            )
        found.append("/".join(parts))
    return found


def _deidentification(value: Any) -> Deidentification | None:
    """Raises BadRequest."""
    if value is None or value is False:
        return None
    if value is True:
        return Deidentification()
    options = _object(value, "deidentify")
    retain = options.get("retainuids", False)
    if not isinstance(retain, bool):
        raise BadRequest("The field 'deidentify.retainUids' is invalid: true or false is required.")
    return Deidentification(retain_uids=retain)


def _object(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"The field '{name}' in request body is invalid: an object is required.")
    return members(value)


def _choice(kind: type[Choice], value: Any, name: str) -> Choice:
    for each in kind:
        if isinstance(value, str) and value.lower() == each.value.lower():
            return each
    known = ", ".join(f"'{each.value}'" for each in kind)
    raise BadRequest(f"The field '{name}' in request body is invalid: Expected one of the following values: {known}.")
